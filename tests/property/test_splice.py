"""The splicer agrees with its slow twin, and leaves every byte alone that it need not change."""

import os
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splice_text import answers, damaged, dice, native_writes, queries, texts, writes

from hevlayer.kernels import reference, splice

STAMP_MS = 1_777_000_123_456
MARK = re.compile(rb',?"_hevlayer_upserted_at":(?:1777000123456|\[(?:1777000123456,?)*\])')
FACTS_OF_WRITE = (
    "dialect", "upserts", "patches", "deletes", "has_vectors", "by_filter", "conditional", "exclusive",
    "drops_attribute", "writes_rows", "ids_known", "affected_ids",
)  # fmt: skip
FACTS_OF_QUERY = (
    "dialect", "multi", "legs", "has_consistency", "has_filter", "has_rank_by", "model_rerank", "wants_reserved",
    "permits", "nearest_to_id",
)  # fmt: skip

# SPLICE_EXAMPLES=20000 makes a long night of it.
EXAMPLES = int(os.environ.get("SPLICE_EXAMPLES", "150"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 150, suppress_health_check=list(HealthCheck)
)
metrics = st.sampled_from(["cosine_distance", 'odd "metric"', None])


def outcome(scan: Callable[[], Any]) -> Any:
    """What the call gives, or the code and message of its refusal (bad JSON: the code alone)."""
    try:
        return scan()
    except (splice.SpliceError, reference.RefusedError) as error:
        return (error.code, None if error.code == "bad_json" else error.message)


def facts(scan: Any, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(scan, name) for name in names}


def check_write(body: bytes, patch_method: bool, metric: str | None, shards: int | None = None) -> None:
    native = outcome(lambda: splice.WriteScan(body, patch_method=patch_method, shards=shards))
    twin = outcome(lambda: reference.WriteTwin(body, patch_method=patch_method, shards=shards))
    if isinstance(native, tuple) or isinstance(twin, tuple):
        assert native == twin
        return
    assert facts(native, FACTS_OF_WRITE) == facts(twin, FACTS_OF_WRITE)
    assert native.ids() == twin.keys
    rendered = native.render(STAMP_MS, distance_metric=metric)
    assert reference.parse(rendered) == twin.render(STAMP_MS, metric)
    assert native.rendered_length(STAMP_MS, distance_metric=metric) == len(rendered)
    for size in (7, 1 + len(rendered) // 2):
        chunks = [
            native.render_chunk(STAMP_MS, at, size, distance_metric=metric) for at in range(0, len(rendered) + 1, size)
        ]
        assert b"".join(chunks) == rendered


@given(texts(writes), st.booleans(), metrics, st.sampled_from([None, 2, 7, 256]))
@thorough
def test_writes_agree_with_the_twin(body: bytes, patch_method: bool, metric: str | None, shards: int | None) -> None:
    check_write(body, patch_method, metric, shards)


@given(texts(writes), dice, metrics)
@thorough
def test_damaged_writes_agree_with_the_twin(body: bytes, dice: random.Random, metric: str | None) -> None:
    check_write(damaged(body, dice), False, metric, 3)


@given(texts(native_writes))
@thorough
def test_a_native_write_without_its_stamps_is_the_input(body: bytes) -> None:
    try:
        scan = splice.WriteScan(body)
    except splice.SpliceError:
        return
    if "_hevlayer_" in str(reference.parse(body)):
        return
    assert MARK.sub(b"", scan.render(STAMP_MS)) == body


def check_query(body: bytes, eventual: bool, watermark_ms: int | None, exclude_reserved: bool) -> None:
    native = outcome(lambda: splice.QueryScan(body))
    twin = outcome(lambda: reference.QueryTwin(body))
    if isinstance(native, tuple) or isinstance(twin, tuple):
        assert native == twin
        return
    assert facts(native, FACTS_OF_QUERY) == facts(twin, FACTS_OF_QUERY)
    rendered = native.render(
        eventual=eventual, watermark_ms=watermark_ms, exclude_reserved=exclude_reserved, vector=b"[ 0.5 , 1 ]"
    )
    expected = twin.render(
        eventual=eventual,
        watermark_ms=watermark_ms,
        exclude_reserved=exclude_reserved,
        vector=reference.parse(b"[ 0.5 , 1 ]"),
    )
    assert reference.parse(rendered) == expected
    if expected == reference.parse(body):
        assert rendered is body


@given(texts(queries), st.booleans(), st.none() | st.integers(0, 2**50), st.booleans())
@thorough
def test_queries_agree_with_the_twin(
    body: bytes, eventual: bool, watermark_ms: int | None, exclude_reserved: bool
) -> None:
    check_query(body, eventual, watermark_ms, exclude_reserved)


@given(texts(queries), dice, st.booleans())
@thorough
def test_damaged_queries_agree_with_the_twin(body: bytes, dice: random.Random, exclude_reserved: bool) -> None:
    check_query(damaged(body, dice), True, 5, exclude_reserved)


@given(texts(answers), st.sampled_from([None, "rows", "billing"]))
@thorough
def test_answers_agree_with_the_twin(body: bytes, under: str | None) -> None:
    tree = reference.parse(body)
    for edited, expected in (
        (splice.strip_rows(body), reference.strip_rows(tree)),
        (splice.strip_schema(body, under), reference.strip_schema(tree, under)),
        (splice.layer_results(body), reference.layer_results(tree)),
    ):
        assert reference.parse(edited) == expected
        if expected == tree:
            assert edited is body


@given(texts(answers), dice)
@thorough
def test_an_answer_that_is_not_json_is_told_or_left_alone(body: bytes, dice: random.Random) -> None:
    body = damaged(body, dice)
    tree = outcome(lambda: reference.parse(body))
    if tree == ("bad_json", None):
        assert outcome(lambda: splice.layer_results(body)) == tree
        assert outcome(lambda: splice.strip_rows(body)) in (tree, body)
        assert splice.strip_schema(body, None) is body
    else:
        assert reference.parse(splice.strip_rows(body)) == reference.strip_rows(tree)


@given(texts(queries), st.lists(st.sampled_from(["filters", "top_k", "é", "queries", ""]), unique=True), dice)
@thorough
def test_top_level_members_agree_with_the_twin(body: bytes, keys: list[str], dice: random.Random) -> None:
    for text in (body, damaged(body, dice)):
        native = outcome(lambda text=text: splice.top_level(text, keys))
        twin = outcome(lambda text=text: reference.top_level(text, keys))
        if isinstance(native, dict):
            native = {key: reference.parse(raw) for key, raw in native.items()}
        assert native == twin


hexes = st.text("0123456789abcdefABCDEF", min_size=32, max_size=32)


@given(hexes, st.sampled_from(["{}", "{{{}}}", "urn:uuid:{}", "URN:UUID:{}", "x{}", "{} "]), st.booleans())
def test_uuid_keys_agree_with_the_twin(digits: str, form: str, hyphens: bool) -> None:
    if hyphens:
        digits = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    text = form.format(digits)
    assert splice.uuid_key(text) == reference.uuid_key(text)


@given(st.integers(0, 2**64 - 1) | st.text())
def test_id_keys_agree_with_the_twin(value: int | str) -> None:
    assert splice.id_key(value) == reference.id_key(value)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_an_integer_id_has_64_bits(value: int) -> None:
    with pytest.raises(OverflowError):
        splice.id_key(value)
