"""Each command of `layer`: what it asks the gateway, what it prints as a table and as JSON, and its exit status."""

import json
import os
import re
import socket
import sys

import pytest
from layer_server import CannedServer

from hevlayer.cli.layer.app import run
from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, UNREACHABLE, USAGE

KEY = "key-of-the-gateway"
NS = "/v2/namespaces/films"
JOB = {
    "id": "j1",
    "namespace": "films",
    "status": "running",
    "progress": 0.25,
    "documents_scanned": 1000,
    "created_at": "2026-01-02T03:04:05Z",
}
ENDED = {
    **JOB,
    "status": "completed",
    "progress": 1.0,
    "documents_scanned": 4000,
    "completed_at": "2026-01-02T03:04:09Z",
}
SCAN = {"mode": "ids", "source": "auto", "effective_source": "cache"}
SNAPSHOT = {"field": "genre", "source": "auto", "sha": "abc1234"}
METADATA = {
    "id": "films",
    "schema": {
        "id": {"type": "uint"},
        "title": {"type": "string", "full_text_search": True, "filterable": False},
        "vector": {"type": "[2]f32", "ann": True},
    },
    "approx_logical_bytes": 5_242_880,
    "approx_row_count": 36273,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-02T00:00:00Z",
    "last_write_at": "2026-01-02T00:00:00Z",
    "index": {"status": "up-to-date"},
    "layer": {
        "stable_as_of": 1767323045000,
        "is_stable": True,
        "cache_state": {"state": "warm", "warm_inflight": False},
    },
}


@pytest.fixture
def server():
    with CannedServer() as running:
        yield running


@pytest.fixture
def layer(server, monkeypatch, capsys):
    """Runs a command line. Returns: the exit status, standard output and standard error."""
    for name in list(os.environ):
        if name.startswith(("LAYER_", "TURBOPUFFER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAYER_GATEWAY_URL", server.url)
    monkeypatch.setenv("LAYER_GATEWAY_API_KEY", KEY)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(arguments)
        streams = capsys.readouterr()
        assert KEY not in streams.out + streams.err
        assert "\x1b" not in streams.out + streams.err
        return status, streams.out, streams.err

    return call


def table(text: str) -> list[list[str]]:
    """The cells of a table, which stand at least two spaces apart."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_namespaces_are_listed_page_by_page(server, layer):
    first = {"name": "films", "row_count": 36273, "size_bytes": 5_242_880, "index": {"status": "up-to-date"}}
    pages = [{"namespaces": [first], "next_cursor": "c1"}, {"namespaces": [{"name": "notes"}], "next_cursor": None}]
    server.answers["GET /v2/namespaces"] = [(200, page) for page in pages]
    status, out, _ = layer("namespaces", "list", "--prefix", "f")
    assert status == DONE
    assert out == (
        "Namespace    Rows     Size  Index       Cache  Stable as of (UTC)  Last write (UTC)\n"
        "films      36,273  5.0 MiB  up-to-date  –      –                   –\n"
        "notes           –        –  –           –      –                   –\n"
    )
    assert [asked.path for asked in server.asked] == ["/v2/namespaces?prefix=f", "/v2/namespaces?prefix=f&cursor=c1"]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_list_as_json_is_a_line_for_each_entry_with_every_field(server, layer):
    entry = {"name": "films", "row_count": 1, "of_a_later_version": {"a": 1}}
    server.answers["GET /v2/namespaces"] = (200, {"namespaces": [entry, {"name": "notes"}], "next_cursor": None})
    _, out, err = layer("namespaces", "list", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [entry, {"name": "notes"}]
    assert err == ""


def test_a_list_that_is_cut_says_so(server, layer):
    page = {"namespaces": [{"name": name} for name in "abc"], "next_cursor": None}
    server.answers["GET /v2/namespaces"] = (200, page)
    _, out, err = layer("namespaces", "list", "--limit", "2")
    assert len(out.splitlines()) == 3
    assert err == "layer namespaces list: there are more than 2; --limit shows more\n"


def test_a_namespace_is_shown_with_its_schema(server, layer):
    server.answers[f"GET {NS}/metadata"] = (200, METADATA)
    _, out, _ = layer("namespaces", "show", "films")
    rows = table(out)
    assert ["Rows, about", "36,273"] in rows
    assert ["Stable as of (UTC)", "2026-01-02 03:04:05"] in rows
    assert ["Cache", "warm"] in rows
    assert rows[-3:] == [["id", "uint"], ["title", "string", "full_text_search"], ["vector", "[2]f32", "ann"]]
    _, out, _ = layer("namespaces", "show", "films", "--json")
    assert json.loads(out) == METADATA


class Terminal:
    """Standard input at which somebody types `answer`."""

    def __init__(self, answer: str) -> None:
        self._lines = [answer]

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._lines.pop() if self._lines else ""


@pytest.mark.parametrize(
    ("answer", "status", "deleted"),
    [("y\n", DONE, 1), ("n\n", INTERRUPTED, 0), ("\n", INTERRUPTED, 0), ("", INTERRUPTED, 0)],
)
def test_a_deletion_asks_first(server, layer, monkeypatch, answer, status, deleted):
    server.answers[f"GET {NS}/metadata"] = (200, METADATA)
    server.answers[f"DELETE {NS}"] = (200, {"status": "OK"})
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    found, out, err = layer("namespaces", "delete", "films")
    assert found == status
    assert "Delete films with about 36,273 documents? [y/N]" in out + err
    assert [asked.method for asked in server.asked].count("DELETE") == deleted


def test_a_deletion_without_a_terminal_wants_yes(server, layer):
    server.answers[f"DELETE {NS}"] = (200, {"status": "OK"})
    assert layer("namespaces", "delete", "films")[0] == USAGE
    assert server.asked == []
    assert layer("namespaces", "delete", "films", "--yes", "--purge-history")[0] == DONE
    assert [(asked.method, asked.path) for asked in server.asked] == [("DELETE", f"{NS}?purge_history=true")]


ROWS = [{"id": 1, "$dist": 0.125, "title": "Metropolis", "year": 1927}, {"id": 2, "$dist": 0.5, "genre": ["a", "b"]}]


def test_a_query_prints_its_rows(server, layer):
    server.answers[f"POST {NS}/query"] = (200, {"rows": ROWS, "stable_as_of": 5})
    status, out, err = layer("query", "films", "--vector", "[0.1, 0.9]", "-k", "2", "-i", "title", "-i", "year")
    assert status == DONE
    assert out == (
        'id  $dist  title       year  genre\n1   0.125  Metropolis  1927  –\n2     0.5  –           –     ["a","b"]\n'
    )
    assert server.asked[0].body == {
        "rank_by": ["vector", "ANN", [0.1, 0.9]],
        "top_k": 2,
        "include_attributes": ["title", "year"],
    }
    assert re.fullmatch(r"layer query: [\d.]+ ms\n", err)


def test_a_query_as_json_is_the_whole_answer(server, layer):
    answer = {"rows": ROWS, "stable_as_of": 5, "billing": {"x": 1}}
    server.answers[f"POST {NS}/query"] = (200, answer)
    _, out, err = layer("query", "films", "--bm25", "title", "metropolis", "--json")
    assert json.loads(out) == answer
    assert len(out.splitlines()) == 1
    assert err == ""


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--bm25", "title", "a b"], {"rank_by": ["title", "BM25", "a b"], "top_k": 10}),
        (["--near", "7"], {"nearest_to_id": "7", "top_k": 10}),
        (["--order-by", "year"], {"rank_by": ["year", "asc"], "top_k": 10}),
        (["--order-by", "year:desc"], {"rank_by": ["year", "desc"], "top_k": 10}),
        (["--rank-by", '["Sum", []]'], {"rank_by": ["Sum", []], "top_k": 10}),
        (["--vector", "[1]", "--vector-field", "v2"], {"rank_by": ["v2", "ANN", [1]], "top_k": 10}),
        (["--filter", '["a","Eq",1]'], {"rank_by": ["id", "asc"], "top_k": 10, "filters": ["a", "Eq", 1]}),
        (
            ["--order-by", "id", "--filter", '["a","Eq",1]', "--filter", '["b","Eq",2]'],
            {"rank_by": ["id", "asc"], "top_k": 10, "filters": ["And", [["a", "Eq", 1], ["b", "Eq", 2]]]},
        ),
        (["--order-by", "id", "-i", "*"], {"rank_by": ["id", "asc"], "top_k": 10, "include_attributes": True}),
        (
            ["--order-by", "id", "--consistency", "eventual"],
            {"rank_by": ["id", "asc"], "top_k": 10, "consistency": {"level": "eventual"}},
        ),
        (["--body", '{"aggregate_by": {"n": ["Count"]}}'], {"aggregate_by": {"n": ["Count"]}}),
    ],
)
def test_the_options_of_a_query_become_its_request(server, layer, options, body):
    server.answers[f"POST {NS}/query"] = (200, {"rows": []})
    assert layer("query", "films", *options)[0] == DONE
    assert server.asked[0].body == body


def test_a_vector_comes_from_a_file(server, layer, tmp_path):
    (tmp_path / "v.json").write_text("[0.25, 1]")
    server.answers[f"POST {NS}/query"] = (200, {"rows": []})
    layer("query", "films", "--vector", f"@{tmp_path / 'v.json'}")
    assert server.asked[0].body["rank_by"] == ["vector", "ANN", [0.25, 1]]


def test_tags_and_the_raw_query_are_sent_for_the_record(server, layer):
    server.answers[f"POST {NS}/query"] = (200, {"rows": []})
    layer("query", "films", "--order-by", "id", "--tag", "a", "--tag", "b:c", "--raw-query", "what was typed")
    sent = {**server.asked[0].headers, "path": server.asked[0].path}
    assert "what was typed" in str(sent).replace("%20", " ").replace("+", " ")
    assert "a,b:c" in str(sent).replace("%2C", ",").replace("%3A", ":")


def test_rows_of_the_layer_dialect_are_shown_flat(server, layer):
    rows = [{"id": "7", "dist": 0.5, "attributes": {"title": "Alien"}}]
    server.answers[f"POST {NS}/query"] = (200, {"rows": rows})
    assert layer("query", "films", "--near", "7")[1] == "id  $dist  title\n7     0.5  Alien\n"


def test_aggregates_are_shown(server, layer):
    server.answers[f"POST {NS}/query"] = (200, {"aggregations": {"n": 12, "s.um": 3.5}})
    assert layer("query", "films", "--body", '{"aggregate_by": {}}')[1] == "n   s.um\n12  3.5\n"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "one of --vector, --near, --bm25, --order-by, --rank-by, --body or --filter is needed"),
        (["--near", "1", "--order-by", "a"], "--near and --order-by exclude each other"),
        (["--vector", "[]"], "must be a JSON array of numbers"),
        (["--order-by", "a:up"], "--order-by must be FIELD, FIELD:asc or FIELD:desc"),
        (["--filter", "["], "is not JSON"),
        (["--body", "[]"], "--body must be a JSON object"),
        (["--body", "{}", "--filter", "[]"], "--body is the whole request"),
        (["--order-by", "a", "-k", "0"], "0 is not in the range 1<=x<=10000"),
        (["--order-by", "a", "--url", "nowhere"], "--url or LAYER_GATEWAY_URL must be an http or https address"),
        (["--order-by", "a", "--timeout", "0"], "must be a number from 0.05 to 86400, was '0'"),
    ],
)
def test_a_query_that_contradicts_itself_is_not_sent(server, layer, options, problem):
    status, out, err = layer("query", "films", *options)
    assert (status, out) == (USAGE, "")
    assert problem in err
    assert server.asked == []


def test_what_a_terminal_would_obey_is_shown_as_an_escape(server, layer):
    server.answers[f"POST {NS}/query"] = (200, {"rows": [{"id": "a\x1b[2J", "t": "two\nlines", "[red]": "x"}]})
    _, out, _ = layer("query", "films", "--order-by", "id")
    assert out == "id        t           [red]\na\\x1b[2J  two\\nlines  x\n"


DOCUMENTS = [{"id": "1", "attributes": {"title": "Metropolis"}}, {"id": "2", "attributes": {"year": 1979}}]


def test_documents_are_fetched_as_a_table(server, layer):
    server.answers[f"POST {NS}/documents"] = (200, {"documents": DOCUMENTS, "missing": []})
    status, out, _ = layer("fetch", "films", "1", "2", "-i", "title", "-i", "year")
    assert status == DONE
    assert out == "id  title       year\n1   Metropolis  –\n2   –           1979\n"
    assert server.asked[0].body == {"ids": ["1", "2"], "include_attributes": ["title", "year"]}


def test_one_document_is_a_record_and_a_missing_one_is_told(server, layer):
    server.answers[f"POST {NS}/documents"] = (200, {"documents": DOCUMENTS[:1], "missing": ["9"]})
    status, out, err = layer("fetch", "films", "1", "9")
    assert status == REFUSED
    assert out == "id     1\ntitle  Metropolis\n"
    assert "layer fetch: not there: 9\n" in err
    _, out, _ = layer("fetch", "films", "1", "9", "--json")
    assert json.loads(out) == DOCUMENTS[0]


def scanning(server, *results, mode: str = "ids") -> None:
    server.answers[f"POST {NS}/scans"] = (202, {**JOB, **SCAN, "mode": mode})
    server.answers[f"GET {NS}/scans/j1"] = [
        (200, {**JOB, **SCAN, "mode": mode}),
        (200, {**ENDED, **SCAN, "mode": mode}),
    ]
    server.answers[f"GET {NS}/scans/j1/results"] = [(200, result) for result in results]
    server.answers[f"DELETE {NS}/scans/j1"] = (200, {"status": "OK"})


def test_a_scan_waits_prints_its_ids_and_is_deleted(server, layer):
    scanning(server, {"ids": ["a", "b"], "total": 3}, {"ids": ["c"], "total": 3})
    status, out, err = layer("scan", "films", "--filter", '["year","Gte",1990]', "--source", "cache", "--threads", "2")
    assert (status, out) == (DONE, "a\nb\nc\n")
    assert err == "layer scan: 4,000 documents read, from cache\n"
    assert server.asked[0].body == {"mode": "ids", "filters": ["year", "Gte", 1990], "source": "cache", "threads": 2}
    assert (server.asked[-1].method, server.asked[-1].path) == ("DELETE", f"{NS}/scans/j1")


def test_a_scan_of_values(server, layer):
    values = {"values": [{"v": "drama", "n": 1200}, {"v": "war", "n": 3}], "total": 2, "truncated": False}
    scanning(server, values, mode="values")
    _, out, _ = layer("scan", "films", "--values", "genre")
    assert out == "Value  Documents\ndrama      1,200\nwar            3\n"
    assert server.asked[0].body == {"mode": "values", "field": "genre"}
    scanning(server, values, mode="values")
    _, out, _ = layer("scan", "films", "--values", "genre", "--json")
    assert [json.loads(line) for line in out.splitlines()] == values["values"]


def test_a_scan_may_be_left_running(server, layer):
    scanning(server)
    status, out, _ = layer("scan", "films", "--detach", "--json")
    assert status == DONE
    assert json.loads(out) == {**JOB, **SCAN}
    assert [asked.method for asked in server.asked] == ["POST"]


def test_a_scan_that_fails_is_refused_and_deleted(server, layer):
    scanning(server)
    server.answers[f"GET {NS}/scans/j1"] = (200, {**JOB, **SCAN, "status": "failed", "error": "the upstream is away"})
    status, out, err = layer("scan", "films")
    assert (status, out) == (REFUSED, "")
    assert err == "layer scan: the upstream is away\n"
    assert server.asked[-1].method == "DELETE"


def test_a_job_that_does_not_end_in_time_has_the_status_of_a_time_out(server, layer):
    server.answers[f"POST {NS}/warm"] = (202, JOB)
    server.answers[f"GET {NS}/warm-jobs/j1"] = (200, JOB)
    status, _, err = layer("warm", "start", "films", "--wait", "0.05")
    assert status == UNREACHABLE
    assert "job j1 did not end in 0.05 s; it goes on" in err


def test_the_results_of_an_earlier_scan(server, layer):
    scanning(server, {"ids": ["a"], "total": 1})
    status, out, _ = layer("scans", "results", "films", "j1")
    assert (status, out) == (DONE, "a\n")
    assert "DELETE" not in [asked.method for asked in server.asked]


def test_scans_are_listed_shown_and_deleted(server, layer):
    scanning(server)
    server.answers[f"GET {NS}/scans"] = (200, {"scans": [{**ENDED, **SCAN}]})
    _, out, _ = layer("scans", "list", "films")
    assert table(out)[1] == [
        "j1",
        "completed",
        "100%",
        "4,000",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:09Z",
        "–",
        "ids",
    ]
    assert ["Progress", "25%"] in table(layer("scans", "show", "films", "j1")[1])
    status, _, err = layer("scans", "delete", "films", "j1")
    assert (status, err) == (DONE, "layer scans delete: the scan j1 is deleted\n")


COUNT = {"count": 36273, "served_by": "origin", "elapsed_ms": 12}


def test_a_count_is_a_bare_number(server, layer):
    server.answers[f"POST {NS}/scans"] = (200, COUNT)
    status, out, err = layer("count", "films", "--fts", "title", "war peace", "--exhaustive")
    assert (status, out) == (DONE, "36273\n")
    assert err == "layer count: from origin, 12 ms\n"
    assert server.asked[0].body == {
        "mode": "count",
        "fts": {"field": "title", "query": "war peace"},
        "exhaustive": True,
    }
    assert json.loads(layer("count", "films", "--json")[1]) == COUNT


def test_a_count_that_is_not_exact_says_so(server, layer):
    server.answers[f"POST {NS}/scans"] = (200, {**COUNT, "bounded": True, "approximate": True, "timed_out": True})
    status, out, err = layer("count", "films", "--ann", "[1,2]", "--radius", "0.5", "--server-timeout", "3")
    assert (status, out) == (REFUSED, "36273\n")
    assert "at least this, approximate, from origin, 12 ms" in err
    assert server.asked[0].body == {
        "mode": "count",
        "ann": {"vector": [1, 2], "radius": 0.5},
        "timeout_seconds": 3,
    }


@pytest.mark.parametrize(
    "options", [["--ann", "[1]"], ["--radius", "1"], ["--fts", "a", "b", "--ann", "[1]", "--radius", "1"]]
)
def test_selectors_that_contradict_each_other_are_not_sent(server, layer, options):
    assert layer("count", "films", *options)[0] == USAGE
    assert server.asked == []


def test_a_warm_is_waited_for(server, layer):
    server.answers[f"POST {NS}/warm"] = (202, JOB)
    server.answers[f"GET {NS}/warm-jobs/j1"] = [(200, JOB), (200, ENDED)]
    status, out, _ = layer("warm", "start", "films", "--page-size", "500")
    assert status == DONE
    assert ["Status", "completed"] in table(out)
    assert "page_size=500" in server.asked[0].path
    assert json.loads(layer("warm", "start", "films", "--detach", "--json")[1]) == JOB


def test_watching_and_cancelling_take_the_warm_that_runs(server, layer):
    older = {**ENDED, "id": "j0"}
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": [older, JOB]})
    server.answers[f"GET {NS}/warm-jobs/j1"] = (200, ENDED)
    server.answers[f"DELETE {NS}/warm-jobs/j1"] = (200, {"status": "OK"})
    assert layer("warm", "watch", "films")[0] == DONE
    status, _, err = layer("warm", "cancel", "films")
    assert (status, err) == (DONE, "layer warm cancel: the warm j1 is cancelled\n")
    assert len(table(layer("warm", "list", "films")[1])) == 3
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": [older]})
    status, _, err = layer("warm", "cancel", "films")
    assert (status, err) == (REFUSED, "layer warm cancel: no warm of films runs\n")
    server.answers[f"GET {NS}/warm-jobs"] = (200, {"warm_jobs": []})
    assert layer("warm", "watch", "films")[0] == REFUSED


def test_a_snapshot_is_made_listed_and_shown(server, layer):
    server.answers[f"POST {NS}/snapshots"] = (202, {**JOB, **SNAPSHOT, "sha": None})
    server.answers[f"GET {NS}/snapshot-jobs/j1"] = (200, {**ENDED, **SNAPSHOT})
    status, out, _ = layer("snapshot", "create", "films", "genre", "--filter", '["year","Gte",1990]')
    assert status == DONE
    assert ["SHA", "abc1234"] in table(out)
    assert server.asked[0].body == {"field": "genre", "filters": ["year", "Gte", 1990]}
    server.answers[f"GET {NS}/history"] = (
        200,
        [{"watermark_ms": 1767323045000, "sha": "abc1234", "tags": ["nightly"]}],
    )
    _, out, _ = layer("snapshot", "list", "films", "--limit", "5")
    assert table(out)[1] == ["2026-01-02 03:04:05", "1767323045000", "abc1234", '["nightly"]']
    body = {
        "namespace": "films",
        "watermark_ms": 1767323045000,
        "sha": "abc1234",
        "row_count": 36273,
        "fields": [{"name": "genre", "values": [{"v": "drama", "n": 1200}, {"v": "war", "n": 3}]}],
        "fields_skipped": [{"name": "title", "reason": "exceeded_cap", "distinct_observed": 30000, "cap": 10000}],
    }
    server.answers[f"GET {NS}/snapshots/abc1234"] = (200, body)
    _, out, err = layer("snapshot", "show", "films", "abc1234", "--top", "1")
    assert table(out)[-2:] == [["genre", "Documents"], ["drama", "1,200"]]
    assert "genre: 1 more values; --top shows more" in err
    assert "title is left out: 30,000 values, more than 10,000" in err
    assert json.loads(layer("snapshot", "show", "films", "abc1234", "--json")[1]) == body
    assert layer("snapshot", "show", "films", "abc1234", "--field", "nothing")[0] == REFUSED
    server.answers[f"GET {NS}/snapshot-jobs"] = (200, {"snapshot_jobs": [{**ENDED, **SNAPSHOT}]})
    assert table(layer("snapshot", "jobs", "films")[1])[1][-2:] == ["genre", "abc1234"]


SEARCH = {
    "timestamp": "2026-01-02T03:04:05.000Z",
    "timestamp_nanos": 1,
    "namespace": "films",
    "trace_id": "t1",
    "raw_query": "war",
    "query": {"top_k": 10},
    "top_result_ids": ["1", "2"],
    "tags": ["a", "b"],
}
CLICK = {
    "timestamp": "2026-01-02T03:04:06.000Z",
    "timestamp_nanos": 2,
    "trace_id": "t1",
    "namespace": "films",
    "doc_id": "2",
    "tags": [],
    "source": "fetch",
    "served_from": "cache",
}


def test_the_history_of_searches_and_clicks(server, layer):
    server.answers[f"GET {NS}/search-history"] = (200, {"entries": [SEARCH], "next_cursor": None})
    server.answers[f"GET {NS}/clickstream"] = (200, {"events": [CLICK], "next_cursor": None})
    options = ("--tag", "a", "--tag", "b", "--from", "2026-01-01T00:00:00Z", "--trace", "t1", "--limit", "5")
    _, out, _ = layer("history", "search", "films", *options)
    assert table(out)[1] == ["2026-01-02T03:04:05.000Z", "war", '{"top_k":10}', "2", "a b", "t1"]
    asked = server.asked[0].path.replace("%2C", ",").replace("%3A", ":")
    for part in ("tag=a,b", "from=2026-01-01T00:00:00Z", "limit=6", "trace_id=t1"):
        assert part in asked.replace("tags=", "tag=")
    _, out, _ = layer("history", "clicks", "films")
    assert table(out)[1] == ["2026-01-02T03:04:06.000Z", "2", "cache", "–", "t1"]
    assert json.loads(layer("history", "search", "films", "--json")[1]) == SEARCH
    assert json.loads(layer("history", "clicks", "films", "--json")[1]) == CLICK


METRIC = {
    "name": "layer_fetch_duration_seconds",
    "kind": "histogram",
    "family": "fetch",
    "labels": ["namespace"],
    "description": "Time of a fetch.",
    "example_promql": "up",
    "alert": {"summary": "Slow", "expr": "up > 1", "for": "5m"},
}


def test_the_catalog_of_metrics(server, layer):
    server.answers["GET /v2/metrics/catalog"] = (200, {"version": "1", "entries": [METRIC]})
    server.answers["GET /v2/metrics/catalog/layer_fetch_duration_seconds"] = (200, METRIC)
    _, out, _ = layer("metrics", "catalog", "--family", "fetch")
    assert table(out)[1] == ["layer_fetch_duration_seconds", "histogram", "fetch", "Time of a fetch."]
    assert server.asked[0].path == "/v2/metrics/catalog?family=fetch"
    rows = table(layer("metrics", "show", "layer_fetch_duration_seconds")[1])
    assert ["Alert waits", "5m"] in rows
    assert json.loads(layer("metrics", "catalog", "--json")[1]) == METRIC


def prometheus(kind: str, result) -> dict:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def test_promql_is_asked_at_a_time_and_over_a_range(server, layer):
    vector = prometheus("vector", [{"metric": {"__name__": "up", "job": "g"}, "value": [1767323045.0, "1"]}])
    server.answers["GET /v2/metrics/query"] = (200, vector)
    _, out, _ = layer("metrics", "query", "up")
    assert out == 'Series       Time (UTC)           Value\nup{job="g"}  2026-01-02 03:04:05      1\n'
    assert json.loads(layer("metrics", "query", "up", "--json")[1]) == vector
    matrix = prometheus("matrix", [{"metric": {}, "values": [[1, "2"], [2, "3"]]}])
    server.answers["GET /v2/metrics/query_range"] = (200, matrix)
    _, out, _ = layer("metrics", "query", "sum(up)", "--start", "1", "--end", "2", "--step", "1s")
    assert [row[-1] for row in table(out)[1:]] == ["2", "3"]
    assert "start=1&end=2&step=1s" in server.asked[-1].path
    server.answers["GET /v2/metrics/query"] = (200, prometheus("scalar", [5, "7"]))
    assert table(layer("metrics", "query", "7")[1])[1][-1] == "7"
    assert layer("metrics", "query", "up", "--end", "5")[0] == USAGE
    assert layer("metrics", "query", "up", "--start", "1", "--time", "5")[0] == USAGE


def test_a_refusal_of_the_gateway_is_told_with_its_word_and_its_message(server, layer):
    server.answers[f"POST {NS}/scans"] = (
        422,
        {"status": "error", "error": "validation_error", "message": "filters: bad"},
    )
    assert layer("count", "films") == (REFUSED, "", "layer count: 422 validation_error: filters: bad\n")
    status, out, err = layer("count", "films", "--json")
    assert (status, out) == (REFUSED, "")
    told = {"error": "validation_error", "message": "filters: bad", "status": 422, "request_id": None}
    assert json.loads(err) == told


def test_a_refusal_of_the_upstream_is_told_in_its_words(server, layer):
    server.answers[f"POST {NS}/query"] = (404, {"status": "error", "error": "namespace 'films' was not found"})
    assert layer("query", "films", "--order-by", "id")[2] == "layer query: 404 namespace 'films' was not found\n"


def test_without_a_key_a_refusal_says_which_variable_holds_it(server, layer, monkeypatch):
    monkeypatch.delenv("LAYER_GATEWAY_API_KEY")
    server.answers[f"GET {NS}/metadata"] = (401, {"status": "error", "error": "unauthorized", "message": "no key"})
    status, _, err = layer("namespaces", "show", "films")
    assert status == REFUSED
    assert "no key was sent; LAYER_GATEWAY_API_KEY holds the one that the gateway wants" in err


def test_a_gateway_that_is_not_there_has_a_status_of_its_own(layer):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        status, out, err = layer("count", "films", "--url", url, "--retries", "0")
    assert (status, out) == (UNREACHABLE, "")
    assert "no connection" in err


def test_an_answer_that_does_not_come_in_time_has_the_same_status(layer):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert layer("count", "films", "--url", url, "--retries", "0", "--timeout", "0.1")[0] == UNREACHABLE


def test_the_namespace_is_completed_from_the_gateway(server, monkeypatch, capsys):
    server.answers["GET /v1/namespaces"] = (200, {"namespaces": [{"id": "films"}, {"id": "fines"}]})
    for name, value in {"COMP_WORDS": "layer query fi", "COMP_CWORD": "2", "_LAYER_COMPLETE": "bash_complete"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAYER_GATEWAY_URL", server.url)
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out == "plain,films\nplain,fines\n"
    assert "prefix=fi" in server.asked[0].path
    monkeypatch.setenv("LAYER_GATEWAY_URL", "http://127.0.0.1:1")
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out.strip() == ""


def test_turbopuffer_answers_in_the_gateways_place_when_that_is_asked_for(server, layer, monkeypatch):
    answer = (200, {"rows": [{"id": 1}]})
    server.answers = {f"POST {NS}/query": answer, "POST /v1/namespaces/films/query": answer}
    monkeypatch.setenv("TURBOPUFFER_API_URL", server.url)
    monkeypatch.setenv("TURBOPUFFER_API_KEY", "key-of-the-upstream")
    arguments = ("query", "films", "--order-by", "id", "--url", "http://127.0.0.1:1", "--retries", "0")
    assert layer(*arguments)[0] == UNREACHABLE
    assert server.asked == []
    status, out, err = layer(*arguments, "--fallback")
    assert (status, out) == (DONE, "id\n1\n")
    assert "answered by Turbopuffer itself" in err
    assert server.asked[0].headers["authorization"] == "Bearer key-of-the-upstream"
    assert "key-of-the-upstream" not in out + err
