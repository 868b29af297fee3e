"""What a scan of a namespace shows, of every engine that has one."""

import random

import orjson
import pytest

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocRows, DocScan
from hevlayer.kernels.filters import CancelFlag, ColumnTable, CompiledFilter, FilterSchema
from hevlayer.stores.doccache_engine import Engine, NamespaceScan, ScansRows, WriteOutcome
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.doccache_twin import TwinEngine

pytestmark = pytest.mark.needs("scan")

SECONDS = 600.0
SCHEMA = FilterSchema(orjson.dumps({"id": {"type": "string"}, "n": {"type": "int"}, "tag": {"type": "string"}}))
ALL = CompiledFilter(None, SCHEMA)
BIG = CompiledFilter(orjson.dumps(["n", "Gte", 50]), SCHEMA)


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


def rows(**numbers: int) -> DocRows:
    found = [{"id": name, "n": n, "tag": f"t{n % 3}"} for name, n in numbers.items()]
    return DocRows(orjson.dumps({"rows": found}), [])


async def put(engine: Engine, namespace: str = "ns", **numbers: int) -> None:
    assert (await engine.fill_page(namespace, rows(**numbers), await engine.begin_fill(namespace)))[0] == len(numbers)


async def scan(engine: Engine, namespace: str = "ns") -> NamespaceScan:
    assert isinstance(engine, ScansRows)
    return await engine.scan(namespace, 30.0)


def names(found: DocScan, condition: CompiledFilter = ALL, threads: int = 1) -> list[str]:
    ids = condition.ids(found, threads=threads)
    assert ids is not None
    keys = [ids.key(index) for index in range(len(ids))]
    return [key[1:].decode() for key in keys if key is not None]


@pytest.mark.parametrize("threads", [1, 2, 7])
async def test_each_row_is_shown_once(engine: Engine, threads: int) -> None:
    numbers = {f"row{number:03}": number for number in range(100)}
    await put(engine, **numbers)
    await put(engine, "other", a=1)
    found = await scan(engine)
    assert (len(found.rows), found.rows.marked, found.rows.missing, found.facts.rows) == (100, 0, 0, 100)
    assert names(found.rows, threads=threads) == sorted(numbers)
    assert BIG.count(found.rows, threads=threads) == (50, 100)
    assert names(found.rows, BIG, threads) == [f"row{number:03}" for number in range(50, 100)]
    values = ALL.values(found.rows, "tag", groups_max=10, threads=threads)
    assert values is not None
    assert values == ALL.values(rows(**numbers), "tag", groups_max=10)


async def test_a_namespace_of_which_nothing_is_known_has_no_rows(engine: Engine) -> None:
    found = await scan(engine, "never")
    assert (len(found.rows), found.facts.rows, ALL.count(found.rows)) == (0, 0, (0, 0))


async def test_what_changes_later_changes_no_scan(engine: Engine) -> None:
    await put(engine, a=1, b=2, c=3)
    found = await scan(engine)
    await put(engine, d=4)
    await engine.mark(1, "ns", [key_of("a")], SECONDS)
    await engine.settle(1, "ns", [key_of("a")], WriteOutcome.APPLIED, rows=rows(a=99))
    later = await scan(engine)
    await engine.clear("ns")
    await engine.maintain()
    assert (names(found.rows), BIG.count(found.rows)) == (["a", "b", "c"], (0, 3))
    assert (names(later.rows), BIG.count(later.rows)) == (["a", "b", "c", "d"], (1, 4))
    assert found.rows.sequence < later.rows.sequence
    assert names((await scan(engine)).rows) == []


async def test_rows_beneath_marks_are_left_out_or_flagged(engine: Engine) -> None:
    await put(engine, a=1, b=2)
    await engine.mark(1, "ns", [key_of("a"), key_of("new")], SECONDS)
    found = await scan(engine)
    assert (names(found.rows), len(found.rows), found.rows.marked, found.facts.marked) == (["b"], 1, 1, 2)
    shown = found.rows.with_marked()
    assert (names(shown), len(shown), ALL.count(shown)) == (["a", "b"], 2, (2, 2))
    await engine.settle(1, "ns", [key_of("a"), key_of("new")], WriteOutcome.REFUSED)
    assert names((await scan(engine)).rows) == ["a", "b"]
    await engine.mark(2, "ns", None, SECONDS)
    closed = await scan(engine)
    assert (names(closed.rows), names(closed.rows.with_marked()), closed.facts.closed) == ([], ["a", "b"], True)


async def test_rows_that_are_too_old_are_missing(engine: Engine, clock: FakeClock) -> None:
    await put(engine, a=1)
    clock.move(600.0)
    await put(engine, b=2)
    clock.move(600.0)
    found = await scan(engine)
    assert names(found.rows) == ["b"]
    assert found.rows.missing or found.facts.lost


async def test_columns_are_built_from_a_scan(engine: Engine, tmp_path: object) -> None:
    numbers = {f"row{number:03}": number for number in range(100)}
    await put(engine, **numbers)
    found = await scan(engine)
    path = f"{tmp_path}/columns"
    assert ColumnTable.build(path, found.rows, SCHEMA, ["n"], sequence=found.rows.sequence)["rows"] == 100
    table = ColumnTable.open(path)
    assert (BIG.count(table), table.stats()["sequence"]) == ((50, 100), found.rows.sequence)


async def test_a_scan_agrees_with_a_dictionary_through_any_history(engine: Engine) -> None:
    chance, held, token = random.Random(7), dict[str, int](), 0
    for _ in range(200):
        name, number = f"row{chance.randrange(12)}", chance.randrange(100)
        match chance.randrange(5):
            case 0:
                await put(engine, **{name: number})
                held[name] = number
            case 1 | 2:
                token += 1
                outcome = chance.choice([WriteOutcome.APPLIED, WriteOutcome.REFUSED])
                deletes = chance.random() < 0.3
                await engine.mark(token, "ns", [key_of(name)], SECONDS)
                written = None if deletes else rows(**{name: number})
                gone = [key_of(name)] if deletes else []
                await engine.settle(token, "ns", [key_of(name)], outcome, rows=written, deleted=gone)
                if outcome is WriteOutcome.APPLIED:
                    held.pop(name, None)
                    held.update({} if deletes else {name: number})
            case 3 if chance.random() < 0.1:
                await engine.clear("ns")
                held.clear()
            case _:
                found = await scan(engine)
                assert names(found.rows, threads=2) == sorted(held)
                assert BIG.count(found.rows) == (sum(each >= 50 for each in held.values()), len(held))


async def test_a_scan_stops_when_it_is_told_to(engine: Engine) -> None:
    if isinstance(engine, TwinEngine):
        pytest.skip("the twin's scan takes no time")
    await put(engine, **{f"row{number}": number for number in range(5_000)})
    cancel = CancelFlag()
    cancel.set()
    with pytest.raises(CacheUnavailableError) as raised:
        await engine.scan("ns", 30.0, cancel)
    assert raised.value.fields["cause"] == "stopped"
