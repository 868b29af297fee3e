"""What `layer` prints: tables for people, JSON for programs."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Wide enough that nothing wraps where nobody looks at the width.
PIPE_WIDTH = 10_000
SHOWN_NUMBERS = 3
NUMBERS_SHOWN_WHOLE = 8
CELL_CHARACTERS_MAX = 120
NOTHING = "–"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def new_console(*, stderr: bool = False) -> Console:
    """Colours only on a terminal; elsewhere plain lines of any width."""
    console = Console(stderr=stderr, highlight=False)
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


def show_json(value: object) -> None:
    """One value on one line of standard output."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def plain_table(titles: Sequence[str], right: Iterable[str] = ()) -> Table:
    """A table of columns without lines. `right`: the titles whose cells stand to the right."""
    to_the_right = set(right)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(Text(safe(title)), justify="right" if title in to_the_right else "left", overflow="fold")
    return table


def safe(text: str) -> str:
    """Text of others that a terminal cannot take for commands: what does not print is written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def cell(value: object) -> str:
    """A value of JSON for people: long ones cut, nothing as a dash."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            text = safe(value)
        case float():
            text = f"{value:.6g}"
        case list() if len(value) > NUMBERS_SHOWN_WHOLE and all(type(each) in (int, float) for each in value):
            head = ", ".join(cell(each) for each in value[:SHOWN_NUMBERS])
            text = f"[{head}, … {len(value)} numbers]"
        case list() | dict():
            text = safe(orjson.dumps(value).decode())
        case _:
            text = safe(str(value))
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def count(value: object) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell(value)


def size(value: object) -> str:
    """Bytes in the unit that leaves one to four digits."""
    if not isinstance(value, int):
        return NOTHING
    number = float(value)
    for unit in _UNITS:
        if number < _STEP or unit == _UNITS[-1]:
            break
        number /= _STEP
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def moment(value: object) -> str:
    """A time in epoch milliseconds, in UTC."""
    if not isinstance(value, int):
        return NOTHING
    try:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        return str(value)


def share(value: object) -> str:
    """A fraction as a percentage."""
    return f"{value:.0%}" if isinstance(value, int | float) else NOTHING


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, or one line of a record. `path` names keys of nested objects, apart by dots."""

    title: str
    path: str
    form: Callable[[object], str] = cell
    right: bool = False

    def of(self, item: Mapping[str, Any]) -> str:
        value: Any = item
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return self.form(value)


def show_rows(columns: Sequence[Column], items: Iterable[Mapping[str, Any]], *, as_json: bool) -> int:
    """A table, or each item as a line of JSON as soon as it is there. Returns: how many there were."""
    shown = 0
    if as_json:
        for item in items:
            show_json(item)
            shown += 1
        return shown
    table = plain_table([column.title for column in columns], [column.title for column in columns if column.right])
    for item in items:
        table.add_row(*(Text(column.of(item)) for column in columns))
        shown += 1
    show(table)
    return shown


def show_record(fields: Sequence[Column], item: Mapping[str, Any], *, as_json: bool) -> None:
    """A line for each field, or the whole as one JSON document."""
    if as_json:
        show_json(item)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for field in fields:
        table.add_row(Text(safe(field.title)), Text(field.of(item)))
    show(table)


def columns_of(items: Iterable[Mapping[str, Any]], first: Sequence[Column]) -> list[Column]:
    """The `first` columns, then one for each other key, in the order in which keys are met."""
    known = {column.path for column in first}
    keys = dict.fromkeys(key for item in items for key in item if key not in known)
    return [*first, *(KeyColumn(key, key) for key in keys)]


class KeyColumn(Column):
    """A column of one key, which may have dots in it."""

    def of(self, item: Mapping[str, Any]) -> str:
        return self.form(item.get(self.path))
