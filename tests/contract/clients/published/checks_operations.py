"""Every operation whose route this version has."""

import asyncio

import pytest

import hevlayer

ROWS = [
    {"id": "a", "vector": [1.0, 0.0], "title": "red fox", "n": 1},
    {"id": "b", "vector": [0.0, 1.0], "title": "blue dog", "n": 2},
    {"id": "c", "vector": [0.7, 0.7], "title": "red dog", "n": 3},
]
FULL_TEXT = {"title": {"type": "string", "full_text_search": True, "filterable": True}}
WATERMARK_SECONDS = 20
WARM_SECONDS = 20
JOB_SECONDS = 20


@pytest.fixture
async def films(client, ns):
    await client.write_namespace(ns, {"upsert_rows": ROWS, "distance_metric": "cosine_distance", "schema": FULL_TEXT})
    return ns


async def test_native_writes(client, ns, data):
    written = await data(
        client.write_namespace,
        ns,
        {
            "upsert_rows": ROWS,
            "distance_metric": "cosine_distance",
            "return_affected_ids": True,
        },
    )
    assert isinstance(written, hevlayer.TurbopufferWriteResponse)
    assert (written.status, written.rows_affected, written.rows_upserted) == ("OK", 3, 3)
    assert sorted(written.upserted_ids) == ["a", "b", "c"]
    assert written.billing["billable_logical_bytes_written"] > 0
    columns = {"upsert_columns": {"id": ["d"], "vector": [[1, 1]], "n": [4]}, "distance_metric": "cosine_distance"}
    assert (await data(client.write_namespace, ns, columns)).rows_affected == 1
    assert (await data(client.write_namespace, ns, {"delete_by_filter": ["n", "Gt", 3]})).rows_deleted == 1


async def test_layer_writes(client, ns, data):
    body = {
        "upserts": [
            {"id": "a", "vector": [1.0, 0.0], "attributes": {"n": 1}},
            {"id": "b", "vector": [0.0, 1.0], "attributes": {"n": 2}},
        ]
    }
    assert (await data(client.write_namespace, ns, body)).rows_upserted == 2
    body = {"patches": [{"id": "a", "attributes": {"n": 5}}], "deletes": ["b"]}
    written = await data(client.write_namespace, ns, body)
    assert (written.rows_patched, written.rows_deleted, written.rows_affected) == (1, 1, 2)
    found = await client.query_namespace(ns, {"rank_by": ["id", "asc"], "limit": 10, "include_attributes": ["n"]})
    assert found.rows == [{"id": "a", "n": 5}]


async def test_a_request_model_as_the_body(client, ns, data):
    body = hevlayer.TurbopufferWriteRequest.model_validate({"upsert_rows": ROWS, "distance_metric": "cosine_distance"})
    assert (await data(client.write_namespace, ns, body)).rows_upserted == 3


async def test_patch_columns(client, films, data):
    patched = await data(client.patch_columns, films, ["a", "c"], {"n": [10, 30]})
    assert (patched.rows_patched, patched.rows_affected) == (2, 2)
    found = await client.query_namespace(films, {"rank_by": ["n", "desc"], "limit": 3, "include_attributes": ["n"]})
    assert found.rows == [{"id": "c", "n": 30}, {"id": "a", "n": 10}, {"id": "b", "n": 2}]


NATIVE = [
    ({"rank_by": ["vector", "ANN", [1, 0]], "limit": 2}, ["a", "c"]),
    ({"rank_by": ["title", "BM25", "dog"], "limit": 10, "filters": ["n", "Eq", 3]}, ["c"]),
    ({"rank_by": ["n", "desc"], "limit": 10}, ["c", "b", "a"]),
    (hevlayer.QueryRequest(rank_by=["id", "asc"], top_k=2), ["a", "b"]),
]


@pytest.mark.parametrize(("body", "ids"), NATIVE)
async def test_native_queries(client, films, data, body, ids):
    found = await data(client.query_namespace, films, body)
    assert isinstance(found, hevlayer.QueryResponse)
    assert [row["id"] for row in found.rows] == ids
    assert found.billing["billable_logical_bytes_queried"] > 0
    assert not any(key.startswith("_hevlayer") for row in found.rows for key in row)


LAYER = [
    ({"vector": [0, 1], "top_k": 2, "include_attributes": ["title"]}, ["b", "c"]),
    (hevlayer.QueryRequest(vector=[1, 0], top_k=1), ["a"]),
    (hevlayer.QueryRequest(vector=[1, 0], top_k=3, filters=["n", "Gt", 1]), ["c", "b"]),
    (hevlayer.QueryRequest(nearest_to_id=["a"], top_k=2), ["a", "c"]),
    ({"nearest_to_id": "b", "top_k": 2}, ["b", "c"]),
    (hevlayer.QueryRequest(nearest_to_id=["a", "b"], top_k=1), ["c"]),
]


@pytest.mark.parametrize(("body", "ids"), LAYER)
async def test_layer_queries(client, films, data, body, ids):
    found = await data(client.query_namespace, films, body, raw_query="What dogs?", tags=["a:b", "c"])
    assert [row["id"] for row in found.rows] == ids
    assert [result["id"] for result in found.results] == ids
    assert all({"id", "dist", "attributes"} == result.keys() for result in found.results)


async def test_everything_but_our_own_attributes(client, films, data):
    body = hevlayer.QueryRequest(vector=[1, 0], top_k=1, include_attributes=True)
    found = await data(client.query_namespace, films, body)
    assert found.rows[0].keys() == {"id", "vector", "title", "n", "$dist"}


async def test_aggregates(client, films, data):
    """Its model of a query's answer requires `rows`, which an aggregate does not have; these two take it."""
    body = {"aggregate_by": {"count": ["Count"]}}
    assert (await data(client.query_turbopuffer_namespace, films, body)).aggregations == {"count": 3}
    assert (await data(client.batch_query_namespace, films, {"queries": [body]})).results[0].aggregations == {
        "count": 3
    }


async def test_stable_as_of_is_told(client, films, data):
    """The watermark comes with the first poll after the write."""
    async with asyncio.timeout(WATERMARK_SECONDS):
        while True:
            found = await data(client.query_namespace, films, {"vector": [1, 0], "top_k": 1})
            if found.stable_as_of is not None:
                break
            await asyncio.sleep(0.02)
    metadata = await client.get_namespace_metadata(films)
    assert metadata.layer.is_stable is True
    assert metadata.layer.stable_as_of >= found.stable_as_of
    batch = await data(client.batch_query_namespace, films, {"queries": [{"rank_by": ["id", "asc"], "limit": 1}]})
    assert batch.stable_as_of >= found.stable_as_of


async def test_batch_queries(client, films, data):
    legs = [{"rank_by": ["vector", "ANN", [1, 0]], "limit": 1}, {"aggregate_by": {"count": ["Count"]}}]
    answer = await data(client.batch_query_namespace, films, {"queries": legs})
    assert isinstance(answer, hevlayer.BatchQueryResponse)
    assert [row["id"] for row in answer.results[0].rows] == ["a"]
    assert answer.results[1].aggregations == {"count": 3}
    assert answer.billing["billable_logical_bytes_queried"] > 0


async def test_the_upstream_s_own_query(client, films, data):
    answer = await data(client.query_turbopuffer_namespace, films, {"rank_by": ["id", "asc"], "limit": 1})
    assert answer.rows == [{"id": "a"}]


async def test_fetch_one(client, films, data):
    first = await data(client.fetch_document, films, "a", cache_status="miss")
    assert isinstance(first, hevlayer.Document)
    assert (first.id, first.attributes) == ("a", {"title": "red fox", "n": 1})
    again = await data(client.fetch_document, films, "a", cache_status="hit")
    assert again == first
    chosen = await data(client.fetch_document, films, "a", include_attributes=["n", "vector"], cache_status="hit")
    assert chosen.attributes == {"n": 1, "vector": [1.0, 0.0]}


@pytest.mark.parametrize("doc_id", ["with space", "a/b", "ç-日本", "100%", "a.b;c=d", "..."])
async def test_fetch_by_an_odd_id(client, ns, data, in_path, doc_id):
    await client.write_namespace(ns, {"upsert_rows": [{"id": doc_id, "n": 1}]})
    assert (await data(client.fetch_document, ns, in_path(doc_id), cache_status="miss")).id == doc_id


async def test_fetch_by_number(client, ns, data):
    await client.write_namespace(ns, {"upsert_rows": [{"id": 7, "n": 1}]})
    document = await data(client.fetch_document, ns, "7", cache_status="miss")
    assert (document.id, document.id_type) == ("7", "uint")


async def test_fetch_many(client, films, data):
    body = hevlayer.FetchDocumentsRequest(ids=["a", "none", "b"], include_attributes=["n"])
    answer = await data(client.fetch_documents, films, body, cache_status="miss")
    assert [(document.id, document.attributes) for document in answer.documents] == [("a", {"n": 1}), ("b", {"n": 2})]
    assert answer.missing == ["none"]
    again = await data(client.fetch_documents, films, {"ids": ["a", "b"]}, cache_status="hit")
    assert [document.id for document in again.documents] == ["a", "b"]
    part = await data(client.fetch_documents, films, {"ids": ["a", "c"]}, cache_status="partial")
    assert [document.id for document in part.documents] == ["a", "c"]


async def test_a_write_is_seen_by_the_next_fetch(client, films, data):
    await client.fetch_document(films, "a")
    await client.patch_columns(films, ["a"], {"n": [99]})
    document = await client.fetch_document(films, "a")
    assert document.attributes["n"] == 99


async def test_metadata(client, films, data):
    for method in (client.get_namespace_metadata, client.get_turbopuffer_v1_namespace_metadata):
        metadata = await data(method, films)
        assert isinstance(metadata, hevlayer.NamespaceMetadata)
        assert metadata.id == films
        assert metadata.schema.keys() == {"id", "vector", "title", "n"}
        assert metadata.index.status == "up-to-date"
        assert isinstance(metadata.layer.is_stable, bool)


async def test_metadata_can_be_changed(client, films, data):
    changed = await data(client.update_turbopuffer_namespace_metadata, films, {"pinning": {"replicas": 2}})
    assert (changed.id, changed.pinning["replicas"]) == (films, 2)
    changed = await data(client.update_turbopuffer_namespace_metadata, films, {"pinning": None})
    assert not hasattr(changed, "pinning") or changed.pinning is None


async def test_schema(client, films, data):
    schema = (await data(client.get_turbopuffer_namespace_schema, films)).model_dump()
    assert schema.keys() == {"id", "vector", "title", "n"}
    change = hevlayer.TurbopufferSchema.model_validate({"n": {"type": "int", "filterable": False}})
    changed = (await data(client.update_turbopuffer_namespace_schema, films, change)).model_dump()
    assert changed["n"]["filterable"] is False
    assert changed.keys() == schema.keys()


async def test_listings(client, ns, data):
    names = [f"{ns}-{letter}" for letter in "abc"]
    for name in names:
        await client.write_namespace(
            name, {"upsert_rows": [{"id": 1, "vector": [1.0]}], "distance_metric": "cosine_distance"}
        )
    try:
        seen = []
        cursor = None
        for _ in names:
            page = await data(client.list_namespaces, prefix=f"{ns}-", cursor=cursor, page_size=2)
            assert isinstance(page, hevlayer.NamespaceList)
            seen += page.namespaces
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [entry.name for entry in seen] == names
        for entry in seen:
            assert entry.metadata_error is None
            assert (entry.schema_summary.vector_dim, entry.index.status) == (1, "up-to-date")
            assert entry.cache_state.state in ("cold", "warming", "warm")
            assert entry.last_write_ms > 0
        plain = await data(client.list_turbopuffer_namespaces, prefix=f"{ns}-", page_size=1000)
        assert [entry.id for entry in plain.namespaces] == names
    finally:
        for name in names:
            await client.delete_namespace(name)


async def test_copy_and_branch(client, films, data):
    copy, branch = f"{films}-copy", f"{films}-branch"
    try:
        copied = await data(client.copy_namespace, copy, {"copy_from_namespace": films})
        assert (copied.status, copied.rows_affected) == ("OK", 3)
        body = hevlayer.TurbopufferBranchFromRequest(branch_from_namespace={"source_namespace": films})
        assert (await data(client.branch_namespace, branch, body)).status == "OK"
        for name in (copy, branch):
            found = await client.query_namespace(name, {"rank_by": ["id", "asc"], "limit": 10})
            assert [row["id"] for row in found.rows] == ["a", "b", "c"]
    finally:
        for name in (copy, branch):
            await client.delete_namespace(name)


async def test_recall(client, films, data):
    answer = await data(client.evaluate_turbopuffer_recall, films, {"num": 2, "top_k": 2})
    assert isinstance(answer, hevlayer.TurbopufferRecallResponse)
    assert (answer.avg_recall, answer.avg_ann_count, answer.avg_exhaustive_count) == (1, 2, 2)
    body = hevlayer.TurbopufferRecallRequest(num=1, top_k=1, include_ground_truth=True)
    assert (await data(client.evaluate_turbopuffer_recall, films, body)).ground_truth


async def test_explain(client, ns, data):
    # A plan exists once there is an index, which small namespaces do not have.
    rows = 10_001
    await client.write_namespace(ns, {"upsert_columns": {"id": list(range(rows)), "n": list(range(rows))}})
    answer = await data(client.explain_turbopuffer_query, ns, {"rank_by": ["n", "asc"], "limit": 1})
    assert answer.plan_text


async def test_the_warm_hint(client, films, data):
    answer = await data(client.hint_cache_warm, films)
    assert isinstance(answer, hevlayer.HintCacheWarmResponse)
    assert (answer.namespace, answer.status, answer.turbopuffer.status) == (films, "ACCEPTED", "started")
    answer = await data(client.hint_cache_warm, films, turbopuffer=False, documents=False, snapshots=True, page_size=10)
    assert (answer.turbopuffer.enabled, answer.turbopuffer.status) == (False, "skipped")
    assert answer.documents.enabled is False


async def warmed(client, ns, data, job):
    """The warm job, once it has ended."""
    assert isinstance(job, hevlayer.WarmJob)
    async with asyncio.timeout(WARM_SECONDS):
        while job.status == "running":
            await asyncio.sleep(0.01)
            job = await data(client.get_warm_job, ns, job.id)
    return job


async def test_a_warm(client, films, data):
    job = await warmed(client, films, data, await data(client.warm_cache, films, page_size=2))
    assert (job.namespace, job.status, job.progress, job.documents_scanned) == (films, "completed", 1, 3)
    assert job.completed_at >= job.created_at
    assert job.stable_as_of > 0
    found = await data(client.fetch_documents, films, {"ids": ["a", "b", "c"]}, cache_status="hit")
    assert len(found.documents) == 3
    again = await data(client.warm_namespace, films)
    assert (again.status, again.documents_scanned) == ("completed", 0)
    jobs = await data(client.list_warm_jobs, films)
    assert isinstance(jobs, hevlayer.WarmJobList)
    assert {each.id for each in jobs.warm_jobs} == {job.id, again.id}


async def test_the_warm_hint_starts_a_warm(client, films, data):
    answer = await data(client.hint_cache_warm, films, page_size=2)
    assert (answer.documents.enabled, answer.documents.status, answer.snapshots.status) == (
        True,
        "started",
        "no_snapshot",
    )
    job = await warmed(client, films, data, answer.documents.job)
    assert (job.status, job.documents_scanned) == ("completed", 3)
    answer = await data(client.hint_cache_warm, films)
    assert (answer.documents.status, answer.documents.job) == ("completed", None)


async def ended_scan(client, ns, job):
    """The scan once it has ended."""
    async with asyncio.timeout(JOB_SECONDS):
        while job.status == "running":
            await asyncio.sleep(0.02)
            job = await client.get_scan(ns, job.id)
    return job


async def test_a_scan_s_count(client, films, data):
    counted = await data(client.create_scan, films, {"mode": "count", "filters": ["n", "Gte", 2]})
    assert isinstance(counted, hevlayer.ScanCountResponse)
    assert (counted.count, counted.bounded, counted.timed_out) == (2, False, False)
    by_text = {"mode": "count", "source": "origin", "fts": {"field": "title", "query": "fox"}}
    assert (await data(client.create_scan, films, by_text)).count == 1
    near = {"mode": "count", "ann": {"vector": [1.0, 0.0], "radius": 0.5}, "exhaustive": True}
    assert (await data(client.create_scan, films, near)).count == 2


async def test_a_scan_s_ids(client, films, data):
    job = await data(client.create_scan, films, {"filters": ["title", "Glob", "red*"], "page_size": 1, "threads": 2})
    assert isinstance(job, hevlayer.ScanJob)
    assert (job.mode, job.source, job.namespace) == ("ids", "auto", films)
    job = await ended_scan(client, films, job)
    assert (job.status, job.progress, job.documents_scanned) == ("completed", 1.0, 2)
    found = await data(client.get_scan_results, films, job.id)
    assert isinstance(found, hevlayer.ScanIdsResponse)
    assert (found.ids, found.total) == (["a", "c"], 2)
    assert (await data(client.get_scan_results, films, job.id, limit=1, offset=1)).ids == ["c"]
    assert [each.id for each in (await data(client.list_scans, films)).scans] == [job.id]
    assert (await data(client.delete_scan, films, job.id)).status == "OK"
    assert (await data(client.list_scans, films)).scans == []


async def test_a_scan_s_values(client, films, data):
    job = await data(client.create_scan, films, {"mode": "values", "field": "n", "filters": ["n", "Lt", 3]})
    job = await ended_scan(client, films, job)
    assert (job.mode, job.field, job.unique_values, job.truncated) == ("values", "n", 2, False)
    found = await data(client.get_scan_results, films, job.id)
    assert isinstance(found, hevlayer.ScanValuesResponse)
    assert [(each.v, each.n) for each in found.values] == [("1", 1), ("2", 1)]
    assert (found.total, found.truncated) == (2, False)


async def test_a_snapshot(client, films, data):
    job = await data(client.create_snapshot, films, {"field": "n", "source": "origin"})
    assert (job.namespace, job.field, job.source) == (films, "n", "origin")
    async with asyncio.timeout(WARM_SECONDS):
        while job.status == "running":
            await asyncio.sleep(0.01)
            job = await data(client.get_snapshot_job, films, job.id)
    assert (job.status, job.effective_source, job.documents_scanned) == ("completed", "origin", 3)
    assert [each.id for each in (await data(client.list_snapshot_jobs, films)).snapshot_jobs] == [job.id]
    body = await data(client.get_namespace_snapshot, films, job.sha[:7])
    assert (body.namespace, body.sha, body.row_count, body.fields_skipped) == (films, job.sha, 3, [])
    assert [(each.v, each.n) for each in body.fields[0].values] == [("1", 1), ("2", 1), ("3", 1)]
    assert await data(client.list_namespace_history, films) == []


async def test_a_snapshot_policy_and_the_activity(client, films, data):
    policy = await data(client.put_snapshot_policy, films, {"facetFields": ["n"], "retention": "30d"})
    assert (policy.facetFields, policy.interval, policy.retention) == (["n"], "5m", "30d")
    assert await data(client.get_snapshot_policy, films) == policy
    activity = await data(client.list_snapshot_activity, since=0, namespace=films)
    assert isinstance(activity, hevlayer.SnapshotActivityList)
    assert not activity.truncated


async def test_the_metrics_catalog(client, films, data):
    catalog = await data(client.list_metrics_catalog)
    assert isinstance(catalog, hevlayer.MetricCatalog)
    assert {"query", "upsert", "fetch", "cache", "storage", "saturation"} <= {entry.family for entry in catalog.entries}
    queries = await data(client.list_metrics_catalog, family="query")
    assert queries.entries == [entry for entry in catalog.entries if entry.family == "query"]
    entry = await data(client.get_metric_catalog_entry, catalog.entries[0].name)
    assert entry == catalog.entries[0]


async def test_delete(client, films, data):
    answer = await data(client.delete_namespace, films)
    assert isinstance(answer, hevlayer.StatusResponse)
    assert answer.status == "OK"
    with pytest.raises(hevlayer.HevlayerError) as caught:
        await data(client.get_namespace_metadata, films)
    assert caught.value.status_code == 404


async def test_history(client, films, data):
    query = {"rank_by": ["vector", "ANN", [1.0, 0.0]], "limit": 2}
    for page in ("first", "second"):
        tags = [" app:shop", "", f"page:{page}"]
        await data(client.query_namespace, films, query, raw_query=f"foxes {page}", tags=tags)
    listed = await data(client.list_search_history, films, tags=["app:shop", "page:second"])
    assert isinstance(listed, hevlayer.SearchHistoryListResponse)
    entry = listed.entries[0]
    assert (entry.namespace, entry.raw_query, entry.tags) == (films, "foxes second", ["app:shop", "page:second"])
    assert entry.top_result_ids == ["a", "c"]
    assert entry.query["limit"] == 2
    everything = await client.list_search_history(films)
    newest = await client.list_search_history(films, limit=1)
    older = await client.list_search_history(films, before=newest.next_cursor)
    assert newest.entries + older.entries == everything.entries
    bounds = {"from_": everything.entries[-1].timestamp, "to": "2999-01-01T00:00:00Z"}
    assert (await client.list_search_history(films, **bounds)).entries == everything.entries


async def test_clickstream(client, films, data):
    await client.fetch_document(films, "a")
    listed = await data(
        client.list_clickstream, films, trace_id="0af7651916cd43dd8448eb211c80319c", tags=["x"], limit=3
    )
    assert isinstance(listed, hevlayer.ClickstreamListResponse)
    assert (listed.events, listed.next_cursor) == ([], None)
