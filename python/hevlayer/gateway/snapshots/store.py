"""Where snapshots are kept, and how they are found again: by time in their keys, by the short hash at its end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

from hevlayer.clock import Clock
from hevlayer.gateway.snapshots.body import SHORT_SHA_CHARS, BrokenSnapshotError, Snapshot, read_snapshot
from hevlayer.stores.objects import ObjectStore
from hevlayer.wire.names import decode_name, encode_name

AUTOMATIC = "snapshots"
# What somebody asked for: never the latest, and nothing is counted from it.
AD_HOC = "snapshots-adhoc"
WATERMARK_DIGITS = 13
WATERMARK_MAX = 10**WATERMARK_DIGITS - 1
LIST_PAGE_KEYS = 1_000
# Of one namespace, in one look; at the usual interval of five minutes it is ten years.
ENTRIES_MAX = 1_000_000
NAMESPACES_MAX = 10_000
# Keys come oldest first and the newest are wanted, so the past is listed in windows, each so much longer.
WINDOW_MS = 86_400_000
WINDOW_GROWTH = 8
# Sorts after every key of the same directory.
_LAST = "~~"

log = logging.getLogger("hevlayer.snapshots")


class Entry(NamedTuple):
    """One snapshot as its key tells it."""

    place: str
    watermark_ms: int
    short_sha: str
    key: str


def entry_of(key: str) -> Entry | None:
    """None: a key of another kind."""
    parts = key.split("/")
    if len(parts) != 3 or not parts[2].endswith(".json"):
        return None
    stamp, dash, short = parts[2].removesuffix(".json").partition("-")
    if not (dash and stamp.isascii() and stamp.isdigit() and len(short) == SHORT_SHA_CHARS):
        return None
    return Entry(decode_name(parts[1]), int(stamp), short, key)


def key_of(snapshot: Snapshot, where: str = AUTOMATIC) -> str:
    short = snapshot.sha[:SHORT_SHA_CHARS]
    return f"{_directory(where, snapshot.place)}{snapshot.watermark_ms:0{WATERMARK_DIGITS}}-{short}.json"


class SnapshotStore:
    """Bodies in the object store. Every method may raise ObjectStoreError."""

    def __init__(self, objects: ObjectStore, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    async def publish(self, snapshot: Snapshot, *, where: str = AUTOMATIC) -> int | None:
        """Keeps a body, whole or not at all. Returns: its bytes; None when one of that time and content was there.

        What is there and cannot be read gives way to it.
        """
        body, key = await asyncio.to_thread(snapshot.encode), key_of(snapshot, where)
        if await self._objects.put_if_absent(key, body):
            return len(body)
        standing = await self._objects.get(key)
        try:
            if standing is not None:
                await asyncio.to_thread(read_snapshot, snapshot.place, standing, key)
            return None
        except BrokenSnapshotError as error:
            log.warning("a damaged snapshot is replaced", extra={"reason": error.message})
        await self._objects.put(key, body)
        return len(body)

    async def read(self, entry: Entry) -> bytes | None:
        """A body as it is kept; None when it is gone."""
        return await self._objects.get(entry.key)

    async def newest_first(
        self,
        place: str,
        *,
        where: str = AUTOMATIC,
        before: str = "",
        since_ms: int = 0,
        through_ms: int = WATERMARK_MAX,
    ) -> AsyncIterator[Entry]:
        """Entries with watermarks in that range, whose keys are below `before` where it is given."""
        directory = _directory(where, place)
        span_ms, low_ms = WINDOW_MS, min(self._clock.now_ms(), through_ms) - WINDOW_MS
        end = _LAST if through_ms >= WATERMARK_MAX else f"{through_ms + 1:0{WATERMARK_DIGITS}}"
        before = min(before or directory + _LAST, directory + end)
        seen = 0
        while True:
            low_ms = max(low_ms, since_ms, 0)
            low = f"{directory}{low_ms:0{WATERMARK_DIGITS}}"
            window = await self._between(directory, low, before) if low < before else []
            for entry in reversed(window):
                yield entry
            seen += len(window)
            if low_ms == max(since_ms, 0) or seen >= ENTRIES_MAX:
                return
            before = min(before, low)
            span_ms *= WINDOW_GROWTH
            low_ms -= span_ms

    async def _between(self, directory: str, after: str, before: str) -> list[Entry]:
        found: list[Entry] = []
        while keys := await self._objects.list_keys(directory, after=after, before=before, limit=LIST_PAGE_KEYS):
            found += [entry for key in keys if (entry := entry_of(key)) is not None]
            after = keys[-1]
            if len(keys) < LIST_PAGE_KEYS or len(found) >= ENTRIES_MAX:
                break
        return found

    async def newest(self, place: str, limit: int, *, before: str = "", where: str = AUTOMATIC) -> list[Entry]:
        """At most `limit`, newest first."""
        found: list[Entry] = []
        async for entry in self.newest_first(place, where=where, before=before):
            found.append(entry)
            if len(found) >= limit:
                break
        return found

    async def find_entry(self, place: str, sha: str) -> Entry | None:
        """The newest automatic one of this full or short hash. Raises: BrokenSnapshotError."""
        async for entry in self.newest_first(place):
            if await self._is_of(entry, sha):
                return entry
        return None

    async def at(self, place: str, watermark_ms: int, sha: str) -> Entry | None:
        """The automatic one of that moment and full or short hash. Raises: BrokenSnapshotError."""
        async for entry in self.newest_first(place, since_ms=watermark_ms, through_ms=watermark_ms):
            if await self._is_of(entry, sha):
                return entry
        return None

    async def _is_of(self, entry: Entry, sha: str) -> bool:
        """Whether a snapshot has this hash: its key tells the first characters, its body the others."""
        if entry.short_sha != sha[:SHORT_SHA_CHARS]:
            return False
        if len(sha) == SHORT_SHA_CHARS:
            return True
        body = await self.read(entry)
        return body is not None and (
            await asyncio.to_thread(read_snapshot, entry.place, body, entry.key)
        ).sha.startswith(sha)

    async def find(self, place: str, sha: str) -> Snapshot | None:
        """The newest body of this full or short hash, the automatic ones first.

        Raises: BrokenSnapshotError: there is none, but for one that cannot be read.
        """
        broken: BrokenSnapshotError | None = None
        for where in (AUTOMATIC, AD_HOC):
            async for entry in self.newest_first(place, where=where):
                if entry.short_sha != sha[:SHORT_SHA_CHARS]:
                    continue
                body = await self.read(entry)
                if body is None:
                    continue
                try:
                    snapshot = await asyncio.to_thread(read_snapshot, place, body, entry.key)
                except BrokenSnapshotError as error:
                    broken = broken or error
                    continue
                if snapshot.sha.startswith(sha):
                    return snapshot
        if broken is not None:
            raise broken
        return None

    async def prune(self, place: str, older_than_ms: int) -> int:
        """Removes bodies with watermarks below that, save the newest automatic one; how many."""
        removed = 0
        keep = {entry.key for entry in await self.newest(place, 1)}
        for where in (AUTOMATIC, AD_HOC):
            removed += await self._delete_below(_directory(where, place), older_than_ms, keep)
        return removed

    async def remove(self, key: str) -> None:
        """Removes one body."""
        await self._objects.delete(key)

    async def delete(self, place: str, made_before_ms: int, identity: str | None) -> None:
        """Removes a deleted namespace's bodies. Later ones belong to a new namespace of the name, save those that tell
        its own identity: they were counted while it was being deleted."""
        for where in (AUTOMATIC, AD_HOC):
            await self._delete_below(_directory(where, place), made_before_ms + 1, set())
            if identity is None:
                continue
            async for entry in self.newest_first(place, where=where, since_ms=made_before_ms + 1):
                body = await self.read(entry)
                if body is not None and await asyncio.to_thread(_identity_in, entry, body) == identity:
                    await self._objects.delete(entry.key)

    async def _delete_below(self, directory: str, below_ms: int, keep: set[str]) -> int:
        before = f"{directory}{min(max(below_ms, 0), WATERMARK_MAX):0{WATERMARK_DIGITS}}"
        old = [entry.key for entry in await self._between(directory, "", before) if entry.key not in keep]
        for key in old:
            await self._objects.delete(key)
        return len(old)

    async def places(self) -> list[str]:
        """Namespaces that have automatic bodies, at most `NAMESPACES_MAX`. One listing request for each."""
        found: list[str] = []
        after = ""
        while keys := await self._objects.list_keys(f"{AUTOMATIC}/", after=after, limit=1):
            segment = keys[0].split("/")[1]
            found.append(decode_name(segment))
            after = f"{AUTOMATIC}/{segment}/{_LAST}"
            if len(found) >= NAMESPACES_MAX:
                break
        return found


def _identity_in(entry: Entry, body: bytes) -> str | None:
    """Whose counts a body holds; None: it does not tell."""
    try:
        return read_snapshot(entry.place, body, entry.key).identity
    except BrokenSnapshotError:
        return None


def _directory(where: str, place: str) -> str:
    return f"{where}/{encode_name(place)}/"
