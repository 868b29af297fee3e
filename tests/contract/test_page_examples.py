"""Each request that the pages show is sent, in order, and each answer is the one that they show."""

import json
import time
from dataclasses import replace

import pytest
from contract_support import ROOT, Api, start_gateway
from page_examples import ANY, Comparison, Example, PageError, Shown, pages, read_examples

PAGES = pages(ROOT / "docs")
# A page of a family of routes that lost its examples would pass otherwise.
FAMILIES = (
    *("query", "write", "fetch", "namespaces", "sharding", "scans", "result-count", "warm", "history", "metrics"),
    *("health", "snapshots"),
)
# What changes nothing, and may be asked again until the answer is the one shown.
READS = ("/query", "/documents", "/result-count")
SETTLE_SECONDS = 10
POLL_SECONDS = 0.05


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    # With a key: without one, a namespace made anew under the same name has no place in the cache for a minute.
    with start_gateway(tmp_path_factory.mktemp("pages"), key="examples") as target:
        # As a client sees it: nothing of the gateway's is taken out of its answers.
        api = Api(replace(target, is_gateway=False))
        yield api
        api.close()


@pytest.fixture
def clean(gateway):
    """Pages begin without namespaces and without history."""
    yield gateway
    listed = gateway.ok("GET", "/v1/namespaces")["namespaces"]
    for each in listed:
        gateway.ok("DELETE", f"/v2/namespaces/{each['id']}?purge_history=true")


def run(api: Api, example: Example, comparison: Comparison) -> list[str]:
    """What is other than shown. A read is repeated for a while: jobs, polls and flushes take their time."""
    is_read = example.method == "GET" or example.target.endswith(READS)
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        answer = api.call(
            example.method,
            comparison.fill_in(example.target),
            comparison.fill_in(example.body).encode() or None,
            {name: comparison.fill_in(value) for name, value in example.headers.items()},
        )
        if example.answer is None:
            wrong = [] if answer.status < 300 else [f"status: {answer.status}, and no answer is shown"]
        else:
            text = answer.body.decode()
            wrong = comparison.differences(example.answer, answer.status, answer.headers, text)
        if not wrong or not is_read or time.monotonic() > deadline:
            return wrong
        time.sleep(POLL_SECONDS)


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_are_true(clean, name):
    comparison = Comparison()
    for example in PAGES[name]:
        wrong = run(clean, example, comparison)
        assert not wrong, f"docs/{name}.md:{example.line}: {example.method} {example.target}\n" + "\n".join(wrong)


def test_each_family_of_routes_has_a_page_with_examples():
    assert [name for name in FAMILIES if name not in PAGES] == []


# --- the comparison itself -------------------------------------------------------------------------------------------


def compare(shown, came):
    return Comparison().differences(Shown(200, {}, json.dumps(shown)), 200, {}, json.dumps(came))


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ({"a": 1}, {"a": 1}),
        ({"a": ANY}, {"a": {"b": 2}}),
        ({"a": 1, ANY: ANY}, {"a": 1, "b": 2}),
        ({"a": [1, ANY]}, {"a": [1, 2, 3]}),
        ({"a": "6b1f…"}, {"a": "6b1f00"}),
        ({"id": "6b1f…", "b": [{"id": "6b1f…"}]}, {"id": "77", "b": [{"id": "77"}]}),
        ({"stable_as_of": 1795270000123}, {"stable_as_of": 5}),
        ({"created_at": "2026-11-21T15:40:00.000Z"}, {"created_at": "2027-01-01T00:00:00Z"}),
        ({"x": 0.25}, {"x": 0.2500001}),
    ],
)
def test_what_is_as_shown(shown, came):
    assert compare(shown, came) == []


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2, ANY]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": [1, 3]}),
        ({"a": "6b1f…"}, {"a": "7"}),
        ({"id": "6b1f…", "b": [{"id": "6b1f…"}]}, {"id": "77", "b": [{"id": "78"}]}),
        ({"stable_as_of": 1795270000123}, {"stable_as_of": None}),
        ({"created_at": "2026-11-21T15:40:00.000Z"}, {"created_at": "yesterday"}),
        ({"x": 0.25}, {"x": 0.26}),
        ({"a": {}}, {"a": []}),
    ],
)
def test_what_is_not_as_shown(shown, came):
    assert len(compare(shown, came)) == 1


def test_status_headers_and_lines_are_compared():
    shown = Shown(200, {"x-layer-cache": "hit"}, "up 1\nrows_total{…} 2")
    assert Comparison().differences(shown, 200, {"x-layer-cache": "hit"}, 'up 1\nrows_total{a="b"} 2\nmore 3') == []
    assert len(Comparison().differences(shown, 404, {"x-layer-cache": "miss"}, "up 2\nrows_total 2")) == 4


def test_what_a_wildcard_stood_for_is_sent_later():
    comparison = Comparison()
    comparison.differences(Shown(202, {}, '{"id": "6b1f…"}'), 202, {}, '{"id": "6b1f77"}')
    assert comparison.fill_in("/scans/6b1f…/results") == "/scans/6b1f77/results"


@pytest.mark.parametrize(
    "page",
    [
        "```http\nGET /health\n```\n",
        "```http\nHTTP/1.1 200 OK\n```\n",
        "```http\nGET /health HTTP/1.1\nno header\n```\n",
    ],
)
def test_a_fence_that_is_no_example_is_refused(page):
    with pytest.raises(PageError, match="line 2"):
        read_examples(page)
