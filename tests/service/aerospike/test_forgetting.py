"""A server that lost what it acknowledged, or finds what it should not have any more."""

import asyncio
from collections.abc import Callable

from aerospike_bench import (
    KEY,
    MARK_SECONDS,
    PATIENCE_SECONDS,
    PLAIN,
    POLL_SECONDS,
    UNKNOWN_SECONDS,
    Bench,
    document,
    look,
    put,
    recovered,
    rows,
    ticket,
)

from hevlayer.stores.doccache_aerospike import AerospikeEngine
from hevlayer.stores.doccache_engine import WriteOutcome
from hevlayer.testing.aerospike_stand_in import StandIn

APPLIED, REFUSED, UNKNOWN = WriteOutcome.APPLIED, WriteOutcome.REFUSED, WriteOutcome.UNKNOWN
ANOTHER_KEY = "ABCDEF012345"
RESTART_SECONDS = 0.6


async def row_is_gone(engine: AerospikeEngine) -> int:
    """Waits until the engine has met the new cluster key. Returns what a look-up says then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while isinstance(found := await look(engine), bytes):
            await asyncio.sleep(POLL_SECONDS)
    return found


async def restart(engine: AerospikeEngine, stand_in: StandIn, meanwhile: Callable[[], None]) -> None:
    await stand_in.stop()
    meanwhile()
    # No server dies and serves again within the half second for which its key is believed.
    await asyncio.sleep(RESTART_SECONDS)
    await stand_in.start()
    await recovered(engine)


async def test_a_cluster_that_formed_anew_voids_every_row_and_is_quiet_for_a_while(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    began = await engine.begin_fill("ns")
    epoch = (await engine.facts("ns")).epoch
    bench.proxy.cluster_key = ANOTHER_KEY
    assert await row_is_gone(engine) <= 0
    # A read that begins now may be answered with the row from before a write whose mark is gone.
    assert await engine.begin_fill("ns") == 0
    assert await engine.fill_page("ns", rows(), began) == (0, [KEY])
    bench.clock.move(UNKNOWN_SECONDS - 1)
    assert await look(engine) == 0
    bench.clock.move(1)
    await put(engine)
    assert await look(engine) == document()
    assert (await engine.facts("ns")).epoch not in (0, epoch)


async def test_a_write_that_began_before_the_cluster_formed_anew_leaves_no_row(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    bench.proxy.cluster_key = ANOTHER_KEY
    await row_is_gone(engine)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await engine.begin_fill("ns") != 0:
            await asyncio.sleep(POLL_SECONDS)
    await engine.mark(2, "ns", [KEY], MARK_SECONDS)
    await engine.settle(2, "ns", [KEY], APPLIED, rows=rows(t=2))
    assert not isinstance(await look(engine), bytes)
    await engine.settle(1, "ns", [KEY], APPLIED, rows=rows(t=1))
    bench.clock.move(UNKNOWN_SECONDS)
    await ticket(engine)


async def test_every_gateway_keeps_the_quiet_time(bench: Bench) -> None:
    here, there = await bench.open(), await bench.open()
    await put(here)
    bench.proxy.cluster_key = ANOTHER_KEY
    for engine in (here, there):
        assert await row_is_gone(engine) <= 0
    bench.clock.move(UNKNOWN_SECONDS)
    await put(here)
    assert await look(there) == document()


async def test_records_that_are_lost_alone_take_their_marks_and_tickets_with_them(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    early = await ticket(engine, b"\x02b")
    page = await engine.begin_fill("ns")
    epoch = (await engine.facts("ns")).epoch
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await bench.truncate()
    assert await ticket(engine) > 0
    assert not await engine.settle(1, "ns", [KEY], APPLIED)
    assert await engine.fill("ns", rows("b"), [b"\x02b"], [early]) == 0
    assert await engine.fill_page("ns", rows("c"), page) == (0, [b"\x02c"])
    assert (await engine.facts("ns")).epoch != epoch


async def test_a_ticket_is_void_once_its_record_was_lost_and_made_again(bench: Bench) -> None:
    engine = await bench.open()
    early = await ticket(engine)
    await bench.truncate()
    await ticket(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    await bench.truncate()
    await ticket(engine)
    assert await engine.fill("ns", rows(), [KEY], [early]) == 0


async def test_a_ticket_is_void_when_only_its_own_record_was_lost(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    early = await ticket(engine)
    stand_in.lose_alone(b"i", KEY)
    await ticket(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    stand_in.lose_alone(b"i", KEY)
    # A record of the first generation again, as the first ticket's was.
    assert await ticket(engine) != early
    assert await engine.fill("ns", rows(), [KEY], [early]) == 0
    await put(engine)


async def test_a_mark_that_was_lost_alone_is_told_at_its_settle(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    stand_in.lose_alone(b"i", KEY)
    await put(engine)
    assert not await engine.settle(1, "ns", [KEY], APPLIED, rows=rows(t=2))
    assert not isinstance(await look(engine), bytes)


async def test_a_lost_mark_of_a_namespace_is_told_at_its_settle(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", None, MARK_SECONDS)
    await bench.truncate()
    assert not await engine.settle(1, "ns", None, APPLIED)
    await ticket(engine)


async def test_old_records_that_a_cold_start_finds_are_not_believed(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    await put(engine)
    before = stand_in.changes
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    # The row is back, as from a disk that missed the last second of writes.
    await restart(engine, stand_in, lambda: stand_in.lose(stand_in.changes - before))
    assert not isinstance(await look(engine), bytes)
    bench.clock.move(UNKNOWN_SECONDS)
    await put(engine, t=2)
    assert await look(engine) == document(t=2)


async def test_an_empty_server_is_quiet_first(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], UNKNOWN)
    await restart(engine, stand_in, stand_in.forget)
    assert await look(engine) == 0
    bench.clock.move(UNKNOWN_SECONDS)
    await ticket(engine)


async def test_evicted_rows_count_as_lost_and_their_marks_last_longest(bench: Bench, stand_in: StandIn) -> None:
    engine = await bench.open()
    for name in "abc":
        await put(engine, name)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    lost = (await engine.facts("ns")).lost
    stand_in.evict(2)
    assert [await engine.lookup("ns", b"\x02" + name, PLAIN, None) for name in (b"b", b"c")] != [
        document("b"),
        document("c"),
    ]
    assert (await engine.facts("ns")).lost > lost
    assert await engine.settle(1, "ns", [KEY], REFUSED)
    assert await look(engine) == document()
