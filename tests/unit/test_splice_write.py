# ruff: noqa: E501  # a body and what becomes of it read best side by side
"""Write bodies, shape by shape."""

import json
import threading
from pathlib import Path

import pytest
from splice_calls import refusal, stamped

from hevlayer.kernels.reference.shards import shard_of
from hevlayer.kernels.splice import SHARD_ATTRIBUTE, STAMP_ATTRIBUTE, SpliceError, WriteScan, id_key, uuid_key

S = b'"_hevlayer_upserted_at":77'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"upsert_rows":[{"id":1}]}', b'{"upsert_rows":[{"id":1,%b}]}' % S),
        (
            b'{"patch_rows":[{"id":1, "a":{"id":2} }, {"id":"x"}]}',
            b'{"patch_rows":[{"id":1, "a":{"id":2} ,%b}, {"id":"x",%b}]}' % (S, S),
        ),
        (b'{"upsert_rows":[{"_hevlayer_upserted_at":{"x":[1]},"id":1}]}', b'{"upsert_rows":[{%b,"id":1}]}' % S),
        (
            b'{"upsert_rows":[{"\\u005fhevlayer_upserted_at":1,"id":1,"_hevlayer_upserted_at":2}]}',
            b'{"upsert_rows":[{"\\u005fhevlayer_upserted_at":77,"id":1,%b}]}' % S,
        ),
        (b'{"upsert_rows":[{}]}', b'{"upsert_rows":[{%b}]}' % S),
        (
            b'{"upsert_columns":{"id":[1,2],"a":[3,4]}}',
            b'{"upsert_columns":{"id":[1,2],"a":[3,4],"_hevlayer_upserted_at":[77,77]}}',
        ),
        (
            b'{"patch_columns":{"_hevlayer_upserted_at":[],"id":[1,2]}}',
            b'{"patch_columns":{"_hevlayer_upserted_at":[77,77],"id":[1,2]}}',
        ),
        (b'{"upsert_columns":{"id":[]}}', b'{"upsert_columns":{"id":[],"_hevlayer_upserted_at":[]}}'),
        (
            b'{"patch_by_filter":{"filters":["a","Eq",1],"patch":{"b":1}}}',
            b'{"patch_by_filter":{"filters":["a","Eq",1],"patch":{"b":1,%b}}}' % S,
        ),
        (b'{"patch_by_filter":{"patch":{ }}}', b'{"patch_by_filter":{"patch":{ %b}}}' % S),
        (b'{"\\u0075psert_rows":[{"id":1}]}', b'{"\\u0075psert_rows":[{"id":1,%b}]}' % S),
    ],
)
def test_rows_are_stamped(body: bytes, expected: bytes) -> None:
    assert stamped(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' { "deletes" : [1, "a"] } ',
        b'{"delete_by_filter":["a","Eq",1],"copy_from_namespace":"x"}',
        b'{"upsert_rows":{"id":1}}',
        b'{"upsert_rows":null,"patch_columns":"x","patch_by_filter":{"patch":null}}',
        b'{"upsert_rows":[1,null,"x"]}',
        b'{"upsert_columns":{"a":[1]}}',
        b'{"upsert_columns":{"id":null,"_hevlayer_upserted_at":[1]}}',
        b'{"Upsert_rows":[{"id":1}],"unknown":{"upsert_rows":[{"id":1}]}}',
        b"3",
        b'"upsert_rows"',
    ],
)
def test_what_has_no_rows_goes_up_as_it_came(body: bytes) -> None:
    assert stamped(body) == body


def test_a_body_without_edits_is_the_very_object() -> None:
    body = b'{"deletes":[1,2]}'
    assert stamped(body) is body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"upsert_rows":[{"id":1},{"id":2,"_hevlayer_x":1}]}',
            "upsert_rows[1]: `_hevlayer_x` is reserved: names that begin with `_hevlayer_` cannot be written",
        ),
        (
            b'{"patch_columns":{"id":[1],"_hevlayer_shard":[1]}}',
            "patch_columns: `_hevlayer_shard` is reserved: names that begin with `_hevlayer_` cannot be written",
        ),
        (
            b'{"patch_by_filter":{"patch":{"\\u005fhevlayer_":1}}}',
            "patch_by_filter.patch: `_hevlayer_` is reserved: names that begin with `_hevlayer_` cannot be written",
        ),
        (
            b'{"schema":{"_hevlayer_upserted_at":{"drop":true}}}',
            "schema: `_hevlayer_upserted_at` is reserved: names that begin with `_hevlayer_` cannot be written",
        ),
        (b'{"upsert_rows":[[1,2]]}', "upsert_rows[0]: expected an object, not an array"),
        (b'{"upsert_columns":[[1]]}', "upsert_columns: expected an object, not an array"),
        (b'{"patch_by_filter":[["a","Eq",1],{}]}', "patch_by_filter: expected an object, not an array"),
        (b'[[{"id":1}]]', "the body must be a JSON object, not an array"),
        (b'{"upserts":[],"deletes":[]}', "`upserts`, `patches` and `deletes` are all empty"),
        (b'{"patches":[]}', "`upserts`, `patches` and `deletes` are all empty"),
        (b'{"patches":[{"id":1,"vector":null}]}', "patches[0].vector: vectors cannot be patched: upsert the whole row"),
        (b'{"upserts":[{"id":1,"attributes":{"id":2}}]}', "upserts[0].attributes: an attribute cannot be called `id`"),
        (
            b'{"upserts":[{"id":1,"attributes":{"vector":null}}]}',
            "upserts[0].attributes: an attribute cannot be called `vector`",
        ),
        (b'{"upserts":[{"id":1},{"attributes":{"a":2}}]}', "upserts[1]: `id` is required"),
        (b'{"upserts":[{"id":null}]}', "upserts[0].id: expected a string or an unsigned integer"),
        (b'{"upserts":[{"id":1,"title":"x"}]}', "upserts[0].title: unknown key: attributes stand in `attributes`"),
        (b'{"upserts":[7]}', "upserts[0]: expected an object"),
        (b'{"upserts":{"id":7}}', "upserts: expected an array of rows"),
        (b'{"patches":[{"id":7,"attributes":[1]}]}', "patches[0].attributes: expected an object"),
        (
            b'{"patch_rows":[],"upserts":[{"id":1}]}',
            "`upserts` and `patch_rows` cannot be in one body: use `upsert_rows`, `patch_rows` and `deletes`, or `upserts`, `patches` and `deletes`",
        ),
    ],
)
def test_a_broken_rule_is_named(body: bytes, message: str) -> None:
    assert refusal(body) == ("validation_error", message)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"upserts":[{"id":"a","vector":[0.1, 2],"attributes":{"t":1,"u":[ ]}}],"deletes":[4]}',
            b'{"upsert_rows":[{"id":"a","vector":[0.1, 2],"t":1,"u":[ ],%b}],"deletes":[4],"distance_metric":"cosine_distance"}'
            % S,
        ),
        (b'{"upserts":[{"attributes":{"t":1},"id":2}]}', b'{"upsert_rows":[{"t":1,"id":2,%b}]}' % S),
        (b'{"upserts":[{"attributes": {} , "id":2}]}', b'{"upsert_rows":[{"id":2,%b}]}' % S),
        (b'{"upserts":[{"id":2 ,"attributes":null}]}', b'{"upsert_rows":[{"id":2,%b}]}' % S),
        (b'{"upserts":[{"id":2,"attributes":{"_hevlayer_upserted_at":1}}]}', b'{"upsert_rows":[{"id":2,%b}]}' % S),
        (b'{"upserts":[{"_hevlayer_upserted_at":1,"id":2}]}', b'{"upsert_rows":[{"id":2,%b}]}' % S),
        (b'{"patches":[{"id":2,"attributes":{"a":null}}],"upserts":[ ]}', b'{"patch_rows":[{"id":2,"a":null,%b}]}' % S),
        (b'{"upserts":null,"deletes":[4]}', b'{"deletes":[4]}'),
        (b'{"upserts":[],"deletes":[4]}', b'{"deletes":[4]}'),
        (
            b'{"distance_metric":null,"upserts":[{"id":1,"vector":"AAAA"}]}',
            b'{"distance_metric":"cosine_distance","upsert_rows":[{"id":1,"vector":"AAAA",%b}]}' % S,
        ),
        (
            b'{"distance_metric":"euclidean_squared","upserts":[{"id":1,"vector":[1]}]}',
            b'{"distance_metric":"euclidean_squared","upsert_rows":[{"id":1,"vector":[1],%b}]}' % S,
        ),
    ],
)
def test_the_layer_dialect_becomes_native(body: bytes, expected: bytes) -> None:
    assert stamped(body, "cosine_distance") == expected


def test_patch_takes_patches_in_both_dialects() -> None:
    assert b'"patch_rows"' in stamped(b'{"patches":[{"id":1,"attributes":{"a":1}}]}', patch=True)
    assert S in stamped(b'{"patch_rows":[{"id":1,"a":1}]}', patch=True)
    assert refusal(b'{"upserts":[{"id":1}]}', patch=True)[1] == "`upserts` cannot be sent with PATCH: use POST"
    assert (
        refusal(b'{"patches":[{"id":1}],"deletes":[2]}', patch=True)[1]
        == "`deletes` cannot be sent with PATCH: use POST"
    )
    assert refusal(b'{"schema":{}}', patch=True)[0] == "validation_error"


def test_facts_of_a_write() -> None:
    scan = WriteScan(
        b'{"upsert_rows":[{"id":1},{"id":"a"}],"patch_columns":{"id":[2]},"deletes":[3,1,"0F8FAD5B-D9CB-469F-A165-70867728950E"],'
        b'"upsert_condition":["a","Eq",null],"schema":{"t":"string","u":{"drop":true}}}'
    )
    assert (scan.dialect, scan.upserts, scan.patches, scan.deletes) == ("native", 2, 1, 3)
    assert (scan.conditional, scan.drops_attribute, scan.by_filter, scan.exclusive) == (True, True, False, None)
    assert scan.writes_rows
    assert scan.ids_known
    upper = "0F8FAD5B-D9CB-469F-A165-70867728950E"
    assert scan.ids() == [id_key(1), id_key("a"), id_key(2), id_key(3), id_key(upper), id_key(upper.lower())]
    assert uuid_key(upper) == id_key(upper.lower())


@pytest.mark.parametrize("odd", [b"1.0", b"1e3", b"-1", b"18446744073709551616", b"null", b"[1]", b'"\\ud800"'])
def test_an_id_that_cannot_be_read_is_told(odd: bytes) -> None:
    for body in (b'{"upsert_rows":[{"id":%b}]}', b'{"deletes":[%b]}', b'{"upsert_columns":{"id":[%b]}}'):
        scan = WriteScan(body % odd)
        assert not scan.ids_known
        assert scan.ids() == []


def test_a_key_that_is_not_known_may_change_any_row() -> None:
    for body in (b'{"increment_rows":[{"id":1}]}', b'{"upsert_rows":[{"id":1}],"truncate":true}'):
        scan = WriteScan(body)
        assert scan.writes_rows
        assert not scan.ids_known
    for body in (b'{"schema":{},"encryption":{"mode":"default"}}', b'{"create_namespace":true,"increment_rows":null}'):
        assert not WriteScan(body).writes_rows
    known = WriteScan(b'{"upsert_rows":[{"id":1}],"return_affected_ids":true,"disable_backpressure":true}')
    assert known.ids_known


@pytest.mark.parametrize("body", [b'{"upsert_rows":"x"}', b'{"deletes":{}}', b'{"upsert_columns":{"id":"x"}}'])
def test_odd_types_count_as_writes_of_unknown_rows(body: bytes) -> None:
    scan = WriteScan(body)
    assert scan.writes_rows
    assert not scan.ids_known


def test_a_file_is_scanned_and_streamed(tmp_path: Path) -> None:
    rows = [{"id": at, "vector": [0.125] * 64, "t": f"row {at}"} for at in range(500)]
    body = json.dumps({"upsert_rows": rows, "upsert_columns": {"id": list(range(1000, 3000))}}).encode()
    path = tmp_path / "body"
    path.write_bytes(body)
    scan = WriteScan.open(str(path))
    whole = stamped(body)
    assert scan.rendered_length(77) == len(whole)
    chunks = [scan.render_chunk(77, at, 4096) for at in range(0, len(whole), 4096)]
    assert b"".join(chunks) == whole
    assert all(len(chunk) == 4096 for chunk in chunks[:-1])
    assert scan.render_chunk(77, 1234, 100) == whole[1234:1334]
    assert scan.render_chunk(77, len(whole), 10) == b""
    assert scan.render_chunk(77, len(whole) + 5, 10) == b""
    assert scan.ids() == WriteScan(body).ids()
    with pytest.raises(TypeError):
        scan.render(77)


def test_a_file_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WriteScan.open(str(tmp_path / "none"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(SpliceError) as raised:
        WriteScan.open(str(tmp_path / "empty"))
    assert raised.value.code == "bad_json"


def test_one_scan_serves_threads() -> None:
    scan = WriteScan(b'{"upsert_rows":[%b]}' % b",".join(b'{"id":%d}' % at for at in range(5000)))
    whole = scan.render(77)
    seen: list[bytes] = []

    def stream() -> None:
        seen.append(b"".join(scan.render_chunk(77, at, 9999) for at in range(0, len(whole), 9999)))

    threads = [threading.Thread(target=stream) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [whole] * 4


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"upsert_rows": [{"id": 1}, {"id": "abc", "a": 1}]}, "upsert_rows"),
        ({"patch_rows": [{"id": 1, "_hevlayer_upserted_at": 3}]}, "patch_rows"),
        ({"upserts": [{"id": "abc", "attributes": {"a": 1}}, {"id": "x"}]}, "upsert_rows"),
        ({"patches": [{"id": "abc", "attributes": {"_hevlayer_upserted_at": 3}}]}, "patch_rows"),
    ],
)
def test_rows_of_a_sharded_namespace_carry_their_shard(body, expected):
    rows = json.loads(WriteScan(json.dumps(body).encode(), shards=16).render(5))[expected]
    assert [row[SHARD_ATTRIBUTE] for row in rows] == [shard_of(row["id"], 16) for row in rows]
    assert {row[STAMP_ATTRIBUTE] for row in rows} == {5}


@pytest.mark.parametrize("key", ["upsert_columns", "patch_columns"])
def test_columns_of_a_sharded_namespace_carry_their_shards(key):
    ids = ["a", "0F8FAD5BD9CB469FA16570867728950E", "", "é"]
    body = json.dumps({key: {"id": ids, "n": [1, 2, 3, 4]}}).encode()
    columns = json.loads(WriteScan(body, shards=256).render(5))[key]
    assert columns[SHARD_ATTRIBUTE] == [shard_of(value, 256) for value in ids]
    assert json.loads(WriteScan(b'{"upsert_columns":{"id":[]}}', shards=4).render(5)) == {
        "upsert_columns": {"id": [], STAMP_ATTRIBUTE: []}
    }


def test_what_names_no_rows_gets_no_shard():
    body = b'{"patch_by_filter":{"filters":["a","Eq",1],"patch":{"a":2}},"deletes":[1]}'
    assert SHARD_ATTRIBUTE.encode() not in WriteScan(body, shards=4).render(5)


def test_a_caller_s_shard_is_refused_in_a_sharded_namespace_too():
    with pytest.raises(SpliceError, match="_hevlayer_shard"):
        WriteScan(b'{"upsert_rows":[{"id":1,"_hevlayer_shard":0}]}', shards=4)
