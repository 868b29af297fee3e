"""The same questions, asked of others: DuckDB, Polars, pyarrow, numpy on codes, and JSON decoders.

Every peer has the documents in memory, in the order of their ids, and answers in its own terms; `same` reads an answer
as plain Python, to be compared outside of what is measured.
"""

from collections import Counter
from collections.abc import Callable, Iterable
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
from filter_data import Dataset, Questions

FIRST_PAGE = 1_000

Answer = Callable[[], Any]


class Peer:
    """Named questions, and how to read an answer to each kind of them."""

    def __init__(self, name: str, threads: int, answers: dict[str, Answer], same: Callable[[str, Any], Any]) -> None:
        self.name = name
        self.threads = threads
        self.answers = answers
        self.same = same


def arrow_table(documents: Dataset, *, dictionary: bool) -> pa.Table:
    def text(codes: np.ndarray, names: list[str]) -> pa.Array:
        coded = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))
        return coded if dictionary else coded.cast(pa.string())

    columns = {"id": id_array(documents), documents.number: pa.array(documents.numbers)}
    for name in documents.valued:
        codes, names, ends = documents.texts(name)
        columns[name] = text(codes, names)
        if ends is not None:
            offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
            columns[name] = pa.ListArray.from_arrays(offsets, columns[name])
    return pa.table(columns)


def id_array(documents: Dataset) -> pa.Array:
    of_numbers = documents.schema["id"]["type"] == "uint"
    return pa.array(documents.ids, pa.uint64() if of_numbers else pa.string())


def lists_of(documents: Dataset) -> list[str]:
    return [name for name in documents.valued if documents.schema[name]["type"] == "[]string"]


def of_arrow(kind: str, answer: Any) -> Any:
    if kind == "count":
        return int(answer)
    if kind == "ids":
        return answer.to_pylist()
    values, counts = answer
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))


def pyarrow_peer(documents: Dataset, asked: Questions, threads: int) -> Peer:
    pa.set_cpu_count(threads)
    table = arrow_table(documents, dictionary=True).combine_chunks()
    equal, number, ids = table[asked.equal], table[asked.number], table["id"]
    lists = lists_of(documents)
    # A dictionary's comparison with a text decodes it; with its code it does not.
    code = equal.chunk(0).dictionary.index(asked.value).as_py()
    indices = equal.chunk(0).indices

    def count() -> int:
        both = pc.and_(pc.equal(indices, code), pc.less_equal(number.chunk(0), asked.number_max))
        return pc.sum(both).as_py() or 0

    def values(name: str) -> Any:
        held = table[name].chunk(0)
        counted = pc.value_counts(held.flatten() if name in lists else held)
        return counted.field(0), counted.field(1)

    def found() -> pa.ChunkedArray:
        return ids.filter(pc.less_equal(number, asked.tenth_max))

    answers: dict[str, Answer] = {
        "count": count,
        **{f"values of {name}": (lambda name=name: values(name)) for name in documents.valued},
        "first ids": lambda: found().slice(0, FIRST_PAGE),
        "all ids": found,
    }
    return Peer("pyarrow, dictionary", threads, answers, of_arrow)


def polars_peer(documents: Dataset, asked: Questions, threads: int, *, categorical: bool) -> Peer:
    """Its threads are set in the environment before it is imported."""
    frame = pl.from_arrow(arrow_table(documents, dictionary=False))
    assert isinstance(frame, pl.DataFrame)
    lists = lists_of(documents)
    if categorical:
        for name in documents.valued:
            kind = pl.List(pl.Categorical) if name in lists else pl.Categorical
            frame = frame.with_columns(pl.col(name).cast(kind))
    tenth = pl.col(asked.number) <= asked.tenth_max
    both = both_of(asked)

    def values(name: str) -> pl.DataFrame:
        source = frame.lazy()
        if name in lists:
            # A list without a value has no element, but `explode` gives it one that is null.
            source = source.select(pl.col(name).explode()).drop_nulls()
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
        **{f"values of {name}": (lambda name=name: values(name)) for name in documents.valued},
        "first ids": lambda: found.head(FIRST_PAGE).collect(),
        "all ids": lambda: found.collect(),
    }
    return Peer(f"Polars, {'categorical' if categorical else 'text'}", threads, answers, same)


def both_of(asked: Questions) -> pl.Expr:
    return (pl.col(asked.equal) == asked.value) & (pl.col(asked.number) <= asked.number_max)


def duckdb_peer(documents: Dataset, asked: Questions, threads: int, *, enum: bool) -> Peer:
    base = duckdb.connect(config={"threads": threads})
    given = arrow_table(documents, dictionary=False)
    base.register("given", given)
    if enum:
        lists = lists_of(documents)
        columns = []
        for name in documents.valued:
            of, array = (f'unnest("{name}")', "[]") if name in lists else (f'"{name}"', "")
            base.execute(f"create type {name}_e as enum (select distinct {of} as v from given order by v)")
            columns.append(f'"{name}"::{name}_e{array} as "{name}"')
        base.execute(f"create table docs as select * replace ({', '.join(columns)}) from given")
    else:
        base.execute("create table docs as select * from given")
    base.unregister("given")
    return Peer(f"DuckDB, {'enum' if enum else 'text'}", threads, duckdb_answers(base, documents, asked), duckdb_same)


def duckdb_answers(base: Any, documents: Dataset, asked: Questions) -> dict[str, Answer]:
    both = f'select count(*) from docs where "{asked.equal}" = ? and "{asked.number}" <= ?'
    every = f'select id from docs where "{asked.number}" <= ?'
    lists = lists_of(documents)

    def values(name: str) -> Any:
        source = f'(select unnest("{name}") as "{name}" from docs)' if name in lists else "docs"
        return base.sql(f'select "{name}", count(*) from {source} group by 1').to_arrow_table()

    return {
        "count": lambda: base.execute(both, [asked.value, asked.number_max]).fetchall()[0][0],
        **{f"values of {name}": (lambda name=name: values(name)) for name in documents.valued},
        "first ids": lambda: base.sql(
            f"{every} order by id limit {FIRST_PAGE}", params=[asked.tenth_max]
        ).to_arrow_table(),
        # It keeps the order of the table.
        "all ids": lambda: base.sql(every, params=[asked.tenth_max]).to_arrow_table(),
    }


def duckdb_same(kind: str, answer: Any) -> Any:
    if kind == "count":
        return int(answer)
    columns = [each.to_pylist() for each in answer.columns]
    if kind == "ids":
        return columns[0]
    return {str(value): int(count) for value, count in zip(*columns, strict=True)}


def numpy_peer(documents: Dataset, asked: Questions) -> Peer:
    """The limit: codes are narrow and known, and nothing is turned into text."""

    def narrow(codes: np.ndarray, names: list[str]) -> np.ndarray:
        return codes.astype(np.min_scalar_type(len(names)))

    texts = {name: documents.texts(name) for name in documents.valued}
    codes = {name: narrow(text.codes, text.names) for name, text in texts.items()}
    equal, numbers = codes[asked.equal], documents.numbers
    code, ids = equal.dtype.type(asked.code), id_array(documents).to_numpy(zero_copy_only=False)
    if ids.dtype == object:
        ids = ids.astype("S")

    def same(kind: str, answer: Any) -> Any:
        if kind == "count":
            return int(answer)
        if kind == "ids":
            return [each.decode() if isinstance(each, bytes) else each for each in answer.tolist()]
        names = texts[kind.removeprefix("values of ")].names
        return {names[code]: int(count) for code, count in enumerate(answer) if count}

    answers: dict[str, Answer] = {
        "count": lambda: np.count_nonzero((equal == code) & (numbers <= asked.number_max)),
        **{f"values of {name}": (lambda name=name: np.bincount(codes[name])) for name in documents.valued},
        "first ids": lambda: ids[np.flatnonzero(numbers <= asked.tenth_max)[:FIRST_PAGE]],
        "all ids": lambda: ids[numbers <= asked.tenth_max],
    }
    return Peer("numpy on codes", 1, answers, same)


def json_peers(lines: list[bytes], asked: Questions) -> list[Peer]:
    """Documents as JSON texts, each decoded for each question."""
    equal, value, number, most = asked.equal, asked.value, asked.number, asked.number_max
    fields = {"text": equal, "number": number}
    filtered = msgspec.defstruct("Filtered", [("text", str), ("number", float)], rename=fields)
    decoder = msgspec.json.Decoder(filtered)

    def by_msgspec() -> int:
        return sum(row.text == value and row.number <= most for row in map(decoder.decode, lines))

    def by_orjson() -> int:
        return sum(row[equal] == value and row[number] <= most for row in map(orjson.loads, lines))

    def same(_kind: str, answer: Any) -> Any:
        return answer

    return [
        Peer("msgspec over JSON", 1, {"count over rows": by_msgspec}, same),
        Peer("orjson over JSON", 1, {"count over rows": by_orjson}, same),
    ]


class ColdFiles:
    """What DuckDB and Polars have on disk, to be asked by a process that has read nothing of it."""

    def __init__(self, folder: Path, documents: Dataset) -> None:
        self._documents = documents
        self.duckdb, self.parquet = folder / "docs.duckdb", folder / "docs.parquet"
        table = arrow_table(documents, dictionary=False)
        pq.write_table(table, self.parquet)
        with duckdb.connect(str(self.duckdb)) as base:
            base.register("given", table)
            base.execute("create table docs as select * from given")

    def ask_duckdb(self, asked: Questions, threads: int) -> int:
        with duckdb.connect(str(self.duckdb), read_only=True, config={"threads": threads}) as base:
            return int(duckdb_answers(base, self._documents, asked)["count"]())

    def ask_polars(self, asked: Questions) -> int:
        return int(pl.scan_parquet(self.parquet).filter(both_of(asked)).select(pl.len()).collect().item())


def expected_answers(documents: Dataset, asked: Questions) -> dict[str, Any]:
    """In plain Python, for the comparison."""
    rows = list(documents.rows())
    tenth = [row["id"] for row in rows if row[asked.number] <= asked.tenth_max]
    lists = lists_of(documents)

    def each_value(name: str) -> Iterable[str]:
        return (value for row in rows for value in (set(row[name]) if name in lists else (row[name],)))

    return {
        "count": sum(row[asked.equal] == asked.value and row[asked.number] <= asked.number_max for row in rows),
        **{f"values of {name}": dict(Counter(each_value(name))) for name in documents.valued},
        "first ids": tenth[:FIRST_PAGE],
        "all ids": tenth,
    }
