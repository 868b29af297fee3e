"""Snapshots over HTTP: counted at the origin, kept by content, found again."""

import pytest
from snapshot_stage import NS, WATCHED, asked, counts_of, expected, history, outcomes, shown, until_written
from work_stage import FILMS

from hevlayer.stores.objects import ObjectStoreDeniedError, ObjectStoreFullError, ObjectStoreTimeoutError

# --- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["genres", "year", "cast"])
async def test_a_field_counted_at_the_origin(stage, field):
    await stage.films()
    done = await asked(stage, field, source="origin")
    assert (done["status"], done["effective_source"], done["documents_scanned"]) == ("completed", "origin", len(FILMS))
    assert done["progress"] == 1.0
    for sha in (done["sha"], done["sha"][:7]):
        body = await shown(stage, sha)
        assert (body["namespace"], body["row_count"], body["sha"]) == ("films", len(FILMS), done["sha"])
        assert counts_of(body, field) == expected(field)
        assert body["watermark_ms"] == done["stable_as_of"]
        assert body["fields_skipped"] == []
    # What was asked for is no history.
    assert await history(stage) == []


async def test_values_are_texts_with_a_type_and_the_most_frequent_come_first(stage):
    await stage.films()
    (facet,) = (await shown(stage, (await asked(stage, "year"))["sha"]))["fields"]
    assert facet["type"] in ("int", "uint")
    numbers = [each["n"] for each in facet["values"]]
    assert numbers == sorted(numbers, reverse=True)
    assert all(isinstance(each["v"], str) for each in facet["values"])


async def test_a_filter_counts_what_meets_it(stage):
    await stage.films()
    done = await asked(stage, "genres", filters=["year", "Lt", 1930])
    films = [film for film in FILMS if film["year"] < 1930]
    assert 0 < done["documents_scanned"] == len(films) < len(FILMS)
    assert counts_of(await shown(stage, done["sha"]), "genres") == expected("genres", films)


async def test_floats_are_counted_row_by_row(stage):
    rows = [{"id": number, "score": [0.5, 1.5, None][number % 3]} for number in range(25)]
    await stage.write("films", [{key: value for key, value in row.items() if value is not None} for row in rows])
    done = await asked(stage, "score", page_size=10)
    assert counts_of(await shown(stage, done["sha"]), "score") == {"0.5": 9, "1.5": 8}
    pages = [query for query in stage.queries() if query.get("include_attributes") == ["score"]]
    assert [query["limit"] for query in pages] == [10, 10, 10]


async def test_jobs_are_listed_and_deleted(stage):
    await stage.films()
    first, second = await asked(stage, "year"), await asked(stage, "genres")
    listed = (await stage.ok("GET", f"{NS}/snapshot-jobs"))["snapshot_jobs"]
    assert [job["id"] for job in listed] == [second["id"], first["id"]]
    await stage.ok("DELETE", f"{NS}/snapshot-jobs/{first['id']}")
    assert (await stage.call("GET", f"{NS}/snapshot-jobs/{first['id']}")).status == 404
    # Its body stays.
    assert (await shown(stage, first["sha"]))["sha"] == first["sha"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "field: required"),
        ({"field": 7}, "field: required"),
        ({"field": "_hevlayer_upserted_at"}, "field: '_hevlayer_upserted_at' is the gateway's own"),
        ({"field": "year", "source": "near"}, "source: must be one of auto, stored, cache, origin"),
        ({"field": "year", "page_size": 0}, "page_size: must be an integer in 1..10000"),
        ({"field": "year", "filters": ["year", "Eq"]}, "filters"),
        ({"field": "year", "filters": ["year", "Eq", 1], "source": "stored"}, "filters: a stored snapshot counts all"),
        ({"field": "year", "colour": 1}, "colour: not a key of this request"),
        ({"field": "nothing"}, "field: the namespace has no attribute 'nothing'"),
        ({"field": "vector"}, "field: the values of 'vector', of type [3]f32, cannot be counted"),
        ([], "the body must be a JSON object"),
    ],
)
async def test_a_request_that_breaks_a_rule(stage, body, told):
    await stage.films(rows=FILMS[:3])
    answer = await stage.call("POST", f"{NS}/snapshots", body)
    assert (answer.status, answer.body["error"]) == (422, "validation_error")
    assert answer.body["message"].startswith(told)
    assert (await stage.ok("GET", f"{NS}/snapshot-jobs"))["snapshot_jobs"] == []


async def test_sources_that_have_nothing(stage):
    await stage.films(rows=FILMS[:3])
    stored = await stage.call("POST", f"{NS}/snapshots", {"field": "year", "source": "stored"})
    assert (stored.status, stored.body["error"]) == (404, "not_found")
    cold = await stage.call("POST", f"{NS}/snapshots", {"field": "year", "source": "cache"})
    assert (cold.status, cold.body["error"], cold.body["cache_state"]) == (503, "cache_cold", "cold")


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("snapshots/3f9e8b", 422, "sha: must be"),
        ("snapshots/3F9E8B2", 422, "sha: must be"),
        ("snapshots/3f9e8b2", 404, "namespace 'films' has no snapshot '3f9e8b2'"),
        ("history?limit=0", 422, "limit must be"),
        ("history?before=xyz", 422, "before: must be"),
        ("history?before=3f9e8b2", 404, "before: namespace 'films' has no snapshot"),
        ("snapshot-jobs/none", 404, "no snapshot job 'none'"),
    ],
)
async def test_reads_that_break_a_rule(stage, path, status, told):
    await stage.films(rows=FILMS[:3])
    answer = await stage.call("GET", f"{NS}/{path}")
    assert answer.status == status
    assert answer.body["message"].startswith(told)


# --- the writer ------------------------------------------------------------------------------------------------------


async def test_one_body_for_one_shape(stages):
    stage = await stages(**WATCHED)
    await stage.films()
    (entry,) = await until_written(stage)
    body = await shown(stage, entry["sha"])
    assert (body["watermark_ms"], body["sha"][:7]) == (entry["watermark_ms"], entry["sha"])
    assert [facet["name"] for facet in body["fields"]] == ["genres", "year"]
    assert counts_of(body, "genres") == expected("genres")
    assert counts_of(body, "year") == expected("year")
    # The same rows again: another watermark, no other shape.
    await stage.write("films", FILMS[:1])
    seen = await outcomes(stage, "unchanged")

    async def looked_again():
        return await outcomes(stage, "unchanged") > seen

    await stage.until(looked_again)
    assert await history(stage) == [entry]
    done = await asked(stage, "genres")
    assert (done["effective_source"], done["sha"], done["stable_as_of"]) == (
        "stored",
        body["sha"],
        entry["watermark_ms"],
    )


async def test_history_and_activity_of_changed_shapes(stages):
    stage = await stages(**WATCHED)
    await stage.films(rows=FILMS[:10])
    await until_written(stage)
    for number in (2, 3):
        await stage.write("films", [{**FILMS[0], "year": 3000 + number}])
        await until_written(stage, number)
    entries = await history(stage)
    stamps = [entry["watermark_ms"] for entry in entries]
    assert len(set(stamps)) == 3
    assert stamps == sorted(stamps, reverse=True)
    assert counts_of(await shown(stage, entries[0]["sha"]), "year")["3003"] == 1
    assert await history(stage, limit=2) == entries[:2]
    assert await history(stage, before=entries[0]["sha"]) == entries[1:]
    assert await history(stage, limit=1, before=f"{stamps[1]}-{entries[1]['sha']}") == entries[2:]
    sha = (await shown(stage, entries[1]["sha"]))["sha"]
    assert await history(stage, before=sha) == await history(stage, before=f"{stamps[1]}-{sha}") == entries[2:]
    # A hash that only begins like one of them.
    other = sha[:-1] + ("0" if sha[-1] != "0" else "1")
    for before in (other, f"{stamps[1]}-{other}"):
        answer = await stage.call("GET", f"{NS}/history?before={before}")
        assert answer.status == 404, answer.body

    def event(entry):
        return {"ts_ms": entry["watermark_ms"], "namespace": "films", "sha": entry["sha"]}

    page = await stage.ok("GET", "/v2/activity/snapshots?since=0&limit=2&namespace=films")
    assert (page["events"], page["truncated"]) == ([event(each) for each in entries[:2]], True)
    rest = await stage.ok("GET", f"/v2/activity/snapshots?since=0&limit=2&namespace=films&cursor={page['next_cursor']}")
    assert (rest["events"], rest["truncated"]) == ([event(entries[2])], False)
    assert "next_cursor" not in rest
    newest = await stage.ok("GET", f"/v2/activity/snapshots?since={stamps[0]}&namespace=films")
    assert newest["events"] == [event(entries[0])]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "since: required"),
        ("since=-1", "since: required"),
        ("since=0", "namespace: required"),
        ("since=0&namespace=films&cursor=%21", "cursor: not one"),
        ("since=0&namespace=films&limit=x", "limit must be"),
    ],
)
async def test_activity_that_breaks_a_rule(stage, query, told):
    await stage.films(rows=FILMS[:3])
    answer = await stage.call("GET", f"/v2/activity/snapshots?{query}")
    assert (answer.status, answer.body["message"][: len(told)]) == (422, told)


async def test_with_a_key_of_its_own_the_activity_is_of_all_namespaces(stages):
    stage = await stages(
        **{**WATCHED, "facet_fields": '{"films": ["year"], "notes": ["n"]}'}, gateway_api_key="tpuf_stage"
    )
    await stage.films(rows=FILMS[:5])
    await stage.write("notes", [{"id": 1, "n": 1}])
    await until_written(stage)

    async def both():
        events = (await stage.ok("GET", "/v2/activity/snapshots?since=0"))["events"]
        return {event["namespace"] for event in events} == {"films", "notes"}

    await stage.until(both)
    stranger = ((b"authorization", b"Bearer other"),)
    for path in ("/v2/activity/snapshots?since=0", f"{NS}/history", f"{NS}/snapshot-policy"):
        assert (await stage.call("GET", path, headers=stranger)).status == 401


async def test_a_namespace_made_anew_around_the_gateway_is_not_counted_from_the_old_snapshot(stages):
    """With a gateway key a namespace is known by its name; the body tells of whose creation it is."""
    stage = await stages(**WATCHED, gateway_api_key="tpuf_stage")
    await stage.films(rows=FILMS[:5])
    (old,) = await until_written(stage)
    upstream = stage.gateway.upstream
    assert (await upstream.read("DELETE", b"/v2/namespaces/films", b"tpuf_own"))[0] == 200
    await stage.write("films", [{"id": "x", "year": 1900, "genres": []}])

    async def counted():
        query = {"mode": "count", "source": "snapshot", "filters": ["year", "Eq", 1900]}
        answer = await stage.call("POST", f"{NS}/scans", query)
        return answer.status == 200 and answer.body["count"] == 1

    await stage.until(counted)
    # The old one is history, and nothing more.
    newest, *others = await history(stage)
    assert others == [old]
    assert (await shown(stage, newest["sha"]))["row_count"] == 1


@pytest.mark.parametrize("error", [ObjectStoreTimeoutError, ObjectStoreDeniedError, ObjectStoreFullError])
async def test_a_store_that_fails_is_told_and_keeps_nobody_else(stage, monkeypatch, error):
    await stage.films(rows=FILMS[:5])

    async def failing(*key, **bounds):
        raise error("the object store failed")

    for operation in ("get", "list_keys", "put", "put_if_absent"):
        monkeypatch.setattr(stage.gateway.objects, operation, failing)
    for method, target, body in (
        ("GET", f"{NS}/history", None),
        ("GET", f"{NS}/snapshots/3f9e8b2", None),
        ("GET", f"{NS}/snapshot-policy", None),
        ("PUT", f"{NS}/snapshot-policy", {"facetFields": ["year"]}),
        ("GET", "/v2/activity/snapshots?since=0&namespace=films", None),
        ("POST", f"{NS}/snapshots", {"field": "year", "source": "stored"}),
    ):
        answer = await stage.call(method, target, body)
        assert (answer.status, answer.body["error"]) == (503, "service_unavailable"), target
    # It is counted, and the body cannot be kept.
    done = await asked(stage, "year", source="origin")
    assert (done["status"], done["error"]) == ("failed", "the object store failed")
    assert "sha" not in done
    counted = await stage.ok("POST", f"{NS}/scans", {"mode": "count", "filters": ["year", "Eq", FILMS[0]["year"]]})
    assert counted["served_by"] == "origin"


async def test_a_policy_that_is_put_starts_the_writer(stages):
    stage = await stages(**{**WATCHED, "facet_fields": ""})
    await stage.films(rows=FILMS[:10])
    assert await stage.ok("GET", f"{NS}/snapshot-policy") == {
        "facetFields": [],
        "interval": "0ms",
        "retention": "never",
    }
    policy = {"facetFields": ["year"], "interval": "1ms", "retention": "30d"}
    assert await stage.ok("PUT", f"{NS}/snapshot-policy", policy) == policy
    assert await stage.ok("GET", f"{NS}/snapshot-policy") == policy
    (entry,) = await until_written(stage)
    assert counts_of(await shown(stage, entry["sha"]), "year") == expected("year", FILMS[:10])


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"facetFields": "year"}, "facetFields: must be an array"),
        ({"facetFields": ["id"]}, "facetFields: 'id' cannot be a facet field"),
        ({"facetFields": ["_hevlayer_shard"]}, "facetFields: '_hevlayer_shard' cannot"),
        ({"interval": "5 minutes"}, "interval: must be a whole number and a unit"),
        ({"retention": "0d"}, "retention: must be"),
        ({"cadence": "5m"}, "cadence: not a key"),
        ({"facetFields": ["é" * 65]}, "facetFields: the name of an attribute has at most 128 bytes"),
    ],
)
async def test_a_policy_that_breaks_a_rule(stage, policy, told):
    await stage.films(rows=FILMS[:3])
    answer = await stage.call("PUT", f"{NS}/snapshot-policy", policy)
    assert (answer.status, answer.body["message"][: len(told)]) == (422, told)


async def test_a_deleted_namespace_leaves_no_body(stages):
    stage = await stages(**WATCHED)
    await stage.films(rows=FILMS[:10])
    await until_written(stage)
    await stage.ok("PUT", f"{NS}/snapshot-policy", {"facetFields": ["year"]})
    await asked(stage, "cast", source="origin")
    deleted = await stage.ok("DELETE", NS)
    assert {"step": "snapshots", "status": "done"} in deleted["layer"]["steps"]
    left = [
        key
        for prefix in ("snapshots", "snapshots-adhoc", "policies")
        for key in await stage.gateway.objects.list_keys(f"{prefix}/")
    ]
    assert left == []
