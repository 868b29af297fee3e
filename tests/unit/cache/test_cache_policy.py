"""The policy over an engine that fails: soft, never out of date, and back when the engine is."""

import asyncio
import gc
import logging
from pathlib import Path

import orjson
import pytest
from cache_stage import UNKNOWN_SECONDS, FailingEngine

from hevlayer.clock import SystemClock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores import doccache_embedded
from hevlayer.stores.doccache import DocumentCache, Miss, WriteOutcome
from hevlayer.stores.doccache_breaker import FAILURES_MIN, OPEN_SECONDS
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.testing.clock import FakeClock

PLAIN = DocProjection()
KEY, OTHER = b"\x02a", b"\x02b"
ROWS = DocRows(orjson.dumps({"rows": [{"id": "a"}, {"id": "b"}]}), [])
A = b'{"id":"a","attributes":{}}'


@pytest.fixture
def failing(engine: Engine) -> FailingEngine:
    return FailingEngine(engine)


@pytest.fixture
def cache(failing: FailingEngine, clock: FakeClock) -> DocumentCache:
    return DocumentCache(failing, clock, unknown_write_seconds=UNKNOWN_SECONDS)


async def look(cache: DocumentCache, key: bytes = KEY, namespace: str = "ns") -> bytes | Miss:
    return await cache.lookup(namespace, key, PLAIN, None)


async def put(cache: DocumentCache, namespace: str = "ns") -> None:
    found = [await look(cache, key, namespace) for key in (KEY, OTHER)]
    await cache.fill(namespace, [KEY, OTHER], [each.ticket for each in found if isinstance(each, Miss)], ROWS)
    assert await look(cache, namespace=namespace) == A


async def missed(cache: DocumentCache, key: bytes = KEY) -> Miss:
    found = await look(cache, key)
    assert isinstance(found, Miss)
    return found


@pytest.mark.parametrize("operation", ["lookup", "lookup_many", "fill", "mark", "settle", "maintain", "facts"])
async def test_no_failure_reaches_a_caller(cache: DocumentCache, failing: FailingEngine, operation: str) -> None:
    await put(cache)
    failing.failing = {operation}
    await look(cache)
    await cache.lookup_many("ns", [KEY], PLAIN)
    await cache.fill("ns", [KEY, OTHER], [1, 1], ROWS)
    token = await cache.begin_write("ns", [KEY])
    await cache.settle(token, WriteOutcome.APPLIED)
    await cache.new_epoch("ns")
    await cache.maintain()
    await cache.facts("ns")
    stats = await cache.stats()
    name = "lookup" if operation == "lookup_many" else operation
    # `fill` is not asked while something is owed, and nothing is owed here unless something else fails first.
    assert stats.errors.get(name, 0) >= (0 if operation == "fill" else 1)
    await cache.close()


@pytest.mark.parametrize("operation", ["mark", "settle"])
async def test_a_write_the_engine_was_not_told_of_bypasses_the_cache(
    cache: DocumentCache, failing: FailingEngine, clock: FakeClock, operation: str
) -> None:
    await put(cache)
    await put(cache, "other")
    failing.failing = {operation}
    token = await cache.begin_write("ns", [KEY])
    assert not isinstance(await look(cache), bytes)
    await cache.settle(token, WriteOutcome.APPLIED)
    assert (await missed(cache)).failed
    assert await look(cache, namespace="other") == A, "other namespaces are served on"
    batch = await cache.lookup_many("ns", [KEY, OTHER], PLAIN)
    assert batch.documents[0] is None
    assert (batch.tickets, batch.failed) == ([0, 0], True)
    assert "owe" in failing.calls

    failing.failing = set()
    await cache.maintain()
    assert (await missed(cache)).ticket > 0
    assert (await cache.stats()).debts == 0
    assert isinstance(await look(cache, OTHER), bytes)


async def test_an_unmarked_write_owes_until_its_end(
    cache: DocumentCache, failing: FailingEngine, clock: FakeClock
) -> None:
    await put(cache)
    failing.failing = {"mark"}
    token = await cache.begin_write("ns", [KEY])
    failing.failing = set()
    await cache.maintain()
    assert (await missed(cache)).failed, "the write is still open"
    await cache.settle(token, WriteOutcome.UNKNOWN)
    clock.move(UNKNOWN_SECONDS - 1)
    await cache.maintain()
    assert (await missed(cache)).failed, "it may still take effect"
    clock.move(1)
    await cache.maintain()
    assert not (await missed(cache)).failed


async def test_a_refused_write_owes_nothing(cache: DocumentCache, failing: FailingEngine) -> None:
    await put(cache)
    failing.failing = {"mark"}
    token = await cache.begin_write("ns", [KEY])
    await cache.settle(token, WriteOutcome.REFUSED)
    failing.failing = set()
    assert (await cache.stats()).debts == 0
    await cache.maintain()
    assert await look(cache) == A


async def test_a_fill_from_before_a_debt_is_refused_after_it_is_repaid(
    cache: DocumentCache, failing: FailingEngine
) -> None:
    early = await missed(cache)
    failing.failing = {"mark"}
    token = await cache.begin_write("ns", [KEY])
    await cache.settle(token, WriteOutcome.APPLIED)
    failing.failing = set()
    await cache.maintain()
    await cache.fill("ns", [KEY], [early.ticket], ROWS)
    assert not isinstance(await look(cache), bytes)


async def test_a_failed_epoch_closes_the_namespace_until_it_is_made(
    cache: DocumentCache, failing: FailingEngine
) -> None:
    await put(cache)
    failing.failing = {"mark"}
    await cache.new_epoch("ns")
    assert (await missed(cache)).failed
    failing.failing = set()
    await cache.maintain()
    assert (await missed(cache)).ticket > 0


async def test_a_write_of_many_ids_marks_the_namespace(cache: DocumentCache, failing: FailingEngine) -> None:
    await put(cache)
    token = await cache.begin_write("ns", [b"\x02%d" % number for number in range(100_001)])
    assert token.keys is None
    assert (await missed(cache, OTHER)).ticket <= 0
    await cache.settle(token, WriteOutcome.APPLIED)
    assert (await missed(cache, OTHER)).ticket > 0


async def test_a_dropped_token_counts_as_unknown(cache: DocumentCache, clock: FakeClock) -> None:
    await put(cache)
    await cache.begin_write("ns", [KEY])
    gc.collect()
    await cache.maintain()
    assert (await missed(cache)).ticket <= 0
    clock.move(UNKNOWN_SECONDS)
    assert (await missed(cache)).ticket > 0


async def test_a_second_settle_changes_nothing(cache: DocumentCache) -> None:
    await put(cache)
    token = await cache.begin_write("ns", [KEY])
    await cache.settle(token, WriteOutcome.REFUSED)
    await cache.settle(token, WriteOutcome.APPLIED)
    assert await look(cache) == A


async def test_an_empty_write_costs_nothing(cache: DocumentCache, failing: FailingEngine) -> None:
    token = await cache.begin_write("ns", [])
    await cache.settle(token, WriteOutcome.APPLIED)
    assert failing.calls == []


async def test_the_breaker_opens_on_a_rate_and_probes(
    cache: DocumentCache, failing: FailingEngine, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await put(cache)
    failing.failing = {"lookup"}
    with caplog.at_level(logging.WARNING):
        for _ in range(FAILURES_MIN):
            assert (await missed(cache)).failed
    assert len(caplog.records) == 1
    assert not (await cache.stats()).available
    failing.calls.clear()
    assert (await missed(cache)).failed
    assert failing.calls == []
    clock.move(OPEN_SECONDS)
    assert (await missed(cache)).failed
    assert failing.calls == ["lookup"], "one probe"
    failing.failing = set()
    assert (await missed(cache)).failed
    clock.move(OPEN_SECONDS)
    assert await look(cache) == A
    assert (await cache.stats()).available


async def test_one_failure_among_successes_does_not_open_the_breaker(
    cache: DocumentCache, failing: FailingEngine
) -> None:
    await put(cache)
    for _ in range(10 * FAILURES_MIN):
        failing.failing = {"lookup"}
        await look(cache)
        failing.failing = set()
        for _ in range(3):
            assert await look(cache) == A


async def test_without_an_engine_everything_is_a_miss(clock: FakeClock) -> None:
    cache = DocumentCache(None, clock)
    assert not cache.enabled
    found = await missed(cache)
    assert (found.failed, found.ticket) == (False, 0)
    token = await cache.begin_write("ns", [KEY])
    await cache.settle(token, WriteOutcome.APPLIED)
    await cache.new_epoch("ns")
    assert await cache.begin_warm("ns") is None
    assert await cache.warmed_through("ns", 1) is None
    await cache.maintain()
    await cache.close()


async def test_an_engine_over_its_budget_is_soft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is sent to a thread, and the threads are all busy."""
    monkeypatch.setattr(doccache_embedded, "IN_PLACE_LOOKUPS_MAX", -1)
    engine = EmbeddedEngine.open(tmp_path, SystemClock(), upstream="u", timeout_seconds=0.01)
    cache = DocumentCache(engine, SystemClock())
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def occupy() -> None:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    busy = [loop.run_in_executor(engine._threads, occupy) for _ in range(doccache_embedded.THREADS)]
    batch = await cache.lookup_many("ns", [KEY], PLAIN)
    assert (batch.documents, batch.failed) == ([None], True)
    monkeypatch.setattr(doccache_embedded, "WAITING_CALLS_MAX", 0)
    with pytest.raises(CacheUnavailableError, match="too many calls waiting"):
        await engine.stats()
    monkeypatch.undo()
    released.set()
    await asyncio.gather(*busy)
    await cache.close()


async def test_the_engine_trims_itself_when_it_is_over_its_capacity(tmp_path: Path) -> None:
    engine = EmbeddedEngine.open(tmp_path, SystemClock(), upstream="u", capacity_bytes=1 << 20)
    cache = DocumentCache(engine, SystemClock())
    for number in range(100):
        found = await cache.lookup("ns", b"\x02%d" % number, PLAIN, None)
        assert isinstance(found, Miss)
        rows = DocRows(orjson.dumps({"rows": [{"id": str(number), "t": "x" * 20_000}]}), [])
        await cache.fill("ns", [b"\x02%d" % number], [found.ticket], rows)
        await cache.maintain()
    stats = (await cache.stats()).engine
    assert stats is not None
    assert stats.evicted_rows > 0
    assert stats.bytes <= stats.capacity_bytes
    await cache.close()
