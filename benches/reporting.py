"""What every suite's report says of its circumstances, and where it goes."""

import argparse
import json
import os
import platform
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path


def machine() -> dict[str, object]:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": found[1] if found else platform.processor(),
        "cores": os.cpu_count(),
        # Well over the cores it says that others were at work too, and that only ratios mean something.
        "load_average": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def write_report(suite: str, content: dict[str, object], out: Path | None) -> None:
    """Writes a suite's report as JSON to a file, or to standard output."""
    date = datetime.fromtimestamp(time.time(), UTC).date().isoformat()
    text = json.dumps({"suite": suite, "date": date, "machine": machine(), **content}, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        print(f"bench: wrote {out}", file=sys.stderr)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that each suite has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="file of the report; without it, standard output")
    return parser
