"""The one page of the Rust extension. Bytes in, bytes out; the GIL is released around all work over a few KB."""

from os import PathLike
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, final

_T = TypeVar("_T")

__version__: str

# --- splice ---------------------------------------------------------------------------------------------------------

class SpliceError(Exception):
    """A body that is refused. `code` is one of `bad_json`, `validation_error`, `not_supported`.

    Broken JSON goes before a broken rule, wherever either stands; of broken rules the first in the body is told. A key
    that decides something and stands twice is `bad_json`.
    """

    code: str
    message: str

Dialect = Literal["native", "layer"]

@final
class WriteScan:
    """What a write body says, found in one pass; nothing is kept but positions in `body`.

    A key with null counts as absent. Values of a wrong type go up unchanged, for the upstream to refuse; an array where
    an object is stamped (the body, a row, columns, `patch_by_filter`) is refused here, since a struct may be read from
    an array of its fields and its rows would go up without a stamp. The keys `_hevlayer_*` are refused in rows,
    columns, `patch_by_filter.patch` and `schema`, save for the stamp in the first three, which is overwritten.
    """

    def __new__(cls, body: bytes, *, patch_method: bool = False, shards: int | None = None) -> Self:
        """Scans a write body.

        Args:
            body: the JSON text, UTF-8, at most 16 MiB (see `open` for more).
            patch_method: the request's method is PATCH: only `patches`, `patch_rows`, `patch_columns` and
                `patch_by_filter` may change rows, and one of them must be there.
            shards: the namespace's number of shards; every written row that has an id is stamped with its own.
        Raises: SpliceError.
        """

    @staticmethod
    def open(path: str | PathLike[str], *, patch_method: bool = False, shards: int | None = None) -> WriteScan:
        """Scans a spooled body in a file, which is mapped, not read. The file must not change while in use; it may be
        unlinked. Raises: SpliceError, OSError."""

    @property
    def dialect(self) -> Dialect:
        """`layer` when `upserts` or `patches` is there, even empty."""
    @property
    def upserts(self) -> int:
        """Rows in `upsert_rows`, `upsert_columns` or `upserts`."""
    @property
    def patches(self) -> int: ...
    @property
    def deletes(self) -> int: ...
    @property
    def has_vectors(self) -> bool:
        """An upserted row carries a `vector` that is not null (Layer dialect only)."""
    @property
    def by_filter(self) -> bool:
        """Has `delete_by_filter` or `patch_by_filter`."""
    @property
    def conditional(self) -> bool: ...
    @property
    def exclusive(self) -> Literal["copy", "branch"] | None: ...
    @property
    def drops_attribute(self) -> bool:
        """`schema` holds a `{"drop": true}`."""
    @property
    def writes_rows(self) -> bool:
        """Anything that changes rows: rows, columns, deletes, by-filter operations, copy, branch. Also true for rows of
        a wrong type, which the upstream is expected to refuse, and for keys that only a newer upstream knows."""
    @property
    def ids_known(self) -> bool:
        """False when an id could not be read as an integer in 0..2^64 or a string with a UTF-8 form, or a row has
        none, or a key is not known: then `ids` is not complete."""

    @property
    def affected_ids(self) -> bool | None:
        """Whether `return_affected_ids` is true; None when the body does not have it."""

    def ids(self) -> list[bytes]:
        """Keys of every id named by a row, column, patch or delete, as `id_key` gives them, each once.

        A string that reads as a uuid yields two keys, its own and its canonical form's: the namespace's id type is
        not known here.
        """

    def rows(
        self, stamp_ms: int, schema: DocSchema, *, affected: list[bytes] | None = None, bytes_max: int = ...
    ) -> WrittenRows:
        """The rows that this body has made of the namespace's, once the upstream has acknowledged it with 2xx.

        Only what is certain is told. An id of `ids` that is in none of the answer's parts has a row that is not known
        (and stays a miss): a value of a type that the upstream rewrites or that the schema does not have, a schema in
        the body that says anything new, a uuid not in canonical form, a row that a filter or a condition may have
        changed, a body or namespace with embedded attributes.

        Args:
            stamp_ms: the stamp that the body went upstream with.
            schema: read in the namespace's present epoch. An attribute that is newer than it makes its rows unknown,
                so read it again when a write names attributes that it lacks.
            affected: keys, as `id_key` gives them, of all ids that the upstream's answer says it upserted, patched or
                deleted (`return_affected_ids`). Without it a conditional operation is not known; with it, nothing else.
            bytes_max: rows are told up to this many bytes of records, 64 MiB unless said.
        """

    def render(self, stamp_ms: int, *, distance_metric: str | None = None) -> bytes:
        """The native body with every upserted and patched row stamped; the very object passed in when it has none.
        `distance_metric` is added when the body is in the Layer dialect, carries vectors and has none.
        Raises: TypeError: the scan is a file's."""

    def rendered_length(self, stamp_ms: int, *, distance_metric: str | None = None) -> int:
        """Bytes that `render` or all of `render_chunk` give."""

    def render_chunk(self, stamp_ms: int, offset: int, size: int, *, distance_metric: str | None = None) -> bytes:
        """Bytes `offset..offset+size` of the rendered body, for streaming a scan of a file; short at the end only.
        Chunks in order cost their own length; an offset before the last chunk's end renders again from the start."""

@final
class QueryScan:
    """What a query body says, found in one pass. A key with null counts as absent.

    Arrays in place of the body or of a sub-query are refused, as in `WriteScan`; other wrong types go up unchanged.
    """

    def __new__(cls, body: bytes) -> Self: ...
    @property
    def dialect(self) -> Dialect:
        """`layer` when `nearest_to_id` is there, or `vector` without `rank_by`."""
    @property
    def multi(self) -> bool:
        """Has `queries`; what the upstream ignores beside it (filters at the top) is left alone."""
    @property
    def legs(self) -> int:
        """Sub-queries; 1 for a single query."""
    @property
    def has_consistency(self) -> bool: ...
    @property
    def has_filter(self) -> bool:
        """A leg has `filters`."""
    @property
    def has_rank_by(self) -> bool:
        """A leg has `rank_by`."""
    @property
    def model_rerank(self) -> bool:
        """`rerank_by` is an object with a model: reserved attributes are stripped from the answer, not excluded."""
    @property
    def wants_reserved(self) -> bool:
        """A leg would return reserved attributes unless they are excluded or stripped."""
    @property
    def permits(self) -> int:
        """The upstream's concurrency slots the query takes: 1 a leg, kNN 2, aggregates 4."""
    @property
    def facts(self) -> tuple[bool, bool, bool, bool, int, bool, bool]:
        """The dialect is Layer's, has_consistency, has_filter, has_rank_by, the legs of a multi-query (else 0),
        wants_reserved, model_rerank: in one look what the plan of a query asks for."""
    @property
    def nearest_to_id(self) -> list[str | int] | None:
        """At least one id, duplicates kept."""

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
            vector: JSON text of the query vector, for a Layer-dialect query with `nearest_to_id`; put in as it is.
        Raises: ValueError: `vector` is missing for a query with `nearest_to_id`.
        """

def layer_results(body: bytes) -> bytes:
    """A native query answer with `results: [{id, dist, attributes}]` added beside `rows` (ids as they are; `dist` only
    where the row has `$dist`). The same object when it has no rows, or has `results`. Raises: SpliceError: not JSON."""

def strip_rows(body: bytes) -> bytes:
    """A query answer without keys `_hevlayer_*` in rows, rows of `results` and aggregation groups; the same object when
    there are none. Raises: SpliceError: not JSON, noticed only when reserved text stands in it."""

def strip_schema(body: bytes, under: str | None) -> bytes:
    """A schema map without keys `_hevlayer_*`: the top level (`under` None) or the object at that top-level key. The
    same object when there are none, or when it is not JSON."""

def query_shape(body: bytes, /) -> bytes:
    """A query as JSON text of at most 8 KiB: lists of numbers told by their length, long texts and lists cut. What is
    larger, or not one object, is told by its size (`bytes`) and keys."""

def answer_ids(answer: bytes, most: int, /) -> bytes:
    """The ids of a query answer's rows as a JSON array of at most `most` strings; of several legs one after the other.
    Empty when the text is not such an answer."""

def top_level(body: bytes, keys: list[str]) -> dict[str, bytes]:
    """The raw JSON text of the named top-level keys that are present. Raises: SpliceError: not JSON, not an object, or
    a named key stands twice."""

def separators(text: bytes) -> int:
    """How many commas of a JSON text stand outside its strings; of a text that is no JSON the number says nothing."""

def affected_ids(answer: bytes) -> tuple[list[bytes] | None, list[bytes], bytes]:
    """Of a write's answer: keys of all ids that it says were upserted, patched or deleted, None when it does not name
    as many as it counts; those of them that were deleted and not written again; and the answer without its lists of
    ids, the very object when it has none. Raises: SpliceError: not JSON."""

def id_key(value: str | int, /) -> bytes:
    """The cache key of an id: a tag byte (1 uint, 2 string, 3 uuid) and the value (8 bytes big-endian, UTF-8, 16
    bytes). A `str` is always tagged 2. Raises: OverflowError: not in 0..2^64."""

def shard_of(value: str | int, shards: int, /) -> int:
    """The shard of an id, as a write's scan stamps it. Raises: OverflowError: not in 0..2^64."""

def uuid_key(text: str) -> bytes | None:
    """The cache key of a uuid in any accepted form (hyphenated, 32 hex, braced, urn), tagged 2 over the canonical
    lower-case hyphenated text; None when `text` is not a uuid."""

# --- merge ----------------------------------------------------------------------------------------------------------

class MergeError(Exception):
    """Answers that cannot be merged. `args` are the index of the answer and the reason."""

@final
class MergedLegs:
    """What the legs of a scattered query gave together."""

    @property
    def rows(self) -> bytes:
        """A JSON array of the rows, each as it came."""
    @property
    def row_count(self) -> int: ...
    @property
    def legs(self) -> int:
        """Legs that the answers held."""
    @property
    def billing(self) -> list[bytes]:
        """The JSON text of `billing` of each answer that had one."""
    @property
    def performance(self) -> list[bytes]: ...

def merge_legs(answers: list[bytes], *, offset: int, limit: int, descending: bool) -> MergedLegs:
    """The best rows of all legs by `$dist`, equal ones by id (integers first), an id once, cut to `offset` and `limit`.
    Releases the GIL.

    Args:
        answers: each to a single query (`rows`) or a multi-query (`results`, one leg each), whole, not compressed.
        descending: `$dist` is a score, not a distance.
    Raises: MergeError: an answer is not JSON or has no rows, or a row has no id or no number at `$dist`.
    """

# --- HTTP -----------------------------------------------------------------------------------------------------------

class RefusedError(Exception):
    """A request that cannot be served; `args` are (status, code, message) of the answer to it."""

class BrokenAnswerError(Exception):
    """An answer that is not the HTTP/1.1 we accept; its text says why."""

@final
class ForwardRules:
    """Which headers of a request go upstream, beside those that the gateway writes."""

    def __new__(cls, names: list[bytes], prefixes: list[bytes]) -> ForwardRules: ...

@final
class RequestHead:
    """A request that was read. Everything is made anew at each look, so look once."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes:
        """The request target exactly as sent."""
    @property
    def path(self) -> str:
        """The target's part before `?`, without scheme and authority, still encoded."""
    @property
    def query(self) -> str:
        """What stands behind the path's `?`."""
    @property
    def flags(self) -> int:
        """The constants of `kernels.http`, added up."""
    @property
    def length(self) -> int | None:
        """The declared length of the body in bytes."""
    @property
    def body(self) -> bytes | None:
        """The whole body; None when it arrives in pieces."""
    @property
    def bearer(self) -> bytes | None:
        """The token of `Authorization: Bearer …`."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name` (lower-case)."""

    def values(self, name: bytes) -> list[bytes]:
        """Every value of `name` (lower-case), in order."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Lower-case names and values, in order."""

    def forwarded(
        self,
        rules: ForwardRules,
        base: bytes,
        prefix_bytes: int,
        host: bytes,
        authorization: bytes | None,
        traceparent: bytes,
        identity: bool,
        body: bytes,
        /,
    ) -> bytes:
        """The whole message to send upstream for this request: its target behind `base` and without its first
        `prefix_bytes` bytes, the allowed headers, ours, and `body`. With `identity` the answer must not be
        compressed."""

@final
class BodyRoom:
    """The memory that request bodies which come with their heads may take together: at most `bytes_max` bytes, those of
    up to 16 KiB each not counted. A body counts as long as its RequestHead is there."""

    def __new__(cls, bytes_max: int) -> BodyRoom: ...
    @property
    def used(self) -> int:
        """Bytes."""

@final
class RequestReader:
    """Reads the requests of one connection.

    `feed` and `next` give one event at a time, None when all that came is read: a RequestHead; `bytes`, a part of the
    body of the last request, if that arrives in pieces; True when that body is complete. They raise RefusedError for
    what is no request; nothing is read after that.
    """

    def __new__(cls, head_bytes_max: int, header_count_max: int, whole_body_bytes_max: int, room: BodyRoom) -> Self:
        """`whole_body_bytes_max`: a body that declares at most so many bytes comes with its request, while there is
        room for it."""

    def feed(self, data: bytes, now: float, /) -> RequestHead | bytes | bool | None: ...
    def next(self) -> RequestHead | bytes | bool | None: ...
    @property
    def phase(self) -> int:
        """0: between requests, 1: within a head, 2: within a body."""
    since: float
    """The `now` at which the request that is being read began."""

@final
class ResponseHead:
    """An answer that was read. Everything is made anew at each look."""

    @property
    def status(self) -> int: ...
    @property
    def whole(self) -> bool:
        """The body came with it."""
    @property
    def body(self) -> bytes | None: ...
    def header(self, name: bytes) -> bytes | None: ...
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    def relayed(
        self, status_line: bytes, own: bytes, date: bytes, connection: bytes, stable_as_of_ms: int | None, /
    ) -> tuple[bytes, int, int | None, int | None]:
        """The whole message for the client of a query: the answer's headers without those for one hop, `own` header
        lines, the `date` line unless the answer has one, the length, the `connection` line; and the body, in which
        `stable_as_of` is the last key unless it is compressed.

        Returns: the message, the length of its body, the logical bytes billed as queried and as returned (None: the
            body is compressed or says nothing of them).
        """

@final
class ResponseReader:
    """Reads the answers on one connection; events as of `RequestReader`. Raises BrokenAnswerError."""

    def __new__(cls, head_bytes_max: int, header_count_max: int) -> Self: ...
    def begin(self, is_head: bool, whole_body_bytes_max: int, /) -> None:
        """A request was sent. A longer body than `whole_body_bytes_max` comes in pieces."""

    def feed(self, data: bytes, /) -> ResponseHead | bytes | bool | None: ...
    def next(self) -> ResponseHead | bytes | bool | None: ...
    @property
    def in_body(self) -> bool: ...
    @property
    def reusable(self) -> bool:
        """The answer is complete and the connection may carry another request."""

    def finish(self, is_clean: bool, /) -> ResponseHead | bool | None:
        """The connection ended. What that completes, or None: there was no answer.

        Raises: BrokenAnswerError: the body is shorter than its framing says.
        """

@final
class TraceIds:
    """Mints trace ids from a seed."""

    def __new__(cls, seed: int) -> TraceIds: ...
    def identify(self, head: RequestHead, /) -> tuple[bytes, str, str]:
        """(traceparent, trace id, request id): the caller's where they are valid. A trace without one is minted, and
        a request without an id has its trace's."""

def access_line(
    time_ms: int,
    method: str,
    path: str,
    operation: str,
    status: int,
    size: int | None,
    seconds: float,
    upstream_seconds: float,
    request_id: str,
    trace_id: str,
    peer: str,
    consistency: str,
    failure: str,
    /,
) -> str:
    """One line of the access log, JSON without its line break. Empty `consistency` and `failure` are left out."""

# --- document cache -------------------------------------------------------------------------------------------------

class DocCacheError(Exception):
    """`args` are (code, message); the code is one of `locked`, `closed`, `broken`, `busy`, `stopped`, `json`, `shape`,
    `corrupt`, `io`."""

@final
class DocProjection:
    """The attributes a reader asked for: all but vectors and reserved ones, or exactly the named ones."""

    def __new__(cls, names: list[str] | None = None) -> DocProjection: ...

@final
class DocRows:
    """The rows of a query answer, each as a cache record. The GIL is released for large answers."""

    def __new__(cls, answer: bytes, vectors: list[str]) -> DocRows:
        """Splits `{"rows": [...]}`, not compressed. `vectors` names the vector attributes.

        Raises: DocCacheError: `json` or `shape`.
        """

    @staticmethod
    def typed(answer: bytes, schema: DocSchema) -> DocRows:
        """As the constructor, with uuids and datetimes as typed values, which filters compare without reading text.

        Raises: DocCacheError: `json` or `shape`.
        """

    def __len__(self) -> int: ...
    def keys(self) -> list[bytes]:
        """The rows' keys, each once."""

    def ends(self) -> tuple[bytes, bytes] | None:
        """The first and the last row's key, in the answer's order; None when there is no row."""

    def only(self, key: bytes) -> DocRows:
        """The row of `key` alone, if it is there."""

    @staticmethod
    def joined(parts: list[DocRows]) -> DocRows:
        """The rows of all parts; of two rows with one key the later stands."""

    @property
    def record_bytes(self) -> int:
        """Bytes of all records."""

    def document(self, key: bytes, projection: DocProjection, id_type: str | None = None) -> bytes | None:
        """`{"id":…,"attributes":{…}}`, with `id_type` when given; None when no row has that key."""

@final
class DocSchema:
    """A namespace's attributes and their types. Made once for each schema that was read, used for many rows."""

    def __new__(cls, schema: bytes) -> DocSchema:
        """Reads the `schema` member of the upstream's metadata answer, reserved attributes included.

        Raises: DocCacheError: `json` or `shape`; ValueError: not UTF-8.
        """

    @property
    def id_type(self) -> Literal["uint", "string", "uuid"] | None: ...
    @property
    def attributes(self) -> list[str]:
        """All names but `id`, in the metadata's order."""
    @property
    def vectors(self) -> list[str]:
        """Dense, sparse and multi-vector attributes."""

@final
class WrittenRows:
    """What is known of the rows of an acknowledged write. See `WriteScan.rows`."""

    @property
    def rows(self) -> DocRows:
        """Upserted rows as the upstream now has them, whatever was there before. Each value has the upstream's text;
        the attributes are in the schema's order, which need not be that of the upstream's answers."""
    @property
    def deleted(self) -> list[bytes]:
        """Keys of ids that the upstream now has no row of."""
    @property
    def patched(self) -> list[bytes]:
        """Keys of ids that were patched; their rows need those from before, see `apply`."""

    def apply(self, beneath: DocRows) -> DocRows:
        """The patched rows as the upstream now has them, of those ids whose row from right before this write is in
        `beneath` (what the cache held under the write's mark, with no other write in between); others are left out.
        Releases the GIL."""

@final
class AerospikeEngine:
    """The Aerospike engine's client. A call starts an operation under a number of the caller's choice; `take` gives the
    ends of those that are over, and `fileno` becomes readable when there is one. Milliseconds are since 1970.
    """

    def __new__(
        cls,
        hosts: str,
        namespace: str,
        set_prefix: str,
        *,
        scope: str,
        user: str,
        password: str,
        connect_ms: int,
        ttl_ms: int,
        unknown_write_ms: int,
        clock_skew_ms: int,
        scan_bytes_max: int,
    ) -> AerospikeEngine:
        """Raises: DocCacheError: `setting`."""

    def fileno(self) -> int: ...
    def take(self) -> list[tuple[int, bool, Any]]:
        """(call, whether it failed, its answer; or the failure's code and message)."""

    def connect(self, call: int) -> None:
        """Answers as `server`; the cluster is then kept reached, whether this worked or not."""

    def lookup(
        self,
        call: int,
        budget_ms: int,
        namespace: str,
        key: bytes,
        projection: DocProjection,
        id_type: str | None,
        now_ms: int,
    ) -> None:
        """Answers the document's JSON text; or a ticket, see `Engine.lookup`."""

    def lookup_many(
        self, call: int, budget_ms: int, namespace: str, keys: list[bytes], projection: DocProjection, now_ms: int
    ) -> None: ...
    def fill(
        self,
        call: int,
        budget_ms: int,
        namespace: str,
        rows: DocRows,
        keys: list[bytes],
        tickets: list[int],
        now_ms: int,
    ) -> None:
        """Answers how many rows were put."""

    def begin_fill(self, call: int, budget_ms: int, namespace: str, now_ms: int) -> None:
        """Answers an epoch and a moment; None: not now."""

    def fill_page(
        self, call: int, budget_ms: int, namespace: str, rows: DocRows, began: tuple[int, int], now_ms: int
    ) -> None:
        """Answers how many rows were put, and the keys of those that are not held."""

    def mark(
        self,
        call: int,
        budget_ms: int,
        token: int,
        namespace: str,
        keys: list[bytes] | None,
        now_ms: int,
        until_ms: int,
    ) -> None: ...
    def settle(
        self,
        call: int,
        budget_ms: int,
        token: int,
        namespace: str,
        keys: list[bytes] | None,
        outcome: str,
        changed: list[bytes] | None,
        rows: DocRows | None,
        deleted: list[bytes],
        now_ms: int,
    ) -> None:
        """Answers whether every mark was there."""

    def beneath(self, call: int, budget_ms: int, token: int, namespace: str, keys: list[bytes], now_ms: int) -> None:
        """Answers DocRows."""

    def clear(self, call: int, budget_ms: int, namespace: str, now_ms: int) -> None: ...
    def owe(self, call: int, budget_ms: int, owner: int, namespace: str | None, owed: bool, now_ms: int) -> None: ...
    def end_owed(self, call: int, budget_ms: int, now_ms: int) -> None: ...
    def facts(self, call: int, budget_ms: int, namespace: str, now_ms: int) -> None:
        """Answers the fields of NamespaceFacts."""

    def scan(self, call: int, budget_ms: int, namespace: str, now_ms: int, cancel: CancelFlag | None = None) -> None:
        """Answers all rows of a namespace as a DocScan, and the fields of NamespaceFacts."""

    def holes(self, call: int, budget_ms: int, namespace: str, limit: int, now_ms: int) -> None:
        """Answers keys."""

    def note(self, call: int, budget_ms: int, namespace: str, note: bytes, epoch: int, lost: int, now_ms: int) -> None:
        """Answers whether it was kept."""

    def limit(self, call: int, budget_ms: int, namespace: str, capacity_bytes: int, now_ms: int) -> None: ...
    def trim(self, call: int, budget_ms: int, namespace: str, now_ms: int) -> None:
        """Answers how many rows went."""

    def server(self, call: int) -> None:
        """Answers what the server says of the Aerospike namespace."""

    def set_ttl(self, ttl_ms: int) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def close(self, call: int, budget_ms: int) -> None: ...
    def stop(self) -> None:
        """Drops the ends that come later."""

@final
class DocScan:
    """All rows that a namespace's cache holds at one moment, each once, for `CompiledFilter` and `ColumnTable.build`.

    What is written, evicted or cleared after that moment changes nothing in it; what it holds on to is free when it is
    dropped. Its length is the rows that a filter is shown.
    """

    @staticmethod
    def of_rows(rows: DocRows, *, marked: DocRows | None = None, sequence: int = 0) -> DocScan:
        """Rows in memory; of two with one id the later stands."""

    def with_marked(self) -> DocScan:
        """The same moment, shown with the rows beneath the marks of open writes, as they were before. Without this,
        such rows are left out."""

    def __len__(self) -> int: ...
    @property
    def marked(self) -> int:
        """Rows beneath marks, shown or not."""
    @property
    def missing(self) -> int:
        """Rows that ought to be there and are not: too old, or found damaged by what has read the scan so far, each
        time that it was read. Over 0, it does not show the whole namespace."""
    @property
    def sequence(self) -> int:
        """The last change of the cache that it sees."""

@final
class DocCachePending(Generic[_T]):
    """A change that was handed to the engine's writer and is not made yet; it is made whether or not anyone asks, of
    an engine with a bell once the writer was told to `begin`."""

    def result(self) -> _T | None:
        """What the change answers with, once; None while it is not made. May raise DocCacheError."""

@final
class FetchHits:
    """Whole answers for cached documents, from the heads of requests; one event loop's thread uses it.

    With `gateway_key` every caller shows that bearer; without one callers are known by their `authorization`. Trace ids
    are minted from `seed`.
    """

    def __new__(cls, seed: int, gateway_key: bytes | None, *, vouchers_max: int, projections_max: int) -> FetchHits: ...
    def admit(self, authorization: bytes | None, namespace: str, id_type: str, until: float, note: object, /) -> None:
        """Lets this caller's fetches from a namespace with this id type be answered until a monotonic time in seconds.
        `note` comes back with each answer. There are at most `vouchers_max` of these; with more, all are dropped."""

    def learn(self, query: str, projection: DocProjection, /) -> None:
        """The projection that a query string asks for; at most `projections_max` are kept."""

    def forget(self, namespace: str, /) -> None:
        """Nobody's fetches from this namespace are answered until the next `admit`."""

    def answer(
        self, engine: DocCacheEngine, head: RequestHead, now: float, now_ms: int, date_line: bytes, /
    ) -> tuple[bytes, object, int, str, str] | None:
        """(message, note, bytes of the document, trace id, request id), or None: not a plain fetch of a document that
        is there, by a caller who is let. Raises: DocCacheError."""

@final
class QueryRelays:
    """Messages for the upstream, from the heads of plain queries; one event loop's thread uses it.

    With `gateway_key` every caller shows that bearer; without one callers are known by their `authorization`. Trace ids
    are minted from `seed`. `base` and `host` are the upstream's.
    """

    def __new__(
        cls,
        seed: int,
        gateway_key: bytes | None,
        rules: ForwardRules,
        base: bytes,
        host: bytes,
        *,
        body_bytes_max: int,
        vouchers_max: int,
    ) -> QueryRelays: ...
    def admit(
        self,
        authorization: bytes | None,
        namespace: str,
        until: float,
        note: object,
        *,
        eventual: bool,
        watermark_ms: int | None,
        excludes: bool,
        consistency: str,
        stable_as_of_ms: int | None,
        scope: str,
    ) -> None:
        """Lets this caller's queries on a namespace be read so until a monotonic time in seconds. `authorization` is
        what the upstream is shown. `excludes`: reserved attributes are kept out of answers that would show them
        unnamed. There are at most `vouchers_max` of these; with more, all are dropped."""

    def begin(self, head: RequestHead, now: float, /) -> tuple[bytes, RelayedQuery] | None:
        """The message to send upstream, or None: not a plain query by a caller who is let."""

@final
class RelayedQuery:
    """A query of `QueryRelays.begin`. Everything is made anew at each look."""

    @property
    def note(self) -> object:
        """The voucher's."""
    @property
    def head(self) -> RequestHead: ...
    @property
    def traceparent(self) -> bytes: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def has_filter(self) -> bool: ...
    @property
    def has_rank_by(self) -> bool: ...
    @property
    def excludes(self) -> bool:
        """Reserved attributes were excluded."""

    def answered(
        self, answer: ResponseHead, date: bytes, connection: bytes, /
    ) -> tuple[bytes, int, int | None, int | None] | None:
        """As `ResponseHead.relayed`, for the client; None: not a whole 200."""

    def line(
        self, time_ms: int, operation: str, size: int, seconds: float, upstream_seconds: float, peer: str, /
    ) -> str:
        """As `access_line`, of a query that is answered with 200."""

    def record(self, answer: bytes, ids_max: int, /) -> bytes:
        """What the history says of the query and an answer's body: the members of a JSON object after its times, from
        the comma on, with at most `ids_max` ids."""

    def record_at_once(self, answer: ResponseHead, ids_max: int, /) -> bytes | None:
        """The same of an answer; None: it is compressed."""

@final
class DocCacheEngine:
    """The embedded engine on a local directory, which several engines and processes may share.

    Every method may raise DocCacheError. A look-up with `wait=False` waits neither for the disk nor longer than a
    moment for anything else, and holds the GIL; with `wait=True` it releases the GIL and takes as long as it takes. A
    change is handed over; with `in_place` it is waited for a moment (300 microseconds), without the GIL. Times are
    epoch milliseconds. For the protocol see `hevlayer.stores.doccache_engine`.
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
        namespace_capacity_bytes: int = 0,
    ) -> DocCacheEngine: ...
    def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None, now_ms: int, *, wait: bool
    ) -> bytes | int | None:
        """The document's JSON text; or a ticket; None: would have to wait."""

    def lookup_many(
        self, namespace: str, keys: list[bytes], projection: DocProjection, now_ms: int, *, wait: bool
    ) -> tuple[list[bytes | int], int] | None:
        """As `lookup`, in the order of the keys, without `id_type`, all at one moment, and how many documents were
        found; None: one of them would have to wait."""

    def fill(
        self,
        namespace: str,
        rows: DocRows,
        keys: list[bytes],
        tickets: list[int],
        now_ms: int,
        *,
        in_place: bool,
    ) -> int | DocCachePending[int]:
        """How many rows were put."""

    def begin_fill(self, namespace: str, now_ms: int) -> int: ...
    def fill_page(
        self, namespace: str, rows: DocRows, ticket: int, now_ms: int, *, in_place: bool
    ) -> tuple[int, list[bytes]] | DocCachePending[tuple[int, list[bytes]]]:
        """How many rows were put, and the keys of those that are not held."""

    def mark(
        self, token: int, namespace: str, keys: list[bytes] | None, deadline_ms: int, *, in_place: bool
    ) -> bool | DocCachePending[bool]: ...
    def settle(
        self,
        token: int,
        namespace: str,
        outcome: str,
        now_ms: int,
        *,
        changed: list[bytes] | None = None,
        rows: DocRows | None = None,
        deleted: list[bytes] | None = None,
        in_place: bool,
    ) -> bool | DocCachePending[bool]:
        """`outcome` is `applied`, `refused` or `unknown`. False: the mark is not there any more."""

    def begin(self) -> None:
        """Has the writer begin with the changes that are not waited for in place."""

    def set_bell(self, descriptor: int) -> None:
        """An event (`os.eventfd`) to raise when a change was made whose `result` was asked for in vain."""

    def beneath(self, namespace: str, keys: list[bytes]) -> DocRows:
        """The rows beneath marks, of ids that only one write has marked. Releases the GIL and waits for the disk."""

    def clear(self, namespace: str, *, in_place: bool) -> bool | DocCachePending[bool]: ...
    def owe(self, owner: int, namespaces: list[str] | None = None) -> None:
        """States all that one policy of this engine owes. Needs neither the disk nor the writer."""

    def facts(self, namespace: str) -> dict[str, Any]:
        """The fields of `NamespaceFacts`."""

    def scan(
        self, namespace: str, now_ms: int, *, timeout_ms: int | None = None, cancel: CancelFlag | None = None
    ) -> tuple[DocScan, dict[str, Any]]:
        """All rows as of now, and the fields of `NamespaceFacts` as of the same moment. Takes about half a second and
        40 MB for a million rows. Releases the GIL. Raises: ScanStoppedError: `timed_out` or `cancelled`."""

    def columns(self, namespace: str, now_ms: int) -> tuple[ColumnTable, dict[str, Any]] | None:
        """The columns of a namespace as it is now, with the fields of `NamespaceFacts` as of the same moment; None
        without columns that can be brought up to date. The table stays as it is. Releases the GIL."""

    def columns_at_once(self, namespace: str, now_ms: int) -> tuple[ColumnTable, dict[str, Any]] | None:
        """As `columns`, when that waits for nobody: they are open and little has changed. None says nothing. Holds the
        GIL."""

    def build_columns(
        self,
        namespace: str,
        schema: FilterSchema,
        attributes: list[str],
        now_ms: int,
        *,
        timeout_ms: int | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any] | None:
        """Builds columns from the cached rows, in place of those that are there; None while another process builds.

        Returns: as `ColumnTable.build`. Raises: ScanStoppedError; FilterRefusedError; ValueError: no id type yet.
        """

    def column_files(self) -> list[dict[str, Any]]:
        """The fields of `ColumnFile`, of every process's files. Reads the disk; releases the GIL."""

    def drop_columns(self, namespace: str) -> None: ...
    def tidy_columns(self) -> None: ...
    def holes(self, namespace: str, limit: int) -> list[bytes]: ...
    def note(
        self, namespace: str, text: str, epoch: int, lost: int, *, in_place: bool
    ) -> bool | DocCachePending[bool]: ...
    def limit(self, namespace: str, capacity_bytes: int | None, *, in_place: bool) -> bool | DocCachePending[bool]: ...
    def set_ttl(self, ttl_ms: int) -> None: ...
    def maintain(self, now_ms: int) -> None:
        """Ends marks that are over, evicts, gives room back. Releases the GIL and waits for the disk."""

    def stats(self) -> dict[str, int]:
        """`rows`, `bytes`, `capacity_bytes`, `open_writes`, `evicted_rows`, `evicted_segments`, `refused_fills`,
        `io_errors`."""

    def close(self, now_ms: int) -> None: ...

def distrust_doccache(directory: str) -> None:
    """Has whoever opens the directory first the next time begin empty; who has it open lets go of it."""

# --- origin ---------------------------------------------------------------------------------------------------------

@final
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

# --- filters ---------------------------------------------------------------------------------------------------------

class FilterRefusedError(Exception):
    """A filter, or a field, that cannot be evaluated.

    `code`: `validation_error` (no filter, or values that do not fit); `unsupported` (the upstream can evaluate it, this
    engine cannot: it needs a text index, or a type is not known here); `schema` (the schema has no such attribute or
    does not allow the operator on it; a newer schema may). `pointer` is a JSON pointer from the filter's root to the
    place; `/field` when it is the field of `values`.
    """

    code: Literal["validation_error", "unsupported", "schema"]
    pointer: str
    message: str

class ScanStoppedError(Exception):
    """A scan without an answer. `code`: `timed_out`; `cancelled`; `mistyped` (a stored value is not of its attribute's
    type: the schema is not the rows'); `source` (the rows could not be read)."""

    code: Literal["timed_out", "cancelled", "mistyped", "source"]

@final
class CancelFlag:
    """Stops the scans that it was given to, soon after it is set by any thread."""

    def __new__(cls) -> Self: ...
    def set(self) -> None: ...

@final
class FilterSchema:
    """The attributes of a namespace, for any number of filters."""

    def __new__(cls, metadata: bytes) -> Self:
        """Reads `{"attribute": {"type": …, "filterable"?, "glob"?, "regex"?, "fuzzy"?, "full_text_search"?}}`, the
        `schema` of the upstream's metadata or its schema route; a bare type string stands for `{"type": …}`.
        Raises: ValueError."""

@final
class CompiledFilter:
    """A filter, compiled for a schema. Evaluation releases the GIL.

    `source` is the rows of an answer, or a table of columns. Over columns a method answers None when an attribute that
    it reads has no column; the caller then reads rows. `threads` is 1 to 64; `timeout_ms` bounds the call, None: no
    bound. Raises: ScanStoppedError.
    """

    def __new__(cls, condition: bytes | None, schema: FilterSchema) -> Self:
        """Compiles the JSON text of a filter; None is met by every row. Bounds: 8 MiB, 48 levels, 65,536 values, 100
        patterns. Raises: FilterRefusedError."""

    def narrowed(self, other: CompiledFilter) -> CompiledFilter:
        """The filter of the rows that meet both, which were compiled for the same schema. The bounds hold for each."""

    @property
    def attributes(self) -> list[str]:
        """The attributes that it reads, each once."""

    def count(
        self,
        source: DocRows | DocScan | ColumnTable,
        *,
        threads: int = 1,
        timeout_ms: int | None = None,
        cancel: CancelFlag | None = None,
    ) -> tuple[int, int] | None:
        """How many rows meet the filter, and how many there are."""

    def ids(
        self,
        source: DocRows | DocScan | ColumnTable,
        *,
        after: bytes | None = None,
        limit: int | None = None,
        threads: int = 1,
        timeout_ms: int | None = None,
        cancel: CancelFlag | None = None,
    ) -> IdList | None:
        """The ids of the rows that meet the filter, sorted: those after the id with the cache key `after`, at most
        `limit`."""

    def values(
        self,
        source: DocRows | DocScan | ColumnTable,
        field: str,
        *,
        groups_max: int,
        threads: int = 1,
        timeout_ms: int | None = None,
        cancel: CancelFlag | None = None,
    ) -> bytes | None:
        """The values of a field over the rows that meet the filter, an array's each once per row: JSON
        `{"type": …, "groups": [["value", count], …], "observed": n, "exact": true, "nulls": n, "rows": n}`.

        The most frequent come first, equally frequent ones in the order of values, at most `groups_max`. `observed` is
        the number of distinct values; with more than a million `exact` is false, `observed` a lower bound and `groups`
        empty. `nulls` and `rows` count the matching rows without a value and in all. Raises also: FilterRefusedError.
        """

@final
class IdList:
    """Ids that were found, in order: integers by size, strings and uuids by their bytes."""

    def __len__(self) -> int: ...
    def key(self, index: int) -> bytes | None:
        """The cache key of an id, to go on after it; None past the end."""

    def page(self, offset: int, limit: int) -> bytes:
        """A JSON array of the ids as strings."""

@final
class ColumnTable:
    """Typed columns of a namespace's rows in a mapped file, and the rows that have changed since it was built. Any
    thread may read while another changes it."""

    @staticmethod
    def open(path: str | PathLike[str]) -> ColumnTable:
        """Maps a segment and checks all of it. Raises: OSError: it cannot be read, is of another version, or is
        damaged: build another."""

    @staticmethod
    def build(
        path: str | PathLike[str],
        source: DocRows | DocScan,
        schema: FilterSchema,
        attributes: list[str],
        *,
        sequence: int = 0,
        timeout_ms: int | None = None,
        cancel: CancelFlag | None = None,
    ) -> BuildReport:
        """Writes a segment with columns of the attributes and puts it at `path`, in one pass over the rows.

        Args:
            sequence: the source's sequence number as of which the rows are; kept in the segment.
        Returns: rows, bytes of the file, attributes that got no column since a value of theirs is of another type,
            and seconds that it took.
        Raises: ValueError, FilterRefusedError, ScanStoppedError.
        """

    def change(self, rows: DocRows, gone: list[bytes], sequence: int) -> None:
        """Takes rows that were written after the segment's sequence number, and the keys of rows that are gone."""

    @property
    def attributes(self) -> list[str]:
        """The attributes that have a column."""

    def stats(self) -> dict[str, int]:
        """`rows`, `segment_rows`, `segment_bytes`, `changed_rows`, `superseded_rows`, `changed_bytes`, `sequence`."""

class BuildReport(TypedDict):
    rows: int
    bytes: int
    left_out: list[str]
    seconds: float
