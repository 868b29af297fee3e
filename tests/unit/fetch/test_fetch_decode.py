"""Ids, projections and batch bodies: pure tables."""

import pytest

from hevlayer.errors import LayerError, ValidationError
from hevlayer.gateway.fetch.decode import (
    BATCH_IDS_MAX,
    INCLUDE_NAME_BYTES_MAX,
    INCLUDE_NAMES_MAX,
    PLAIN,
    PROJECTIONS_MAX,
    Projections,
    read_batch,
    read_id,
)
from hevlayer.gateway.fetch.reader import query_body
from hevlayer.gateway.fetch.routes import batch_result, render_batch
from hevlayer.kernels.doccache import DocRows
from hevlayer.wire.bodies import MalformedJsonError

UUID_TEXT = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    ("text", "id_type", "key", "json"),
    [
        ("0", "uint", b"\x01" + bytes(8), b"0"),
        ("18446744073709551615", "uint", b"\x01" + b"\xff" * 8, b"18446744073709551615"),
        ("5", "string", b"\x025", b'"5"'),
        ("", "string", b"\x02", b'""'),
        ('a/b "é', "string", '\x02a/b "é'.encode(), '"a/b \\"é"'.encode()),
        (UUID_TEXT, "string", b"\x02" + UUID_TEXT.encode(), b'"%b"' % UUID_TEXT.encode()),
        (UUID_TEXT.upper(), "string", b"\x02" + UUID_TEXT.upper().encode(), b'"%b"' % UUID_TEXT.upper().encode()),
        (UUID_TEXT.upper(), "uuid", b"\x02" + UUID_TEXT.encode(), b'"%b"' % UUID_TEXT.encode()),
        (UUID_TEXT.replace("-", ""), "uuid", b"\x02" + UUID_TEXT.encode(), b'"%b"' % UUID_TEXT.encode()),
        ("{" + UUID_TEXT + "}", "uuid", b"\x02" + UUID_TEXT.encode(), b'"%b"' % UUID_TEXT.encode()),
        ("urn:uuid:" + UUID_TEXT, "uuid", b"\x02" + UUID_TEXT.encode(), b'"%b"' % UUID_TEXT.encode()),
    ],
)
def test_ids_are_read_by_the_namespaces_type(text: str, id_type: str, key: bytes, json: bytes) -> None:
    found = read_id(text, id_type)
    assert found is not None
    assert (found.key, found.json) == (key, json)


@pytest.mark.parametrize(
    ("text", "id_type"),
    [
        ("-1", "uint"),
        ("05", "uint"),
        ("+5", "uint"),
        ("5.0", "uint"),
        ("5\n", "uint"),
        ("٥", "uint"),
        ("18446744073709551616", "uint"),
        ("a", "uint"),
        ("", "uint"),
        ("a", "uuid"),
        (UUID_TEXT + "0", "uuid"),
        (UUID_TEXT.replace("-", "", 1), "uuid"),
        (UUID_TEXT + "\n", "uuid"),
        ("\ud800", "string"),
    ],
)
def test_what_no_id_of_the_type_reads_as(text: str, id_type: str) -> None:
    assert read_id(text, id_type) is None


ROWS = DocRows(b'{"rows":[{"id":"x","a":1,"b,c":2,"vector":[1]}]}', ["vector"])


@pytest.mark.parametrize(
    ("query", "attributes"),
    [
        ("", b'{"a":1,"b,c":2}'),
        ("other=1", b'{"a":1,"b,c":2}'),
        ("include_attributes=", b'{"a":1,"b,c":2}'),
        ("include_attributes=a", b'{"a":1}'),
        ("include_attributes=a,vector", b'{"a":1,"vector":[1]}'),
        ("include_attributes=a%2Cvector", b'{"a":1,"vector":[1]}'),
        ("x=1&include_attributes=a&include_attributes=vector", b'{"a":1,"vector":[1]}'),
        ("include_attributes=none", b"{}"),
        ("include_attributes=,", b"{}"),
    ],
)
def test_the_query_string_chooses_attributes(query: str, attributes: bytes) -> None:
    projection = Projections().of_query(query)
    assert ROWS.document(b"\x02x", projection) == b'{"id":"x","attributes":%b}' % attributes


def test_projections_are_kept_within_a_bound() -> None:
    projections = Projections()
    assert projections.of_query("include_attributes=a") is projections.of_query("include_attributes=a")
    for number in range(PROJECTIONS_MAX + 10):
        projections.of_query(f"include_attributes=a{number}")
    assert len(projections._by_query) <= PROJECTIONS_MAX
    assert projections.of_query("") is PLAIN


@pytest.mark.parametrize(
    "query", ["include_attributes=" + "a" * (INCLUDE_NAME_BYTES_MAX + 1), "include_attributes=" + "a," * 5000]
)
def test_a_query_string_out_of_bounds_is_refused(query: str) -> None:
    with pytest.raises(ValidationError, match="include_attributes"):
        Projections().of_query(query)


def test_a_batch_body() -> None:
    batch = read_batch(b'{"ids":["a",5,18446744073709551615],"include_attributes":["b,c"],"more":1}')
    assert batch.ids == ["a", "5", "18446744073709551615"]
    assert ROWS.document(b"\x02x", batch.projection) == b'{"id":"x","attributes":{"b,c":2}}'
    assert read_batch(b'{"ids":[],"include_attributes":null}').ids == []
    assert ROWS.document(b"\x02x", read_batch(b'{"ids":[],"include_attributes":[]}').projection) == (
        b'{"id":"x","attributes":{}}'
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "the body must be an object"),
        (b"{}", "ids: required"),
        (b'{"ids":"a"}', "ids: required, a list"),
        (b'{"ids":["a",null]}', r"ids\[1\]"),
        (b'{"ids":[true]}', r"ids\[0\]"),
        (b'{"ids":[-1]}', r"ids\[0\]"),
        (b'{"ids":[1.5]}', r"ids\[0\]"),
        (b'{"ids":[{}]}', r"ids\[0\]"),
        (b'{"ids":[%b]}' % b",".join([b"1"] * (BATCH_IDS_MAX + 1)), f"at most {BATCH_IDS_MAX}"),
        (b'{"ids":[],"include_attributes":"a"}', "include_attributes: a list"),
        (b'{"ids":[],"include_attributes":true}', "include_attributes: a list"),
        (b'{"ids":[],"include_attributes":[1]}', "include_attributes: a list"),
        (b'{"ids":[],"include_attributes":["%b"]}' % (b"a" * 129), "at most 128 bytes"),
        (b'{"ids":[],"include_attributes":[%b]}' % b",".join([b'"a"'] * (INCLUDE_NAMES_MAX + 1)), "at most 1024 names"),
    ],
)
def test_a_bad_batch_names_the_field(body: bytes, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read_batch(body)


@pytest.mark.parametrize("body", [b"", b"{", b'{"ids":["\xff"]}', b"nonsense"])
def test_a_batch_that_is_not_json(body: bytes) -> None:
    with pytest.raises(MalformedJsonError) as caught:
        read_batch(body)
    error: LayerError = caught.value
    assert error.status == 400


@pytest.mark.parametrize(
    ("ids", "absent", "failed", "result"),
    [
        (0, 0, False, "hit"),
        (2, 0, False, "hit"),
        (2, 1, False, "partial"),
        (2, 2, False, "miss"),
        (2, 1, True, "miss-on-error"),
        (2, 2, True, "miss-on-error"),
    ],
)
def test_the_header_is_the_worst_case(ids: int, absent: int, failed: bool, result: str) -> None:
    assert batch_result(ids, absent, failed=failed) == result


def test_a_batch_answer_keeps_the_order_and_each_document_once() -> None:
    body = render_batch(
        {"b": b"kb", "x": None, "B": b"kb", "a": b"ka", "m": b"km"}, {b"kb": b"1", b"ka": b"2", b"km": None}, "uuid"
    )
    assert b"".join(body) == b'{"documents":[1,2],"missing":["x","m"],"id_type":"uuid"}'
    assert b"".join(render_batch({}, {}, "uint")) == b'{"documents":[],"missing":[],"id_type":"uint"}'


def test_the_upstream_query() -> None:
    one, two = read_id("5", "uint"), read_id('a"', "string")
    assert one is not None
    assert two is not None
    assert query_body([one, two]) == (
        b'{"rank_by":["id","asc"],"limit":2,"filters":["id","In",[5,"a\\""]],"include_attributes":true,'
        b'"consistency":{"level":"strong"}}'
    )
