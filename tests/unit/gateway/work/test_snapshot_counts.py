"""Counts and values from the latest snapshot: exact or not at all."""

import pytest
from snapshot_stage import WATCHED, asked, history, shown, until_written
from work_stage import FILMS

from hevlayer.stores.objects import ObjectStoreBusyError

SCANS = "/v2/namespaces/films/scans"
HINT = "/v1/namespaces/films/hint_cache_warm?turbopuffer=false&documents=false"
ROWS = [
    {"id": 1, "kind": "film", "year": 1999, "tags": ["a", "b"], "seen": True},
    {"id": 2, "kind": "film", "year": 2000, "tags": ["b"], "seen": False},
    {"id": 3, "kind": "short", "year": 2000, "tags": ["a"]},
    {"id": 4, "year": 2001, "tags": []},
]
KNOWN = ["kind", "Eq", "known"]
FIELDS = {**WATCHED, "facet_fields": '{"films": ["kind", "year", "tags", "seen"]}'}


@pytest.fixture
async def watched(stages):
    stage = await stages(**FIELDS)
    await stage.write("films", ROWS)
    await until_written(stage)

    async def is_known():
        # The history is the store's, which has the body a moment before its writer knows that.
        return (
            await stage.call("POST", SCANS, {"mode": "count", "source": "snapshot", "filters": KNOWN})
        ).status == 200

    await stage.until(is_known)
    return stage


async def count(stage, filters, source="snapshot", status=200):
    return await stage.ok("POST", SCANS, {"mode": "count", "source": source, "filters": filters}, status)


@pytest.mark.parametrize("source", ["snapshot", "auto"])
@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        (["kind", "Eq", "film"], 2),
        (["kind", "Eq", "none"], 0),
        (["kind", "Eq", None], 1),
        (["year", "Eq", 2000], 2),
        (["year", "In", [2000, 2001, 2000]], 3),
        (["year", "In", []], 0),
        (["seen", "Eq", True], 1),
        (["seen", "Eq", None], 2),
    ],
)
async def test_one_value_or_a_few(watched, filters, rows, source):
    answer = await count(watched, filters, source)
    (entry,) = await history(watched)
    body = await shown(watched, entry["sha"])
    assert {key: answer[key] for key in answer if key != "elapsed_ms"} == {
        "count": rows,
        "served_by": "snapshot",
        "snapshot_sha": body["sha"],
        "watermark_ms": entry["watermark_ms"],
    }
    assert filters not in [query.get("filters") for query in watched.queries()]
    live = await count(watched, filters, "origin")
    assert (live["count"], live["served_by"]) == (rows, "origin")


@pytest.mark.parametrize(
    "filters",
    [
        ["tags", "Contains", "a"],
        ["tags", "In", ["a", "b"]],
        ["year", "Gt", 1999],
        ["And", [["year", "Eq", 2000]]],
        ["Not", ["year", "Eq", 2000]],
        ["id", "Eq", 1],
        None,
    ],
)
async def test_what_a_snapshot_does_not_tell_falls_through(watched, filters):
    refused = await count(watched, filters, status=412)
    assert (refused["error"], refused["message"][:42]) == (
        "precondition_failed",
        "source: no snapshot can answer this; filte"
        if filters is None or filters[0] in ("And", "Not") or filters[1] not in ("Eq", "In")
        else "source: no snapshot can answer this; the l",
    )
    answer = await count(watched, filters, "auto")
    assert answer["served_by"] in ("origin", "cache")


async def test_all_values_of_a_field(watched):
    for field, values in (("kind", {"film": 2, "short": 1}), ("tags", {"a": 2, "b": 2})):
        job = await watched.ok("POST", SCANS, {"mode": "values", "source": "snapshot", "field": field}, 202)
        done = await watched.done(f"{SCANS}/{job['id']}")
        (entry,) = await history(watched)
        assert (done["status"], done["effective_source"], done["unique_values"]) == ("completed", "snapshot", 2)
        assert (done["snapshot_sha"][:7], done["watermark_ms"]) == (entry["sha"], entry["watermark_ms"])
        results = await watched.ok("GET", f"{SCANS}/{job['id']}/results")
        assert {each["v"]: each["n"] for each in results["values"]} == values
    for body in (
        {"mode": "values", "source": "snapshot", "field": "score"},
        {"mode": "values", "source": "snapshot", "field": "kind", "filters": ["year", "Eq", 2000]},
        {"mode": "count", "source": "snapshot", "fts": {"field": "kind", "query": "film"}},
    ):
        assert (await watched.call("POST", SCANS, body)).status == 412


async def test_what_was_asked_for_is_never_counted_from(stages):
    stage = await stages(**{**WATCHED, "facet_fields": ""})
    await stage.write("films", ROWS)
    done = await asked(stage, "year", filters=["year", "Lt", 2000])
    await asked(stage, "year", source="origin")
    assert done["sha"]
    refused = await count(stage, ["year", "Eq", 2000], status=412)
    assert refused["message"] == "source: no snapshot can answer this; there is no snapshot"


async def test_a_field_with_too_many_values_is_skipped(stages):
    stage = await stages(**{**WATCHED, "facet_fields": '{"films": ["few", "many", "just"]}'})
    rows = [
        {"id": n, "many": [f"value {n * 100 + each}" for each in range(100)], "few": n % 3, "just": [f"v{n}"] * 2}
        for n in range(100)
    ]
    rows[0]["just"] = [f"other {number}" for number in range(9_900)]
    await stage.write("films", rows)
    (entry,) = await until_written(stage)
    body = await shown(stage, entry["sha"])
    # 10,000 values are as many as the upstream tells of, so there may be more; 9,999 are all.
    assert body["fields_skipped"] == [
        {"name": "many", "reason": "exceeded_cap", "distinct_observed": 10_000, "cap": 10_000}
    ]
    assert [(facet["name"], len(facet["values"])) for facet in body["fields"]] == [("few", 3), ("just", 9_999)]
    assert (await count(stage, ["many", "In", ["value 1"]], "auto"))["served_by"] != "snapshot"


async def test_a_snapshot_of_another_namespace_of_the_name_tells_nothing(watched):
    await watched.ok("DELETE", "/v2/namespaces/films")
    await watched.write("films", [{"id": 1, "kind": "film"}])
    answer = await count(watched, ["kind", "Eq", "film"], "auto")
    assert answer["count"] == 1


async def test_the_hint_brings_the_latest_near(watched, monkeypatch):
    hint = await watched.ok("GET", HINT)
    (entry,) = await history(watched)
    body = await shown(watched, entry["sha"])
    step = hint["snapshots"]
    assert (step["status"], step["sha"], step["watermark_ms"]) == ("completed", body["sha"], entry["watermark_ms"])
    assert step["key"].startswith("snapshots/")
    # From the document cache, when memory and the store have it no more.
    ones = watched.gateway.snapshots.latest
    ones._bodies.clear()

    async def gone(key):
        raise AssertionError(f"{key} was read from the object store")

    monkeypatch.setattr(watched.gateway.objects, "get", gone)
    assert (await count(watched, ["kind", "Eq", "film"]))["count"] == 2


async def test_a_hint_without_a_snapshot(stage):
    await stage.films(rows=FILMS[:3])
    assert (await stage.ok("GET", HINT))["snapshots"] == {"enabled": True, "status": "no_snapshot"}


async def test_a_store_that_is_away_keeps_no_count_waiting(watched, monkeypatch):
    """With `auto` the upstream answers; who asks for the snapshot hears of the store."""
    ones = watched.gateway.snapshots.latest
    ones._bodies.clear()
    ones._known.clear()

    async def busy(prefix, **bounds):
        raise ObjectStoreBusyError("the object store asks for fewer requests")

    monkeypatch.setattr(watched.gateway.objects, "list_keys", busy)
    assert (await count(watched, ["kind", "Eq", "film"], "auto"))["served_by"] == "origin"
    # What the one before came to says nothing of whether there is a snapshot.
    refused = await count(watched, ["kind", "Eq", "film"], status=503)
    assert refused["error"] == "service_unavailable"
