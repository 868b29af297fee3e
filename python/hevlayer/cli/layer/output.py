"""What `layer` prints: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.table import Table

# Wide enough that nothing wraps where nobody looks at the width.
PIPE_WIDTH = 10_000
SHOWN_NUMBERS = 4
CELL_CHARACTERS_MAX = 160
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def new_console(*, stderr: bool = False) -> Console:
    """Colours only on a terminal; elsewhere plain lines of any width."""
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def show(renderable: RenderableType) -> None:
    """Prints to standard output; without a terminal, without spaces at the ends of lines."""
    console = new_console()
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as capture:
        console.print(renderable)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
    sys.stdout.flush()


def plain_table(titles: Sequence[str], right: Iterable[str] = ()) -> Table:
    """A table of columns without lines. `right`: the titles whose cells stand to the right."""
    to_the_right = set(right)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in to_the_right else "left", overflow="fold")
    return table
