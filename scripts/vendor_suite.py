"""Runs the vendor's own live tests, unchanged, against a base URL.

The tests come from the source distribution of the official Python client. Download and environment are kept in
`tests/contract/vendor/` (not in version control) and reused.

    python scripts/vendor_suite.py --base-url http://127.0.0.1:8081
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.1.0"
SDIST_SHA256 = "8ae6e7229063814e556026c79d0abebda0e2e5d9a833214bcefc709f64bfcf70"
PACKAGES = (
    f"turbopuffer=={VERSION}",
    "dirty-equals==0.11",
    "numpy==2.4.6",
    "pytest==9.0.2",
    "pytest-asyncio==1.3.0",
    "pytest-xdist==3.8.0",
    "time-machine==3.5.1",
    "urllib3==2.5.0",
)
ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "tests" / "contract" / "vendor"
INSTALL_TIMEOUT_SECONDS = 300
SUITE_TIMEOUT_SECONDS = 480


@dataclass(frozen=True)
class Counts:
    """What the suite did."""

    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...]


def _pip(python: str | Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_SECONDS)


def fetch_sources(cache: Path) -> Path:
    """The unpacked source distribution.

    Raises: SystemExit: what was downloaded is not the file this script knows.
    """
    archive = cache / f"turbopuffer-{VERSION}.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _pip(
            sys.executable,
            "download",
            f"turbopuffer=={VERSION}",
            "--no-deps",
            "--no-binary=turbopuffer",
            "-d",
            str(cache),
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        archive.unlink()
        raise SystemExit(f"{archive.name}: sha256 is {digest}, expected {SDIST_SHA256}")
    sources = cache / f"turbopuffer-{VERSION}"
    # Unpacked anew each time, so that the tests are certainly the published ones.
    shutil.rmtree(sources, ignore_errors=True)
    with tarfile.open(archive) as bundle:
        bundle.extractall(cache, filter="data")
    return sources


def prepare_environment(cache: Path) -> Path:
    """The interpreter of an environment with the client and what its tests need. Installed once per list."""
    environment = cache / "venv"
    python = environment / "bin" / "python"
    stamp = environment / "packages.txt"
    wanted = "\n".join((sys.version, *PACKAGES))
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(environment)], check=True, timeout=INSTALL_TIMEOUT_SECONDS
    )
    _pip(python, "install", *PACKAGES)
    stamp.write_text(wanted)
    return python


def run_suite(base_url: str, *, api_key: str, selection: tuple[str, ...] = (), workers: int = 2) -> Counts:
    """Runs `tests/custom` and counts its outcomes.

    Args:
        base_url: may hold the placeholder `{region}`.
        selection: more arguments for pytest, such as `-k name`.
    Raises: SystemExit: the suite did not run to its end.
    """
    sources = fetch_sources(CACHE)
    python = prepare_environment(CACHE)
    report = CACHE / f"report-{os.getpid()}.xml"
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("TURBOPUFFER_", "PYTEST_", "PYTHON"))
    }
    environment |= {"TURBOPUFFER_BASE_URL": base_url, "TURBOPUFFER_API_KEY": api_key}
    command = [
        str(python),
        "-m",
        "pytest",
        "tests/custom",
        "-n",
        str(workers),
        "-q",
        f"--junitxml={report}",
        *selection,
    ]
    finished = subprocess.run(command, cwd=sources, env=environment, timeout=SUITE_TIMEOUT_SECONDS, check=False)
    if not report.exists():
        raise SystemExit(f"the vendor's suite did not run: pytest ended with status {finished.returncode}")
    try:
        return _count(report)
    finally:
        report.unlink()


def _count(report: Path) -> Counts:
    cases = ElementTree.parse(report).getroot().iter("testcase")
    outcomes = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes["failed"] += 1
            failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            outcomes["skipped"] += 1
        else:
            outcomes["passed"] += 1
    return Counts(**outcomes, failures=tuple(failures))


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the vendor's live tests against a base URL.")
    parser.add_argument(
        "--base-url", required=True, help="e.g. http://127.0.0.1:8081 or http://127.0.0.1:8081/{region}"
    )
    parser.add_argument("--api-key", default="tpuf_local", help="bearer token to send")
    parser.add_argument("--workers", type=int, default=2, help="processes that run tests")
    parser.add_argument("selection", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    counts = run_suite(
        arguments.base_url,
        api_key=arguments.api_key,
        selection=tuple(arguments.selection),
        workers=arguments.workers,
    )
    for failure in counts.failures:
        print(f"FAILED {failure}")
    print(f"vendor suite {VERSION}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main())
