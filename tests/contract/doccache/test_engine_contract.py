"""What every engine of the document cache must do (`stores.doccache_engine.Engine`)."""

import orjson
import pytest
from engine_stage import TTL_SECONDS, UNKNOWN_SECONDS, Stage

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache_engine import Engine, NamespaceFacts, WriteOutcome
from hevlayer.testing.clock import FakeClock

PLAIN = DocProjection()
APPLIED, REFUSED, UNKNOWN = WriteOutcome.APPLIED, WriteOutcome.REFUSED, WriteOutcome.UNKNOWN
KEY, OTHER = b"\x02a", b"\x02b"
A = b'{"id":"a","attributes":{"t":1}}'
B = b'{"id":"b","attributes":{"t":1}}'
SECONDS = 600.0
# After which an engine has taken a silent owner for dead and its namespace has been closed for `UNKNOWN_SECONDS`.
DEAD_SECONDS_MAX = UNKNOWN_SECONDS + 60.0
NO_ROWS = DocRows(b'{"rows":[]}', [])


def rows(*ids: str, t: object = 1) -> DocRows:
    found = [{"id": each, "t": t, "vector": [0.5], "_hevlayer_upserted_at": 7, "gone": None} for each in ids]
    return DocRows(orjson.dumps({"rows": found}), ["vector"])


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


async def look(engine: Engine, key: bytes = KEY, namespace: str = "ns") -> bytes | int:
    now = engine.lookup_now(namespace, key, PLAIN, None)
    found = await engine.lookup(namespace, key, PLAIN, None)
    # At once is nothing else than with waiting, in each state that these tests know.
    assert now is None or now == found
    return found


async def ticket(engine: Engine, key: bytes = KEY, namespace: str = "ns") -> int:
    found = await look(engine, key, namespace)
    assert isinstance(found, int), found
    assert found > 0
    return found


async def is_marked(engine: Engine, key: bytes = KEY) -> bool:
    found = await look(engine, key)
    return isinstance(found, int) and found <= 0


async def fill(engine: Engine, found: DocRows, tickets: dict[bytes, int], namespace: str = "ns") -> int:
    return await engine.fill(namespace, found, list(tickets), list(tickets.values()))


async def put(engine: Engine, *ids: str, t: object = 1, namespace: str = "ns") -> None:
    tickets = {key_of(each): await ticket(engine, key_of(each), namespace) for each in ids}
    assert await fill(engine, rows(*ids, t=t), tickets, namespace) == len(ids)


async def mark(engine: Engine, token: int, *keys: bytes, namespace: str = "ns") -> None:
    await engine.mark(token, namespace, list(keys) or None, SECONDS)


async def settle(engine: Engine, token: int, outcome: WriteOutcome, *keys: bytes, namespace: str = "ns") -> bool:
    return await engine.settle(token, namespace, list(keys) or None, outcome)


# --- look-ups and fills -----------------------------------------------------------------------------------------------


async def test_a_filled_row_is_served_as_it_was(engine: Engine) -> None:
    await put(engine, "a")
    assert await look(engine) == A
    named = DocProjection(["vector", "_hevlayer_upserted_at", "gone", "unheard"])
    document = b'{"id":"a","attributes":{"_hevlayer_upserted_at":7,"vector":[0.5]}}'
    found = await engine.lookup("ns", KEY, named, None)
    assert isinstance(found, bytes)
    assert orjson.loads(found) == orjson.loads(document)
    assert await engine.lookup("ns", KEY, DocProjection([]), "uuid") == b'{"id":"a","id_type":"uuid","attributes":{}}'


@pytest.mark.needs("now")
async def test_a_filled_row_is_there_at_once(engine: Engine) -> None:
    assert engine.lookup_now("ns", KEY, PLAIN, None) is None
    await put(engine, "a")
    assert engine.lookup_now("ns", KEY, PLAIN, None) == A
    named = engine.lookup_now("ns", KEY, DocProjection([]), "uuid")
    assert named == b'{"id":"a","id_type":"uuid","attributes":{}}'
    await mark(engine, 1, KEY)
    assert engine.lookup_now("ns", KEY, PLAIN, None) is None
    await engine.close()
    assert engine.lookup_now("ns", KEY, PLAIN, None) is None


async def test_ids_of_two_types_and_two_namespaces_are_apart(engine: Engine) -> None:
    await put(engine, "5")
    assert await look(engine, b"\x02" + b"5") == b'{"id":"5","attributes":{"t":1}}'
    assert isinstance(await look(engine, b"\x01" + (5).to_bytes(8, "big")), int)
    assert isinstance(await look(engine, b"\x02" + b"5", "other"), int)


@pytest.mark.parametrize("key", [b"\x02", b"\x02a\x00b", "\x02é\U0001f600/%;".encode(), b"\x01" + b"\xff" * 8])
async def test_ids_of_any_bytes(engine: Engine, key: bytes) -> None:
    value: object = int.from_bytes(key[1:], "big") if key[:1] == b"\x01" else key[1:].decode()
    answer = DocRows(orjson.dumps({"rows": [{"id": value, "t": 1}]}), [])
    assert await fill(engine, answer, {key: await ticket(engine, key)}) == 1
    found = await look(engine, key)
    assert isinstance(found, bytes)
    assert orjson.loads(found)["id"] == str(value)


@pytest.mark.parametrize("namespace", ["a;b", "..", "x" * 128, "-", "UPPER.lower_9"])
async def test_namespaces_of_any_name(engine: Engine, namespace: str) -> None:
    await put(engine, "a", namespace=namespace)
    assert await look(engine, KEY, namespace) == A
    assert isinstance(await look(engine, KEY, namespace[:1] + "~"), int)


async def test_many_come_in_the_order_asked(engine: Engine) -> None:
    await put(engine, "a", "b")
    found = await engine.lookup_many("ns", [OTHER, key_of("x"), KEY], PLAIN)
    assert found[0] == B
    assert isinstance(found[1], int)
    assert found[1] > 0
    assert found[2] == A
    assert await engine.lookup_many("ns", [], PLAIN) == []


async def test_two_hundred_ids_in_one_call(engine: Engine) -> None:
    names = [f"row{number}" for number in range(200)]
    await put(engine, *names)
    found = await engine.lookup_many("ns", [key_of(name) for name in names], PLAIN)
    assert [orjson.loads(each)["id"] for each in found if isinstance(each, bytes)] == names


async def test_a_fill_does_not_replace_what_is_there(engine: Engine) -> None:
    began = await ticket(engine)
    await put(engine, "a")
    assert await fill(engine, rows("a", t=2), {KEY: began}) == 0
    assert await look(engine) == A


async def test_a_fill_keeps_only_what_was_asked_for(engine: Engine) -> None:
    assert await fill(engine, rows("a"), {KEY: 0}) == 0
    assert await fill(engine, rows("a"), {KEY: -1}) == 0
    await ticket(engine)


async def test_tickets_tell_whether_a_write_came_between(engine: Engine) -> None:
    first = await look(engine)
    assert await look(engine) == first
    await mark(engine, 1, KEY)
    second = await look(engine)
    await settle(engine, 1, APPLIED, KEY)
    third = await look(engine)
    await mark(engine, 2, KEY)
    assert len({first, third, await look(engine)} - {0}) >= 2
    assert second == 0 or second not in (first, third, await look(engine))
    await settle(engine, 2, REFUSED, KEY)
    await engine.clear("ns")
    assert await look(engine) not in (first, second, third)


# --- writes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "then"), [(APPLIED, "missing"), (REFUSED, "served"), (UNKNOWN, "marked")])
async def test_a_mark_hides_a_row_until_the_write_is_settled(engine: Engine, outcome: WriteOutcome, then: str) -> None:
    await put(engine, "a")
    await mark(engine, 1, KEY)
    assert await is_marked(engine)
    assert await settle(engine, 1, outcome, KEY)
    found = await look(engine)
    assert {
        "missing": isinstance(found, int) and found > 0,
        "served": found == A,
        "marked": isinstance(found, int) and found <= 0,
    }[then]


async def test_an_unknown_outcome_ends_with_its_time(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    await mark(engine, 1, KEY)
    await settle(engine, 1, UNKNOWN, KEY)
    clock.move(UNKNOWN_SECONDS - 1)
    assert await is_marked(engine)
    clock.move(1)
    await ticket(engine)


async def test_a_mark_ends_with_its_time(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    await mark(engine, 1, KEY)
    clock.move(SECONDS - 1)
    assert await is_marked(engine)
    clock.move(1)
    await ticket(engine)
    assert not await settle(engine, 1, APPLIED, KEY)


@pytest.mark.parametrize("keys", [[KEY], []])
@pytest.mark.parametrize("outcome", list(WriteOutcome))
async def test_a_read_from_before_a_write_never_fills(
    engine: Engine, keys: list[bytes], outcome: WriteOutcome, clock: FakeClock
) -> None:
    early = {KEY: await ticket(engine)}
    await mark(engine, 1, *keys)
    during = {KEY: await engine.begin_fill("ns")}
    assert await fill(engine, rows("a"), early) == 0
    await settle(engine, 1, outcome, *keys)
    assert await fill(engine, rows("a"), early) == 0
    assert await engine.fill_page("ns", rows("a"), during[KEY]) == (0, [KEY])
    clock.move(UNKNOWN_SECONDS)
    assert await fill(engine, rows("a"), early) == 0
    assert isinstance(await look(engine), int)
    await put(engine, "a")


async def test_two_writes_of_one_id_bring_nothing_back(engine: Engine) -> None:
    await put(engine, "a")
    await mark(engine, 1, KEY)
    await mark(engine, 2, KEY)
    await settle(engine, 1, REFUSED, KEY)
    assert await is_marked(engine)
    await settle(engine, 2, REFUSED, KEY)
    await ticket(engine)


async def test_a_namespace_write_hides_and_clears_the_namespace_only(engine: Engine) -> None:
    await put(engine, "a")
    await put(engine, "a", namespace="other")
    await mark(engine, 1)
    assert await is_marked(engine)
    assert await engine.begin_fill("ns") == 0
    assert await settle(engine, 1, APPLIED)
    await ticket(engine)
    assert await look(engine, KEY, "other") == A


async def test_a_refused_namespace_write_brings_its_rows_back(engine: Engine) -> None:
    await put(engine, "a")
    await mark(engine, 1)
    assert await settle(engine, 1, REFUSED)
    assert await look(engine) == A


async def test_a_clear_leaves_marks_standing(engine: Engine) -> None:
    await put(engine, "a", "b")
    early = {key_of("c"): await ticket(engine, key_of("c"))}
    await mark(engine, 1, KEY)
    await engine.clear("ns")
    assert await is_marked(engine)
    await ticket(engine, OTHER)
    assert await fill(engine, rows("c"), early) == 0
    await settle(engine, 1, REFUSED, KEY)
    await ticket(engine)


async def test_a_settle_without_its_mark_says_so(engine: Engine) -> None:
    assert not await settle(engine, 99, APPLIED, KEY)
    assert not await settle(engine, 99, APPLIED)


@pytest.mark.needs("rows")
async def test_a_write_becomes_its_rows(engine: Engine) -> None:
    await put(engine, "a", "b", "c")
    keys = [KEY, OTHER, key_of("c")]
    await engine.mark(1, "ns", keys, SECONDS)
    early = await engine.begin_fill("ns")
    assert await engine.settle(1, "ns", keys, APPLIED, rows=rows("a", "x", t=2), deleted=[OTHER])
    assert await look(engine) == b'{"id":"a","attributes":{"t":2}}'
    await ticket(engine, OTHER)
    await ticket(engine, key_of("c"))
    await ticket(engine, key_of("x"))
    assert await engine.fill_page("ns", rows("a"), early) == (0, [])
    assert await look(engine) == b'{"id":"a","attributes":{"t":2}}'


@pytest.mark.needs("rows")
@pytest.mark.parametrize("first", [APPLIED, REFUSED])
async def test_contended_writes_become_nothing(engine: Engine, first: WriteOutcome) -> None:
    await put(engine, "a")
    await engine.mark(1, "ns", [KEY], SECONDS)
    await engine.mark(2, "ns", [KEY], SECONDS)
    assert await engine.settle(1, "ns", [KEY], first, rows=rows("a", t=2))
    assert await is_marked(engine)
    assert await engine.settle(2, "ns", [KEY], APPLIED, rows=rows("a", t=3))
    await ticket(engine)


@pytest.mark.needs("rows")
@pytest.mark.parametrize("whole_first", [False, True])
async def test_a_write_within_a_namespace_write_becomes_nothing(engine: Engine, whole_first: bool) -> None:
    if whole_first:
        await engine.mark(1, "ns", None, SECONDS)
    await engine.mark(2, "ns", [KEY], SECONDS)
    if not whole_first:
        await engine.mark(1, "ns", None, SECONDS)
    assert await engine.settle(2, "ns", [KEY], APPLIED, rows=rows("a", t=2))
    assert await engine.settle(1, "ns", None, APPLIED, changed=[])
    await ticket(engine)


@pytest.mark.needs("changed")
async def test_ids_that_a_write_did_not_change_keep_their_rows(engine: Engine) -> None:
    await put(engine, "a", "b")
    await engine.mark(1, "ns", [KEY, OTHER], SECONDS)
    assert await engine.settle(1, "ns", [KEY, OTHER], APPLIED, changed=[KEY])
    await ticket(engine)
    assert await look(engine, OTHER) == B


@pytest.mark.needs("changed")
async def test_a_namespace_write_with_its_ids_voids_them_only(engine: Engine) -> None:
    await put(engine, "a", "b")
    early = {OTHER: await engine.begin_fill("ns")}
    await engine.mark(1, "ns", None, SECONDS)
    assert await engine.settle(1, "ns", None, APPLIED, changed=[KEY], deleted=[KEY])
    await ticket(engine)
    assert await look(engine, OTHER) == B
    assert (await engine.fill_page("ns", rows("b", t=2), early[OTHER]))[0] == 0


@pytest.mark.needs("rows")
async def test_the_row_beneath_a_mark_is_told_to_its_write(engine: Engine) -> None:
    await put(engine, "a", "b")
    await engine.mark(1, "ns", [KEY, OTHER, key_of("c")], SECONDS)
    await engine.mark(2, "ns", [OTHER], SECONDS)
    found = await engine.beneath(1, "ns", [KEY, OTHER, key_of("c")])
    assert found.keys() == [KEY]
    assert found.document(KEY, PLAIN) == A
    assert len(await engine.beneath(2, "ns", [OTHER])) == 0


# --- several gateways -------------------------------------------------------------------------------------------------


@pytest.mark.needs("several")
async def test_what_one_gateway_does_the_others_see(stage: Stage) -> None:
    here, there = await stage.open(), await stage.open()
    early = {KEY: await ticket(there)}
    await put(here, "a")
    assert await look(there) == A
    await mark(here, 1, KEY)
    assert await is_marked(there)
    await settle(here, 1, APPLIED, KEY)
    assert await fill(there, rows("a", t=2), early) == 0
    await put(there, "a")
    await here.clear("ns")
    await ticket(there)
    assert (await there.facts("ns")).epoch == (await here.facts("ns")).epoch


@pytest.mark.needs("several")
async def test_writes_of_two_gateways_contend(stage: Stage) -> None:
    here, there = await stage.open(), await stage.open()
    await put(here, "a")
    await mark(here, 1, KEY)
    await mark(there, 2, KEY)
    await settle(there, 2, REFUSED, KEY)
    assert await is_marked(here)
    await settle(here, 1, REFUSED, KEY)
    await ticket(here)


@pytest.mark.needs("several")
async def test_a_gateway_that_dies_leaves_its_mark_for_a_while(stage: Stage, clock: FakeClock) -> None:
    here, there = await stage.open(), await stage.open()
    await put(here, "a", "b")
    await mark(here, 1, KEY)
    await here.close()
    assert await is_marked(there)
    assert await look(there, OTHER) == B
    clock.move(SECONDS + UNKNOWN_SECONDS)
    await there.maintain()
    await ticket(there)


@pytest.mark.needs("owners")
async def test_what_one_gateway_owes_no_other_serves(stage: Stage) -> None:
    here, there = await stage.open(), await stage.open()
    await put(here, "a")
    await here.owe(7, ["ns"])
    await there.owe(8, [])
    for engine in (here, there):
        assert not isinstance(await look(engine), bytes)
    await here.owe(7, [])
    assert await look(there) == A
    await here.owe(7, None)
    assert not isinstance(await look(there), bytes)


@pytest.mark.needs("owners")
async def test_what_a_gateway_owed_that_died_is_closed_and_then_void(stage: Stage, clock: FakeClock) -> None:
    here, there = await stage.open(), await stage.open()
    await put(here, "a")
    await put(here, "a", namespace="other")
    late = {KEY: await ticket(there, OTHER)}
    await mark(there, 2, OTHER)
    await here.owe(7, ["ns"])
    await stage.die(here, 7)
    # A write that it could not mark may be under way: what is read now may be from before it.
    clock.move(UNKNOWN_SECONDS - 1)
    await there.maintain()
    found = await look(there)
    assert isinstance(found, int)
    assert found <= 0
    assert await there.begin_fill("ns") == 0
    assert await fill(there, rows("a", t=2), late) == 0
    # Nor may a write that was marked before bring its row.
    await there.settle(2, "ns", [OTHER], APPLIED, rows=rows("b"))
    assert not isinstance(await look(there, OTHER), bytes)
    await there.maintain()
    clock.move(DEAD_SECONDS_MAX)
    await there.maintain()
    assert await fill(there, rows("a", t=2), late) == 0
    assert not isinstance(await look(there, OTHER), bytes)
    await put(there, "a", t=3)
    assert await look(there) == b'{"id":"a","attributes":{"t":3}}'


@pytest.mark.needs("owners")
async def test_what_a_gateway_owed_that_died_is_closed_though_the_cache_never_saw_it(
    stage: Stage, clock: FakeClock
) -> None:
    here, there = await stage.open(), await stage.open()
    early = {KEY: await ticket(there)}
    await here.owe(7, ["ns"])
    await stage.die(here, 7)
    clock.move(UNKNOWN_SECONDS - 1)
    await there.maintain()
    found = await look(there)
    assert isinstance(found, int)
    assert found <= 0
    assert await there.begin_fill("ns") == 0
    clock.move(DEAD_SECONDS_MAX)
    await there.maintain()
    # What was asked before the write that it could not mark was committed.
    assert await fill(there, rows("a", t=2), early) == 0
    await put(there, "a", t=3)
    assert await look(there) == b'{"id":"a","attributes":{"t":3}}'


# --- restarts and time ------------------------------------------------------------------------------------------------


async def test_rows_run_out(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    clock.move(TTL_SECONDS - 1)
    assert await look(engine) == A
    clock.move(1)
    await ticket(engine)


@pytest.mark.needs("expiry")
async def test_a_row_that_ran_out_is_lost(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    await engine.set_ttl(10.0)
    clock.move(10)
    await ticket(engine)
    assert (await engine.facts("ns")).lost == 1


async def test_rows_outlive_a_restart_and_marks_as_well(stage: Stage, clock: FakeClock) -> None:
    engine = await stage.open()
    await put(engine, "a", "b")
    await mark(engine, 1, KEY)
    await engine.close()
    engine = await stage.open()
    assert await look(engine, OTHER) == B
    assert await is_marked(engine)
    clock.move(SECONDS + UNKNOWN_SECONDS)
    await ticket(engine)


async def test_what_is_owed_is_not_served_after_a_restart(stage: Stage, clock: FakeClock) -> None:
    engine = await stage.open()
    await put(engine, "a")
    await engine.owe(7, ["ns"])
    await engine.close()
    engine = await stage.open()
    assert not isinstance(await look(engine), bytes)


@pytest.mark.needs("forget")
async def test_lost_marks_are_followed_by_a_quiet_time(stage: Stage, clock: FakeClock) -> None:
    engine = await stage.open()
    await put(engine, "a")
    before = await ticket(engine, OTHER)
    await engine.mark(1, "ns", [OTHER], 10.0)
    engine = await stage.forget()
    # The write goes on that was marked: what is read now may be from before it, whenever that fills.
    found = await look(engine)
    assert isinstance(found, int)
    assert found <= 0
    early = await look(engine, OTHER)
    assert isinstance(early, int)
    assert early <= 0
    page = await engine.begin_fill("ns")
    for old in (before, early):
        assert await fill(engine, rows("b"), {OTHER: old}) == 0
    # A write that begins and ends now may be composed with a row of before: it leaves none.
    await mark(engine, 2, KEY)
    await engine.settle(2, "ns", [KEY], APPLIED, rows=rows("a", t=2))
    assert not isinstance(await look(engine), bytes)
    assert not await settle(engine, 1, APPLIED, OTHER)
    clock.move(10.0 + UNKNOWN_SECONDS)
    await engine.maintain()
    for old in (before, early):
        assert await fill(engine, rows("b"), {OTHER: old}) == 0
    assert (await engine.fill_page("ns", rows("b"), page))[0] == 0
    await put(engine, "a", "b")
    assert await look(engine, OTHER) == B


@pytest.mark.needs("limit")
async def test_a_namespace_is_kept_within_its_limit(engine: Engine) -> None:
    names = [f"row{number}" for number in range(100)]
    await put(engine, "z", namespace="other")
    await put(engine, *names)
    before = await engine.facts("ns")
    await engine.limit("ns", before.bytes // 2)
    await engine.maintain()
    after = await engine.facts("ns")
    assert 0 < after.bytes <= before.bytes // 2
    assert after.lost == before.rows - after.rows > 0
    assert (await engine.facts("other")).rows == 1


# --- completeness -----------------------------------------------------------------------------------------------------


async def test_a_page_fills_what_nobody_touched(engine: Engine) -> None:
    began = await engine.begin_fill("ns")
    assert began > 0
    await mark(engine, 1, KEY)
    await settle(engine, 1, APPLIED, KEY)
    await mark(engine, 2, OTHER)
    assert await engine.fill_page("ns", rows("a", "b", "c"), began) == (1, [KEY, OTHER])
    assert isinstance(await look(engine, key_of("c")), bytes)
    assert await engine.fill_page("ns", rows("a"), await engine.begin_fill("ns")) == (1, [])
    assert await look(engine) == A
    assert await engine.fill_page("ns", NO_ROWS, began) == (0, [])


@pytest.mark.needs("page")
async def test_a_page_renews_the_rows_that_are_there(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    clock.move(TTL_SECONDS - 1)
    assert await engine.fill_page("ns", rows("a"), await engine.begin_fill("ns")) == (1, [])
    clock.move(TTL_SECONDS - 1)
    assert await look(engine) == A


async def test_holes_are_what_writes_left_missing(engine: Engine) -> None:
    await put(engine, "a", "b")
    await mark(engine, 1, KEY)
    await settle(engine, 1, APPLIED, KEY)
    assert (await engine.facts("ns")).holes == 1
    await put(engine, "a")
    assert (await engine.facts("ns")).holes == 0
    await mark(engine, 2, KEY, OTHER)
    await engine.settle(2, "ns", [KEY, OTHER], APPLIED, deleted=[OTHER])
    assert (await engine.facts("ns")).holes == 1
    assert await engine.holes("ns", 10) in ([KEY], [])
    assert await fill(engine, NO_ROWS, {KEY: await ticket(engine)}) == 0


@pytest.mark.needs("holes")
async def test_an_id_that_does_not_exist_is_no_hole(engine: Engine) -> None:
    await mark(engine, 1, KEY)
    await settle(engine, 1, APPLIED, KEY)
    early = {KEY: await ticket(engine)}
    await mark(engine, 2, KEY)
    await settle(engine, 2, APPLIED, KEY)
    await fill(engine, NO_ROWS, early)
    assert (await engine.facts("ns")).holes == 1
    await fill(engine, NO_ROWS, {KEY: await ticket(engine)})
    assert (await engine.facts("ns")).holes == 0
    await mark(engine, 3, KEY)
    await settle(engine, 3, REFUSED, KEY)
    assert (await engine.facts("ns")).holes == 0


@pytest.mark.needs("holes")
async def test_an_unknown_or_contended_end_is_a_hole(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a", "b")
    await mark(engine, 1, KEY)
    await settle(engine, 1, UNKNOWN, KEY)
    await mark(engine, 2, OTHER)
    await mark(engine, 3, OTHER)
    await settle(engine, 2, REFUSED, OTHER)
    await settle(engine, 3, REFUSED, OTHER)
    clock.move(UNKNOWN_SECONDS)
    await engine.maintain()
    assert (await engine.facts("ns")).holes == 2


async def test_a_note_stands_while_nothing_is_lost(engine: Engine) -> None:
    await put(engine, "a")
    facts = await engine.facts("ns")
    assert facts.note == ""
    assert not await engine.note("ns", "wrong", facts.epoch + 1, facts.lost)
    assert not await engine.note("ns", "wrong", facts.epoch, facts.lost + 1)
    assert await engine.note("ns", "complete", facts.epoch, facts.lost)
    assert (await engine.facts("ns")).note == "complete"
    assert (await engine.facts("other")).note == ""
    await engine.clear("ns")
    after = await engine.facts("ns")
    assert after.note == ""
    assert after.epoch != facts.epoch
    assert not await engine.note("ns", "late", facts.epoch, facts.lost)


@pytest.mark.needs("limit")
async def test_a_note_is_void_once_a_row_is_lost(engine: Engine) -> None:
    names = [f"row{number}" for number in range(100)]
    await put(engine, *names)
    facts = await engine.facts("ns")
    assert await engine.note("ns", "complete", facts.epoch, facts.lost)
    await engine.limit("ns", facts.bytes // 2)
    await engine.maintain()
    assert (await engine.facts("ns")).note == ""


async def test_it_says_what_it_holds(engine: Engine) -> None:
    await put(engine, "a", "b")
    await mark(engine, 1, KEY)
    facts = await engine.facts("ns")
    assert (facts.rows, facts.marked, facts.closed) == (1, 1, False)
    assert facts.bytes > 0
    stats = await engine.stats()
    assert (stats.rows, stats.open_writes) == (1, 1)
    other = await engine.facts("other")
    assert other == NamespaceFacts(epoch=other.epoch)
    await mark(engine, 2)
    assert (await engine.facts("ns")).closed


async def test_a_second_close_does_nothing(engine: Engine) -> None:
    await engine.close()
    await engine.close()
