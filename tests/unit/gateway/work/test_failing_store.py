"""What callers see while the object store is down or full: the lines of docs/failure-modes.md."""

import pytest

from hevlayer.stores.objects import ObjectStoreFullError, ObjectStoreUnreachableError

QUERY = {"rank_by": ["vector", "ANN", [0.5, 1.0, 0.25]], "limit": 3}
ROWS = [{"id": f"doc-{number}", "vector": [float(number), 1.0, 0.5], "title": "the film"} for number in range(5)]
FILMS = "/v2/namespaces/films"
CALLS = ("get", "put", "put_if_absent", "list_keys", "delete")


@pytest.fixture(params=[ObjectStoreUnreachableError("down"), ObjectStoreFullError("full")], ids=["down", "full"])
async def failing(request, stage, monkeypatch):
    """A gateway with a namespace, whose object store then fails at every call."""
    await stage.films("films", ROWS)

    async def fails(*_arguments, **_options):
        raise request.param

    for name in CALLS:
        if hasattr(stage.gateway.objects, name):
            monkeypatch.setattr(stage.gateway.objects, name, fails)
    return stage


async def test_queries_writes_and_fetches_do_not_notice(failing):
    await failing.ok("POST", FILMS, {"upsert_rows": [{"id": "new", "vector": [0.0, 1.0, 0.0]}]})
    await failing.ok("POST", f"{FILMS}/query", QUERY)
    await failing.ok("GET", f"{FILMS}/documents/new")
    await failing.ok("GET", f"{FILMS}/metadata")
    await failing.ok("GET", "/v2/namespaces")
    await failing.ok("POST", f"{FILMS}/scans", {"mode": "count"})
    await failing.warm()
    assert (await failing.call("GET", "/ready")).status == 200


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", f"{FILMS}/search-history", None),
        ("GET", f"{FILMS}/clickstream", None),
        ("POST", f"{FILMS}/init", {"shard_count": 4}),
        ("DELETE", FILMS, None),
    ],
)
async def test_what_needs_the_store_is_a_503_that_says_so(failing, method, target, body):
    refused = await failing.call(method, target, body)
    assert (refused.status, refused.body["error"]) == (503, "service_unavailable")
    # Before anything has happened: the namespace stands.
    assert [sent for sent, _, _ in failing.up if sent == "DELETE"] == []
    await failing.ok("POST", f"{FILMS}/query", QUERY)


@pytest.mark.parametrize("body", [{"mode": "ids"}, {"mode": "values", "field": "title"}])
async def test_a_scan_whose_results_cannot_be_kept_says_so(failing, body):
    answer = await failing.call("POST", f"{FILMS}/scans", {**body, "source": "origin"})
    if answer.status == 202:
        job = await failing.done(f"{FILMS}/scans/{answer.body['id']}")
        assert job["status"] == "failed"
        assert job["error"]
    else:
        assert (answer.status, answer.body["error"]) == (503, "service_unavailable")
