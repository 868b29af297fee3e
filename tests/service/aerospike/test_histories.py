"""Generated histories of writes, reads and broken connections: a served row is never older than the last write of it
that was acknowledged before the read began."""

import asyncio
import random
from collections.abc import AsyncIterator

import orjson
import pytest
from aerospike_bench import PLAIN, TTL_SECONDS, UNKNOWN_SECONDS, Bench, rows
from aerospike_proxy import Fault

from hevlayer.kernels.doccache import DocRows
from hevlayer.stores.doccache import DocumentCache, Miss, WriteOutcome

IDS = ("a", "b", "c")
STEPS = 600
OPEN_MAX = 6
WORKERS = 8
ROUNDS = 40
BURSTS_MAX = 5
PAUSE_SECONDS = 0.001
NOTHING = DocRows(b'{"rows":[]}', [])


class History:
    """One upstream and some gateways; each write and each read goes on in steps of its own."""

    def __init__(self, caches: list[DocumentCache], rng: random.Random, *, unknown: bool = True) -> None:
        self.caches = caches
        self.outcomes = [WriteOutcome.APPLIED] * 10 + [WriteOutcome.REFUSED] + [WriteOutcome.UNKNOWN] * unknown
        self.rng = rng
        self.versions = 0
        self.stored: dict[str, int | None] = {}
        self.log: dict[str, list[int]] = {each: [0] for each in IDS}
        """What was stored, in order; 0: nothing yet."""
        self.acknowledged = dict.fromkeys(IDS, 0)
        """How far in `log` a caller has been told."""
        self.hits = 0

    async def write(self) -> AsyncIterator[None]:
        cache, rng = self.rng.choice(self.caches), self.rng
        names = rng.sample(IDS, rng.randint(1, 2))
        whole = rng.random() < 0.05
        token = await cache.begin_write("ns", None if whole else [key_of(each) for each in names], 600.0)
        yield
        outcome = rng.choice(self.outcomes)
        deletes = rng.random() < 0.2
        self.versions += 1
        version = self.versions
        if outcome is not WriteOutcome.REFUSED:
            for each in names:
                self.stored[each] = None if deletes else version
                self.log[each].append(-version if deletes else version)
        ends = {each: len(self.log[each]) - 1 for each in names}
        yield
        keys = [key_of(each) for each in names]
        if outcome is WriteOutcome.APPLIED and not whole and rng.random() < 0.7:
            found = NOTHING if deletes else DocRows.joined([rows(each, version) for each in names])
            await cache.settle(token, outcome, rows=found, deleted=keys if deletes else ())
        else:
            await cache.settle(token, outcome)
        if outcome is WriteOutcome.APPLIED:
            for each in names:
                self.acknowledged[each] = max(self.acknowledged[each], ends[each])

    async def read(self) -> AsyncIterator[None]:
        cache, name = self.rng.choice(self.caches), self.rng.choice(IDS)
        least = self.acknowledged[name]
        found = await cache.lookup("ns", key_of(name), PLAIN, None)
        if not isinstance(found, Miss):
            self.hits += 1
            version = orjson.loads(found)["attributes"]["t"]
            assert version in self.log[name][least:], (name, version, self.log[name], least)
            return
        yield
        version_now = self.stored.get(name)
        yield
        answer = NOTHING if version_now is None else rows(name, version_now)
        await cache.fill("ns", [key_of(name)], [found.ticket], answer)

    async def clear(self) -> AsyncIterator[None]:
        await self.rng.choice(self.caches).new_epoch("ns")
        return
        yield


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


async def run(history: History, bench: Bench, *, faulty: bool = False, forgetful: bool = False) -> None:
    rng = history.rng
    under_way: list[AsyncIterator[None]] = []
    for _ in range(STEPS):
        if faulty and rng.random() < 0.03:
            bench.proxy.faults = [rng.choice(list(Fault)) for _ in range(rng.randint(1, 3))]
        if faulty and rng.random() < 0.01:
            bench.proxy.cut()
        if forgetful and rng.random() < 0.03:
            await bench.truncate()
        if rng.random() < 0.15:
            bench.clock.move(rng.choice([0.5, 1.0, UNKNOWN_SECONDS / 4]))
            for cache in history.caches:
                await cache.maintain()
        if len(under_way) < OPEN_MAX and rng.random() < 0.5:
            kinds = [history.write, history.read, history.read, history.read]
            under_way.append((history.clear if rng.random() < 0.03 else rng.choice(kinds))())
        if under_way:
            chosen = rng.choice(under_way)
            try:
                await anext(chosen)
            except StopAsyncIteration:
                under_way.remove(chosen)


@pytest.mark.parametrize("seed", range(4))
async def test_two_gateways_never_serve_a_row_from_before_an_acknowledged_write(bench: Bench, seed: int) -> None:
    caches = [DocumentCache(await bench.open(), bench.clock, ttl_seconds=TTL_SECONDS) for _ in range(2)]
    history = History(caches, random.Random(seed))
    await run(history, bench)
    assert history.hits > 0


@pytest.mark.parametrize("seed", range(4))
async def test_a_gateway_with_broken_connections_never_does_either(bench: Bench, seed: int) -> None:
    cache = DocumentCache(await bench.open(), bench.clock, ttl_seconds=TTL_SECONDS)
    history = History([cache], random.Random(seed))
    await run(history, bench, faulty=True)
    assert history.hits > 0


@pytest.mark.parametrize("seed", range(4))
async def test_gateways_of_a_server_that_loses_records_alone_never_do_either(bench: Bench, seed: int) -> None:
    caches = [DocumentCache(await bench.open(), bench.clock, ttl_seconds=TTL_SECONDS) for _ in range(2)]
    history = History(caches, random.Random(seed))
    await run(history, bench, forgetful=True)
    assert history.hits > 0


async def work(history: History) -> None:
    rng = history.rng
    for _ in range(ROUNDS):
        async for _ in rng.choice([history.write, history.read, history.read])():
            await asyncio.sleep(rng.choice([0.0, 0.0, PAUSE_SECONDS]))


@pytest.mark.parametrize("seed", range(4))
async def test_calls_that_meet_in_the_server_never_do_either(bench: Bench, seed: int) -> None:
    caches = [DocumentCache(await bench.open(), bench.clock, ttl_seconds=TTL_SECONDS) for _ in range(2)]
    history = History(caches, random.Random(seed), unknown=False)
    for _ in range(BURSTS_MAX):
        await asyncio.gather(*(work(history) for _ in range(WORKERS)))
        if history.hits:
            break
        # On a busy machine calls run out of time, and what they owe keeps rows out until it is paid.
        bench.clock.move(UNKNOWN_SECONDS)
        for cache in caches:
            await cache.maintain()
    assert history.hits > 0
