"""Queries from named .sql files. A file holds blocks: `-- name --`, a sentence in comments, the statement.

Parameters are written `:name` and become `$1`, `$2`, … in order of first use.
"""

import re
from dataclasses import dataclass
from pathlib import Path

SQL_DIRECTORY = Path(__file__).with_name("sql")
_HEADING = re.compile(r"^-- ([a-z][a-z0-9_]*) --$", re.MULTILINE)
# Not a cast (`::text`) and not inside a word.
_PARAMETER = re.compile(r"(?<![:\w]):([a-z][a-z0-9_]*)")
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement with `$n` parameters and their names in that order."""

    name: str
    sql: str
    parameters: tuple[str, ...]

    def arguments(self, values: dict[str, object]) -> list[object]:
        """Values in order. Raises: TypeError: names are missing or too many."""
        if values.keys() != set(self.parameters):
            raise TypeError(f"{self.name} takes {sorted(self.parameters)}, was given {sorted(values)}")
        return [values[name] for name in self.parameters]


def load_queries(file_name: str) -> dict[str, Query]:
    """The queries of a file in `sql/` by name."""
    return parse_queries((SQL_DIRECTORY / file_name).read_text(encoding="utf-8"))


def parse_queries(text: str) -> dict[str, Query]:
    """Raises: ValueError: text before the first heading, or two queries of one name."""
    parts = _HEADING.split(text)
    if parts[0].strip():
        raise ValueError(f"text before the first heading: {parts[0].strip()[:60]!r}")
    queries: dict[str, Query] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in queries:
            raise ValueError(f"two queries are called {name!r}")
        queries[name] = _parse(name, body)
    return queries


def _parse(name: str, body: str) -> Query:
    parameters: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in parameters:
            parameters.append(found[1])
        return f"${parameters.index(found[1]) + 1}"

    sql = _PARAMETER.sub(number, _COMMENT.sub("", body)).strip().rstrip(";")
    return Query(name, sql, tuple(parameters))
