"""`layer namespaces`, `query` and `fetch`: what they ask the gateway, what they print, and their exit statuses."""

import json
import re
import sys

import pytest
from layer_server import KEY, NS, table

from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, USAGE

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
