"""The one page of the Rust extension. Bytes in, bytes out; the GIL is released around all work over a few KB."""

from typing import Literal

__version__: str

# --- splice ---------------------------------------------------------------------------------------------------------

class SpliceError(Exception):
    """A body that is refused. `code` is one of `bad_json`, `validation_error`, `not_supported`."""

    code: str
    message: str

Dialect = Literal["native", "layer"]

class WriteScan:
    """What a write body says, found in one pass; nothing is kept but positions in `body`."""

    def __new__(cls, body: bytes, *, patch_method: bool = False) -> WriteScan:
        """Scans a write body.

        Args:
            body: the JSON text, UTF-8, at most 16 MiB (see `open` for more).
            patch_method: the request's method is PATCH.
        Raises: SpliceError.
        """

    @staticmethod
    def open(path: str, *, patch_method: bool = False) -> WriteScan:
        """Scans a spooled body in a file, which is mapped, not read. The file must not change while in use."""

    dialect: Dialect
    upserts: int
    """Rows in `upsert_rows`, `upsert_columns` or `upserts`."""
    patches: int
    deletes: int
    has_vectors: bool
    """An upserted row carries a key `vector` (Layer dialect only)."""
    by_filter: bool
    """Has `delete_by_filter` or `patch_by_filter`."""
    conditional: bool
    exclusive: Literal["copy", "branch"] | None
    drops_attribute: bool
    """`schema` holds a `{"drop": true}`."""
    writes_rows: bool
    """Anything that changes rows: rows, columns, deletes, by-filter operations, copy, branch."""
    ids_known: bool
    """False when an id could not be read as an integer in 0..2^64 or a string: then `ids` is not complete."""

    def ids(self) -> list[bytes]:
        """Keys of every id named by a row, column, patch or delete, as `id_key` gives them, each once.

        A string that reads as a uuid yields two keys, its own and its canonical form's: the namespace's id type is
        not known here.
        """

    def render(self, stamp_ms: int, *, distance_metric: str | None = None) -> bytes:
        """The native body with every upserted and patched row stamped. `distance_metric` is added when the body is in
        the Layer dialect, carries vectors and has none. Not for a scan of a file."""

    def rendered_length(self, stamp_ms: int, *, distance_metric: str | None = None) -> int:
        """Bytes that `render` or all of `render_chunk` give."""

    def render_chunk(self, stamp_ms: int, offset: int, size: int, *, distance_metric: str | None = None) -> bytes:
        """Bytes `offset..offset+size` of the rendered body, for streaming a scan of a file; short at the end only."""

class QueryScan:
    """What a query body says, found in one pass."""

    def __new__(cls, body: bytes) -> QueryScan: ...

    dialect: Dialect
    multi: bool
    legs: int
    """Sub-queries; 1 for a single query."""
    has_consistency: bool
    has_filter: bool
    has_rank_by: bool
    model_rerank: bool
    """`rerank_by` is an object with a model: reserved attributes are stripped from the answer, not excluded."""
    wants_reserved: bool
    """A leg would return reserved attributes unless they are excluded or stripped."""
    permits: int
    """The upstream's concurrency slots the query takes: 1 a leg, kNN 2, aggregates 4."""
    nearest_to_id: list[str | int] | None

    def render(
        self,
        *,
        eventual: bool,
        watermark_ms: int | None,
        exclude_reserved: bool,
        vector: bytes | None = None,
    ) -> bytes:
        """The body to send upstream; the very object passed in when nothing changes.

        Args:
            eventual: add `"consistency":{"level":"eventual","max_staleness_seconds":1}` at the top level (never when
                the body has its own).
            watermark_ms: join `["_hevlayer_upserted_at","Lte",w]` by `And` into every leg's `filters`.
            exclude_reserved: see `wants_reserved`.
            vector: JSON text of the query vector, for a Layer-dialect query with `nearest_to_id`.
        """

def layer_results(body: bytes) -> bytes:
    """A native query answer with `results: [{id, dist, attributes}]` added beside `rows` (ids as they are)."""

def strip_rows(body: bytes) -> bytes:
    """A query answer without keys `_hevlayer_*` in rows; the same object when there are none."""

def strip_schema(body: bytes, under: str | None) -> bytes:
    """A schema map without keys `_hevlayer_*`: the top level (`under` None) or the object at that top-level key."""

def top_level(body: bytes, keys: list[str]) -> dict[str, bytes]:
    """The raw JSON text of the named top-level keys that are present. Raises: SpliceError."""

def id_key(id: str | int) -> bytes:
    """The cache key of an id: a tag byte (1 uint, 2 string, 3 uuid) and the value (8 bytes big-endian, UTF-8, 16
    bytes). A `str` is always tagged 2."""

def uuid_key(text: str) -> bytes | None:
    """The cache key of a uuid in any accepted form (hyphenated, 32 hex, braced, urn), tagged 2 over the canonical
    lower-case hyphenated text; None when `text` is not a uuid."""

# --- document cache -------------------------------------------------------------------------------------------------

class DocCacheError(Exception):
    """`args` are (code, message); the code is one of `locked`, `closed`, `json`, `shape`, `corrupt`, `io`."""

class DocProjection:
    """The attributes a reader asked for: all but vectors and reserved ones, or exactly the named ones."""

    def __new__(cls, names: list[str] | None = None) -> DocProjection: ...

class DocRows:
    """The rows of a query answer, each as a cache record. The GIL is released for large answers."""

    def __new__(cls, answer: bytes, vectors: list[str]) -> DocRows:
        """Splits `{"rows": [...]}`, not compressed. `vectors` names the vector attributes.

        Raises: DocCacheError: `json` or `shape`.
        """

    def __len__(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Bytes of all records."""

    def document(self, key: bytes, projection: DocProjection, id_type: str | None = None) -> bytes | None:
        """`{"id":…,"attributes":{…}}`, with `id_type` when given; None when no row has that key."""

class DocCacheEngine:
    """The embedded engine on a local directory. Every method may raise DocCacheError.

    With `wait=False` a call neither waits for the disk nor longer than a moment for the engine's lock, and holds the
    GIL; with `wait=True` it releases the GIL and takes as long as it takes.
    """

    def __new__(
        cls,
        directory: str,
        *,
        identity: str,
        capacity_bytes: int,
        ttl_ms: int,
        unknown_write_ms: int,
        now_ms: int,
    ) -> DocCacheEngine: ...
    def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None, now_ms: int, *, wait: bool
    ) -> bytes | int:
        """The document's JSON text; or a ticket to fill what is missing; 0: missing and not to be filled; -1: would
        have to wait."""

    def lookup_many(
        self, namespace: str, keys: list[bytes], projection: DocProjection, now_ms: int, *, wait: bool
    ) -> list[bytes | int]:
        """As `lookup`, in the order of the keys, without `id_type`."""

    def fill(
        self, namespace: str, rows: DocRows, ticket: int, now_ms: int, *, wait: bool
    ) -> tuple[int, bool] | None:
        """Puts the rows that nothing has touched since the ticket: (how many, whether `trim` is due); None: would
        have to wait."""

    def mark(
        self, token: int, namespace: str, keys: list[bytes] | None, deadline_ms: int, *, wait: bool
    ) -> bool:
        """Marks the ids of a write, or the whole namespace, until the write is settled. False: would have to wait."""

    def settle(
        self, token: int, outcome: Literal["applied", "refused", "unknown"], now_ms: int, *, wait: bool
    ) -> bool | None:
        """False: the mark is not there any more. None: would have to wait."""

    def clear(self, namespace: str, now_ms: int) -> None:
        """A new epoch: every row of the namespace is forgotten."""

    def owe(self, owing: bool) -> None:
        """While owing, a later start throws the rows away, unless this is taken back before."""

    def trim(self) -> None:
        """Evicts until the capacity holds. Waits for the disk."""

    def state(self, namespace: str) -> dict[str, int]:
        """`rows`, `bytes`, `marked`, `closed`."""

    def stats(self) -> dict[str, int]:
        """`rows`, `bytes`, `capacity_bytes`, `open_writes`, `evicted_rows`, `evicted_segments`, `refused_fills`,
        `io_errors`."""

    def close(self) -> None: ...

class WriteClock:
    """When this process last wrote an id; memory only, never fails. Other ids may share an id's time."""

    def __new__(cls) -> WriteClock: ...
    def touch(self, namespace: str, keys: list[bytes] | None) -> None:
        """Something was begun or settled for these ids, or for the whole namespace."""

    def generation(self, namespace: str, key: bytes) -> int:
        """Two reads of one generation had no write of the id between them."""
