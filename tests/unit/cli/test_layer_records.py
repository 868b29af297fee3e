"""`layer history` and `metrics`, what is told of failures, and completion from the gateway."""

import json
import socket

import pytest
from layer_server import NS, table

from hevlayer.cli.layer.app import run
from hevlayer.cli.layer.exits import DONE, REFUSED, UNREACHABLE, USAGE

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
