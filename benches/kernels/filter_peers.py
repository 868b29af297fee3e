"""The same questions, asked of others: DuckDB, Polars, pyarrow, numpy on codes, and JSON decoders.

Every peer has the documents in memory, in the order of their ids, and answers in its own terms; `same` reads an answer
as plain Python, to be compared outside of what is measured.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filter_data import Documents, Questions

FIRST_PAGE = 1_000

Answer = Callable[[], Any]


class Peer:
    """Named questions, and how to read an answer to each kind of them."""

    def __init__(self, name: str, threads: int, answers: dict[str, Answer], same: Callable[[str, Any], Any]) -> None:
        self.name = name
        self.threads = threads
        self.answers = answers
        self.same = same


def arrow_table(documents: Documents, *, dictionary: bool) -> pa.Table:
    def text(codes: np.ndarray, names: list[str]) -> pa.Array:
        coded = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))
        return coded if dictionary else coded.cast(pa.string())

    tags = text(documents.tags, documents.tag_names)
    offsets = pa.array(np.concatenate([[0], documents.tag_ends]).astype(np.int32))
    return pa.table(
        {
            "id": pa.array(np.arange(documents.count, dtype=np.uint64)),
            "category": text(documents.category, documents.category_names),
            "brand": text(documents.brand, documents.brand_names),
            "price": pa.array(documents.price),
            "tags": pa.ListArray.from_arrays(offsets, tags),
            "stock": pa.array(documents.stock, mask=~documents.has_stock),
            "changed_at": pa.array(documents.changed_at),
        }
    )


def of_arrow(kind: str, answer: Any) -> Any:
    if kind == "count":
        return int(answer)
    if kind == "ids":
        return [int(each) for each in answer.to_pylist()]
    values, counts = answer
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))


def pyarrow_peer(documents: Documents, asked: Questions, threads: int) -> Peer:
    pa.set_cpu_count(threads)
    table = arrow_table(documents, dictionary=True).combine_chunks()
    category, price, ids = table["category"], table["price"], table["id"]
    # A dictionary's comparison with a text decodes it; with its code it does not.
    code = category.chunk(0).dictionary.index(asked.category).as_py()
    indices = category.chunk(0).indices

    def count() -> int:
        both = pc.and_(pc.equal(indices, code), pc.less_equal(price.chunk(0), asked.price_max))
        return pc.sum(both).as_py() or 0

    def values(name: str) -> Any:
        held = table[name].chunk(0)
        counted = pc.value_counts(held.flatten() if name == "tags" else held)
        return counted.field(0), counted.field(1)

    def found() -> pa.ChunkedArray:
        return ids.filter(pc.less_equal(price, asked.tenth_price))

    answers: dict[str, Answer] = {
        "count": count,
        **{f"values of {name}": (lambda name=name: values(name)) for name in ("category", "brand", "tags")},
        "first ids": lambda: found().slice(0, FIRST_PAGE),
        "all ids": found,
    }
    return Peer("pyarrow, dictionary", threads, answers, of_arrow)


def polars_peer(documents: Documents, asked: Questions, threads: int, *, categorical: bool) -> Peer:
    """Its threads are set in the environment before it is imported."""
    frame = pl.from_arrow(arrow_table(documents, dictionary=False))
    assert isinstance(frame, pl.DataFrame)
    if categorical:
        frame = frame.with_columns(
            pl.col("category", "brand").cast(pl.Categorical), pl.col("tags").cast(pl.List(pl.Categorical))
        )
    tenth = pl.col("price") <= asked.tenth_price
    both = (pl.col("category") == asked.category) & (pl.col("price") <= asked.price_max)
    exploded = frame.lazy().select(pl.col("tags").explode())

    def values(name: str) -> pl.DataFrame:
        source = exploded if name == "tags" else frame.lazy()
        return source.group_by(name).len().collect()

    def same(kind: str, answer: Any) -> Any:
        if kind == "count":
            return int(answer)
        if kind == "ids":
            return answer.to_series().to_list()
        return dict(answer.rows())

    found = frame.lazy().filter(tenth).select("id")
    answers: dict[str, Answer] = {
        "count": lambda: frame.lazy().filter(both).select(pl.len()).collect().item(),
        **{f"values of {name}": (lambda name=name: values(name)) for name in ("category", "brand", "tags")},
        "first ids": lambda: found.head(FIRST_PAGE).collect(),
        "all ids": lambda: found.collect(),
    }
    return Peer(f"Polars, {'categorical' if categorical else 'text'}", threads, answers, same)


def duckdb_peer(documents: Documents, asked: Questions, threads: int, *, enum: bool) -> Peer:
    base = duckdb.connect(config={"threads": threads})
    given = arrow_table(documents, dictionary=False)
    base.register("given", given)
    if enum:
        for name, of in (("category", "category"), ("brand", "brand"), ("tag", "unnest(tags)")):
            base.execute(f"create type {name}_e as enum (select distinct {of} as v from given order by v)")
        columns = "category::category_e as category, brand::brand_e as brand, tags::tag_e[] as tags"
        base.execute(f"create table docs as select * replace ({columns}) from given")
    else:
        base.execute("create table docs as select * from given")
    base.unregister("given")
    return Peer(f"DuckDB, {'enum' if enum else 'text'}", threads, duckdb_answers(base, asked), duckdb_same)


def duckdb_answers(base: Any, asked: Questions) -> dict[str, Answer]:
    both = "select count(*) from docs where category = ? and price <= ?"
    first = f"select id from docs where price <= ? order by id limit {FIRST_PAGE}"
    tags = "select tag, count(*) from (select unnest(tags) as tag from docs) group by tag"
    return {
        "count": lambda: base.execute(both, [asked.category, asked.price_max]).fetchall()[0][0],
        "values of category": lambda: base.sql("select category, count(*) from docs group by 1").to_arrow_table(),
        "values of brand": lambda: base.sql("select brand, count(*) from docs group by 1").to_arrow_table(),
        "values of tags": lambda: base.sql(tags).to_arrow_table(),
        "first ids": lambda: base.sql(first, params=[asked.tenth_price]).to_arrow_table(),
        # It keeps the order of the table.
        "all ids": lambda: base.sql(
            "select id from docs where price <= ?", params=[asked.tenth_price]
        ).to_arrow_table(),
    }


def duckdb_same(kind: str, answer: Any) -> Any:
    if kind == "count":
        return int(answer)
    columns = [each.to_pylist() for each in answer.columns]
    if kind == "ids":
        return [int(each) for each in columns[0]]
    return {str(value): int(count) for value, count in zip(*columns, strict=True)}


def numpy_peer(documents: Documents, asked: Questions) -> Peer:
    """The limit: codes are narrow and known, and nothing is turned into text."""
    category, brand = documents.category.astype(np.uint16), documents.brand.astype(np.uint16)
    price, tags = documents.price, documents.tags.astype(np.uint8)
    code, ids = np.uint16(asked.category_code), np.arange(documents.count, dtype=np.uint64)
    names = {
        "values of category": documents.category_names,
        "values of brand": documents.brand_names,
        "values of tags": documents.tag_names,
    }

    def same(kind: str, answer: Any) -> Any:
        if kind == "count":
            return int(answer)
        if kind == "ids":
            return answer.tolist()
        return {names[kind][code]: int(count) for code, count in enumerate(answer) if count}

    answers: dict[str, Answer] = {
        "count": lambda: np.count_nonzero((category == code) & (price <= asked.price_max)),
        "values of category": lambda: np.bincount(category),
        "values of brand": lambda: np.bincount(brand),
        "values of tags": lambda: np.bincount(tags),
        "first ids": lambda: ids[np.flatnonzero(price <= asked.tenth_price)[:FIRST_PAGE]],
        "all ids": lambda: ids[price <= asked.tenth_price],
    }
    return Peer("numpy on codes", 1, answers, same)


class _Filtered(msgspec.Struct):
    category: str
    price: float


def json_peers(lines: list[bytes], asked: Questions) -> list[Peer]:
    """Documents as JSON texts, each decoded for each question."""
    decoder = msgspec.json.Decoder(_Filtered)

    def by_msgspec() -> int:
        decode, category, most = decoder.decode, asked.category, asked.price_max
        return sum(row.category == category and row.price <= most for row in map(decode, lines))

    def by_orjson() -> int:
        category, most = asked.category, asked.price_max
        return sum(row["category"] == category and row["price"] <= most for row in map(orjson.loads, lines))

    def same(_kind: str, answer: Any) -> Any:
        return answer

    return [
        Peer("msgspec over JSON", 1, {"count over rows": by_msgspec}, same),
        Peer("orjson over JSON", 1, {"count over rows": by_orjson}, same),
    ]


class ColdFiles:
    """What DuckDB and Polars have on disk, to be asked by a process that has read nothing of it."""

    def __init__(self, folder: Path, documents: Documents) -> None:
        self.duckdb, self.parquet = folder / "docs.duckdb", folder / "docs.parquet"
        table = arrow_table(documents, dictionary=False)
        pq.write_table(table, self.parquet)
        with duckdb.connect(str(self.duckdb)) as base:
            base.register("given", table)
            base.execute("create table docs as select * from given")

    def ask_duckdb(self, asked: Questions, threads: int) -> int:
        with duckdb.connect(str(self.duckdb), read_only=True, config={"threads": threads}) as base:
            return int(duckdb_answers(base, asked)["count"]())

    def ask_polars(self, asked: Questions) -> int:
        both = (pl.col("category") == asked.category) & (pl.col("price") <= asked.price_max)
        return int(pl.scan_parquet(self.parquet).filter(both).select(pl.len()).collect().item())


def expected_answers(documents: Documents, asked: Questions) -> dict[str, Any]:
    """In plain Python, for the comparison."""
    rows = list(documents.rows())
    tenth = [row["id"] for row in rows if row["price"] <= asked.tenth_price]
    return {
        "count": sum(row["category"] == asked.category and row["price"] <= asked.price_max for row in rows),
        "values of category": dict(Counter(row["category"] for row in rows)),
        "values of brand": dict(Counter(row["brand"] for row in rows)),
        "values of tags": dict(Counter(tag for row in rows for tag in set(row["tags"]))),
        "first ids": tenth[:FIRST_PAGE],
        "all ids": tenth,
    }
