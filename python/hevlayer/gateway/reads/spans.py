"""Ranges of ids, and how they are split so that a namespace is read several pages at a time. Pure.

Pages go by id in ascending order. While there is room for one more reader, a reader that has finished a page gives away
the upper half of what it has left. Halves are guessed from the ids' text or value, as if ids were spread evenly; a bad
guess costs balance, never a row: ranges touch, and none overlaps.
"""

from dataclasses import dataclass
from uuid import UUID

Id = int | str
# Characters of a string id that count for its place; what is equal in front of them does not.
_DIGITS = 4
_BASE = 0x110000
ID_BYTES_MAX = 64
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class Span:
    """Ids above `after` (None: from the lowest) up to and including `through` (None: to the highest, also one that is
    written later)."""

    after: Id | None = None
    through: Id | None = None


WHOLE = Span()


class Scale:
    """Where ids of one type lie between a lowest and a highest one, as a share of 0..1."""

    def __init__(self, lowest: Id, highest: Id, id_type: str) -> None:
        """Raises: ValueError: an id is not of the type."""
        numeric = id_type == "uint"
        if isinstance(lowest, int) is not numeric or isinstance(highest, int) is not numeric:
            raise ValueError(f"an id is not of type {id_type}")
        self._id_type = id_type
        self._prefix = _common_prefix(str(lowest), str(highest)) if id_type == "string" else ""
        self._low = self._number(lowest)
        self._width = max(1, self._number(highest) - self._low)

    def _number(self, each: Id) -> int:
        if isinstance(each, int):
            return each
        if self._id_type == "uuid":
            return UUID(each).int
        tail = each[len(self._prefix) : len(self._prefix) + _DIGITS]
        number = 0
        for index in range(_DIGITS):
            # A text that ends comes before all that begin like it.
            number = number * (_BASE + 1) + (ord(tail[index]) + 1 if index < len(tail) else 0)
        return number

    def share(self, each: Id) -> float:
        return min(1.0, max(0.0, (self._number(each) - self._low) / self._width))

    def width(self, span: Span) -> float:
        """The span's share of the whole."""
        upper = 1.0 if span.through is None else self.share(span.through)
        return max(0.0, upper - (0.0 if span.after is None else self.share(span.after)))

    def middle(self, span: Span) -> Id | None:
        """An id in the middle of the span, at neither of its ends; None when there is none to be found."""
        after, through = span.after, span.through
        low = self._low if after is None else self._number(after)
        high = self._low + self._width if through is None else self._number(through)
        middle = (low + high) // 2
        if middle <= low or middle >= high:
            return None
        found = self._id(middle)
        if (after is not None and not _less(after, found)) or (through is not None and not _less(found, through)):
            return None
        return found if isinstance(found, int) or len(found.encode()) <= ID_BYTES_MAX else None

    def _id(self, number: int) -> Id:
        if self._id_type == "uint":
            return number
        if self._id_type == "uuid":
            return str(UUID(int=number))
        digits: list[int] = []
        for _ in range(_DIGITS):
            number, digit = divmod(number, _BASE + 1)
            digits.append(digit)
        text = ""
        for digit in reversed(digits):
            if digit == 0:
                break
            # Surrogates are no characters: the last one before them is nearest.
            text += chr(_SURROGATES.start - 1 if digit - 1 in _SURROGATES else digit - 1)
        return self._prefix + text


def _less(one: Id, other: Id) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one < other
    # Code points and UTF-8 bytes have one order.
    return isinstance(one, str) and isinstance(other, str) and one < other


def _common_prefix(one: str, other: str) -> str:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return one[:length]
