"""Environments of their own for suites of other people's clients, and the outcome of a pytest run in one."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "tests" / "contract" / "vendor"
INSTALL_TIMEOUT_SECONDS = 300
SUITE_TIMEOUT_SECONDS = 480
# What is set for our own tests must not reach a client's.
_CLEARED_PREFIXES = ("TURBOPUFFER_", "LAYER_", "PYTEST_", "PYTHON")


@dataclass(frozen=True)
class Counts:
    """What a suite did. `failures` are `module::test`."""

    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...]


def pip(python: str | Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_SECONDS)


def prepare_environment(directory: Path, packages: Sequence[str]) -> Path:
    """The interpreter of a virtual environment with these packages. Installed once per list."""
    python = directory / "bin" / "python"
    stamp = directory / "packages.txt"
    wanted = "\n".join((sys.version, *packages))
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(directory)], check=True, timeout=INSTALL_TIMEOUT_SECONDS
    )
    pip(python, "install", *packages)
    stamp.write_text(wanted)
    return python


def run_pytest(python: Path, directory: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Counts:
    """Runs pytest in `directory` and counts its outcomes.

    Raises: SystemExit: it did not run to its end.
    """
    report = CACHE / f"report-{os.getpid()}.xml"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_CLEARED_PREFIXES)}
    command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    finished = subprocess.run(
        command, cwd=directory, env={**inherited, **environment}, timeout=SUITE_TIMEOUT_SECONDS, check=False
    )
    if not report.exists():
        raise SystemExit(f"the suite did not run: pytest ended with status {finished.returncode}")
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


def report_counts(suite: str, counts: Counts) -> int:
    """Prints the outcome; the exit status of a script that ran the suite."""
    for failure in counts.failures:
        print(f"FAILED {failure}")
    print(f"{suite}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.failed or not counts.passed else 0
