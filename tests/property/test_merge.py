"""The merge of legs agrees with its slow twin, and shows every row as it came."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from hevlayer.kernels.merge import merge_legs
from hevlayer.kernels.reference.merge import merge_rows

# Few values, so that distances and ids often meet.
ids = st.one_of(
    st.integers(0, 6), st.integers(2**53 - 2, 2**53 + 2), st.sampled_from(["1", "é", 'a"b', "\\", "\U0001f600", ""])
)
distances = st.one_of(
    st.sampled_from([0, 0.0, -0.0, 1, 1.0, 0.5, -3, 1e-300, 1e300]), st.floats(allow_nan=False, allow_infinity=False)
)
attributes = st.dictionaries(
    st.sampled_from(["title", "$dist2", "nested", "rows"]),
    st.one_of(
        st.none(),
        st.text(max_size=4),
        st.lists(st.integers(), max_size=3),
        st.fixed_dictionaries({"id": st.just(1), "$dist": st.just(0)}),
    ),
    max_size=3,
)


@st.composite
def rows(draw):
    members = [("id", draw(ids)), ("$dist", draw(distances)), *draw(attributes).items()]
    return dict(draw(st.permutations(members)))


legs = st.lists(rows(), max_size=8).map(lambda found: {"rows": found})
answers = st.one_of(
    legs.map(lambda leg: {**leg, "billing": {"x": 1}}),
    st.lists(legs, min_size=1, max_size=4).map(lambda found: {"performance": {}, "results": found}),
)


def text_of(answer: object, ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(answer, ensure_ascii=ascii_only, indent=indent).encode()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(answers, min_size=1, max_size=4), st.integers(0, 6), st.integers(0, 40), st.booleans(), st.booleans(),
    st.sampled_from([None, 1]),
)  # fmt: skip
def test_native_agrees_with_reference(parsed, offset, limit, descending, ascii_only, indent):
    texts = [text_of(answer, ascii_only, indent) for answer in parsed]
    merged = merge_legs(texts, offset=offset, limit=limit, descending=descending)
    expected = merge_rows(texts, offset=offset, limit=limit, descending=descending)
    # Of rows that are equal in distance and id, either may be the one that is shown.
    assert [(row["id"], row["$dist"]) for row in json.loads(merged.rows)] == [
        (row["id"], row["$dist"]) for row in expected
    ]
    assert merged.row_count == len(expected)
    assert merged.legs == sum(len(answer.get("results", [answer])) for answer in parsed)
    assert len(merged.billing) == sum("billing" in answer for answer in parsed)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(legs, min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_every_row_is_shown_byte_for_byte(parsed, indent):
    texts = [text_of(leg, True, indent) for leg in parsed]
    merged = merge_legs(texts, offset=0, limit=100, descending=False)
    everything = b"".join(texts)
    decoder = json.JSONDecoder()
    at, shown = 1, merged.rows.decode()
    for _ in range(merged.row_count):
        _, end = decoder.raw_decode(shown, at)
        assert shown[at:end].encode() in everything
        at = end + 1
    assert shown[at - 1 :] == "]" if merged.row_count else shown == "[]"
