"""Broken, silent and slow connections: every call ends, softly, and nothing is served that should not be."""

import asyncio

import pytest
from aerospike_bench import (
    KEY,
    MARK_SECONDS,
    PATIENCE_SECONDS,
    PLAIN,
    POLL_SECONDS,
    Bench,
    document,
    look,
    put,
    recovered,
    rows,
    softly,
    ticket,
)
from aerospike_proxy import Fault

from hevlayer.stores.doccache_engine import WriteOutcome

APPLIED, REFUSED = WriteOutcome.APPLIED, WriteOutcome.REFUSED
FAULTS = list(Fault)


async def test_rows_are_served_again_after_every_connection_broke(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    for _ in range(3):
        bench.proxy.cut()
        await softly(engine.lookup("ns", KEY, PLAIN, None))
        await recovered(engine)
        assert await look(engine) == document()


async def test_a_node_that_is_away_is_reached_for_until_it_is_back(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    bench.proxy.refuses = True
    bench.proxy.cut()
    assert await softly(engine.lookup("ns", KEY, PLAIN, None)) is not None
    assert await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) is not None
    bench.proxy.refuses = False
    await recovered(engine)
    assert await look(engine) == document()


async def test_an_engine_that_starts_without_its_server_finds_it_later(bench: Bench) -> None:
    bench.proxy.refuses = True
    engine = await bench.open(connected=False)
    assert await engine.connect() is not None
    assert await softly(engine.lookup("ns", KEY, PLAIN, None)) is not None
    bench.proxy.refuses = False
    await recovered(engine)
    bench.clock.move(MARK_SECONDS)
    await put(engine)
    assert (await engine.stats()).connects >= 1


async def test_a_silent_node_costs_each_call_its_budget_and_no_more(bench: Bench) -> None:
    engine = await bench.open(timeout_seconds=0.2)
    await put(engine)
    bench.proxy.hang()
    calls = [
        engine.lookup("ns", KEY, PLAIN, None),
        engine.lookup_many("ns", [KEY], PLAIN),
        engine.mark(1, "ns", [b"\x02b"], MARK_SECONDS),
        engine.mark(2, "ns", None, MARK_SECONDS),
        engine.settle(3, "ns", [b"\x02c"], APPLIED),
        engine.fill("ns", rows("d"), [b"\x02d"], [1]),
        engine.begin_fill("ns"),
        engine.beneath(1, "ns", [KEY]),
        engine.clear("other"),
        engine.owe(7, ["other"]),
        engine.facts("ns"),
        engine.note("ns", "text", 1, 0),
        engine.limit("other", 1 << 20),
    ]
    ended = await asyncio.gather(*(softly(call) for call in calls))
    assert all(ended), ended
    bench.proxy.go_on()
    await recovered(engine)
    # The marks may have arrived after all; their settles end them.
    await engine.settle(1, "ns", [b"\x02b"], REFUSED)
    await engine.settle(2, "ns", None, REFUSED)
    assert await look(engine) == document()


async def test_a_caller_that_goes_away_leaves_nothing_behind(bench: Bench) -> None:
    engine = await bench.open(timeout_seconds=0.2)
    await put(engine)
    bench.proxy.hang()
    tasks = [asyncio.create_task(engine.lookup("ns", KEY, PLAIN, None)) for _ in range(50)]
    await asyncio.sleep(POLL_SECONDS)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*tasks, return_exceptions=True)
    )
    bench.proxy.go_on()
    await recovered(engine)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while engine.inflight:
            await asyncio.sleep(POLL_SECONDS)
    assert await look(engine) == document()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_mark_that_failed_is_there_or_not_and_its_settle_ends_it(bench: Bench, fault: Fault) -> None:
    engine = await bench.open()
    await put(engine)
    bench.proxy.faults = [fault] * 2
    failed = await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS))
    await recovered(engine)
    if failed is None:
        assert not isinstance(await look(engine), bytes)
    await engine.settle(1, "ns", [KEY], APPLIED)
    await ticket(engine)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_settle_that_failed_can_be_made_again(bench: Bench, fault: Fault) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    bench.proxy.faults = [fault] * 2
    await softly(engine.settle(1, "ns", [KEY], APPLIED, rows=rows(t=2)))
    await recovered(engine)
    assert await look(engine) != document()
    # It may have been carried out before: then its mark is gone, and nothing is known for certain.
    await engine.settle(1, "ns", [KEY], APPLIED)
    assert await look(engine) != document()
    await engine.mark(2, "ns", [KEY], MARK_SECONDS)
    await engine.settle(2, "ns", [KEY], APPLIED)
    await ticket(engine)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fill_that_failed_is_whole_or_not_there(bench: Bench, fault: Fault) -> None:
    engine = await bench.open()
    began = await ticket(engine)
    bench.proxy.faults = [fault] * 2
    await softly(engine.fill("ns", rows(), [KEY], [began]))
    await recovered(engine)
    found = await look(engine)
    assert found == document() or isinstance(found, int)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    assert await engine.fill("ns", rows(), [KEY], [began]) == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_clear_that_failed_is_an_error(bench: Bench, fault: Fault) -> None:
    engine = await bench.open()
    await put(engine)
    bench.proxy.faults = [fault] * 8
    failed = await softly(engine.clear("ns"))
    bench.proxy.faults = []
    await recovered(engine)
    if failed is None:
        await ticket(engine)
    await engine.clear("ns")
    await ticket(engine)


async def test_a_cluster_that_is_changing_is_not_believed(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    bench.proxy.stable = False
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await softly(engine.lookup("ns", KEY, PLAIN, None)) is None:
            await asyncio.sleep(POLL_SECONDS)
    bench.proxy.stable = True
    await recovered(engine)
    assert await look(engine) == document()
