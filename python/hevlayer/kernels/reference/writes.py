"""What a write body says and becomes, told from its tree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hevlayer.kernels.reference.shards import shard_of
from hevlayer.kernels.reference.tree import (
    Json,
    Number,
    Pairs,
    RefusedError,
    elements,
    has_lone_surrogate,
    id_key,
    is_list,
    is_uint,
    parse,
    shown,
    uuid_key,
)
from hevlayer.kernels.splice import RESERVED_PREFIX, SHARD_ATTRIBUTE, STAMP_ATTRIBUTE

_LAYER_FIELDS = ("upserts", "patches")
_NATIVE_FIELDS = (
    "upsert_rows",
    "upsert_columns",
    "patch_rows",
    "patch_columns",
    "delete_by_filter",
    "patch_by_filter",
    "copy_from_namespace",
    "branch_from_namespace",
)
_ROWLESS_FIELDS = (
    "distance_metric",
    "return_affected_ids",
    "delete_by_filter_allow_partial",
    "patch_by_filter_allow_partial",
    "disable_backpressure",
    "encryption",
    "sharding",
    "create_namespace",
)
_PATCH_FIELDS = ("patch_rows", "patch_columns", "patch_by_filter", "patches")
_OPTION_FIELDS = ("upsert_condition", "patch_condition", "delete_condition", "schema", "distance_metric")
# In the order in which a message names the first of several.
_WRITE_FIELDS = (
    "upsert_rows",
    "upsert_columns",
    "patch_rows",
    "patch_columns",
    "deletes",
    "delete_by_filter",
    "patch_by_filter",
    *_OPTION_FIELDS[:4],
    "copy_from_namespace",
    "branch_from_namespace",
    "distance_metric",
    "upserts",
    "patches",
)


@dataclass
class _Stamps:
    """Stands in a tree for the stamp, or a column of them."""

    rows: int | None = None


@dataclass
class WriteTwin:
    """What `WriteScan` says of a body."""

    body: bytes
    patch_method: bool = False
    shards: int | None = None
    dialect: str = "native"
    upserts: int = 0
    patches: int = 0
    deletes: int = 0
    has_vectors: bool = False
    by_filter: bool = False
    conditional: bool = False
    exclusive: str | None = None
    drops_attribute: bool = False
    writes_rows: bool = False
    ids_known: bool = True
    affected_ids: bool | None = None
    foreign: bool = False
    keys: list[bytes] = field(default_factory=list)
    refusal: RefusedError | None = None
    present: set[str] = field(default_factory=set)
    tree: Json = None

    def __post_init__(self) -> None:
        self.tree = parse(self.body)
        if isinstance(self.tree, Pairs):
            self._body(self.tree)
        elif is_list(self.tree):
            self._refuse("the body must be a JSON object, not an array")
        self._conclude()

    def render(self, stamp_ms: int, distance_metric: str | None) -> Json:
        """The tree of the native body."""
        tree = _settled(self.tree, stamp_ms)
        if isinstance(tree, Pairs) and self.has_vectors and distance_metric is not None:
            at = next((at for at, (name, _) in enumerate(tree) if name == "distance_metric"), None)
            if at is None:
                tree.append(("distance_metric", distance_metric))
            elif tree[at][1] is None:
                tree[at] = ("distance_metric", distance_metric)
        return tree

    def _refuse(self, message: str, code: str = "validation_error") -> None:
        if self.refusal is None:
            self.refusal = RefusedError(code, message)

    def _body(self, body: Pairs) -> None:
        rendered = Pairs()
        seen: set[str] = set()
        foreign = False
        for name, value in body:
            if name not in _WRITE_FIELDS:
                rendered.append((name, value))
                if name == "return_affected_ids":
                    self.affected_ids = value is True
                foreign = foreign or (value is not None and name not in _ROWLESS_FIELDS)
            elif name in seen:
                self._refuse(f"duplicate field `{name}`", "bad_json")
            else:
                seen.add(name)
                rendered.extend(self._member(name, value))
        self.tree = rendered
        self.foreign = foreign

    def _member(self, name: str, value: Json) -> Iterator[tuple[str, Json]]:
        if value is None:
            if name not in _LAYER_FIELDS:
                yield name, None
            return
        self.present.add(name)
        if name in _LAYER_FIELDS:
            if not is_list(value):
                self._refuse(f"{name}: expected an array of rows")
            elif value:
                native = "upsert_rows" if name == "upserts" else "patch_rows"
                yield native, [self._layer_row(name, at, row) for at, row in enumerate(elements(value))]
        elif name in ("upsert_rows", "patch_rows") and is_list(value):
            yield name, [self._row(name, at, row) for at, row in enumerate(elements(value))]
        elif name in ("upsert_columns", "patch_columns") and isinstance(value, Pairs):
            yield name, self._columns(name, value)
        elif name == "deletes" and is_list(value):
            for element in elements(value):
                self._id(element)
            self.deletes += len(elements(value))
            yield name, value
        elif name == "patch_by_filter" and isinstance(value, Pairs):
            yield name, self._patch_by_filter(value)
        elif name == "schema" and isinstance(value, Pairs):
            self._schema(value)
            yield name, value
        else:
            if name in ("upsert_columns", "patch_columns", "patch_by_filter") and is_list(value):
                self._refuse(f"{name}: expected an object, not an array")
            elif name in (*_NATIVE_FIELDS, "deletes"):
                self.writes_rows = True
                if name in ("upsert_rows", "upsert_columns", "patch_rows", "patch_columns", "deletes"):
                    self.ids_known = False
            yield name, value

    def _count(self, name: str, rows: int) -> None:
        if name.startswith("upsert"):
            self.upserts += rows
        else:
            self.patches += rows

    def _id(self, value: Json) -> None:
        keys: list[bytes | None] = []
        if isinstance(value, str) and not isinstance(value, Number) and not has_lone_surrogate(value):
            keys = [id_key(value), uuid_key(value)]
        elif isinstance(value, Number) and is_uint(value):
            keys = [id_key(int(value))]
        else:
            self.ids_known = False
        self.keys.extend(key for key in keys if key is not None and key not in self.keys)

    def _shard(self, value: Json) -> Number | None:
        """The shard of an id, None when it cannot be read or the namespace has none."""
        if self.shards is None:
            return None
        if isinstance(value, Number):
            return Number(str(shard_of(int(value), self.shards))) if is_uint(value) else None
        if isinstance(value, str) and not has_lone_surrogate(value):
            return Number(str(shard_of(value, self.shards)))
        return None

    def _reserved(self, place: str, name: str) -> None:
        self._refuse(
            f"{place}: `{shown(name)}` is reserved: names that begin with `{RESERVED_PREFIX}` cannot be written"
        )

    def _stamped(self, place: str, row: Pairs, each: Callable[[str, Json], None]) -> Pairs:
        """The row with its stamps; `each` sees every other member."""
        out = Pairs()
        for name, value in row:
            if name == STAMP_ATTRIBUTE:
                out.append((name, _Stamps()))  # type: ignore[arg-type]
                continue
            if name.startswith(RESERVED_PREFIX):
                self._reserved(place, name)
            each(name, value)
            out.append((name, value))
        if all(name != STAMP_ATTRIBUTE for name, _ in row):
            out.append((STAMP_ATTRIBUTE, _Stamps()))  # type: ignore[arg-type]
        return out

    def _row(self, field_name: str, at: int, row: Json) -> Json:
        self._count(field_name, 1)
        if not isinstance(row, Pairs):
            if is_list(row):
                self._refuse(f"{field_name}[{at}]: expected an object, not an array")
            self.ids_known = False
            return row
        ids = 0
        shard: Number | None = None

        def each(name: str, value: Json) -> None:
            nonlocal ids, shard
            if name == "id":
                ids += 1
                shard = self._shard(value)
                if ids > 1:
                    self._refuse("duplicate field `id`", "bad_json")
                self._id(value)

        out = self._stamped(f"{field_name}[{at}]", row, each)
        self.ids_known = self.ids_known and ids > 0
        if shard is not None:
            out.append((SHARD_ATTRIBUTE, shard))
        return out

    def _columns(self, field_name: str, columns: Pairs) -> Json:
        ids: list[Json] | None = None
        found = 0
        for name, value in columns:
            if name == "id":
                found += 1
                if found > 1:
                    self._refuse("duplicate field `id`", "bad_json")
                if is_list(value):
                    ids = elements(value)
                    for element in ids:
                        self._id(element)
            elif name.startswith(RESERVED_PREFIX) and name != STAMP_ATTRIBUTE:
                self._reserved(field_name, name)
        if ids is None:
            self.ids_known = False
            self.writes_rows = True
            return columns
        self._count(field_name, len(ids))
        column = _Stamps(len(ids))
        out = Pairs((name, column if name == STAMP_ATTRIBUTE else value) for name, value in columns)  # type: ignore[misc]
        if all(name != STAMP_ATTRIBUTE for name, _ in columns):
            out.append((STAMP_ATTRIBUTE, column))  # type: ignore[arg-type]
        if self.shards is not None and ids:
            out.append((SHARD_ATTRIBUTE, [self._shard(element) for element in ids]))
        return out

    def _patch_by_filter(self, operation: Pairs) -> Json:
        out = Pairs()
        patches = 0
        for name, value in operation:
            new = value
            if name == "patch":
                patches += 1
                if patches > 1:
                    self._refuse("duplicate field `patch`", "bad_json")
                if isinstance(value, Pairs):
                    new = self._stamped("patch_by_filter.patch", value, lambda *_: None)
                elif is_list(value):
                    self._refuse("patch_by_filter.patch: expected an object, not an array")
            out.append((name, new))
        return out

    def _schema(self, schema: Pairs) -> None:
        for name, value in schema:
            if name.startswith(RESERVED_PREFIX):
                self._reserved("schema", name)
            if isinstance(value, Pairs) and any(key == "drop" and flag is True for key, flag in value):
                self.drops_attribute = True

    def _layer_row(self, field_name: str, at: int, row: Json) -> Json:
        place = f"{field_name}[{at}]"
        self._count(field_name, 1)
        if not isinstance(row, Pairs):
            self._refuse(f"{place}: expected an object")
            return row
        out = Pairs()
        shard: Number | None = None
        seen: set[str] = set()
        for name, value in row:
            if name in ("id", "vector", "attributes"):
                if name in seen:
                    self._refuse(f"duplicate field `{name}`", "bad_json")
                seen.add(name)
            if name == "id":
                if not isinstance(value, str):
                    self._refuse(f"{place}.id: expected a string or an unsigned integer")
                self._id(value)
                shard = self._shard(value)
                out.append((name, value))
            elif name == "vector":
                if field_name == "patches":
                    self._refuse(f"{place}.vector: vectors cannot be patched: upsert the whole row")
                elif value is not None:
                    self.has_vectors = True
                out.append((name, value))
            elif name == "attributes":
                out.extend(self._attributes(place, value))
            elif name.startswith(RESERVED_PREFIX):
                if name != STAMP_ATTRIBUTE:
                    self._reserved(place, name)
            else:
                self._refuse(f"{place}.{shown(name)}: unknown key: attributes stand in `attributes`")
        if "id" not in seen:
            self._refuse(f"{place}: `id` is required")
        if all(name != STAMP_ATTRIBUTE for name, _ in out):
            out.append((STAMP_ATTRIBUTE, _Stamps()))  # type: ignore[arg-type]
        if shard is not None:
            out.append((SHARD_ATTRIBUTE, shard))
        return out

    def _attributes(self, place: str, attributes: Json) -> Iterator[tuple[str, Json]]:
        if attributes is None:
            return
        if not isinstance(attributes, Pairs):
            self._refuse(f"{place}.attributes: expected an object")
            return
        for name, value in attributes:
            if name in ("id", "vector"):
                self._refuse(f"{place}.attributes: an attribute cannot be called `{name}`")
            elif name.startswith(RESERVED_PREFIX) and name != STAMP_ATTRIBUTE:
                self._reserved(place, name)
            yield name, _Stamps() if name == STAMP_ATTRIBUTE else value  # type: ignore[misc]

    def _first_present(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in _WRITE_FIELDS if name in self.present and name in names), None)

    def _conclude(self) -> None:
        layer, native = self._first_present(_LAYER_FIELDS), self._first_present(_NATIVE_FIELDS)
        rows = self.upserts + self.patches + self.deletes
        if layer:
            self.dialect = "layer"
            if native:
                self._refuse(
                    f"`{layer}` and `{native}` cannot be in one body: use `upsert_rows`, `patch_rows` and `deletes`, "
                    "or `upserts`, `patches` and `deletes`"
                )
            if rows == 0 and not self.writes_rows:
                self._refuse("`upserts`, `patches` and `deletes` are all empty")
        if self.patch_method:
            others = tuple(name for name in (*_NATIVE_FIELDS, *_LAYER_FIELDS, "deletes") if name not in _PATCH_FIELDS)
            if other := self._first_present(others):
                self._refuse(f"`{other}` cannot be sent with PATCH: use POST")
            elif self._first_present(_PATCH_FIELDS) is None:
                self._refuse("PATCH needs one of `patches`, `patch_rows`, `patch_columns` and `patch_by_filter`")
        if self.refusal:
            raise self.refusal
        self.by_filter = bool(self.present & {"delete_by_filter", "patch_by_filter"})
        self.conditional = bool(self.present & set(_OPTION_FIELDS[:3]))
        if "copy_from_namespace" in self.present:
            self.exclusive = "copy"
        elif "branch_from_namespace" in self.present:
            self.exclusive = "branch"
        self.writes_rows = self.writes_rows or rows > 0 or self.by_filter or self.exclusive is not None
        self.writes_rows = self.writes_rows or self.foreign
        self.ids_known = self.ids_known and not self.foreign


def _settled(tree: Json, stamp_ms: int) -> Json:
    """A copy of the tree with the stamps written out."""
    stamp = Number(str(stamp_ms))
    if isinstance(tree, _Stamps):
        return stamp if tree.rows is None else [stamp] * tree.rows
    if isinstance(tree, Pairs):
        return Pairs((name, _settled(value, stamp_ms)) for name, value in tree)
    if is_list(tree):
        return [_settled(value, stamp_ms) for value in elements(tree)]
    return tree
