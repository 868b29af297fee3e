"""What a query body says and becomes, told from its tree."""

from collections.abc import Iterator
from dataclasses import dataclass

from hevlayer.kernels.reference.tree import (
    Json,
    Number,
    Pairs,
    RefusedError,
    elements,
    has_lone_surrogate,
    is_list,
    is_plain_string,
    is_uint,
    member,
    parse,
    strings,
)
from hevlayer.kernels.splice import SHARD_ATTRIBUTE, STAMP_ATTRIBUTE, SUBQUERIES_MAX

_QUERY_FIELDS = (
    "rank_by",
    "filters",
    "include_attributes",
    "exclude_attributes",
    "aggregate_by",
    "rerank_by",
    "consistency",
    "queries",
    "vector",
    "nearest_to_id",
    "top_k",
    "limit",
    "as_of",
    "between",
    "cursor",
)
_UNBUILT_RANKINGS = ("HybridText", "Auto")


@dataclass
class QueryTwin:
    """What `QueryScan` says of a body."""

    body: bytes
    dialect: str = "native"
    multi: bool = False
    legs: int = 1
    has_consistency: bool = False
    has_filter: bool = False
    has_rank_by: bool = False
    model_rerank: bool = False
    wants_reserved: bool = False
    permits: int = 0
    nearest_to_id: list[str | int] | None = None
    refusal: RefusedError | None = None
    tree: Json = None

    def __post_init__(self) -> None:
        self.tree = parse(self.body)
        if is_list(self.tree):
            self._refuse("the body must be a JSON object, not an array")
        top = self.tree if isinstance(self.tree, Pairs) else Pairs()
        self._leg(top, None)
        self._dialect(top)
        if self.refusal:
            raise self.refusal
        self.multi = member(top, "queries") is not None
        queries = elements(member(top, "queries"))
        legs = [leg for leg in queries if isinstance(leg, Pairs)] if self.multi else [top]
        self.legs = len(queries) if self.multi else 1
        self.has_consistency = member(top, "consistency") is not None
        self.has_filter = any(member(leg, "filters") is not None for leg in legs)
        self.has_rank_by = any(member(leg, "rank_by") is not None for leg in legs)
        self.model_rerank = any(_is_model_rerank(leg) for leg in (top, *legs))
        self.wants_reserved = any(_wants_reserved(leg) for leg in legs)
        self.permits = sum(_permits(leg) for leg in legs)

    def _refuse(self, message: str, code: str = "validation_error") -> None:
        if self.refusal is None:
            self.refusal = RefusedError(code, message)

    def _leg(self, leg: Pairs, index: int | None) -> None:
        place = "" if index is None else f"queries[{index}]."
        seen: set[str] = set()
        for name, value in leg:
            if name not in _QUERY_FIELDS:
                continue
            if name in seen:
                self._refuse(f"duplicate field `{name}`", "bad_json")
                continue
            seen.add(name)
            if value is None:
                continue
            if name == "rank_by" and (ranking := _unbuilt_ranking(value)):
                self._refuse(f"{place}rank_by: the ranking `{ranking}` is not supported yet", "not_supported")
            elif name in ("as_of", "between", "cursor"):
                self._refuse(f"`{place}{name}` is not supported yet", "not_supported")
            elif name == "nearest_to_id":
                if index is None:
                    self._nearest(value)
                else:
                    self._refuse(f"{place}nearest_to_id: not possible in a sub-query")
            elif name == "queries" and index is None:
                self._queries(value)

    def _queries(self, queries: Json) -> None:
        for at, query in enumerate(elements(queries)):
            if at >= SUBQUERIES_MAX:
                self._refuse(f"queries: at most {SUBQUERIES_MAX} sub-queries")
            elif isinstance(query, Pairs):
                self._leg(query, at)
            elif is_list(query):
                self._refuse(f"queries[{at}]: expected an object, not an array")

    def _nearest(self, value: Json) -> None:
        ids: list[str | int] = []
        for element in elements(value) if is_list(value) else [value]:
            if isinstance(element, Number) and is_uint(element):
                ids.append(int(element))
            elif isinstance(element, str) and not isinstance(element, Number) and not has_lone_surrogate(element):
                ids.append(element)
            else:
                self._refuse("nearest_to_id: expected ids, each a string or an unsigned integer")
        if not ids:
            self._refuse("nearest_to_id: expected at least one id")
        self.nearest_to_id = ids

    def _dialect(self, top: Pairs) -> None:
        vector = member(top, "vector")
        if member(top, "nearest_to_id") is not None:
            layer = "nearest_to_id"
        elif vector is not None and member(top, "rank_by") is None:
            layer = "vector"
        else:
            return
        self.dialect = "layer"
        for rival in ("rank_by", "aggregate_by", "queries", "vector"):
            if rival != layer and member(top, rival) is not None:
                self._refuse(f"`{layer}` and `{rival}` cannot be in one body")
        if member(top, "top_k") is None and member(top, "limit") is None:
            self._refuse(f"`{layer}` needs `top_k`")
        if layer == "vector" and not (is_list(vector) or is_plain_string(vector)):
            self._refuse("vector: expected an array of numbers, or a base64 string")

    def render(self, *, eventual: bool, watermark_ms: int | None, exclude_reserved: bool, vector: Json = None) -> Json:
        """The tree of the body that goes upstream."""
        if not isinstance(self.tree, Pairs):
            return self.tree
        top = Pairs(self.tree)
        if self.dialect == "layer":
            top = Pairs(_native_ranking(top, vector))
        if self.multi:
            top = Pairs(
                (name, self._subqueries(value, watermark_ms, exclude_reserved) if name == "queries" else value)
                for name, value in top
            )
        else:
            top = _spliced(top, watermark_ms, exclude_reserved)
        if eventual and not self.has_consistency:
            level = Pairs([("level", "eventual"), ("max_staleness_seconds", Number("1"))])
            top = _assigned(top, "consistency", level)
        return top

    @staticmethod
    def _subqueries(queries: Json, watermark_ms: int | None, exclude_reserved: bool) -> Json:
        if not is_list(queries):
            return queries
        return [
            _spliced(leg, watermark_ms, exclude_reserved) if isinstance(leg, Pairs) else leg
            for leg in elements(queries)
        ]


def _unbuilt_ranking(rank_by: Json) -> str | None:
    words: list[str | None] = [None, None]
    terms = elements(rank_by) if isinstance(rank_by, list) else [rank_by]
    for at, element in enumerate(terms[:2]):
        if isinstance(element, str) and not isinstance(element, Number):
            words[at] = element
    first, second = words
    is_attribute = second in ("asc", "desc") or (second is not None and len(terms) > 2)
    for ranking in _UNBUILT_RANKINGS:
        if second == ranking or (first == ranking and not is_attribute):
            return ranking
    return None


def _is_model_rerank(leg: Pairs) -> bool:
    rerank = member(leg, "rerank_by")
    return isinstance(rerank, Pairs) and any(name == "model" for name, _ in rerank)


def _wants_reserved(leg: Pairs) -> bool:
    if member(leg, "aggregate_by") is not None:
        return False
    include, exclude = member(leg, "include_attributes"), member(leg, "exclude_attributes")
    if include is None:
        return is_list(exclude) and not {STAMP_ATTRIBUTE, SHARD_ATTRIBUTE} <= strings(exclude)
    return include is True and exclude is None


def _permits(leg: Pairs) -> int:
    if member(leg, "aggregate_by") is not None:
        return 4
    rank_by = elements(member(leg, "rank_by"))
    return 2 if len(rank_by) > 1 and is_plain_string(rank_by[0]) and rank_by[1] == "kNN" else 1


def _native_ranking(top: Pairs, vector: Json) -> Iterator[tuple[str, Json]]:
    for name, value in top:
        if name not in ("rank_by", "vector", "nearest_to_id"):
            yield name, value
        elif value is not None:
            yield "rank_by", ["vector", "ANN", value if name == "vector" else vector]


def _assigned(pairs: Pairs, key: str, value: Json) -> Pairs:
    """The object with the member called `key` set, in its place or at the end."""
    if all(name != key for name, _ in pairs):
        return Pairs([*pairs, (key, value)])
    return Pairs((name, value if name == key else old) for name, old in pairs)


def _spliced(leg: Pairs, watermark_ms: int | None, exclude_reserved: bool) -> Pairs:
    out = leg
    if watermark_ms is not None:
        predicate: Json = [STAMP_ATTRIBUTE, "Lte", Number(str(watermark_ms))]
        filters = member(leg, "filters")
        out = _assigned(out, "filters", predicate if filters is None else ["And", [filters, predicate]])
    if exclude_reserved and _wants_reserved(leg):
        names: list[Json] = [STAMP_ATTRIBUTE, SHARD_ATTRIBUTE]
        exclude = member(leg, "exclude_attributes")
        if exclude is not None:
            missing = [name for name in names if name not in strings(exclude)]
            return _assigned(out, "exclude_attributes", [*elements(exclude), *missing])
        out = Pairs(pair for pair in out if pair[0] != "exclude_attributes")
        out = Pairs(
            ("exclude_attributes", names) if name == "include_attributes" else (name, value) for name, value in out
        )
    return out
