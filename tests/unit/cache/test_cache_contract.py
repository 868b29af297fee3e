"""What every engine must do. The engines are the fixture's parameters."""

import orjson
import pytest
from cache_stage import TTL_SECONDS, UNKNOWN_SECONDS, OpenEngine

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache_engine import CacheState, Engine, WriteOutcome
from hevlayer.testing.clock import FakeClock

PLAIN = DocProjection()
KEY = b"\x02a"
A = b'{"id":"a","attributes":{"t":1}}'


def rows(*ids: str, t: object = 1) -> DocRows:
    found = [{"id": each, "t": t, "vector": [0.5], "_hevlayer_upserted_at": 7, "gone": None} for each in ids]
    return DocRows(orjson.dumps({"rows": found}), ["vector"])


async def look(engine: Engine, key: bytes = KEY, namespace: str = "ns") -> bytes | int:
    return await engine.lookup(namespace, key, PLAIN, None)


async def ticket(engine: Engine, key: bytes = KEY) -> int:
    found = await look(engine, key)
    assert isinstance(found, int)
    assert found > 0
    return found


async def put(engine: Engine, *ids: str) -> None:
    began = await ticket(engine, b"\x02" + ids[0].encode())
    assert await engine.fill("ns", rows(*ids), began) == len(ids)


async def test_a_filled_row_is_served_as_it_was(engine: Engine) -> None:
    await put(engine, "a")
    assert await look(engine) == A
    named = DocProjection(["vector", "_hevlayer_upserted_at", "gone", "unheard"])
    document = b'{"id":"a","attributes":{"_hevlayer_upserted_at":7,"vector":[0.5]}}'
    found = await engine.lookup("ns", KEY, named, None)
    assert isinstance(found, bytes)
    assert orjson.loads(found) == orjson.loads(document)
    assert await engine.lookup("ns", KEY, DocProjection([]), "uuid") == b'{"id":"a","id_type":"uuid","attributes":{}}'


async def test_ids_of_two_types_and_two_namespaces_are_apart(engine: Engine) -> None:
    await put(engine, "5")
    assert await look(engine, b"\x02" + b"5") == b'{"id":"5","attributes":{"t":1}}'
    assert isinstance(await look(engine, b"\x01" + (5).to_bytes(8, "big")), int)
    assert isinstance(await look(engine, b"\x02" + b"5", "other"), int)


@pytest.mark.parametrize("key", [b"\x02", b"\x02a\x00b", "\x02é\U0001f600/%;".encode(), b"\x01" + b"\xff" * 8])
async def test_ids_of_any_bytes(engine: Engine, key: bytes) -> None:
    value: object = int.from_bytes(key[1:], "big") if key[:1] == b"\x01" else key[1:].decode()
    answer = DocRows(orjson.dumps({"rows": [{"id": value, "t": 1}]}), [])
    assert await engine.fill("ns", answer, await ticket(engine, key)) == 1
    found = await look(engine, key)
    assert isinstance(found, bytes)
    assert orjson.loads(found)["id"] == str(value)


async def test_many_come_in_the_order_asked(engine: Engine) -> None:
    await put(engine, "a", "b")
    found = await engine.lookup_many("ns", [b"\x02b", b"\x02x", b"\x02a"], PLAIN)
    assert found[0] == b'{"id":"b","attributes":{"t":1}}'
    assert isinstance(found[1], int)
    assert found[2] == A


async def test_two_hundred_ids_in_one_call(engine: Engine) -> None:
    names = [f"row{number}" for number in range(200)]
    await put(engine, *names)
    found = await engine.lookup_many("ns", [b"\x02" + name.encode() for name in names], PLAIN)
    assert [orjson.loads(each)["id"] for each in found if isinstance(each, bytes)] == names


@pytest.mark.parametrize(
    ("outcome", "then"),
    [(WriteOutcome.APPLIED, "missing"), (WriteOutcome.REFUSED, "served"), (WriteOutcome.UNKNOWN, "marked")],
)
async def test_a_mark_hides_a_row_until_the_write_is_settled(engine: Engine, outcome: WriteOutcome, then: str) -> None:
    await put(engine, "a")
    await engine.mark(1, "ns", [KEY])
    assert await look(engine) == 0
    assert await engine.settle(1, outcome)
    found = await look(engine)
    assert {"missing": isinstance(found, int) and found > 0, "served": found == A, "marked": found == 0}[then]


async def test_an_unknown_outcome_ends_with_its_time(engine: Engine, clock: FakeClock) -> None:
    await engine.mark(1, "ns", [KEY])
    await engine.settle(1, WriteOutcome.UNKNOWN)
    clock.move(UNKNOWN_SECONDS - 1)
    assert await look(engine) == 0
    clock.move(1)
    await ticket(engine)


@pytest.mark.parametrize("keys", [[KEY], None])
@pytest.mark.parametrize("outcome", list(WriteOutcome))
async def test_a_read_from_before_a_write_never_fills(
    engine: Engine, keys: list[bytes] | None, outcome: WriteOutcome, clock: FakeClock
) -> None:
    early = await ticket(engine)
    await engine.mark(1, "ns", keys)
    assert await engine.fill("ns", rows("a"), early) == 0
    await engine.settle(1, outcome)
    assert await engine.fill("ns", rows("a"), early) == 0
    clock.move(UNKNOWN_SECONDS)
    assert await engine.fill("ns", rows("a"), early) == 0
    await put(engine, "a")


async def test_two_writes_of_one_id_bring_nothing_back(engine: Engine) -> None:
    await put(engine, "a")
    await engine.mark(1, "ns", [KEY])
    await engine.mark(2, "ns", [KEY])
    await engine.settle(1, WriteOutcome.REFUSED)
    assert await look(engine) == 0
    await engine.settle(2, WriteOutcome.REFUSED)
    await ticket(engine)


async def test_a_fill_does_not_replace_what_is_there(engine: Engine) -> None:
    began = await ticket(engine)
    await put(engine, "a")
    assert await engine.fill("ns", rows("a", t=2), began) == 0
    assert await look(engine) == A


async def test_a_namespace_write_hides_and_clears_the_namespace_only(engine: Engine) -> None:
    await put(engine, "a")
    assert await engine.fill("other", rows("a"), await ticket(engine, b"\x02z")) == 1
    await engine.mark(1, "ns", None)
    assert await look(engine) == 0
    assert await engine.settle(1, WriteOutcome.APPLIED)
    await ticket(engine)
    assert await look(engine, KEY, "other") == A


async def test_a_clear_leaves_marks_standing(engine: Engine) -> None:
    await put(engine, "a", "b")
    early = await ticket(engine, b"\x02c")
    await engine.mark(1, "ns", [KEY])
    await engine.clear("ns")
    assert await look(engine) == 0
    await ticket(engine, b"\x02b")
    assert await engine.fill("ns", rows("c"), early) == 0
    await engine.settle(1, WriteOutcome.REFUSED)
    await ticket(engine)


async def test_a_settle_without_its_mark_says_so(engine: Engine) -> None:
    assert not await engine.settle(99, WriteOutcome.APPLIED)


async def test_rows_run_out(engine: Engine, clock: FakeClock) -> None:
    await put(engine, "a")
    clock.move(TTL_SECONDS - 1)
    assert await look(engine) == A
    clock.move(1)
    await ticket(engine)


async def test_rows_outlive_a_restart_and_marks_as_well(open_engine: OpenEngine, clock: FakeClock) -> None:
    engine = await open_engine()
    await put(engine, "a", "b")
    await engine.mark(1, "ns", [KEY])
    await engine.close()
    engine = await open_engine()
    assert await look(engine, b"\x02b") == b'{"id":"b","attributes":{"t":1}}'
    assert await look(engine) == 0
    clock.move(UNKNOWN_SECONDS)
    await ticket(engine)


async def test_what_is_owed_is_not_served_after_a_restart(open_engine: OpenEngine, clock: FakeClock) -> None:
    engine = await open_engine()
    await put(engine, "a")
    await engine.owe(True)
    await engine.close()
    engine = await open_engine()
    assert not isinstance(await look(engine), bytes)
    clock.move(UNKNOWN_SECONDS)
    await put(engine, "a")


async def test_it_says_what_it_holds(engine: Engine) -> None:
    await put(engine, "a", "b")
    await engine.mark(1, "ns", [KEY])
    state = await engine.state("ns")
    assert (state.rows, state.marked, state.closed) == (1, 1, False)
    assert state.bytes > 0
    stats = await engine.stats()
    assert (stats.rows, stats.open_writes) == (1, 1)
    assert await engine.state("other") == CacheState()
