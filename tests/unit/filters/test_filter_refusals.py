"""Filters that are refused: quickly, with the place and the rule."""

import json
from typing import Any

import pytest

from hevlayer.kernels.doccache import DocRows
from hevlayer.kernels.filters import CancelFlag, CompiledFilter, FilterRefusedError, FilterSchema, ScanStoppedError

SCHEMA = FilterSchema(
    json.dumps(
        {
            "id": {"type": "uint"},
            "name": {"type": "string", "filterable": True, "regex": True, "fuzzy": True},
            "body": {"type": "string", "full_text_search": {"k1": 1.2}},
            "tags": {"type": "[]string", "filterable": True},
            "count": {"type": "int", "filterable": True},
            "at": {"type": "datetime", "filterable": True},
            "key": {"type": "uuid", "filterable": True},
            "vector": {"type": "[3]f32", "ann": True},
            "price": {"type": "decimal", "filterable": True},
        }
    ).encode()
)
ROWS = DocRows(json.dumps({"rows": [{"id": n, "count": n, "name": "a" * 60} for n in range(5000)]}).encode(), [])


def refusal(condition: Any) -> FilterRefusedError:
    text = condition if isinstance(condition, bytes) else json.dumps(condition).encode()
    with pytest.raises(FilterRefusedError) as caught:
        CompiledFilter(text, SCHEMA)
    return caught.value


@pytest.mark.parametrize(
    ("condition", "code", "pointer", "part"),
    [
        ({"count": 1}, "validation_error", "", "expected [attribute, operator, value]"),
        (["And", [["count", "Eq", 1], "x"]], "validation_error", "/1/1", "expected [attribute"),
        (["Not", ["count", "Equals", 1]], "validation_error", "/1/1", "unknown operator `Equals`"),
        (["count", "Eq", 1, {}], "validation_error", "/3", "takes no parameters"),
        (["count", "Eq", "1"], "validation_error", "/2", '`count`: Eq expects int, but got "1"'),
        (["count", "Gt", 1.5], "validation_error", "/2", "expects int"),
        (["count", "In", [1, None]], "validation_error", "/2", "expects int or []int, but got an array of 2"),
        (["id", "Eq", -1], "validation_error", "/2", "expects uint"),
        (["id", "Regex", "1"], "validation_error", "/1", "not supported on id"),
        (["at", "Lt", "yesterday"], "validation_error", "/2", "expects datetime"),
        (["key", "Eq", "no-uuid"], "validation_error", "/2", "expects uuid"),
        (["tags", "Lt", "a"], "validation_error", "/1", "expects a scalar attribute, but it is []string"),
        (["name", "Contains", "a"], "validation_error", "/1", "expects an array attribute, but it is string"),
        (["tags", "ContainsAny", "a"], "validation_error", "/2", "expects []string"),
        (["count", "Glob", "1"], "validation_error", "/1", "expects a string attribute"),
        (["name", "Regex", "("], "validation_error", "/2", "invalid regex"),
        (["name", "Regex", "(?:a{1000}){1000}"], "validation_error", "/2", "size limit"),
        (["name", "Regex", "(" * 1500 + ")" * 1500], "validation_error", "/2", "invalid regex"),
        (["name", "Glob", "[a"], "validation_error", "/2", "invalid glob"),
        (["name", "Glob", "a" * 5000], "validation_error", "/2", "at most 4096 bytes"),
        (["name", "Fuzzy", "abc"], "validation_error", "", "max_edit_distance"),
        (["nope", "Eq", 1], "schema", "/0", "attribute not found"),
        (["body", "Eq", "a"], "schema", "/0", "not filterable"),
        (["tags", "Regex", "a"], "schema", "/0", "Regex requires"),
        (["vector", "Eq", [1, 2, 3]], "schema", "/0", "vectors cannot be filtered on"),
        (["price", "Eq", 1], "unsupported", "/0", "not known here"),
        (["body", "ContainsAnyToken", "a"], "unsupported", "/1", "`ContainsAnyToken` needs a text index"),
        (["And", [["Not", ["body", "ContainsAllTokens", "a", {}]]]], "unsupported", "/1/0/1/1", "text index"),
        (["Or", [["name", "Glob", "a*"]] * 101], "validation_error", "/1/100", "at most 100 patterns"),
        (["id", "In", list(range(100_000))], "validation_error", "/2/6553", "at most 65536 values"),
        (b"[1,", "validation_error", "", "not JSON"),
        (b'["name","Eq","' + b"x" * (8 << 20) + b'"]', "validation_error", "", "bytes long"),
        (b'["Not",' * 10_000 + b'["id","Eq",1]' + b"]" * 10_000, "validation_error", "/1/1/1/1", "nested deeper"),
        (b"[" * 1_000_000, "validation_error", "/0/0", "nested deeper than 48 levels"),
        (b'["And",[' * 49 + b'["id","Eq",1]' + b"]]" * 49, "validation_error", "/1/0/1/0", "nested deeper"),
    ],
)
def test_the_place_and_the_rule_are_named(condition: Any, code: str, pointer: str, part: str) -> None:
    error = refusal(condition)
    assert (error.code, part in error.message) == (code, True), error.message
    assert error.pointer.startswith(pointer)
    assert len(error.pointer) < 400
    assert len(error.message) < 1000


def test_bounds_are_met_from_below() -> None:
    deep = b'["And",[' * 48 + b'["id","Eq",1]' + b"]]" * 48
    assert CompiledFilter(deep, SCHEMA).count(ROWS) == (1, 5000)
    listed = CompiledFilter(json.dumps(["id", "In", list(range(65_000))]).encode(), SCHEMA)
    assert listed.count(ROWS) == (5000, 5000)
    assert CompiledFilter(None, SCHEMA).count(ROWS) == (5000, 5000)


def test_patterns_that_ruin_backtracking_engines_do_not() -> None:
    slow = CompiledFilter(json.dumps(["name", "Regex", "^(a+)+$|(a|aa)+b"]).encode(), SCHEMA)
    assert slow.count(ROWS, timeout_ms=20_000) == (5000, 5000)


def stopped(**options: Any) -> str:
    with pytest.raises(ScanStoppedError) as caught:
        CompiledFilter(b'["count","Gte",0]', SCHEMA).count(ROWS, **options)
    return caught.value.code


def test_scans_stop() -> None:
    flag = CancelFlag()
    assert CompiledFilter(b'["count","Gte",0]', SCHEMA).count(ROWS, cancel=flag) == (5000, 5000)
    flag.set()
    assert stopped(cancel=flag) == "cancelled"
    assert stopped(cancel=flag, threads=2) == "cancelled"
    assert stopped(timeout_ms=0) == "timed_out"


def test_rows_of_another_schema_are_not_counted_wrongly() -> None:
    with pytest.raises(ScanStoppedError) as caught:
        CompiledFilter(b'["tags","Contains","a"]', SCHEMA).count(DocRows(b'{"rows":[{"id":1,"tags":"a"}]}', []))
    assert caught.value.code == "mistyped"
    assert "`tags`" in str(caught.value)


def test_the_schema_must_be_one() -> None:
    with pytest.raises(ValueError, match="not a schema"):
        FilterSchema(b"[]")


def test_fields_of_values_are_checked() -> None:
    every = CompiledFilter(None, SCHEMA)
    for field, code in [("nope", "schema"), ("vector", "validation_error"), ("price", "unsupported")]:
        with pytest.raises(FilterRefusedError) as caught:
            every.values(ROWS, field, groups_max=10)
        assert (caught.value.code, caught.value.pointer) == (code, "/field")
