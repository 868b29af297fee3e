"""`layer`: the gateway's API from a terminal, and `layer bench`. Needs the extra `cli`."""

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from hevlayer.cli.layer.exits import USAGE

NEEDED = ("click", "rich", "hdrh", "pygal")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status."""
    if any(find_spec(name) is None for name in NEEDED):
        print("layer: needs packages that are not installed; run: pip install 'hevlayer[cli]'", file=sys.stderr)
        return USAGE
    from hevlayer.cli.layer.app import run

    return run(argv)


def console() -> NoReturn:
    """The process `layer`: ends with the exit status as soon as everything is printed.

    The interpreter is not taken down: threads of the HTTP client may still let go of objects in it, and would abort the
    process while it is half gone. It also saves the time.
    """
    try:
        status = main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else USAGE
    for stream in (sys.stdout, sys.stderr):
        # A reader that went away has its own reasons.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
