"""Answers on their way back."""

import pytest

from hevlayer.kernels.splice import SpliceError, layer_results, strip_rows, strip_schema, top_level


def test_layer_results_stand_beside_rows() -> None:
    body = b'{"rows":[{"$dist":0.5,"a":1,"id":"x","b":[1, 2]},{"id":2}],"billing":{}}'
    expected = b',"results":[{"id":"x","dist":0.5,"attributes":{"a":1,"b":[1, 2]}},{"id":2,"attributes":{}}]'
    assert layer_results(body) == body.replace(b',"billing"', expected + b',"billing"')
    assert layer_results(b'{"rows":[]}') == b'{"rows":[],"results":[]}'


@pytest.mark.parametrize("body", [b'{"aggregations":{}}', b'{"rows":[],"results":[]}', b"[]"])
def test_other_answers_get_no_results(body: bytes) -> None:
    assert layer_results(body) is body


def test_an_answer_that_is_not_json_is_told() -> None:
    for broken in (b'{"rows":[}', b'{"rows":[{"_hevlayer_x":1}]', b"[1"):
        with pytest.raises(SpliceError) as raised:
            layer_results(broken)
        assert raised.value.code == "bad_json"
    with pytest.raises(SpliceError):
        strip_rows(b'{"rows":[{"_hevlayer_x":1}]')
    unread = b'{"rows":[{"id":1}'
    assert strip_rows(unread) is unread


def test_rows_are_stripped_at_their_own_level_only() -> None:
    body = (
        b'{"rows":[{"_hevlayer_shard":1,"id":1,"_hevlayer_upserted_at":2,"a":{"_hevlayer_x":1},"b":"_hevlayer_"}],'
        b'"results":[{"aggregation_groups":[{"\\u005fhevlayer_shard":1,"n":2}]}],"_hevlayer_":1}'
    )
    assert strip_rows(body) == (
        b'{"rows":[{"id":1,"a":{"_hevlayer_x":1},"b":"_hevlayer_"}],'
        b'"results":[{"aggregation_groups":[{"n":2}]}],"_hevlayer_":1}'
    )
    plain = b'{"rows":[{"id":1,"a":"_hevlayer_x"}]}'
    assert strip_rows(plain) is plain


def test_schemas_are_stripped() -> None:
    schema = b'{"_hevlayer_upserted_at":{"type":"int"},"a":{"type":"string"}}'
    assert strip_schema(schema, None) == b'{"a":{"type":"string"}}'
    assert strip_schema(b'{"schema":%b,"_hevlayer_":1}' % schema, "schema") == (
        b'{"schema":{"a":{"type":"string"}},"_hevlayer_":1}'
    )
    assert strip_schema(b"{}", "schema") == b"{}"


def test_top_level_members_are_raw_text() -> None:
    body = b'{"ids": [1, 2] ,"x":{"ids":3},"\\u0061":null}'
    assert top_level(body, ["ids", "a", "b"]) == {"ids": b"[1, 2]", "a": b"null"}
    with pytest.raises(SpliceError) as raised:
        top_level(b"[]", ["a"])
    assert raised.value.code == "validation_error"
