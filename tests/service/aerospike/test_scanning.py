"""Scans of a server that breaks off, hangs, loses rows or is written to meanwhile: whole, or an error."""

import asyncio
import random

import orjson
import pytest
from aerospike_bench import (
    MARK_SECONDS,
    PATIENCE_SECONDS,
    POLL_SECONDS,
    TTL_SECONDS,
    UNKNOWN_SECONDS,
    Bench,
    put,
    recovered,
    softly,
)
from aerospike_proxy import Fault

from hevlayer.kernels.doccache import DocRows, DocScan
from hevlayer.kernels.filters import CancelFlag, CompiledFilter, FilterSchema
from hevlayer.stores.doccache import DocumentCache, WriteOutcome
from hevlayer.stores.doccache_aerospike import AerospikeEngine
from hevlayer.testing.aerospike_stand_in import StandIn

APPLIED = WriteOutcome.APPLIED
SECONDS = 10.0
ROWS = 300
SCHEMA = FilterSchema(orjson.dumps({"id": {"type": "string"}, "t": {"type": "int"}}))
ALL = CompiledFilter(None, SCHEMA)
ANOTHER_KEY = "ABCDEF012345"
STAMP_MS = 1_000


def page(names: list[str], t: int = 1) -> DocRows:
    return DocRows(orjson.dumps({"rows": [{"id": name, "t": t} for name in names]}), [])


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


def names_of(found: DocScan) -> list[str]:
    ids = ALL.ids(found, threads=2)
    assert ids is not None
    return [key[1:].decode() for index in range(len(ids)) if (key := ids.key(index)) is not None]


NAMES = [f"row{number:03}" for number in range(ROWS)]


async def filled(bench: Bench, **options: int) -> AerospikeEngine:
    engine = await bench.open(**options)
    assert (await engine.fill_page("ns", page(NAMES), await engine.begin_fill("ns")))[0] == ROWS
    return engine


async def whole(engine: AerospikeEngine) -> list[str]:
    return names_of((await engine.scan("ns", SECONDS)).rows)


async def show(engine: AerospikeEngine, shown: list[list[str]]) -> None:
    shown.append(await whole(engine))


async def warm(cache: DocumentCache, engine: AerospikeEngine, names: list[str]) -> None:
    """Fills the namespace, which is then complete."""
    ticket = await engine.begin_fill("ns")
    warming = await cache.begin_warm("ns")
    assert warming is not None
    kept, absent = await engine.fill_page("ns", page(names), ticket)
    assert (kept, absent) == (len(names), [])
    warming.add(rows=kept, absent=absent)
    assert await cache.end_warm(warming, STAMP_MS)


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_scan_that_is_broken_off_is_whole_or_an_error(bench: Bench, fault: Fault) -> None:
    engine = await filled(bench)
    for skipped in range(6):
        # A scan is some messages; each of the first ones is met in turn.
        bench.proxy.faults_after = skipped
        bench.proxy.faults = [fault] * 2
        shown: list[list[str]] = []
        assert (await softly(show(engine, shown)) is None) == bool(shown)
        assert shown in ([], [NAMES])
        bench.proxy.faults = []
        await recovered(engine)
    assert await whole(engine) == NAMES


async def test_a_server_that_fails_in_the_middle_of_a_scan_is_an_error(bench: Bench, stand_in: StandIn) -> None:
    engine = await filled(bench)
    stand_in.scan_errors = 1
    assert await softly(engine.scan("ns", SECONDS)) == "overload"
    assert await whole(engine) == NAMES


async def test_a_scan_of_a_silent_server_ends_when_its_time_is_over(bench: Bench) -> None:
    engine = await filled(bench)
    bench.proxy.hang()
    assert await softly(engine.scan("ns", 0.3)) is not None
    bench.proxy.go_on()
    await recovered(engine)
    assert await whole(engine) == NAMES


async def test_a_scan_that_nobody_wants_any_more_lets_go(bench: Bench) -> None:
    engine = await filled(bench)
    cancel = CancelFlag()
    bench.proxy.hang()
    scan = asyncio.create_task(engine.scan("ns", SECONDS, cancel))
    await asyncio.sleep(POLL_SECONDS)
    cancel.set()
    bench.proxy.go_on()
    assert await softly(scan) == "stopped"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while engine.inflight:
            await asyncio.sleep(POLL_SECONDS)


async def test_scans_together_hold_no_more_than_they_may(bench: Bench) -> None:
    engine = await filled(bench, scan_bytes_max=3 << 20)
    first = await engine.scan("ns", SECONDS)
    second = await engine.scan("ns", SECONDS)
    assert await softly(engine.scan("ns", SECONDS)) == "scan_too_large"
    assert (len(first.rows), len(second.rows)) == (ROWS, ROWS)
    del first
    assert len((await engine.scan("ns", SECONDS)).rows) == ROWS
    assert await softly((await bench.open(scan_bytes_max=0)).scan("ns", SECONDS)) == "scan_too_large"


async def test_nothing_is_shown_of_what_some_gateway_owes(bench: Bench) -> None:
    here = await filled(bench)
    there = await bench.open()
    await there.owe(7, ["ns"])
    assert await softly(here.scan("ns", SECONDS)) == "owed"
    await there.owe(7, [])
    await here.mark(1, "ns", None, MARK_SECONDS)
    closed = await here.scan("ns", SECONDS)
    assert (closed.facts.closed, len(closed.rows), len(closed.rows.with_marked())) == (True, 0, ROWS)
    await here.settle(1, "ns", None, WriteOutcome.REFUSED)
    await there.owe(8, None)
    assert await softly(here.scan("ns", SECONDS)) == "owed"


async def test_a_scan_of_a_cluster_that_formed_anew_shows_nothing_from_before(bench: Bench) -> None:
    engine = await filled(bench)
    bench.proxy.cluster_key = ANOTHER_KEY
    async with asyncio.timeout(PATIENCE_SECONDS):
        shown: list[list[str]] = []
        # A scan that meets the new key in its middle is an error.
        while await softly(show(engine, shown)) is not None or shown[-1]:
            await asyncio.sleep(POLL_SECONDS)
    bench.clock.move(UNKNOWN_SECONDS)
    await put(engine, "a")
    assert await whole(engine) == ["a"]


async def test_rows_that_were_lost_are_told_of(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    cache = DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS)
    await warm(cache, engine, NAMES)

    async def through() -> int | None:
        found = await cache.scan("ns", SECONDS)
        assert found is not None
        return cache.scanned_through(found, None)

    assert await through() == STAMP_MS
    stand_in.evict(1)
    assert await through() is None


@pytest.mark.parametrize("change", ["clear", "owe", "owe everything", "mark", "mark and settle"])
async def test_what_happens_to_the_namespace_during_a_scan_ends_it(bench: Bench, change: str) -> None:
    here = await filled(bench)
    there = await bench.open()

    async def meanwhile() -> None:
        match change:
            case "clear":
                await there.clear("ns")
            case "owe":
                await there.owe(7, ["ns"])
            case "owe everything":
                await there.owe(7, None)
            case _:
                await there.mark(1, "ns", None, MARK_SECONDS)
        if change == "mark and settle":
            await there.settle(1, "ns", None, APPLIED, changed=[])

    # Not the first part of it: some rows were read by then.
    for skipped in range(4):
        if skipped:
            await there.owe(7, [])
            await there.settle(1, "ns", None, WriteOutcome.REFUSED)
            async with asyncio.timeout(PATIENCE_SECONDS):
                # A debt of everything is believed for a moment after it was paid.
                while not (ticket := await here.begin_fill("ns")):
                    await asyncio.sleep(POLL_SECONDS)
            await here.fill_page("ns", page(NAMES), ticket)
        bench.proxy.meanwhile = [nothing] * skipped + [meanwhile]
        assert await softly(here.scan("ns", SECONDS)) in ("contended", "owed")
        assert not bench.proxy.meanwhile


async def nothing() -> None:
    """Lets a query go through."""


async def test_a_row_that_is_lost_during_a_scan_is_told_of(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    cache = DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS)
    await warm(cache, engine, NAMES)

    async def lose() -> None:
        stand_in.evict(1)

    bench.proxy.meanwhile = [lose]
    found = await cache.scan("ns", SECONDS)
    assert found is not None
    assert len(found.rows) == ROWS - 1
    assert cache.scanned_through(found, None) is None


async def test_a_warm_that_ends_during_a_scan_does_not_make_it_whole(bench: Bench) -> None:
    engine = await bench.open()
    cache = DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS)
    await engine.begin_fill("ns")

    async def fill() -> None:
        await warm(cache, engine, NAMES)

    bench.proxy.meanwhile = [nothing, nothing, fill]
    found = await cache.scan("ns", SECONDS)
    assert found is not None
    assert found.facts.note == ""
    assert cache.scanned_through(found, None) is None
    again = await cache.scan("ns", SECONDS)
    assert again is not None
    assert cache.scanned_through(again, None) == STAMP_MS


async def test_a_hole_is_told_of_until_it_is_filled(bench: Bench) -> None:
    engine = await bench.open()
    cache = DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS)
    await warm(cache, engine, NAMES)
    token = await cache.begin_write("ns", [key_of("row000")])
    during = await cache.scan("ns", SECONDS)
    assert during is not None
    assert (len(during.rows), len(during.rows.with_marked())) == (ROWS - 1, ROWS)
    assert cache.scanned_through(during, None) == STAMP_MS
    await cache.settle(token, APPLIED)
    after = await cache.scan("ns", SECONDS)
    assert after is not None
    assert (after.facts.holes, cache.scanned_through(after, None)) == (1, None)
    await put(engine, "row000", t=2)
    again = await cache.scan("ns", SECONDS)
    assert again is not None
    assert (len(again.rows), cache.scanned_through(again, None)) == (ROWS, STAMP_MS)


async def write(cache: DocumentCache, rng: random.Random, version: int) -> None:
    names = rng.sample(NAMES, 3)
    token = await cache.begin_write("ns", [key_of(name) for name in names])
    await asyncio.sleep(0)
    refused = rng.random() < 0.2
    rows = None if refused else page(names, version)
    await cache.settle(token, WriteOutcome.REFUSED if refused else APPLIED, rows=rows)


@pytest.mark.parametrize("seed", range(3))
async def test_a_scan_that_says_it_is_whole_has_every_row_also_those_being_written(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    here, there = await bench.open(), await bench.open()
    cache, other = (DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS) for engine in (here, there))
    await warm(cache, here, NAMES)
    whole_scans, version = 0, 1

    async def scan() -> None:
        nonlocal whole_scans
        found = await cache.scan("ns", SECONDS)
        if found is None or cache.scanned_through(found, None) is None:
            return
        whole_scans += 1
        assert names_of(found.rows.with_marked()) == NAMES

    for _ in range(12):
        scanning = asyncio.create_task(scan())
        while not scanning.done():
            version += 1
            await write(other, rng, version)
        await scanning
    assert (whole_scans, version > 12) == (12, True)


async def test_a_write_that_leaves_its_row_makes_no_gateway_think_that_one_is_missing(bench: Bench) -> None:
    here, there = await bench.open(), await bench.open()
    cache = DocumentCache(here, bench.clock, ttl_seconds=TTL_SECONDS)
    await warm(cache, here, NAMES)
    for number in range(20):
        key = key_of(NAMES[number])
        await there.mark(number, "ns", [key], MARK_SECONDS)
        assert await there.settle(number, "ns", [key], APPLIED, rows=page(NAMES[number : number + 1], 2))
        assert await cache.warmed_through("ns", None) == STAMP_MS
    await there.mark(99, "ns", [key_of("row000")], MARK_SECONDS)
    await there.settle(99, "ns", [key_of("row000")], APPLIED)
    assert await cache.warmed_through("ns", None) is None
    assert (await here.facts("ns")).holes == 1


async def test_an_id_that_two_writes_met_on_is_missing_for_every_gateway_at_once(bench: Bench) -> None:
    here, there = await bench.open(), await bench.open()
    cache = DocumentCache(here, bench.clock, ttl_seconds=TTL_SECONDS)
    await warm(cache, here, NAMES)
    await there.mark(1, "ns", [key_of("row000")], MARK_SECONDS)
    await there.mark(2, "ns", [key_of("row000")], MARK_SECONDS)
    assert await cache.warmed_through("ns", None) is None
    for token in (1, 2):
        await there.settle(token, "ns", [key_of("row000")], APPLIED, rows=page(["row000"], 2))
    assert await cache.warmed_through("ns", None) is None
    await put(here, "row000", t=2)
    assert await cache.warmed_through("ns", None) == STAMP_MS
