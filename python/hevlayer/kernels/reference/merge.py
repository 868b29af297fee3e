"""The slow twin of `merge_legs`: parses everything, sorts everything."""

import json
from typing import Any


def merge_rows(answers: list[bytes], *, offset: int, limit: int, descending: bool) -> list[dict[str, Any]]:
    """The rows that `merge_legs` gives, as dictionaries."""
    rows = [row for answer in answers for leg in _legs(json.loads(answer)) for row in leg["rows"]]
    rows.sort(key=lambda row: _id_order(row["id"]))
    rows.sort(key=lambda row: -row["$dist"] if descending else row["$dist"])
    seen: set[tuple[bool, int | str]] = set()
    distinct = []
    for row in rows:
        # The integer 1 and the string "1" are two ids.
        identity = (isinstance(row["id"], str), row["id"])
        if identity not in seen:
            seen.add(identity)
            distinct.append(row)
    return distinct[offset : offset + limit]


def _legs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return answer.get("results", [answer])  # type: ignore[no-any-return]


def _id_order(value: int | str) -> tuple[bool, int, bytes]:
    return (True, 0, value.encode()) if isinstance(value, str) else (False, value, b"")
