"""The kernels that digest a query and its answer agree with their slow twin."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from hevlayer.kernels import reference, splice

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.integers(250, 300).map(lambda length: "é" * length),
    st.integers(250, 300).map(lambda length: "A" * length),
)
KEYS = st.one_of(st.sampled_from(["vector", "vectors", "rows", "results", "id", "filters"]), TEXTS)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, width=32), TEXTS
)
NUMBERS = st.lists(st.one_of(st.integers(-9, 9), st.floats(-9, 9, width=16)), max_size=50)
VALUES = st.recursive(
    st.one_of(SCALARS, NUMBERS.filter(lambda numbers: all(number == number for number in numbers))),
    lambda inner: st.one_of(st.lists(inner, max_size=34), st.dictionaries(KEYS, inner, max_size=34)),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["id", "$dist", "a"]), SCALARS, max_size=3), max_size=6)
LEGS = st.lists(st.dictionaries(st.sampled_from(["rows", "billing"]), st.one_of(ROWS, SCALARS), max_size=2), max_size=4)


def written(tree, spaced: bool, ascii_only: bool) -> bytes:
    text = json.dumps(
        tree, ensure_ascii=ascii_only, indent=1 if spaced else None, separators=None if spaced else (",", ":")
    )
    return text.encode()


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.dictionaries(KEYS, VALUES, max_size=34), st.booleans(), st.booleans())
def test_the_shape_of_a_query(tree, spaced, ascii_only):
    body = written(tree, spaced, ascii_only)
    told = json.loads(splice.query_shape(body))
    expected = reference.query_shape(body)
    # Near the bound the two count a number's or an escape's text differently.
    if ("keys" in told) == ("keys" in expected):
        assert told == expected
    else:
        assert 7_000 < len(json.dumps(told if "keys" in expected else expected, ensure_ascii=False).encode()) < 12_000


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.one_of(
        st.fixed_dictionaries(
            {}, optional={"rows": st.one_of(ROWS, SCALARS), "results": st.one_of(LEGS, ROWS, SCALARS)}
        ),
        VALUES,
    ),
    st.integers(1, 8),
    st.booleans(),
)
def test_the_ids_of_an_answer(tree, most, spaced):
    answer = written(tree, spaced, ascii_only=False)
    told = json.loads(splice.answer_ids(answer, most))
    expected = reference.answer_ids(answer, most)
    # A number keeps its own text.
    assert [each if isinstance(each, str) else str(each) for each in told] == expected


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.binary(max_size=60), st.integers(1, 8))
def test_any_bytes_are_told_in_json(body, most):
    assert isinstance(json.loads(splice.query_shape(body)), dict)
    assert isinstance(json.loads(splice.answer_ids(body, most)), list)
    assert isinstance(json.loads(splice.answer_ids(b'{"rows":[{"id":' + body, most)), list)
