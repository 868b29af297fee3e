"""Rows told from writes: random writes go through the local origin, and what is told of their rows is what it answers.

Every value equal byte for byte, or the row not told; never different. Only the order of a row's attributes is free.
"""

import json
from collections.abc import Iterator
from itertools import count
from random import Random
from struct import pack, unpack

import pytest

from hevlayer.kernels.doccache import DocProjection, DocRows, DocSchema, WrittenRows
from hevlayer.kernels.origin import OriginEngine
from hevlayer.kernels.splice import STAMP_ATTRIBUTE, WriteScan, id_key, top_level, uuid_key

ROWS_MAX = 1000
UUIDS = [f"0f8fad5b-d9cb-469f-a165-70867728950{digit}" for digit in "0123456789"]
TYPES = {
    "s": "string",
    "i": "int",
    "u": "uint",
    "f": "float",
    "b": "bool",
    "g": "uuid",
    "d": "datetime",
    "ss": "[]string",
    "ii": "[]int",
    "ff": "[]float",
    "bb": "[]bool",
    "gg": "[]uuid",
    "p": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
}

TEXTS = [
    r'"\/"',
    r'"\u0041"',
    r'"\b\f\n\r\t\u0000\u001f\u007f"',
    r'"\ud83d\ude00"',
    r'"\ufffd"',
    '"é😀"',
    '""',
    '"a b"',
]
INTS = ["0", "-1", "300", "-0", "9007199254740993", str(2**63 - 1), str(-(2**63)), str(2**63)]
FLOATS = [
    "1e3",
    "1E-7",
    "0.10",
    "7.0",
    "-0.0",
    "-0",
    "0.30000000000000004",
    "1e16",
    "123456789012345680.0",
    "5",
    "1e400",
]
DATETIMES = ['"2024-03-02"', '"2024-03-02T10:20:30.5Z"', '"2024-03-02T00:00:00.000000000Z"']
ODD_UUIDS = [UUIDS[0].upper(), UUIDS[1].replace("-", ""), f"{{{UUIDS[2]}}}"]
WRITES = 4
NAMESPACES = 400


class Generator(Random):
    """Bodies of writes, from a seed."""

    def scalar(self, kind: str) -> str:
        if kind == "string":
            return self.choice([*TEXTS, json.dumps(chr(self.randrange(0x20, 0x2000)) * self.randrange(4))])
        if kind in ("int", "uint"):
            return self.choice([*INTS, str(self.randrange(10**6)), str(self.getrandbits(64))])
        if kind == "float":
            return self.choice(
                [*FLOATS, repr(self.uniform(-1, 1)), f"{self.uniform(-999, 999):.3f}", str(self.random())]
            )
        if kind == "bool":
            return self.choice(["true", "false"])
        if kind == "uuid":
            return json.dumps(self.choice([*UUIDS, *ODD_UUIDS]))
        return self.choice(DATETIMES)

    def value(self, attribute: str) -> str:
        """Not always of the right type: what the upstream refuses tells nothing."""
        odd = self.randrange(40)
        if odd < 2:
            return ["1", '"x"'][odd]
        kind = TYPES[attribute]
        if odd < 5:
            return "null"
        if not isinstance(kind, str):
            weights = {self.randrange(9): self.choice(["0.5", "1", "0.1"]) for _ in range(self.randrange(3))}
            return "{" + ",".join(f'"{dimension}":{weight}' for dimension, weight in weights.items()) + "}"
        if not kind.startswith("[]"):
            return self.scalar(kind)
        items = [self.scalar(kind[2:]) for _ in range(self.randrange(4))]
        return f"[{self.choice([',', ', ']).join(items)}]"

    def vector(self, dimensions: int) -> str:
        if dimensions == 3 and self.randrange(4) == 0:
            return self.choice(['"zczMPc3MTD6amZk+"', '"AACAPwAAAEAAAEDA"'])
        single = unpack("<f", pack("<f", self.uniform(-1, 1)))[0]
        kinds = [
            repr(single),
            f"{single:.8g}",
            repr(self.uniform(-1, 1)),
            str(self.randrange(-9, 9)),
            self.scalar("float"),
        ]
        if self.randrange(3):
            del kinds[-1]
        return f"[{', '.join(self.choice(kinds) for _ in range(dimensions))}]"

    def ids(self, id_type: str, count_max: int) -> list[str]:
        if id_type == "uint":
            each = [*map(str, range(8)), str(2**64 - 1)]
        elif id_type == "string":
            each = ['"a"', r'"\u0061b"', '"é"', r'"\u00e9\/"', json.dumps(UUIDS[3])]
        else:
            each = [json.dumps(uuid) for uuid in [*UUIDS, *ODD_UUIDS]]
        return self.sample(each, self.randrange(1, count_max + 1))

    def rows(self, id_type: str, vector: str | None, names: list[str], count_max: int) -> list[dict[str, str]]:
        each = []
        for raw in self.ids(id_type, count_max):
            row = {"id": raw}
            for name in self.sample(names, self.randrange(min(len(names), 4) + 1)):
                row[name] = self.value(name)
            if vector is not None:
                row["vector"] = self.vector(int(vector[1]))
            each.append(row)
        return each

    def body(self, id_type: str, vector: str | None) -> str:
        names = self.choice([["s", "i", "b"], ["s", "u", "f", "ss"], list(TYPES)])
        members: dict[str, str] = {}
        layer = self.randrange(4) == 0
        shape = self.choice(["rows", "columns", "patches", "patch_columns", "deletes", "both"])
        if shape in ("rows", "columns", "both"):
            each = self.rows(id_type, vector, names, 4)
            if layer:
                members["upserts"] = layer_text(each)
            elif shape == "columns":
                members["upsert_columns"] = columns_text(each)
            else:
                members["upsert_rows"] = f"[{','.join(object_text(row) for row in each)}]"
        if shape in ("patches", "patch_columns", "both"):
            each = self.rows(id_type, None, names, 3)
            if layer:
                members["patches"] = layer_text(each)
            elif shape == "patch_columns":
                members["patch_columns"] = columns_text(each)
            else:
                members["patch_rows"] = f"[{','.join(object_text(row) for row in each)}]"
        if shape == "deletes" or (shape == "both" and self.randrange(2)):
            members["deletes"] = f"[{','.join(self.ids(id_type, 2))}]"
        if not layer and self.randrange(3) == 0:
            members.update([self.choice(EXTRAS)])
        if self.randrange(2):
            members["return_affected_ids"] = "true"
        return object_text(members)


EXTRAS = [
    ("schema", '{"s":"string","i":{"type":"int"}}'),
    ("schema", '{"new":"int"}'),
    ("upsert_condition", '["s","Eq",null]'),
    ("patch_condition", '["s","NotEq",null]'),
    ("delete_condition", '["b","Eq",true]'),
    ("patch_by_filter", '{"filters":["i","Gt",0],"patch":{"s":"by filter"}}'),
    ("delete_by_filter", '["b","Eq",true]'),
    ("distance_metric", '"cosine_distance"'),
]


def layer_text(each: list[dict[str, str]]) -> str:
    texts = []
    for row in each:
        attributes = {name: value for name, value in row.items() if name not in ("id", "vector")}
        kept = {name: value for name, value in row.items() if name in ("id", "vector")}
        texts.append(object_text({**kept, "attributes": object_text(attributes)}))
    return f"[{','.join(texts)}]"


def object_text(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)} :{value}" for name, value in members.items()) + "}"


def columns_text(each: list[dict[str, str]]) -> str:
    names = dict.fromkeys(name for row in each for name in row)
    return object_text({name: f"[{','.join(row.get(name, 'null') for row in each)}]" for name in names})


class Upstream:
    """One namespace of the local origin."""

    def __init__(self, engine: OriginEngine, namespace: str) -> None:
        self.engine = engine
        self.namespace = namespace

    def write(self, body: bytes) -> bytes | None:
        """The answer; None when it was refused."""
        status, _, answer = self.engine.handle("POST", f"/v2/namespaces/{self.namespace}", "", body)
        assert status in (200, 400, 422), answer
        return answer if status == 200 else None

    def rows(self) -> bytes:
        query = {"rank_by": ["id", "asc"], "limit": ROWS_MAX, "include_attributes": True}
        path = f"/v2/namespaces/{self.namespace}/query"
        status, _, answer = self.engine.handle("POST", path, "", json.dumps(query).encode())
        assert status == 200, answer
        return answer

    def schema(self) -> DocSchema:
        status, _, answer = self.engine.handle("GET", f"/v2/namespaces/{self.namespace}/metadata", "", b"")
        assert status == 200, answer
        return DocSchema(top_level(answer, ["schema"])["schema"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OriginEngine]:
    engine = OriginEngine(str(tmp_path_factory.mktemp("origin")))
    yield engine
    engine.close()


NUMBERS = count()


def open_namespace(engine: OriginEngine, id_type: str, vector: str | None) -> Upstream:
    schema: dict[str, object] = {"id": id_type, **TYPES, STAMP_ATTRIBUTE: "int"}
    body: dict[str, object] = {"create_namespace": True, "schema": schema}
    if vector is not None:
        schema["vector"] = {"type": vector, "ann": True}
        body["distance_metric"] = "cosine_distance"
    upstream = Upstream(engine, f"written-{next(NUMBERS)}")
    assert upstream.write(json.dumps(body).encode()) is not None
    return upstream


def affected_keys(answer: bytes, id_type: str) -> list[bytes]:
    body = json.loads(answer)
    each = [each for kind in ("upserted", "patched", "deleted") for each in body.get(f"{kind}_ids", [])]
    if id_type == "uuid":
        return [key for key in map(uuid_key, each) if key is not None]
    return [id_key(each) for each in each]


def check(told: DocRows, actual: DocRows, schema: DocSchema) -> int:
    """Fails when a row that was told is not the one that is there; how many were told."""
    names = schema.attributes
    for projection in (DocProjection(names), DocProjection()):
        keys = told.keys()
        for key in keys:
            assert members(told.document(key, projection), names) == members(actual.document(key, projection), names)
    return len(told)


def members(document: bytes | None, names: list[str]) -> dict[str, bytes] | None:
    """The texts of a document's id and attributes."""
    if document is None:
        return None
    parts = top_level(document, ["id", "attributes"])
    attributes = top_level(parts["attributes"], names)
    assert sum(map(len, attributes.values())) < len(parts["attributes"])
    return {"": parts["id"], **attributes}


def test_what_is_told_is_what_is_stored(engine: OriginEngine) -> None:
    told = refused = 0
    for seed in range(NAMESPACES):
        generator = Generator(seed)
        id_type = generator.choice(["uint", "string", "uuid"])
        vector = generator.choice([None, "[3]f32", "[3]f16", "[2]f32"])
        upstream = open_namespace(engine, id_type, vector)
        schema = upstream.schema()
        before = DocRows(b'{"rows":[]}', [])
        for stamp_ms in range(1, WRITES + 1):
            body = generator.body(id_type, vector).encode()
            scan = WriteScan(body)
            answer = upstream.write(scan.render(stamp_ms, distance_metric="cosine_distance" if vector else None))
            if answer is None:
                refused += 1
                continue
            affected = affected_keys(answer, id_type) if b"return_affected_ids" in body else None
            written = scan.rows(stamp_ms, schema, affected=affected)
            after = upstream.schema()
            actual = DocRows.typed(upstream.rows(), after)
            told += check(written.rows, actual, after) + check(written.apply(before), actual, after)
            assert not set(written.deleted) & set(actual.keys())
            schema, before = after, actual
    assert refused < NAMESPACES * WRITES / 2
    assert told > NAMESPACES


def write(upstream: Upstream, body: dict[str, object], affected: list[bytes] | None = None) -> WrittenRows:
    schema = upstream.schema()
    scan = WriteScan(json.dumps(body).encode())
    assert upstream.write(scan.render(7)) is not None
    return scan.rows(7, schema, affected=affected)


def test_plain_rows_are_told(engine: OriginEngine) -> None:
    upstream = open_namespace(engine, "uint", "[3]f32")
    row = {
        "id": 1,
        "s": "café\n",
        "i": -5,
        "f": 0.5,
        "b": True,
        "ss": ["a"],
        "vector": [0.25, -1.5, 0.1],
        "g": UUIDS[0],
    }
    written = write(upstream, {"upsert_rows": [row, {**row, "id": 2, "d": "2024-03-02"}], "deletes": [3]})
    assert written.rows.keys() == [id_key(1)]
    assert written.deleted == [id_key(3)]
    text = written.rows.document(id_key(1), DocProjection(["vector", "s", STAMP_ATTRIBUTE]))
    assert text is not None
    assert json.loads(text)["attributes"] == {"s": "café\n", "vector": [0.25, -1.5, 0.1], STAMP_ATTRIBUTE: 7}
    before = DocRows.typed(upstream.rows(), upstream.schema())
    patch = write(upstream, {"patch_rows": [{"id": 2, "s": None, "i": 6}, {"id": 1, "d": "2024-03-02"}]})
    assert patch.patched == [id_key(2)]
    patched = patch.apply(before)
    assert check(patched, DocRows(upstream.rows(), ["vector"]), upstream.schema()) == 1
    assert patch.apply(DocRows(b'{"rows":[]}', [])).keys() == []


@pytest.mark.parametrize(
    "body",
    [
        {"upsert_rows": [{"id": 1, "s": "x"}], "upsert_condition": ["s", "Eq", None]},
        {"upsert_rows": [{"id": 1, "s": "x"}], "schema": {"s": {"type": "string", "embed": {"model": "m"}}}},
        {"upsert_rows": [{"id": 1, "s": "x"}], "schema": {"s": "int"}},
        {"upsert_rows": [{"id": 1, "s": "x"}], "schema": {"i": {"drop": True}}},
        {"upsert_rows": [{"id": 1, "unknown": "x"}]},
        {"upsert_rows": [{"id": "1", "s": "x"}]},
        {"upsert_rows": [{"id": 1, "s": "x"}], "newer": True},
        {"upsert_columns": {"id": [1, 2], "s": ["x"]}},
        {"patch_rows": [{"id": 1, "s": "x"}], "patch_condition": ["s", "Eq", None]},
        {"patch_rows": [{"id": 1, "s": "x"}], "delete_by_filter": ["s", "Eq", "x"]},
        {"deletes": [1], "delete_condition": ["s", "Eq", None]},
    ],
)
def test_doubtful_writes_tell_nothing(engine: OriginEngine, body: dict[str, object]) -> None:
    schema = open_namespace(engine, "uint", None).schema()
    written = WriteScan(json.dumps(body).encode()).rows(7, schema)
    assert (written.rows.keys(), written.patched, written.deleted) == ([], [], [])


def test_a_namespace_with_embeddings_tells_nothing() -> None:
    for attribute in ('"t":{"type":"string","embed":{"model":"m"}}', '"$embed_t":{"type":"[2]f32"}'):
        text = f'{{"id":{{"type":"uint"}},"s":{{"type":"string"}},"{STAMP_ATTRIBUTE}":{{"type":"int"}},{attribute}}}'
        written = WriteScan(b'{"upsert_rows":[{"id":1,"s":"x"}]}').rows(7, DocSchema(text.encode()))
        assert written.rows.keys() == []


def test_conditional_rows_are_told_by_the_affected_ids(engine: OriginEngine) -> None:
    upstream = open_namespace(engine, "string", None)
    each = [{"id": "a", "s": "x"}, {"id": "b", "s": "y"}]
    body: dict[str, object] = {"upsert_rows": each, "upsert_condition": ["s", "Eq", None], "return_affected_ids": True}
    assert write(upstream, body, [id_key("b")]).rows.keys() == [id_key("b")]


def test_rows_are_told_up_to_a_bound(engine: OriginEngine) -> None:
    schema = open_namespace(engine, "uint", None).schema()
    body = json.dumps({"upsert_rows": [{"id": number, "s": "x" * 100} for number in range(100)]}).encode()
    assert len(WriteScan(body).rows(7, schema).rows) == 100
    assert 1 <= len(WriteScan(body).rows(7, schema, bytes_max=1000).rows) <= 10
