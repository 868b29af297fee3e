"""URLs, authentication, compression and the statuses that come before any namespace is looked at."""

import contextlib
import gzip
import json
from dataclasses import replace
from urllib.parse import urljoin

import pytest
from contract_support import Api

ROW = {"id": 1, "vector": [0.1, 0.2], "title": "text"}
INVALID_NAME = "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"


@pytest.fixture
def namespace(api, ns):
    api.write(ns, upsert_rows=[ROW], distance_metric="cosine_distance")
    return ns


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic dXNlcg==", "tpuf_key"])
def test_a_bearer_is_required(api, authorization):
    answer = api.call("GET", "/v1/namespaces", headers={"authorization": authorization})
    assert answer.status == 401
    assert answer.error


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v3/namespaces"),
        ("GET", "/v2/namespaces/a/nothing"),
        ("POST", "/v2/namespaces/a/query/deeper"),
    ],
)
def test_an_unknown_route_is_404(api, method, path):
    answer = api.call(method, path)
    assert answer.status == 404
    assert answer.json()["status"] == "error"


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v2/namespaces/a"), ("DELETE", "/v1/namespaces/a/schema")])
def test_an_unknown_method_is_refused(api, method, path):
    answer = api.call(method, path)
    assert answer.status == api.target.status("a method that a known path does not have")
    assert answer.json()["status"] == "error"


def test_head_is_404_without_a_body(api, namespace):
    answer = api.call("HEAD", f"/v1/namespaces/{namespace}")
    assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a%20b", INVALID_NAME),
        ("a%2Fb", INVALID_NAME),
        ("%C3%A7", INVALID_NAME),
        ("a:b", INVALID_NAME),
        ("n" * 129, f"Invalid URL: Namespace `{'n' * 129}` is too long, limit is currently 128 characters"),
    ],
)
@pytest.mark.parametrize(
    ("method", "route", "body"),
    [
        ("POST", "/v2/namespaces/{}", {"upsert_rows": [ROW]}),
        ("POST", "/v2/namespaces/{}/query", {"rank_by": ["id", "asc"], "limit": 1}),
        ("GET", "/v1/namespaces/{}/schema", None),
    ],
)
def test_a_bad_name_is_refused_as_plain_text(api, name, text, method, route, body):
    answer = api.call(method, route.format(name), body)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.decode() == text


def test_the_longest_name_and_every_character_work(api):
    name = ("aZ09-_." * 19)[:128]
    api.write(name, upsert_rows=[{"id": 1}])
    assert api.ids(name) == [1]
    assert api.ok("DELETE", f"/v2/namespaces/{name}") == {"status": "OK"}


def test_a_percent_encoded_name_is_the_same_name(api, namespace):
    encoded = "".join(f"%{byte:02x}" for byte in namespace.encode())
    assert api.ids(encoded) == [1]


def test_a_region_in_front_is_ignored(api, target, namespace):
    with contextlib.closing(Api(replace(target, base_url=urljoin(target.base_url, "/aws-eu-west-1")))) as regional:
        assert regional.ids(namespace) == [1]


@pytest.mark.parametrize("query", ["?stainless_overload=multiQuery", "?unknown=1&unknown=2", "?"])
def test_unknown_query_parameters_are_ignored(api, namespace, query):
    answer = api.call("POST", f"/v2/namespaces/{namespace}/query{query}", {"rank_by": ["id", "asc"], "limit": 1})
    assert answer.status == 200


@pytest.mark.parametrize("content_type", ["application/octet-stream", "text/plain", None])
def test_the_content_type_does_not_matter(api, namespace, content_type):
    body = {"rank_by": ["id", "asc"], "limit": 1}
    answer = api.call("POST", f"/v2/namespaces/{namespace}/query", body, headers={"content-type": content_type})
    assert answer.status == 200
    answer = api.call("GET", f"/v1/namespaces/{namespace}/schema", b"", headers={"content-type": content_type})
    assert answer.status == 200


def test_answers_are_json_with_a_length(api, namespace):
    answer = api.call("GET", f"/v2/namespaces/{namespace}/metadata")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_gzip_request_is_understood(api, ns):
    body = gzip.compress(json.dumps({"upsert_rows": [{"id": i, "text": "x" * 100} for i in range(100)]}).encode())
    answer = api.call("POST", f"/v2/namespaces/{ns}", body, headers={"content-encoding": "gzip"})
    assert answer.status == 200, answer.body
    assert len(api.ids(ns)) == 100


def test_a_chunked_request_is_understood(api, ns):
    text = json.dumps({"upsert_rows": [{"id": i, "text": "x" * 100} for i in range(1000)]}).encode()
    pieces = (text[start : start + 1000] for start in range(0, len(text), 1000))
    assert api.call("POST", f"/v2/namespaces/{ns}", pieces).status == 200
    assert len(api.ids(ns)) == 1000


def test_a_body_of_many_megabytes_is_understood(api, ns):
    rows = [{"id": i, "blob": "y" * 1_000_000} for i in range(24)]
    api.write(ns, upsert_rows=rows, schema={"blob": {"type": "string", "filterable": False}})
    answer = api.call(
        "POST", f"/v2/namespaces/{ns}/query", {"rank_by": ["id", "asc"], "limit": 100, "include_attributes": True}
    )
    assert answer.json()["rows"] == rows


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b'{"upsert_rows":[]}')[:-6], b""])
def test_broken_gzip_is_a_400(api, ns, body):
    answer = api.call("POST", f"/v2/namespaces/{ns}", body, headers={"content-encoding": "gzip"})
    assert answer.status == 400
    assert api.call("GET", f"/v1/namespaces/{ns}/schema").status == 404


@pytest.mark.parametrize(
    ("accept_encoding", "rows", "encoding"),
    [
        ("gzip", 200, "gzip"),
        ("br;q=1, gzip;q=0.5", 200, "gzip"),
        ("gzip", 1, None),
        ("identity", 200, None),
        ("gzip;q=0", 200, None),
        (None, 200, None),
    ],
)
def test_answers_are_compressed_only_when_asked_and_large(api, ns, accept_encoding, rows, encoding):
    api.write(ns, upsert_rows=[{"id": i, "text": "x" * 100} for i in range(rows)])
    # http.client would add a header of its own.
    headers = {"accept-encoding": accept_encoding or "identity"}
    body = {"rank_by": ["id", "asc"], "limit": 1000, "include_attributes": True}
    answer = api.call("POST", f"/v2/namespaces/{ns}/query", body, headers=headers)
    assert answer.headers.get("content-encoding") == encoding
    assert len(json.loads(answer.plain())["rows"]) == rows


@pytest.mark.parametrize("route", ["", "/query"])
@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"\xff\xfe", b"nul"])
def test_malformed_json_is_a_400(api, namespace, route, body):
    message = api.refused(400, "POST", f"/v2/namespaces/{namespace}{route}", body)
    assert message.startswith("Failed to parse the request body as JSON: ")


MISSING = [
    ("GET", "/v1/namespaces/{}/schema", None),
    ("GET", "/v1/namespaces/{}/metadata", None),
    ("GET", "/v2/namespaces/{}/metadata", None),
    ("PATCH", "/v1/namespaces/{}/metadata", {"read_only": True}),
    ("GET", "/v1/namespaces/{}/hint_cache_warm", None),
    ("POST", "/v1/namespaces/{}/_debug/recall", {}),
    ("DELETE", "/v2/namespaces/{}", None),
    ("POST", "/v2/namespaces/{}/query", {"rank_by": ["id", "asc"], "limit": 1}),
    ("POST", "/v2/namespaces/{}/query", {"queries": [{"rank_by": ["id", "asc"], "limit": 1}]}),
    ("POST", "/v2/namespaces/{}/explain_query", {"rank_by": ["id", "asc"], "limit": 1}),
]


@pytest.mark.parametrize(("method", "path", "body"), MISSING)
def test_a_missing_namespace_is_404(api, ns, method, path, body):
    assert api.refused(404, method, path.format(ns), body) == f"🤷 namespace '{ns}' was not found"
