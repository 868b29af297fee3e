"""The filters' slow twin: what a filter means, one row at a time, on values from the standard library.

A row is a dictionary as JSON gives it; null and absent are one. Which filters are refused is the kernel's own business:
the twin is asked about those that are accepted.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
Types: TypeAlias = dict[str, str]

NEGATED = {
    "NotEq": "Eq",
    "NotIn": "In",
    "NotContains": "Contains",
    "NotContainsAny": "ContainsAny",
    "NotGlob": "Glob",
    "NotIGlob": "IGlob",
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Lt": lambda left, right: left < right,
    "Lte": lambda left, right: left <= right,
    "Gt": lambda left, right: left > right,
    "Gte": lambda left, right: left >= right,
}


def matches(row: Row, condition: Sequence[Any], types: Types) -> bool:
    """Whether the row meets the condition. `types` gives each attribute's type string, `id` included."""
    match condition:
        case ["And", list(conditions)]:
            return all(matches(row, part, types) for part in conditions)
        case ["Or", list(conditions)]:
            return any(matches(row, part, types) for part in conditions)
        case ["Not", list(part)]:
            return not matches(row, part, types)
        case [name, operator, operand, *params] if operator in NEGATED:
            return not matches(row, [name, NEGATED[operator], operand, *params], types)
        case [name, operator, operand, *params]:
            if name == "id" and "id" not in types:
                return False
            kind = types[name]
            if kind.startswith("[]"):
                return _array_meets(_values(row.get(name), kind[2:]), operator, operand, params, kind[2:])
            return _scalar_meets(_value(row.get(name), kind), operator, operand, params, kind)
    raise ValueError(f"no condition: {condition!r}")


def _scalar_meets(value: Any, operator: str, operand: Any, params: list[Any], kind: str) -> bool:
    if operator in COMPARISONS:
        return _compare_with_null(value, operator, _value(operand, kind))
    if operator == "Eq":
        return bool(value == _value(operand, kind))
    # Every other operator asks for a value.
    return value is not None and _element_meets(value, operator, operand, params, kind)


def _array_meets(elements: list[Any] | None, operator: str, operand: Any, params: list[Any], kind: str) -> bool:
    if operator == "Eq":
        return elements == _values(operand, kind)
    if operator.startswith("Any"):
        bound = _value(operand, kind)
        return bound is not None and any(COMPARISONS[operator[3:]](element, bound) for element in elements or [])
    if operator == "Contains":
        return _value(operand, kind) in (elements or [])
    inner = "In" if operator == "ContainsAny" else operator
    return any(_element_meets(element, inner, operand, params, kind) for element in elements or [])


def _element_meets(value: Any, operator: str, operand: Any, params: list[Any], kind: str) -> bool:
    if operator == "In":
        listed = operand if isinstance(operand, list) else [operand]
        return value in [_value(item, kind) for item in listed]
    if operator == "Regex":
        return re.search(operand, value) is not None
    if operator in ("Glob", "IGlob"):
        return glob_matches(operand, value, any_case=operator == "IGlob")
    if operator == "Fuzzy":
        return _fuzzy_matches(operand, value, params[0])
    raise ValueError(f"no operator: {operator!r}")


def _compare_with_null(value: Any, operator: str, bound: Any) -> bool:
    """Null counts as smaller than every value."""
    left = (value is not None, 0 if value is None else value)
    right = (bound is not None, 0 if bound is None else bound)
    if left[0] != right[0]:
        return COMPARISONS[operator](left[0], right[0])
    return COMPARISONS[operator](left, right)


def _values(items: Any, kind: str) -> list[Any] | None:
    return None if items is None else [_value(item, kind) for item in items]


def _value(item: Any, kind: str) -> Any:
    """A JSON scalar as what it is compared as: texts by their UTF-8, moments as milliseconds."""
    if item is None:
        return None
    if kind == "string":
        return Text(item)
    if kind == "uuid":
        return uuid.UUID(item).bytes
    if kind == "datetime":
        return moment_ms(item)
    if kind == "float":
        return float(item)
    return item


class Text(str):
    """A string that is ordered by its UTF-8 bytes."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return self.encode() < other.encode()

    def __le__(self, other: str) -> bool:
        return self.encode() <= other.encode()

    def __gt__(self, other: str) -> bool:
        return self.encode() > other.encode()

    def __ge__(self, other: str) -> bool:
        return self.encode() >= other.encode()


def moment_ms(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 text, UTC where it names no zone; finer digits are cut off."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds) // 1000


def glob_matches(pattern: str, text: str, *, any_case: bool) -> bool:
    """Shell patterns over UTF-8 bytes: `?` one byte, `*` any run, `[a-z]` and `[!a-z]` a set, `{a,b*}` a choice, `\\`
    the next character itself; `**` beside slashes also matches no folder at all. Case is that of ASCII."""
    flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
    return re.fullmatch(_glob_expression(pattern), text.encode(), flags) is not None


def _glob_expression(pattern: str) -> bytes:
    parts: list[bytes] = []
    at = 0
    depth = 0
    while at < len(pattern):
        letter = pattern[at]
        rest = pattern[at:]
        if rest.startswith("**/") and at == 0:
            parts.append(b"(?:/?|.*/)")
            at += 3
            continue
        if rest.startswith("/**/"):
            parts.append(b"(?:/|/.*/)")
            at += 4
            continue
        if rest == "/**":
            parts.append(b"/.*")
            at += 3
            continue
        if letter == "*":
            parts.append(b".*")
        elif letter == "?":
            parts.append(b".")
        elif letter == "{":
            depth += 1
            parts.append(b"(?:")
        elif letter == "}":
            depth -= 1
            parts.append(b")")
        elif letter == "," and depth:
            parts.append(b"|")
        elif letter == "[":
            end = pattern.index("]", at + 2 + (pattern[at + 1] in "!^"))
            members = pattern[at + 1 : end]
            negated = members[0] in "!^"
            members = members[1:] if negated else members
            parts.append(
                b"[" + (b"^" if negated else b"") + re.sub(r"([\\\[\]^&~|])", r"\\\1", members).encode() + b"]"
            )
            at = end
        elif letter == "\\":
            at += 1
            parts.append(re.escape(pattern[at].encode()))
        else:
            parts.append(re.escape(letter.encode()))
        at += 1
    return b"".join(parts)


def _fuzzy_matches(pattern: str, text: str, params: dict[str, Any]) -> bool:
    fitting = [rule for rule in params["max_edit_distance"] if rule["min_query_chars"] <= len(pattern)]
    if not fitting:
        return False
    distance = max(fitting, key=lambda rule: (rule["min_query_chars"], params["max_edit_distance"].index(rule)))[
        "distance"
    ]
    if not params.get("case_sensitive", True):
        pattern, text = pattern.lower(), text.lower()
    # Sellers: the cheapest way to have the pattern end at each letter of the text, beginning anywhere.
    column = list(range(len(pattern) + 1))
    best = column[-1]
    for letter in text:
        above = [0]
        for place, expected in enumerate(pattern):
            above.append(min(column[place] + (expected != letter), column[place + 1] + 1, above[place] + 1))
        column = above
        best = min(best, column[-1])
    return bool(best <= distance)


def histogram(rows: Sequence[Row], name: str, kind: str) -> tuple[dict[Any, int], int]:
    """How many rows have each value, an array's each once per row; and how many have none."""
    counts: dict[Any, int] = {}
    nulls = 0
    for row in rows:
        stored = row.get(name)
        if stored is None:
            nulls += 1
            continue
        values = set(_values(stored, kind[2:]) or []) if kind.startswith("[]") else {_value(stored, kind)}
        for value in values:
            counts[value] = counts.get(value, 0) + 1
    return counts, nulls


def from_text(text: str, kind: str) -> Any:
    """A value as a histogram shows it, as what it is compared as."""
    if kind in ("int", "uint"):
        return int(text)
    return text == "true" if kind == "bool" else _value(text, kind)
