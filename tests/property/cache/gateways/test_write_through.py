"""What a write leaves in the cache, seen through another gateway on the same cache."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateways_stage import NAMESPACE, Caller, Row, Stage, staged

from hevlayer.gateway.consistency import NamespaceView, SchemaFacts
from hevlayer.gateway.write.effect import SchemasByEpoch
from hevlayer.kernels.doccache import DocSchema

SCHEMA = {"title": "string", "year": "int", "score": "float"}
FIRST = {"upsert_rows": [{"id": "a", "title": "A", "year": 1}, {"id": "b", "title": "B", "year": 2}], "schema": SCHEMA}


@pytest.fixture(params=["twin", "embedded"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Two gateways that know the namespace's schema, and rows `a`, `b` and `c` in it."""
    async with staged(tmp_path, engine=request.param, write_timeout_seconds=30.0) as made:
        for caller in made.callers:
            assert (await caller.write(FIRST))[0] == 200
        await made.polled()
        assert (await made.callers[0].write({"upsert_rows": [{"id": "c", "title": "C", "year": 3}]}))[0] == 200
        yield made


async def upstream(stage: Stage, name: str) -> Row | None:
    """A row's attributes around the gateways."""
    body = {"rank_by": ["id", "asc"], "limit": 1, "filters": ["id", "Eq", name], "include_attributes": True}
    _, _, answer = await stage.origin.call("POST", f"/v2/namespaces/{NAMESPACE}/query", body)
    for row in answer["rows"]:
        return {key: value for key, value in row.items() if key != "id" and not key.startswith("_hevlayer_")}
    return None


async def check(stage: Stage, caller: Caller, name: str, source: str) -> None:
    """The document comes from where it should, and is the upstream's."""
    found, attributes = await caller.fetch(name)
    assert (found, attributes) == (source, await upstream(stage, name))


async def test_an_acknowledged_row_is_there_for_every_gateway(stage: Stage) -> None:
    first, second = stage.callers
    await check(stage, second, "c", "hit")
    await first.write({"upsert_rows": [{"id": "c", "title": "C2", "score": 0.5}]})
    await check(stage, second, "c", "hit")
    await second.write({"upsert_columns": {"id": ["c", "d"], "title": ["C3", "D"], "year": [4, None]}})
    await check(stage, first, "c", "hit")
    await check(stage, first, "d", "hit")
    await second.write({"upserts": [{"id": "d", "attributes": {"title": "D2"}}]})
    await check(stage, first, "d", "hit")


async def test_a_patch_is_composed_with_the_row_beneath(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"patch_rows": [{"id": "c", "year": 33}]})
    await check(stage, second, "c", "hit")
    assert (await second.fetch("c"))[1] == {"title": "C", "year": 33}


async def test_a_patch_of_a_row_that_is_not_cached_leaves_a_miss(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"patch_rows": [{"id": "a", "year": 33}, {"id": "nobody", "year": 1}]})
    await check(stage, second, "a", "miss")
    await check(stage, second, "a", "hit")
    assert await second.fetch("nobody") == ("", None)


async def test_a_deleted_row_is_asked_upstream(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"deletes": ["c"]})
    assert await second.fetch("c") == ("", None)


async def test_a_refused_write_brings_the_row_back(stage: Stage) -> None:
    first, second = stage.callers
    status, _ = await first.write({"upsert_rows": [{"id": "c", "title": 7}]})
    assert status == 400
    await check(stage, second, "c", "hit")


async def test_an_attribute_that_the_schema_lacks_leaves_a_miss(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"upsert_rows": [{"id": "c", "title": "C", "colour": "red"}]})
    await check(stage, second, "c", "miss")
    await stage.polled()
    await first.write({"upsert_rows": [{"id": "c", "title": "C", "colour": "blue"}]})
    await check(stage, second, "c", "hit")


async def test_a_condition_decides_row_by_row(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"upsert_rows": [{"id": "d", "title": "D", "year": 9}]})
    status, answer = await first.write(
        {
            "upsert_rows": [{"id": "c", "title": "no", "year": 1}, {"id": "d", "title": "yes", "year": 10}],
            "upsert_condition": ["year", "Gt", 5],
        }
    )
    assert status == 200
    assert "upserted_ids" not in answer
    assert answer["rows_affected"] == 1
    await check(stage, second, "c", "hit")
    await check(stage, second, "d", "hit")
    assert (await second.fetch("d"))[1] == {"title": "yes", "year": 10}


async def test_a_write_by_filter_leaves_the_other_rows(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"upsert_rows": [{"id": "d", "title": "D", "year": 9}]})
    status, answer = await first.write({"delete_by_filter": ["year", "Eq", 9]})
    assert (status, answer["rows_deleted"]) == (200, 1)
    assert "deleted_ids" not in answer
    await check(stage, second, "c", "hit")
    assert await second.fetch("d") == ("", None)
    await first.write({"patch_by_filter": {"filters": ["year", "Eq", 3], "patch": {"title": "patched"}}})
    await check(stage, second, "c", "miss")
    assert (await second.fetch("c"))[1] == {"title": "patched", "year": 3}


async def test_a_caller_who_asks_is_told(stage: Stage) -> None:
    first, second = stage.callers
    _, answer = await first.write({"delete_by_filter": ["year", "Eq", 3], "return_affected_ids": True})
    assert answer["deleted_ids"] == ["c"]
    assert await second.fetch("c") == ("", None)


async def test_a_caller_who_says_no_is_not_told_and_the_namespace_is_void(stage: Stage) -> None:
    first, second = stage.callers
    _, answer = await first.write({"delete_by_filter": ["year", "Eq", 2], "return_affected_ids": False})
    assert "deleted_ids" not in answer
    await check(stage, second, "c", "miss")


async def test_a_filter_that_matches_nothing_costs_nothing(stage: Stage) -> None:
    first, second = stage.callers
    await first.write({"delete_by_filter": ["year", "Eq", 77]})
    await check(stage, second, "c", "hit")


async def test_a_namespace_made_anew_with_other_types_is_not_told_by_the_old_schema(stage: Stage) -> None:
    first, second = stage.callers
    status, _, _ = await first.call("DELETE", f"/v2/namespaces/{NAMESPACE}")
    assert status == 200
    assert await second.fetch("c") == ("", None)
    anew: Row = {"upsert_rows": [{"id": "c", "title": "2024-03-02"}], "schema": {"title": "datetime"}}
    assert (await first.write(anew))[0] == 200
    await check(stage, second, "c", "miss")
    # Not by a gateway either that was not told of the new type.
    assert (await second.write({"upsert_rows": anew["upsert_rows"]}))[0] == 200
    await check(stage, first, "c", "miss")


async def test_a_large_body_is_read_again(tmp_path: Path) -> None:
    async with staged(tmp_path, write_timeout_seconds=30.0, body_memory_bytes_max=4096) as stage:
        first, second = stage.callers
        await first.write(FIRST)
        await second.write(FIRST)
        await stage.polled()
        await first.write({"upsert_rows": [{"id": "a", "title": "x" * 5000}]})
        await check(stage, second, "a", "miss")
        status, answer = await first.write({"delete_by_filter": ["title", "Eq", "y" * 5000]})
        assert (status, answer["rows_deleted"]) == (200, 0)
        assert "deleted_ids" not in answer
        await check(stage, second, "a", "hit")


async def test_no_row_is_told_by_a_caller_whose_namespace_may_be_another(tmp_path: Path) -> None:
    async with staged(tmp_path, write_timeout_seconds=30.0, trusted=False) as stage:
        first, second = stage.callers
        await first.write(FIRST)
        await second.write(FIRST)
        await stage.polled()
        await first.write(FIRST)
        assert (await stage.gateways[0].cache.stats()).engine.rows == 0  # type: ignore[union-attr]
        await check(stage, second, "a", "miss")


def test_a_schema_counts_from_a_poll_that_began_in_the_epoch() -> None:
    now = 100
    schemas = SchemasByEpoch(lambda: now)
    stored = DocSchema(b'{"id":"string"}')

    def polled(at_ms: int | None) -> NamespaceView:
        return NamespaceView(polled_at_ms=at_ms, schema=SchemaFacts(stored=stored))

    assert schemas.schema("a", 1, polled(99)) is None
    assert schemas.schema("a", 1, polled(100)) is None
    assert schemas.schema("a", 1, polled(None)) is None
    assert schemas.schema("a", 1, polled(101)) is stored
    now = 200
    assert schemas.schema("a", 2, polled(150)) is None
    assert schemas.schema("a", 2, polled(200)) is None
    assert schemas.schema("a", 2, polled(201)) is stored
    assert schemas.schema("b", 2, polled(201)) is None
