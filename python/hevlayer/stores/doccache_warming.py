"""When a namespace is complete in the document cache: what a warm put, and what was missing or lost since. Pure."""

from collections.abc import Sequence

import orjson

from hevlayer.stores.doccache_engine import NamespaceFacts

# A warm with more rows that could not be kept is not worth repairing one by one.
ABSENT_MAX = 100_000


class Warming:
    """One warm, from before its first page to its end."""

    __slots__ = ("absent", "began_ms", "epoch", "lost", "namespace", "overflowed", "rows")

    def __init__(self, namespace: str, epoch: int, lost: int, began_ms: int) -> None:
        self.namespace = namespace
        self.epoch = epoch
        self.lost = lost
        self.began_ms = began_ms
        self.rows = 0
        """Rows of all pages."""
        self.absent: dict[bytes, None] = {}
        """Keys of rows that could not be kept, at most `ABSENT_MAX`."""
        self.overflowed = False

    def add(self, rows: int, absent: Sequence[bytes]) -> None:
        self.rows += rows
        self.absent.update(dict.fromkeys(absent))
        if len(self.absent) > ABSENT_MAX:
            self.overflowed = True
            self.absent.clear()

    def is_whole(self, facts: NamespaceFacts) -> bool:
        """Whether nothing is missing of what the pages had and what was written since."""
        unchanged = (facts.epoch, facts.lost) == (self.epoch, self.lost)
        return unchanged and not (self.overflowed or self.absent or facts.holes or facts.closed)


def warming_note(through_ms: int, until_ms: int) -> str:
    """What is kept with the namespace: complete through a stamp, until its first row runs out of life."""
    return orjson.dumps({"through_ms": through_ms, "until_ms": until_ms}).decode()


def is_complete(facts: NamespaceFacts, now_ms: int, watermark_ms: int | None) -> int | None:
    """The stamp through which every row is there, or None."""
    if not facts.note or facts.holes or facts.closed:
        return None
    note = orjson.loads(facts.note)
    if now_ms >= note["until_ms"]:
        return None
    return max(int(note["through_ms"]), watermark_ms or 0)
