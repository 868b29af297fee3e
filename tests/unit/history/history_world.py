"""An object store in memory that tests break, and counted outcomes."""

import asyncio
from collections import Counter

from hevlayer.stores.objects import LIST_KEYS_MAX, ObjectStoreError


class Objects:
    """The port over a dictionary. `broken`: every call fails; `hanging`: puts wait for `go_on`."""

    def __init__(self, clock=None):
        self.bodies: dict[str, bytes] = {}
        self.clock = clock
        self.broken = False
        self.lost_answers = 0
        self.hanging = False
        self.go_on = asyncio.Event()
        self.put_at: list[tuple[float, str]] = []
        self.gets = 0
        self.lists = 0

    async def put_if_absent(self, key, body):
        if self.hanging:
            await self.go_on.wait()
        if self.broken:
            raise ObjectStoreError("down")
        await asyncio.sleep(0)
        if self.clock is not None:
            self.put_at.append((self.clock.monotonic(), key))
        taken = key in self.bodies
        self.bodies.setdefault(key, body)
        if self.lost_answers:
            self.lost_answers -= 1
            raise ObjectStoreError("no answer in time")
        return not taken

    async def get(self, key):
        self.gets += 1
        if self.broken:
            raise ObjectStoreError("down")
        return self.bodies.get(key)

    async def list_keys(self, prefix, *, after="", before="", limit=LIST_KEYS_MAX):
        self.lists += 1
        if self.broken:
            raise ObjectStoreError("down")
        keys = [
            key for key in self.bodies if key.startswith(prefix) and key > after and (not before or key < before)
        ]  # fmt: skip
        return sorted(keys)[:limit]

    async def delete(self, key):
        return self.bodies.pop(key, None) is not None

    def lines(self):
        return [line for key in sorted(self.bodies) for line in self.bodies[key].splitlines()]


class Counted:
    def __init__(self):
        self.records = Counter()

    def count_history(self, feed, outcome, records):
        self.records[feed, outcome] += records
