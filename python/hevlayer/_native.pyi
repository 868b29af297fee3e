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

# --- origin ---------------------------------------------------------------------------------------------------------

class OriginEngine:
    """The local origin's engine over one data directory, which no other process may have open."""

    def __new__(
        cls,
        data_dir: str,
        *,
        query_billing_floor_bytes: int | None = None,
        index_lag_ms: int = 0,
        index_rows_min: int | None = None,
        checkpoint_bytes_min: int | None = None,
        delete_by_filter_rows_max: int | None = None,
        patch_by_filter_rows_max: int | None = None,
    ) -> OriginEngine:
        """Opens a data directory, making it if need be, and recovers what is in it.

        Args:
            query_billing_floor_bytes: least bytes billed as queried; 256,000,000 by default.
            index_lag_ms: how long a write stays unindexed.
            index_rows_min: namespaces with fewer rows have no index: approximate sizes are 0; 10,000 by default.
            checkpoint_bytes_min: the log is folded into snapshots no earlier than at this size; 64 MiB by default.
            delete_by_filter_rows_max: 5,000,000 by default.
            patch_by_filter_rows_max: 50,000 by default.
        Raises: OSError: it is open elsewhere, cannot be read or written, or its data are damaged other than at the end
            of the log.
        """

    def handle(self, method: str, path: str, query: str, body: bytes) -> tuple[int, str, bytes]:
        """Answers one request: status, content type, body. A write has been synced when this returns.

        Args:
            path: without region prefix; segments may be percent-encoded.
            query: the query string without `?`.
        """

    def recovery(self) -> dict[str, int]:
        """What opening found: `namespaces`, `rows`, `records_replayed`, `torn_bytes` (cut off the log's end)."""

    def set_index_lag(self, namespace: str | None, ms: int) -> None:
        """Sets how long writes stay unindexed, of one namespace (which need not exist) or of all without a lag of
        their own. Takes effect at once, also for writes that are waiting."""

    def checkpoint(self) -> None:
        """Folds the log into snapshots now. Raises: OSError: writing failed; nothing is lost."""

    def close(self) -> None:
        """Stops the background work, when what it is at is done. Requests are still answered."""
