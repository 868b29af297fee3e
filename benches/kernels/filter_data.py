"""Generated documents, the same for the same seed, and the questions that are asked of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
_WORDS = ["amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbour", "islet", "juniper", "kelp"]


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

    def pages(self) -> Iterator[bytes]:
        """The documents as the upstream answers them, a page at a time."""
        page: list[dict[str, Any]] = []
        for row in self.rows():
            page.append(row)
            if len(page) == PAGE_ROWS:
                yield orjson.dumps({"rows": page})
                page = []
        if page:
            yield orjson.dumps({"rows": page})


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
    """`category` and `price_max` select about 2 % of the documents; `tenth_price` about 10 %."""

    category: str
    category_code: int
    price_max: float
    tenth_price: float

    @property
    def both(self) -> bytes:
        return json.dumps(["And", [["category", "Eq", self.category], ["price", "Lte", self.price_max]]]).encode()

    @property
    def tenth(self) -> bytes:
        return json.dumps(["price", "Lte", self.tenth_price]).encode()


def questions(documents: Documents) -> Questions:
    code = 3
    return Questions(
        documents.category_names[code],
        code,
        float(np.median(documents.price)),
        float(np.quantile(documents.price, 0.1)),
    )
