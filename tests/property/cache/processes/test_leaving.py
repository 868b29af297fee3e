"""A process that stands still while it changes the cache's index keeps no other one from ending."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).with_name("leaving_process.py")
TRIES_MAX = 60
BUSY_SECONDS = 0.05
# An upkeep or two of the one that leaves.
UPKEEPS_SECONDS = 2.5
# It would never end.
LEAVES_SECONDS_MAX = 25.0


@contextmanager
def started(directory: Path, role: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(directory), role],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def is_marked(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    tell(process, "write")
    return process.stdout.readline() == "marked\n"


def test_a_process_leaves_though_another_stands_still_within_a_change(tmp_path: Path) -> None:
    with started(tmp_path / "cache", "told") as leaver, started(tmp_path / "cache", "busy") as other:
        assert is_marked(leaver)
        for _ in range(TRIES_MAX):
            time.sleep(BUSY_SECONDS)
            other.send_signal(signal.SIGSTOP)
            if not is_marked(leaver):
                break
            other.send_signal(signal.SIGCONT)
        else:
            raise AssertionError("the other process never stood still within a change")
        time.sleep(UPKEEPS_SECONDS)
        tell(leaver, "leave")
        assert leaver.wait(LEAVES_SECONDS_MAX) == 0
