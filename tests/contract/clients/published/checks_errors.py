"""How errors reach the client, and what it is told of routes that this version does not have."""

import os

import pytest

from hevlayer import HevlayerError


async def caught(call):
    with pytest.raises(HevlayerError) as error:
        await call
    return error.value


@pytest.mark.parametrize("with_perf", [False, True])
async def test_an_error_of_the_upstream(client, ns, with_perf):
    error = await caught(client.query_namespace(ns, {"rank_by": ["id", "asc"], "limit": 1}, with_perf=with_perf))
    assert (error.status_code, error.error) == (404, f"🤷 namespace '{ns}' was not found")
    # The upstream has no `message`, so the client shows the whole body.
    assert error.message == error.response.text
    assert error.feature is None


async def test_an_error_of_the_upstream_that_is_plain_text(client):
    error = await caught(client.get_turbopuffer_namespace_schema("a:b"))
    assert (error.status_code, error.error) == (400, None)
    assert error.message == "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"


REFUSED = [
    ({"upserts": [], "deletes": []}, 422, "validation_error", "upserts"),
    ({"upserts": [{"id": "a", "attributes": {"vector": [1]}}]}, 422, "validation_error", "vector"),
    ({"patches": [{"id": "a", "attributes": {"vector": [1]}}]}, 422, "validation_error", "vector"),
    ({"upsert_rows": [{"id": 1, "_hevlayer_shard": 1}]}, 422, "validation_error", "_hevlayer_shard"),
]


@pytest.mark.parametrize(("body", "status", "code", "words"), REFUSED)
async def test_a_refusal_of_the_gateway(client, ns, body, status, code, words):
    error = await caught(client.write_namespace(ns, body))
    assert (error.status_code, error.error) == (status, code)
    assert words in error.message


@pytest.mark.parametrize("key", ["as_of", "between", "cursor"])
async def test_what_is_not_built_yet_is_never_ignored(client, ns, key):
    value = {"as_of": 1, "between": [1, 2], "cursor": "x"}[key]
    error = await caught(client.query_namespace(ns, {"vector": [1], "top_k": 1, key: value}))
    assert (error.status_code, error.error) == (422, "not_supported")
    assert key in error.message


async def test_documents_that_do_not_exist(client, ns):
    await client.write_namespace(
        ns, {"upsert_rows": [{"id": "a", "vector": [1.0]}], "distance_metric": "cosine_distance"}
    )
    error = await caught(client.fetch_document(ns, "none"))
    assert (error.status_code, error.error) == (404, "not_found")
    assert "none" in error.message
    error = await caught(client.query_namespace(ns, {"nearest_to_id": ["a", "none"], "top_k": 1}))
    assert (error.status_code, error.error) == (404, "not_found")
    assert "none" in error.message


async def test_promql_needs_a_metrics_store(client):
    for method in (client.query_metrics, client.query_metrics_api_v1):
        error = await caught(method(query="up"))
        assert error.status_code == 503
        assert "METRICS_BACKEND_URL" in error.message
    for method in (client.query_metrics_range, client.query_metrics_range_api_v1):
        error = await caught(method(query="up", start="0", end="1", step="1"))
        assert error.status_code == 503
        assert "METRICS_BACKEND_URL" in error.message


async def test_an_unknown_metric(client):
    error = await caught(client.get_metric_catalog_entry("no_such_metric"))
    assert (error.status_code, error.error) == (404, "not_found")
    assert "no_such_metric" in error.message


@pytest.mark.parametrize("key", [None, "", "wrong"])
async def test_a_wrong_key(open_client, key):
    if key == "wrong" and "LAYER_TEST_ANY_KEY" in os.environ:
        pytest.skip("without a key of its own the gateway passes bearers on, and the local origin takes any")
    async with open_client(key) as stranger:
        for call in (
            stranger.get_namespace_metadata("a"),
            stranger.write_namespace("a", {"upserts": [{"id": "a"}]}),
            stranger.query_namespace("a", {"vector": [1], "top_k": 1}),
            stranger.fetch_document("a", "b"),
            stranger.fetch_documents("a", {"ids": ["b"]}),
            stranger.list_namespaces(),
            stranger.delete_namespace("a"),
        ):
            error = await caught(call)
            assert error.status_code == 401
            assert error.message


UDF = {"worker": {"url": "http://worker.example"}}
ITEM = {"namespace": "a", "id": "1"}
LATER = [
    ("create_checkpoint", ("a", {"label": "l"})),
    ("get_checkpoint", ("a", "l")),
    ("list_checkpoints", ("a",)),
    ("query", ({"vector": [1.0], "namespaces": ["a"]},)),
    ("create_pipeline", ({"id": "p", "target_namespace": "a"},)),
    ("list_pipelines", ()),
    ("get_pipeline_status", ("p",)),
    ("delete_pipeline", ("p",)),
    ("claim_documents", ("p", {"worker_id": "w"})),
    ("set_documents_stage", ("p", {"document_ids": ["d"], "stage": "pending"})),
    ("heartbeat_documents", ("p", {"document_ids": ["d"], "worker_id": "w"})),
    ("put_pipeline_document_chunks", ("p", "d", {"chunks": []})),
    ("get_pipeline_document_chunks", ("p", "d")),
    ("put_pipeline_document_vectors", ("p", "d", {"vectors": []})),
    ("create_udf", ({"id": "u", "spec": UDF},)),
    ("upsert_udf", ("u", {"spec": UDF})),
    ("get_udf", ("u",)),
    ("list_udfs", ()),
    ("get_udf_status", ("u",)),
    ("delete_udf", ("u",)),
    ("pause_udf", ("u",)),
    ("resume_udf", ("u",)),
    ("reset_failed_udf", ("u",)),
    ("discover_udf", ("u", {})),
    ("claim_udf_items", ("u", {"worker_id": "w"})),
    ("complete_udf_items", ("u", {"worker_id": "w", "items": [ITEM]})),
    ("fail_udf_items", ("u", {"worker_id": "w", "items": [{**ITEM, "kind": "transient"}]})),
    ("heartbeat_udf_items", ("u", {"worker_id": "w", "items": [ITEM]})),
    ("get_namespace_capabilities", ("a",)),
    ("list_vectorstores", ()),
    ("get_vectorstore", ("v",)),
    ("get_vector_store_capabilities", ("v",)),
    ("list_keys", ()),
    ("get_key", ("k",)),
    ("mint_key", ({"name": "n"},)),
    ("revoke_key", ("k",)),
    ("delete_key", ("k",)),
    ("authenticate_key", ({"token": "t"},)),
    ("get_cost_snapshot", ()),
    ("get_cost_timeseries", ()),
    ("get_cost_rate_card", ()),
    ("put_blob", ("a", b"x")),
    ("get_blob", ("a", "0" * 64)),
    ("import_namespace", ("a", b"x")),
]


@pytest.mark.parametrize(("method", "arguments"), LATER, ids=[method for method, _ in LATER])
async def test_routes_that_this_version_does_not_have(client, method, arguments):
    error = await caught(getattr(client, method)(*arguments))
    assert (error.status_code, error.error) == (404, "not_found")
    assert error.message.startswith("no route /v")
    assert error.response.json().keys() == {"status", "error", "message"}
