"""`layer` as a user starts it: a process of its own, without a terminal."""

import signal
import subprocess
import sys

from dev_process import API_KEY, environment

LAYER = (sys.executable, "-m", "hevlayer.cli.layer")
RUN_SECONDS_MAX = 60


def settings(**changes: str) -> dict[str, str]:
    return environment(**{"TURBOPUFFER_API_KEY": API_KEY, **changes})


def interruptible() -> None:
    """Runs in a child before it becomes the command: what was started in the background ignores SIGINT, and so would
    all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_layer(*arguments: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAYER, *arguments],
        env=settings(**changes),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
