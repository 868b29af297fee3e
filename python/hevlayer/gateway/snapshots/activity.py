"""The snapshots of all namespaces as one stream, newest first, page by page."""

import asyncio
import base64
import binascii
import heapq
from collections.abc import Sequence
from typing import NamedTuple

from hevlayer.errors import ValidationError
from hevlayer.gateway.snapshots.store import WATERMARK_MAX, Entry, SnapshotStore

LISTINGS_AT_ONCE = 8
CURSOR_CHARS_MAX = 2_048

Position = tuple[int, str]
"""Where a page ended: the time and key of its last event."""


class Page(NamedTuple):
    entries: Sequence[Entry]
    cursor: str | None


def read_cursor(text: str | None) -> Position | None:
    """Raises: ValidationError: not a cursor that a page gave."""
    if text is None:
        return None
    try:
        if len(text) > CURSOR_CHARS_MAX:
            raise ValueError
        stamp, _, key = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode().partition(" ")
        return max(0, int(stamp)), key
    except (ValueError, UnicodeError, binascii.Error) as error:
        raise ValidationError("cursor: not one that this route gave") from error


def _cursor(entry: Entry) -> str:
    return base64.urlsafe_b64encode(f"{entry.watermark_ms} {entry.key}".encode()).decode()


class Activity:
    """Pages over the store; each lists every namespace once."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store

    async def page(self, since_ms: int, limit: int, places: Sequence[str] | None, after: Position | None) -> Page:
        """Events from `since_ms` on that come after the position; `places` None: of all. Raises: ObjectStoreError."""
        if places is None:
            places = await self._store.places()
        through_ms = WATERMARK_MAX if after is None else min(after[0], WATERMARK_MAX)
        gate = asyncio.Semaphore(LISTINGS_AT_ONCE)

        async def of(place: str) -> list[Entry]:
            found: list[Entry] = []
            async with gate:
                async for entry in self._store.newest_first(place, since_ms=since_ms, through_ms=through_ms):
                    if after is None or _position(entry) < after:
                        found.append(entry)
                    if len(found) > limit:
                        break
            return found

        found = heapq.nlargest(
            limit + 1, [each for part in await asyncio.gather(*map(of, places)) for each in part], key=_position
        )
        if len(found) <= limit:
            return Page(found, None)
        return Page(found[:limit], _cursor(found[limit - 1]))


def _position(entry: Entry) -> Position:
    return entry.watermark_ms, entry.key
