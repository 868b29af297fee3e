"""The short form of `make soak`: the same load, faults and verdict."""

import subprocess
import sys
from pathlib import Path

SECONDS = 90


def test_ninety_seconds_of_faults_lose_nothing_and_leak_nothing() -> None:
    script = Path(__file__).with_name("soak.py")
    finished = subprocess.run(
        [sys.executable, str(script), "--seconds", str(SECONDS)], capture_output=True, text=True, timeout=SECONDS + 120
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
