"""Documents to ask, generated (the same for the same seed) or films of a file, and the questions they are asked."""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson

SEED = 41
CATEGORIES = 1_000
BRANDS = 10_000
TAGS = 200
TAGS_MAX = 5
PAGE_ROWS = 10_000
# 2026-01-01, in milliseconds.
EPOCH_MS = 1_767_225_600_000
SCHEMA = {
    "id": {"type": "uint"},
    "title": {"type": "string", "filterable": False},
    "category": {"type": "string"},
    "brand": {"type": "string"},
    "price": {"type": "float"},
    "tags": {"type": "[]string"},
    "stock": {"type": "int"},
    "changed_at": {"type": "int"},
}
COLUMNS = ["category", "brand", "price", "tags", "stock", "changed_at"]
FILM_SCHEMA = {
    "id": {"type": "string"},
    "title": {"type": "string"},
    "year": {"type": "int"},
    "decade": {"type": "string"},
    "cast": {"type": "[]string"},
    "genres": {"type": "[]string"},
    "href": {"type": "string"},
    "extract": {"type": "string", "filterable": False},
    "thumbnail_width": {"type": "int"},
    "thumbnail_height": {"type": "int"},
}
_WORDS = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbour", "islet", "juniper", "kelp"]


class Texts(NamedTuple):
    """Values of a field as codes of names. Of lists: `ends[n]` is the end of the n-th document's codes."""

    codes: np.ndarray
    names: list[str]
    ends: np.ndarray | None = None


class Dataset(Protocol):
    """Documents in the order of their ids, and which of their fields are asked for.

    `equal` is a text and `number` a number, which filters compare; `valued` are the fields whose values are counted.
    """

    schema: dict[str, Any]
    columns: list[str]
    equal: str
    number: str
    valued: tuple[str, ...]
    groups_max: int

    @property
    def count(self) -> int: ...
    @property
    def ids(self) -> list[Any]: ...
    @property
    def numbers(self) -> np.ndarray: ...
    def texts(self, name: str) -> Texts: ...
    def rows(self) -> Iterator[dict[str, Any]]: ...


def pages(documents: Dataset) -> Iterator[bytes]:
    """The documents as the upstream answers them, a page at a time."""
    page: list[dict[str, Any]] = []
    for row in documents.rows():
        page.append(row)
        if len(page) == PAGE_ROWS:
            yield orjson.dumps({"rows": page})
            page = []
    if page:
        yield orjson.dumps({"rows": page})


@dataclass(frozen=True)
class Documents:
    """Columns of `count` documents in the order of their ids. Values that occur in few different texts are codes."""

    count: int
    title_words: np.ndarray
    category: np.ndarray
    brand: np.ndarray
    price: np.ndarray
    tags: np.ndarray
    tag_ends: np.ndarray
    stock: np.ndarray
    has_stock: np.ndarray
    changed_at: np.ndarray
    schema: dict[str, Any] = field(default_factory=lambda: SCHEMA)
    columns: list[str] = field(default_factory=lambda: COLUMNS)
    equal: str = "category"
    number: str = "price"
    valued: tuple[str, ...] = ("category", "brand", "tags")
    groups_max: int = 10_000

    @property
    def ids(self) -> list[int]:
        return list(range(self.count))

    @property
    def numbers(self) -> np.ndarray:
        return self.price

    def texts(self, name: str) -> Texts:
        return {
            "category": Texts(self.category, self.category_names),
            "brand": Texts(self.brand, self.brand_names),
            "tags": Texts(self.tags, self.tag_names, self.tag_ends),
        }[name]

    @property
    def category_names(self) -> list[str]:
        return [f"category-{number:04}" for number in range(CATEGORIES)]

    @property
    def brand_names(self) -> list[str]:
        return [f"brand {number:05} & Sons" for number in range(BRANDS)]

    @property
    def tag_names(self) -> list[str]:
        return [f"tag-{number}" for number in range(TAGS)]

    def tag_lists(self) -> Iterator[list[str]]:
        names, start = self.tag_names, 0
        for end in self.tag_ends.tolist():
            yield [names[code] for code in self.tags[start:end]]
            start = end

    def rows(self) -> Iterator[dict[str, Any]]:
        categories, brands = self.category_names, self.brand_names
        columns = zip(
            self.title_words.tolist(),
            self.category.tolist(),
            self.brand.tolist(),
            self.price.tolist(),
            self.tag_lists(),
            self.stock.tolist(),
            self.has_stock.tolist(),
            self.changed_at.tolist(),
            strict=True,
        )
        for number, (words, category, brand, price, tags, stock, has_stock, changed_at) in enumerate(columns):
            yield {
                "id": number,
                "title": " ".join(_WORDS[word] for word in words),
                "category": categories[category],
                "brand": brands[brand],
                "price": price,
                "tags": tags,
                "stock": stock if has_stock else None,
                "changed_at": changed_at,
            }


@dataclass(frozen=True)
class Films:
    """Films of a file of JSON lines, in the order of their ids. A name that a film's list has twice is in it once."""

    films: list[dict[str, Any]]
    schema: dict[str, Any] = field(default_factory=lambda: FILM_SCHEMA)
    columns: list[str] = field(default_factory=lambda: ["year", "decade", "genres", "cast"])
    equal: str = "decade"
    number: str = "year"
    valued: tuple[str, ...] = ("decade", "genres", "cast")
    # There are 28,630 names in the casts.
    groups_max: int = 40_000

    @classmethod
    def read(cls, path: Path) -> "Films":
        with gzip.open(path) as lines:
            films = [orjson.loads(line) for line in lines]
        for film in films:
            for name in ("cast", "genres"):
                film[name] = list(dict.fromkeys(film[name]))
        return cls(sorted(films, key=lambda film: film["id"]))

    @property
    def count(self) -> int:
        return len(self.films)

    @property
    def ids(self) -> list[str]:
        return [film["id"] for film in self.films]

    @cached_property
    def numbers(self) -> np.ndarray:
        return np.array([film["year"] for film in self.films], dtype=np.int64)

    def texts(self, name: str) -> Texts:
        if isinstance(self.films[0][name], str):
            return Texts(*coded(film[name] for film in self.films))
        lists = [film[name] for film in self.films]
        ends = np.cumsum([len(each) for each in lists])
        return Texts(*coded(value for each in lists for value in each), ends)

    def rows(self) -> Iterator[dict[str, Any]]:
        return iter(self.films)


def coded(values: Iterable[str]) -> tuple[np.ndarray, list[str]]:
    codes: dict[str, int] = {}
    of_values = np.array([codes.setdefault(value, len(codes)) for value in values], dtype=np.int64)
    return of_values, list(codes)


def generate(count: int, seed: int = SEED) -> Documents:
    """Categories and brands are skewed as in a shop: few are frequent. A document's tags are all different."""
    dice = np.random.default_rng(seed)
    each = dice.integers(1, TAGS_MAX + 1, count)
    # The first few of a random walk with a stride that is coprime to the number of tags: all different.
    starts, strides = dice.integers(0, TAGS, count), 2 * dice.integers(0, TAGS // 10, count) * 5 + 1
    ends = np.cumsum(each)
    place = np.arange(ends[-1]) - np.repeat(ends - each, each)
    tags = (np.repeat(starts, each) + place * np.repeat(strides, each)) % TAGS
    return Documents(
        count=count,
        title_words=dice.integers(0, len(_WORDS), (count, 6)),
        category=np.minimum(dice.zipf(1.3, count) - 1, CATEGORIES * 50).astype(np.int64) % CATEGORIES,
        brand=np.minimum(dice.zipf(1.2, count) - 1, BRANDS * 50).astype(np.int64) % BRANDS,
        price=np.round(dice.gamma(2.0, 30.0, count), 2),
        tags=tags,
        tag_ends=ends,
        stock=dice.integers(0, 1_000, count),
        has_stock=dice.random(count) < 0.8,
        changed_at=EPOCH_MS + dice.integers(0, 31_536_000_000, count),
    )


@dataclass(frozen=True)
class Questions:
    """`both` selects a few in a hundred of the documents, `tenth` about ten."""

    equal: str
    value: str
    code: int
    number: str
    number_max: float
    tenth_max: float

    @property
    def both(self) -> bytes:
        return json.dumps(["And", [[self.equal, "Eq", self.value], [self.number, "Lte", self.number_max]]]).encode()

    @property
    def tenth(self) -> bytes:
        return json.dumps([self.number, "Lte", self.tenth_max]).encode()


def questions(documents: Dataset) -> Questions:
    codes, names, _ = documents.texts(documents.equal)
    # A frequent value, but not the most frequent one; of films, among the older half.
    older = codes[documents.numbers <= np.median(documents.numbers)]
    code = int(np.argsort(-np.bincount(older, minlength=len(names)), kind="stable")[3])
    return Questions(
        equal=documents.equal,
        value=names[code],
        code=code,
        number=documents.number,
        number_max=np.quantile(documents.numbers, 0.5, method="lower").item(),
        tenth_max=np.quantile(documents.numbers, 0.1, method="lower").item(),
    )
