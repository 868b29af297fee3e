"""Asks pyright whether a user of the client sees the type of everything that it exports."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "hevlayer.client"
TIMEOUT_SECONDS = 300


def main() -> int:
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pyright", "--pythonpath", sys.executable),
            *("--verifytypes", PACKAGE, "--ignoreexternal", "--outputjson"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    try:
        report = json.loads(finished.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        print(f"pyright did not run: {finished.stdout}{finished.stderr}")
        return 1
    unknown = [symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    for name in unknown:
        print(f"its type is not known: {name}")
    print(f"{PACKAGE}: {len(report['symbols'])} symbols, {len(unknown)} of unknown type")
    return 1 if unknown or not report["symbols"] else 0


if __name__ == "__main__":
    sys.exit(main())
