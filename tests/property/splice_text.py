"""JSON texts for the splicer: bodies biased to the keys that matter, written in every odd way that JSON allows."""

import json
import random
from typing import Any

from hypothesis import strategies as st

from hevlayer.kernels.reference import Number, Pairs

STAMP = "_hevlayer_upserted_at"
NUMBERS = ["0", "-0", "1", "7", "-12", "0.5", "1e3", "1E+2", "-2.5e-10", "18446744073709551615", "18446744073709551616",
           "123456789012345678901234567890", "0.012345678901234567", "3.0"]  # fmt: skip
STRINGS = ["", "a", "id", "kNN", "Auto", "HybridText", "é", "日本", "😀", "\ud800", 'q"\\', "\n\t\x00", "x" * 40,
           "0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5BD9CB469FA16570867728950E"]  # fmt: skip

numbers = st.sampled_from(NUMBERS).map(Number)
strings = st.sampled_from(STRINGS) | st.text(max_size=6)
scalars = st.none() | st.booleans() | numbers | strings
vectors = st.lists(numbers, max_size=24)


def objects(keys: st.SearchStrategy[str], values: st.SearchStrategy[Any], max_size: int = 5) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(keys, values), max_size=max_size).map(Pairs)


values = st.recursive(
    scalars | vectors, lambda inner: st.lists(inner, max_size=3) | objects(strings, inner, 3), max_leaves=8
)
ids = numbers | strings
attribute_names = st.sampled_from(["a", "b", "title", "id", "vector", "attributes", STAMP, STAMP]) | strings
reserved_names = attribute_names | st.sampled_from(["_hevlayer_shard", "_hevlayer_", "_hevlayer_\ud800"])


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """`usual`, but one time in sixteen."""
    return st.sampled_from(range(16)).flatmap(lambda draw: odd if draw == 11 else usual)


def with_id(row: Any, row_id: Any) -> Any:
    return Pairs([("id", row_id), *row]) if isinstance(row, Pairs) else row


plain_attributes = objects(st.sampled_from(["a", "b", "title", STAMP]), values)
row = st.builds(with_id, mostly(plain_attributes, objects(reserved_names, values)), ids)
rows = mostly(st.lists(mostly(row, values), min_size=1, max_size=4), values)
columns = st.builds(
    with_id, mostly(plain_attributes, objects(reserved_names, values)), mostly(st.lists(ids, max_size=4), values)
)
layer_row = st.builds(
    lambda row_id, vector, attributes, extra: Pairs([("id", row_id), *vector, *attributes, *extra]),
    mostly(st.sampled_from([Number("1"), "a"]), ids),
    st.lists(st.tuples(st.just("vector"), vectors | st.none()), max_size=1),
    st.lists(st.tuples(st.just("attributes"), mostly(plain_attributes | st.none(), values)), max_size=1),
    mostly(st.just([]), objects(reserved_names, values, 2)),
)
layer_rows = mostly(st.lists(mostly(layer_row, values), max_size=3), values | st.none())


def members_of(members: st.SearchStrategy[Any], max_size: int, min_size: int = 0) -> st.SearchStrategy[Any]:
    """Members of one object, mostly with distinct keys."""
    return mostly(
        st.lists(members, min_size=min_size, max_size=max_size, unique_by=lambda member: member[0]),
        st.lists(members, min_size=min_size, max_size=max_size),
    )


def shuffled(members: Any) -> st.SearchStrategy[Any]:
    return st.permutations(members).map(Pairs)


schema = objects(
    mostly(st.sampled_from(["title", "x"]), reserved_names),
    st.sampled_from(["string"]) | objects(st.sampled_from(["type", "drop"]), st.sampled_from(["uint", True, False])),
)
by_filter = objects(st.sampled_from(["filters", "patch", "patch"]), mostly(plain_attributes, values), 3)
options = [
    st.tuples(st.just("distance_metric"), st.sampled_from(["cosine_distance", None])),
    st.tuples(st.just("schema"), mostly(schema, values)),
    st.tuples(st.sampled_from(["upsert_condition", "patch_condition", "delete_condition"]), values),
    st.tuples(strings, values),
    st.tuples(st.just("deletes"), mostly(st.lists(ids, max_size=3), values)),
]
native_members = [
    st.tuples(st.sampled_from(["upsert_rows", "patch_rows"]), rows),
    st.tuples(st.sampled_from(["upsert_columns", "patch_columns"]), mostly(columns, values)),
    st.tuples(st.just("patch_by_filter"), mostly(by_filter, values)),
    st.tuples(st.sampled_from(["delete_by_filter", "copy_from_namespace", "branch_from_namespace"]), values),
]
layer_members = [
    st.tuples(st.just("upserts"), layer_rows),
    st.tuples(st.just("patches"), layer_rows),
]
native_writes = st.builds(
    lambda *lists: [*lists[0], *lists[1]],
    members_of(st.one_of(*native_members), 3, 1),
    members_of(st.one_of(*options), 2),
).flatmap(shuffled)
layer_writes = st.builds(
    lambda *lists: [*lists[0], *lists[1]],
    members_of(st.one_of(*layer_members), 2, 1),
    members_of(st.one_of(*options), 2),
).flatmap(shuffled)
mixed_writes = members_of(st.one_of(*native_members, *layer_members, *options), 5).flatmap(shuffled)
writes = mostly(st.one_of(native_writes, layer_writes, layer_writes), mostly(mixed_writes, values))

conditions = st.just(["a", "Eq", Number("1")]) | st.just(["And", [["b", "In", ["x"]]]]) | values
rankings = st.sampled_from(
    [["vector", "ANN", [Number("0.5")]], ["vector", "kNN", [Number("1")]], ["id", "asc"], ["Auto", "asc"],
     ["Auto", "x"], ["t", "HybridText", "q"], ["HybridText", "BM25", "q"], ["Sum", [["t", "BM25", "q"]]]]
)  # fmt: skip
excluded = st.lists(st.sampled_from(["a", STAMP, "_hevlayer_shard"]) | values, max_size=3)
leg_members = st.one_of(
    st.tuples(st.just("rank_by"), mostly(rankings, values)),
    st.tuples(st.just("filters"), conditions | st.none()),
    st.tuples(st.just("include_attributes"), st.sampled_from([True, True, False, None, ["a"]])),
    st.tuples(st.just("exclude_attributes"), excluded | st.none() | values),
    st.tuples(st.just("aggregate_by"), st.just(Pairs([("n", ["Count"])])) | st.none()),
    st.tuples(st.sampled_from(["top_k", "limit"]), numbers),
    st.tuples(st.just("rerank_by"), st.just(["RRF"]) | objects(st.sampled_from(["model", "query"]), strings, 2)),
    st.tuples(strings, values),
)
legs = members_of(leg_members, 5).map(Pairs)
top_members = leg_members | st.one_of(
    st.tuples(st.just("consistency"), st.just(Pairs([("level", "strong")])) | st.none()),
    st.tuples(st.just("queries"), mostly(st.lists(mostly(legs, values), max_size=4), values)),
)
layer_query_members = st.one_of(
    st.tuples(st.just("vector"), mostly(vectors, values)),
    st.tuples(st.just("nearest_to_id"), mostly(st.lists(ids, max_size=2) | ids, values)),
    st.tuples(st.just("rank_by"), st.none()),
    st.tuples(st.sampled_from(["as_of", "between", "cursor"]), st.none() | numbers),
)
queries = mostly(
    members_of(top_members, 6).map(Pairs)
    | st.builds(
        lambda members, top_k: Pairs([*members[:1], ("top_k", top_k), *members[1:]]),
        members_of(mostly(layer_query_members, top_members), 3, 1),
        numbers,
    ),
    values,
)

answer_row = objects(st.sampled_from(["id", "$dist", "a", "b", STAMP, "_hevlayer_shard", "vector"]), values)
answer_body = objects(
    st.sampled_from(["rows", "rows", "aggregation_groups", "billing", "x"]),
    mostly(st.lists(mostly(answer_row, values), max_size=4), values),
    3,
)
answers = st.one_of(
    answer_body,
    st.lists(mostly(answer_body, values), max_size=3).map(lambda results: Pairs([("results", results)])),
    values,
)


def write_text(tree: Any, dice: random.Random) -> bytes:
    """The tree as JSON text with white space, escapes and their letters' case chosen by `dice`."""
    parts: list[str] = []
    loose = dice.random() < 0.5

    def blank() -> None:
        if loose and dice.random() < 0.4:
            parts.append("".join(dice.choice(" \t\n\r") for _ in range(dice.randint(1, 3))))

    def string(text: str) -> None:
        parts.append('"')
        for char in text:
            plain = json.dumps(char, ensure_ascii="\ud800" <= char <= "\udfff")[1:-1]
            if dice.random() < 0.1:
                units = char.encode("utf-16-be", "surrogatepass")
                hexes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
                plain = "".join("\\u" + (text.upper() if dice.random() < 0.5 else text) for text in hexes)
            parts.append("\\/" if char == "/" and dice.random() < 0.5 else plain)
        parts.append('"')

    def value(item: Any) -> None:
        blank()
        if isinstance(item, Pairs):
            parts.append("{")
            blank()
            for at, (key, inner) in enumerate(item):
                if at:
                    parts.append(",")
                    blank()
                string(key)
                blank()
                parts.append(":")
                value(inner)
            parts.append("}")
        elif isinstance(item, list):
            parts.append("[")
            for at, inner in enumerate(item):
                if at:
                    parts.append(",")
                value(inner)
            blank()
            parts.append("]")
        elif isinstance(item, Number):
            parts.append(item)
        elif isinstance(item, str):
            string(item)
        else:
            parts.append(json.dumps(item))
        blank()

    value(tree)
    return "".join(parts).encode()


dice = st.integers(0, 2**32).map(random.Random)


def texts(trees: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.builds(write_text, trees, dice)


def damaged(body: bytes, dice: random.Random) -> bytes:
    """The body after a few edits of single bytes."""
    out = bytearray(body)
    alphabet = b'{}[]",:\\ \n0123456789.-eEtrufalsn\x00\x1f\x7f\x80\xc3\xed\xa0\xff_hevlayer_'
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(4):
            case 0:
                out[at : at + 1] = bytes([dice.choice(alphabet)])
            case 1:
                out[at:at] = bytes([dice.choice(alphabet)])
            case 2:
                del out[at : at + dice.randint(1, 4)]
            case _:
                out[at:at] = out[dice.randrange(len(out) + 1) :][: dice.randint(1, 12)]
    return bytes(out)
