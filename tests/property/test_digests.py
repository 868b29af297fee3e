"""The kernels that digest a query and its answer agree with their slow twin."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hevlayer.kernels import reference, splice

TEXTS = ["", "a", "é" * 270, "A" * 270, "x" * 256, "tab\t", "\U0001f600" * 130, 'a "quoted" \\ one']
KEYS = ["vector", "vectors", "rows", "id", "filters", "é", 'a"b', "x\n"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, width=32),
    st.sampled_from(TEXTS),
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["id", "$dist", "a"]), SCALARS, max_size=3), max_size=6)
LEGS = st.lists(st.dictionaries(st.sampled_from(["rows", "billing"]), st.one_of(ROWS, SCALARS), max_size=2), max_size=4)


def written(tree, spaced: bool, ascii_only: bool) -> bytes:
    text = json.dumps(
        tree, ensure_ascii=ascii_only, indent=1 if spaced else None, separators=None if spaced else (",", ":")
    )
    return text.encode()


def value(rng: random.Random, depth: int) -> object:
    """Scalars, lists of numbers, and lists and objects in them, also deeper and longer than what is kept."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice([None, True, False])
    if kind < 0.35:
        return rng.choice([rng.randint(-(2**63), 2**64 - 1), rng.uniform(-1e30, 1e30), 0, -0.5])
    if kind < 0.6:
        return rng.choice(TEXTS)
    if kind < 0.75:
        return [rng.choice([1, 2.5, -3]) for _ in range(rng.randint(0, 40))]
    if depth > 14:
        return 1
    many = rng.choice([0, 1, 2, 36]) if depth < 2 else rng.randint(0, 2)
    return members(rng, many, depth + 1) if kind > 0.88 else [value(rng, depth + 1) for _ in range(many)]


def members(rng: random.Random, many: int, depth: int) -> dict[str, object]:
    names = [rng.choice(KEYS) + str(number) * rng.randint(0, 1) for number in range(many)]
    return {name: value(rng, depth) for name in names}


@pytest.mark.parametrize("seed", range(300))
def test_the_shape_of_a_query(seed):
    rng = random.Random(seed)
    body = written(members(rng, rng.choice([0, 1, 3, 5, 34]), 0), rng.random() < 0.5, rng.random() < 0.5)
    told = json.loads(splice.query_shape(body))
    expected = reference.query_shape(body)
    # Near the bound the two count a number's text differently.
    if ("keys" in told) == ("keys" in expected):
        assert told == expected


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.one_of(
        st.fixed_dictionaries(
            {}, optional={"rows": st.one_of(ROWS, SCALARS), "results": st.one_of(LEGS, ROWS, SCALARS)}
        ),
        SCALARS,
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


@pytest.mark.parametrize("seed", range(200))
def test_the_ids_of_rows_that_begin_with_them(seed):
    rng = random.Random(seed)
    first = ["a", 7, "é", 'a "quoted" \\', "", 2**64 - 1, None, "x" * 70]
    rows = [{"id": rng.choice(first), **members(rng, rng.randrange(4), 1)} for _ in range(rng.randrange(9))]
    answer = written({"rows": rows, "billing": {}}, rng.random() < 0.2, rng.random() < 0.5)
    most = rng.randint(1, 9)
    told = json.loads(splice.answer_ids(answer, most))
    assert [each if isinstance(each, str) else str(each) for each in told] == reference.answer_ids(answer, most)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.binary(max_size=60), st.integers(1, 8))
def test_any_bytes_are_told_in_json(body, most):
    assert isinstance(json.loads(splice.query_shape(body)), dict)
    assert isinstance(json.loads(splice.answer_ids(body, most)), list)
    assert isinstance(json.loads(splice.answer_ids(b'{"rows":[{"id":' + body, most)), list)
