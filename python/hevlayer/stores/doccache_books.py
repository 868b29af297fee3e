"""What one process knows of the namespaces of an embedded engine that keeps no such books itself.

Counts too many holes rather than too few, and forgets everything with the process.
"""

import secrets
from collections.abc import Mapping, Sequence

from hevlayer.stores.doccache_engine import HOLES_MAX, NamespaceFacts, WriteOutcome

NAMESPACES_MAX = 10_000
NOTE_CHARACTERS_MAX = 1_000


class _Page:
    __slots__ = ("epoch", "evicted", "holes", "lost", "note", "note_lost")

    def __init__(self, evicted: int) -> None:
        self.epoch = secrets.randbits(62)
        self.holes: dict[bytes, None] = {}
        self.lost = 0
        self.evicted = evicted
        self.note = ""
        self.note_lost = 0


class Books:
    """One page a namespace. A page that is dropped takes its note with it."""

    def __init__(self) -> None:
        self._pages: dict[str, _Page] = {}
        self._evicted = 0

    def _page(self, namespace: str) -> _Page:
        page = self._pages.get(namespace)
        if page is None:
            if len(self._pages) >= NAMESPACES_MAX:
                self._pages.clear()
            page = self._pages[namespace] = _Page(self._evicted)
        return page

    def settled(
        self, namespace: str, keys: Sequence[bytes] | None, outcome: WriteOutcome, deleted: Sequence[bytes]
    ) -> None:
        page = self._page(namespace)
        if keys is None:
            if outcome is not WriteOutcome.REFUSED:
                self.cleared(namespace)
            return
        gone = set(deleted) if outcome is WriteOutcome.APPLIED else set()
        for key in keys:
            if key in gone:
                page.holes.pop(key, None)
            elif len(page.holes) < HOLES_MAX:
                page.holes[key] = None
            else:
                page.lost += 1

    def filled(self, namespace: str, keys: Sequence[bytes]) -> None:
        holes = self._page(namespace).holes
        for key in keys if holes else ():
            holes.pop(key, None)

    def cleared(self, namespace: str) -> None:
        self._pages.pop(namespace, None)

    def holes(self, namespace: str, limit: int) -> list[bytes]:
        return list(self._page(namespace).holes)[:limit]

    def note(self, namespace: str, text: str, lost: int) -> bool:
        page = self._page(namespace)
        if len(text) > NOTE_CHARACTERS_MAX:
            return False
        page.note, page.note_lost = text, lost
        return True

    def facts(self, namespace: str, state: Mapping[str, int], evicted: int) -> NamespaceFacts:
        """`evicted` is the engine's count over all namespaces: nobody tells whose rows they were."""
        self._evicted = evicted
        page = self._page(namespace)
        lost = page.lost + evicted - page.evicted
        return NamespaceFacts(
            page.epoch,
            state["rows"],
            state["bytes"],
            state["marked"],
            bool(state["closed"]),
            len(page.holes),
            lost,
            page.note if lost == page.note_lost else "",
        )
