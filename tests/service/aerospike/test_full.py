"""A server that takes no writes, is overloaded, answers in part, or keeps nothing for a time to live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aerospike_bench import (
    AEROSPIKE_NAMESPACE,
    KEY,
    MARK_SECONDS,
    PATIENCE_SECONDS,
    PLAIN,
    POLL_SECONDS,
    TTL_SECONDS,
    Bench,
    document,
    look,
    put,
    recovered,
    rows,
    softly,
    ticket,
)

from hevlayer.stores.doccache import DocumentCache, WriteOutcome
from hevlayer.testing.aerospike_stand_in import StandIn

APPLIED = WriteOutcome.APPLIED
STOP_WRITES = "aerospike_stop_writes"
SETTING = "stop-writes-sys-memory-pct"
DEFAULT_PERCENT = 90
# The engine asks for the server's limits this often, whatever happens.
REGULAR_LOOK_SECONDS = 10.0


@asynccontextmanager
async def stopped_writes(bench: Bench) -> AsyncIterator[None]:
    """The server takes no writes; a real one is told that a hundredth of its memory is enough."""
    if bench.stand_in is not None:
        bench.stand_in.stop_writes = True
        yield
        bench.stand_in.stop_writes = False
        return
    before = (await namespace_facts(bench)).get(SETTING, str(DEFAULT_PERCENT))
    if not await set_config(bench, f"{SETTING}=1"):
        pytest.skip("the server does not let its stop-writes threshold be set")
    try:
        await until_stop_writes(bench, "true")
        yield
    finally:
        await set_config(bench, f"{SETTING}={before}")
        await until_stop_writes(bench, "false")


async def set_config(bench: Bench, setting: str) -> bool:
    # The parameter that names the namespace was renamed.
    for name in ("namespace", "id"):
        if await bench.info(f"set-config:context=namespace;{name}={AEROSPIKE_NAMESPACE};{setting}") == "ok":
            return True
    return False


async def namespace_facts(bench: Bench) -> dict[str, str]:
    answer = await bench.info(f"namespace/{AEROSPIKE_NAMESPACE}")
    return dict(each.split("=", 1) for each in answer.split(";") if "=" in each)


async def until_stop_writes(bench: Bench, wanted: str) -> None:
    # The server looks every ten seconds.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await namespace_facts(bench)).get("stop_writes") != wanted:
            await asyncio.sleep(POLL_SECONDS)


async def test_rows_are_served_while_nothing_can_be_written(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    began = await ticket(engine, b"\x02b")
    async with stopped_writes(bench):
        assert await look(engine) == document()
        assert await engine.lookup_many("ns", [KEY, b"\x02x"], PLAIN) == [document(), 0]
        assert await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) == STOP_WRITES
        assert await softly(engine.mark(2, "ns", None, MARK_SECONDS)) == STOP_WRITES
        assert await softly(engine.fill("ns", rows("b"), [b"\x02b"], [began])) == STOP_WRITES
        assert await softly(engine.clear("ns")) == STOP_WRITES
        assert await softly(engine.owe(7, ["ns"])) == STOP_WRITES
        assert any("stop-writes" in note for note in (await engine.stats()).notes)
        assert await look(engine) == document()
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    await put(engine, t=2)
    assert not (await engine.stats()).notes or bench.stand_in is None


async def test_a_mark_that_cannot_be_settled_stands(bench: Bench) -> None:
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    async with stopped_writes(bench):
        assert await softly(engine.settle(1, "ns", [KEY], APPLIED, rows=rows(t=2))) == STOP_WRITES
        assert not isinstance(await look(engine), bytes)
    assert await engine.settle(1, "ns", [KEY], APPLIED)
    await ticket(engine)


async def test_a_gateway_bypasses_what_it_could_not_mark(bench: Bench) -> None:
    engine = await bench.open()
    cache = DocumentCache(engine, bench.clock, ttl_seconds=TTL_SECONDS)
    await put(engine)
    async with stopped_writes(bench):
        token = await cache.begin_write("ns", [KEY])
        await cache.settle(token, APPLIED)
        missed = await cache.lookup("ns", KEY, PLAIN, None)
        assert not isinstance(missed, bytes)
        assert missed.failed
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await cache.stats()).debts:
            bench.clock.move(1.0)
            await cache.maintain()
    assert not isinstance(await look(engine), bytes)
    bench.clock.move(MARK_SECONDS)
    await put(engine, t=2)
    assert await cache.lookup("ns", KEY, PLAIN, None) == document(t=2)


@pytest.mark.parametrize("refusal", [4, 9, 11, 18, 22, None])
async def test_a_batch_that_is_not_answered_whole_is_an_error(bench: Bench, refusal: int | None) -> None:
    engine = await bench.open()
    await put(engine)
    bench.proxy.refusal, bench.proxy.silent = refusal, refusal is None
    assert await softly(engine.lookup("ns", KEY, PLAIN, None)) is not None
    assert await softly(engine.lookup_many("ns", [KEY, b"\x02x"], PLAIN)) is not None
    assert await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) is not None
    bench.proxy.refusal, bench.proxy.silent = None, False
    await recovered(engine)
    # The mark may have been made after all.
    await engine.settle(1, "ns", [KEY], WriteOutcome.REFUSED)
    assert await look(engine) == document()


@pytest.mark.parametrize(("code", "cause"), [(9, "timeout"), (14, "overload"), (18, "overload"), (22, "forbidden")])
async def test_rows_are_served_while_every_write_is_refused(
    bench: Bench, stand_in: StandIn, code: int, cause: str
) -> None:
    engine = await bench.open()
    await put(engine)
    stand_in.write_refusal = code
    for _ in range(150):
        assert await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) == cause
    assert await look(engine) == document()
    assert await engine.lookup_many("ns", [KEY, b"\x02x"], PLAIN) == [document(), 0]
    assert await softly(engine.mark(2, "ns", None, MARK_SECONDS)) == cause
    stand_in.write_refusal = 0
    await engine.mark(1, "ns", [KEY], MARK_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    await put(engine, t=2)


async def test_calls_that_ran_out_of_time_make_no_later_one_fail(bench: Bench) -> None:
    engine = await bench.open(timeout_seconds=0.1)
    await put(engine)
    bench.proxy.hang()
    causes = set()
    for _ in range(5):
        causes.update(await asyncio.gather(*(softly(look(engine)) for _ in range(60))))
    bench.proxy.go_on()
    await recovered(engine)
    assert "backoff" not in causes
    assert await look(engine) == document()


@pytest.mark.parametrize("nsup_period", [120, 0])
async def test_the_servers_own_time_to_live_is_never_used(bench: Bench, stand_in: StandIn, nsup_period: int) -> None:
    stand_in.default_ttl, stand_in.nsup_period = 1, nsup_period
    engine = await bench.open()
    await put(engine)
    await engine.mark(1, "ns", [b"\x02b"], MARK_SECONDS)
    await engine.mark(2, "ns", None, MARK_SECONDS)
    await engine.settle(2, "ns", None, WriteOutcome.REFUSED)
    await engine.owe(7, None)
    await engine.owe(7, [])
    stand_in.seconds_passed += 2
    assert await look(engine) == document()
    assert await engine.settle(1, "ns", [b"\x02b"], WriteOutcome.REFUSED)


async def test_a_server_whose_expiry_is_turned_off_is_noticed_at_the_first_refusal(
    bench: Bench, stand_in: StandIn
) -> None:
    engine = await bench.open()
    await put(engine)
    stand_in.nsup_period = 0
    assert await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) == "forbidden"
    async with asyncio.timeout(REGULAR_LOOK_SECONDS / 2):
        while await softly(engine.mark(1, "ns", [KEY], MARK_SECONDS)) is not None:
            await asyncio.sleep(POLL_SECONDS)
    await engine.settle(1, "ns", [KEY], APPLIED)
    await put(engine, t=2)


async def test_a_look_up_prolongs_nothing(bench: Bench, stand_in: StandIn) -> None:
    stand_in.read_touch_percent = 80
    engine = await bench.open()
    await put(engine)
    assert await look(engine) == document()
    assert await engine.lookup_many("ns", [KEY], PLAIN) == [document()]
    assert stand_in.touches == 0


async def test_a_row_larger_than_a_record_may_be_is_lost_and_nothing_else(bench: Bench) -> None:
    engine = await bench.open()
    largest = int((await namespace_facts(bench)).get("max-record-size", "0")) or 1 << 20
    tickets = [await ticket(engine), await ticket(engine, b"\x02b")]
    found = type(rows()).joined([rows("a"), type(rows())(b'{"rows":[{"id":"b","t":"%s"}]}' % (b"x" * largest), [])])
    assert await engine.fill("ns", found, [KEY, b"\x02b"], tickets) == 1
    assert await look(engine) == document()
    assert not isinstance(await look(engine, "b"), bytes)
    assert (await engine.facts("ns")).lost >= 1


async def test_a_server_without_expiry_is_told_of_and_rows_run_out_all_the_same(
    bench: Bench, stand_in: StandIn
) -> None:
    stand_in.nsup_period = 0
    engine = await bench.open()
    assert any("nsup-period" in note for note in (await engine.stats()).notes)
    await put(engine)
    bench.clock.move(TTL_SECONDS - 1)
    assert await look(engine) == document()
    bench.clock.move(1)
    await ticket(engine)


async def test_a_namespace_that_the_server_does_not_have_is_named(bench: Bench, stand_in: StandIn) -> None:
    stand_in.namespace = "another"
    engine = await bench.open(connected=False)
    problem = await engine.connect()
    assert problem is not None
    assert "AEROSPIKE_NAMESPACE" in problem
