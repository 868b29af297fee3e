"""Values on the command line: their rules, told in one sentence each."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson

FILE_BYTES_MAX = 64 * 1024 * 1024


class Rule(click.ParamType):  # type: ignore[type-arg]
    """A value that a function reads; what the function's ValueError says is shown."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def number(low: float, high: float) -> Callable[[str], float]:
    """Finite decimal numbers in a range, both ends included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, was {text!r}")
        return value

    return parse


def document(text: str) -> object:
    """JSON: as it stands, `@FILE` for a file's, `-` for standard input's."""
    if text == "-":
        content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        where = "standard input"
    elif text.startswith("@"):
        path = Path(text[1:]).expanduser()
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        where = str(path)
    else:
        content, where = text.encode("utf-8", "surrogateescape"), "the value"
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{where} has more than {FILE_BYTES_MAX} bytes")
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def numbers(text: str) -> list[float]:
    """A JSON array of numbers, from where `document` reads."""
    value = document(text)
    if not isinstance(value, list) or not value or not all(type(each) in (int, float) for each in value):
        raise ValueError("must be a JSON array of numbers, @FILE or -")
    return value


JSON = Rule("json", document)
VECTOR = Rule("vector", numbers)
SECONDS = Rule("seconds", number(0.05, 86_400))
