"""One meaning: the kernel over rows, the kernel over columns, the twin and the local origin give the same rows."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filter_namespace import Namespace
from filter_worlds import World

from hevlayer.kernels.filters import ColumnTable, CompiledFilter, FilterRefusedError, FilterSchema
from hevlayer.kernels.origin import OriginEngine
from hevlayer.kernels.reference import filters as twin

# FILTER_WORLDS=2000 makes a long night of it.
WORLDS = int(os.environ.get("FILTER_WORLDS", "40"))
ROWS = 50
FILTERS = 60


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OriginEngine]:
    engine = OriginEngine(str(tmp_path_factory.mktemp("origin")))
    yield engine
    engine.close()


def filled(engine: OriginEngine, seed: int) -> Namespace:
    world = World(seed)
    namespace = Namespace(engine, f"world-{seed}", world)
    namespace.write([world.row(row_id) for row_id in world.ids(ROWS)])
    return namespace


def ids_of(compiled: CompiledFilter, source: Any, **options: Any) -> list[str]:
    found = compiled.ids(source, **options)
    assert found is not None
    return list(json.loads(found.page(0, len(found))))


def check(namespace: Namespace, condition: Any, sources: list[Any], schema: FilterSchema) -> None:
    expected = namespace.found(condition)
    assert expected is not None, condition
    assert set(expected) == namespace.found_by_twin(condition), condition
    compiled = CompiledFilter(json.dumps(condition).encode(), schema)
    for source in sources:
        for threads in (1, 2):
            counted = compiled.count(source, threads=threads)
            assert counted == (len(expected), len(namespace.rows)), (condition, source)
            assert ids_of(compiled, source, threads=threads) == expected, (condition, source)


def changed(namespace: Namespace, table: ColumnTable) -> None:
    """Writes over some rows, adds some and deletes some, and tells the table."""
    world, dice = namespace.world, namespace.world.dice
    known = list(namespace.rows)
    gone = dice.sample(known, 5)
    rewritten = dice.sample([row_id for row_id in known if row_id not in gone], 8)
    added = [row_id for row_id in world.ids(ROWS) if row_id not in namespace.rows][:5]
    namespace.write([world.row(row_id) for row_id in rewritten + added], gone)
    table.change(namespace.stored(rewritten + added), [namespace.key(row_id) for row_id in gone], 2)
    # A change that comes twice, and one of a row that was never there, change nothing.
    table.change(namespace.stored(rewritten[:2]), [namespace.key(gone[0])], 3)


@pytest.mark.parametrize("seed", range(WORLDS))
def test_rows_columns_twin_and_origin_agree(engine: OriginEngine, tmp_path: Path, seed: int) -> None:
    namespace = filled(engine, seed)
    world, schema = namespace.world, namespace.schema()
    path = tmp_path / "columns"
    report = ColumnTable.build(path, namespace.stored(), schema, list(world.types), sequence=1)
    assert (report["rows"], report["left_out"]) == (ROWS, [])
    table = ColumnTable.open(path)
    for _ in range(FILTERS // 2):
        condition = world.condition(list(namespace.rows))
        check(namespace, condition, [namespace.stored(), table], schema)
    changed(namespace, table)
    rows = namespace.stored()
    for _ in range(FILTERS // 2):
        condition = world.condition(list(namespace.rows))
        check(namespace, condition, [rows, table], schema)
        check_page(namespace, condition, [rows, table], schema)


def check_page(namespace: Namespace, condition: Any, sources: list[Any], schema: FilterSchema) -> None:
    compiled = CompiledFilter(json.dumps(condition).encode(), schema)
    expected = namespace.found(condition) or []
    after = namespace.world.dice.choice(list(namespace.rows))
    larger = namespace.found(["And", [condition, ["id", "Gt", after]]]) or []
    for source in sources:
        assert ids_of(compiled, source, limit=7) == expected[:7]
        assert ids_of(compiled, source, after=namespace.key(after), limit=3) == larger[:3]


@pytest.mark.parametrize("seed", range(WORLDS))
def test_values_agree(engine: OriginEngine, tmp_path: Path, seed: int) -> None:
    namespace = filled(engine, 10_000 + seed)
    world, schema = namespace.world, namespace.schema()
    path = tmp_path / "columns"
    ColumnTable.build(path, namespace.stored(), schema, list(world.types))
    table = ColumnTable.open(path)
    if seed % 2:
        changed(namespace, table)
    for name, kind in world.types_with_id.items():
        if name == "id":
            continue
        condition = world.condition(list(namespace.rows), 1)
        matching = [row for row in namespace.rows.values() if twin.matches(row, condition, world.types_with_id)]
        expected, nulls = twin.histogram(matching, name, kind)
        compiled = CompiledFilter(json.dumps(condition).encode(), schema)
        answers = [
            compiled.values(source, name, groups_max=1000, threads=threads)
            for source in (namespace.stored(), table)
            for threads in (1, 2)
        ]
        assert len(set(answers)) == 1
        answer = json.loads(answers[0] or b"")
        assert (answer["rows"], answer["nulls"], answer["exact"]) == (len(matching), nulls, True)
        assert answer["type"] == kind.removeprefix("[]")
        groups = answer["groups"]
        assert {twin.from_text(text, answer["type"]): count for text, count in groups} == expected
        assert groups == sorted(groups, key=lambda group: (-group[1], twin.from_text(group[0], answer["type"])))
        top = json.loads(compiled.values(table, name, groups_max=2) or b"")
        assert (top["groups"], top["observed"]) == (groups[:2], len(expected))


def compiled_or_pointer(condition: Any, schema: FilterSchema) -> CompiledFilter | str:
    try:
        return CompiledFilter(json.dumps(condition).encode(), schema)
    except FilterRefusedError as error:
        return error.pointer


@pytest.mark.parametrize("seed", range(WORLDS))
def test_what_the_origin_refuses_is_refused(engine: OriginEngine, seed: int) -> None:
    namespace = filled(engine, 20_000 + seed)
    world, schema, rows = namespace.world, namespace.schema(), namespace.stored()
    refused = 0
    for _ in range(FILTERS * 3):
        condition = world.broken(world.condition(list(namespace.rows), 2))
        expected = namespace.found(condition)
        compiled = compiled_or_pointer(condition, schema)
        assert isinstance(compiled, str) == (expected is None), (condition, compiled)
        if isinstance(compiled, str):
            at = condition
            for step in compiled.split("/")[1:]:
                at = at[int(step)]
            refused += 1
        else:
            assert ids_of(compiled, rows) == expected
    assert refused > FILTERS / 2
