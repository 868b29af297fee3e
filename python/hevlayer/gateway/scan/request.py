"""What a scan or a result count asks for, as read from its body. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import msgspec
import orjson

from hevlayer.errors import NotSupportedError, ValidationError
from hevlayer.gateway.scan.filters import check_filters
from hevlayer.gateway.scanning import PARTS_MAX, check_parts, refusal
from hevlayer.kernels.splice import SpliceError, separators, top_level

PAGE_ROWS_MAX = 10_000
# As the kernels'.
JSON_DEPTH_MAX = 128
THREADS_MAX = 64
TIMEOUT_SECONDS = 30.0
TIMEOUT_SECONDS_MAX = 300.0
FIELD_BYTES_MAX = 128
TEXT_BYTES_MAX = 8 * 1024
DIMENSIONS_MAX = 10_752
VECTOR_FIELD = "vector"

Filter: TypeAlias = list[Any]

# The kernels' words for it.
_TOO_DEEP = "recursion limit exceeded"


class Mode(Enum):
    """What a scan gives."""

    IDS = "ids"
    COUNT = "count"
    VALUES = "values"


class Source(Enum):
    """Where a scan reads."""

    AUTO = "auto"
    CACHE = "cache"
    ORIGIN = "origin"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class FilterSelector:
    """Every row that meets the filters."""

    name = "filter"


@dataclass(frozen=True, slots=True)
class TextSelector:
    """Rows whose `field` holds at least one token of `text`."""

    field: str
    text: str

    name = "fts"


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """Rows whose `field` is at most `distance_max` away from `vector`: numbers, or base64 of little-endian float32."""

    field: str
    vector: list[float] | str
    distance_max: float

    name = "ann"


Selector: TypeAlias = FilterSelector | TextSelector | VectorSelector


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """A scan. `filters` is a checked filter of the upstream's grammar or None; sizes are within their bounds."""

    mode: Mode
    source: Source
    selector: Selector
    filters: Filter | None
    field: str | None
    exhaustive: bool
    threads: int | None
    page_rows: int | None
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class ResultCountRequest:
    """A result count."""

    selector: TextSelector | VectorSelector
    filters: Filter | None
    exhaustive: bool
    timeout_seconds: float


_SCAN_KEYS = (
    "mode",
    "source",
    "filters",
    "field",
    "fts",
    "ann",
    "exhaustive",
    "threads",
    "page_size",
    "timeout_seconds",
)
_NOT_BUILT_KEYS = ("as_of", "between", "hybrid_text")
_COUNT_KEYS = ("query", "filters", "mode", "timeout_seconds")


def decode_scan(body: bytes) -> ScanRequest:
    """Reads the body of POST …/scans.

    Raises: MalformedJsonError. ValidationError: names the key and its rule. NotSupportedError: a key that this version
        knows and has not built.
    """
    given = _read(body or b"{}", _SCAN_KEYS, _NOT_BUILT_KEYS)
    mode = _word(given, "mode", Mode, Mode.IDS)
    source = _word(given, "source", Source, Source.AUTO)
    if source is Source.SNAPSHOT and mode is Mode.IDS:
        raise ValidationError("source: a snapshot has no ids; mode ids reads auto, cache or origin")
    selector = _selector(given)
    field = given.get("field")
    if mode is Mode.VALUES:
        if field is None:
            raise ValidationError("field: required in mode values, the attribute whose values are counted")
        field = _name(field, "field")
    elif field is not None:
        raise ValidationError("field: only in mode values")
    return ScanRequest(
        mode=mode,
        source=source,
        selector=selector,
        filters=_filters(given),
        field=field,
        exhaustive=_switch(given, "exhaustive"),
        threads=_whole(given, "threads", THREADS_MAX),
        page_rows=_whole(given, "page_size", PAGE_ROWS_MAX),
        timeout_seconds=_seconds(given),
    )


def decode_result_count(body: bytes) -> ResultCountRequest:
    """Reads the body of POST …/result-count. Raises: as `decode_scan`."""
    given = _read(body, _COUNT_KEYS, ())
    query = given.get("query")
    if not isinstance(query, Mapping):
        raise ValidationError("query: required, an object with `field` and `fts`, or with `vector` and `max_distance`")
    unknown = [key for key in query if key not in ("field", "fts", "vector", "max_distance")]
    if unknown:
        raise ValidationError(f"query.{_shown(unknown[0])}: not a key of a query")
    mode = given.get("mode", "bounded")
    if mode not in ("bounded", "exhaustive"):
        raise ValidationError("mode: must be bounded or exhaustive")
    selector: TextSelector | VectorSelector
    if ("fts" in query) == ("vector" in query):
        raise ValidationError("query: needs either `fts` or `vector`")
    if "fts" in query:
        if "max_distance" in query:
            raise ValidationError("query.max_distance: only with `vector`")
        selector = TextSelector(_name(query.get("field"), "query.field"), _text(query["fts"], "query.fts"))
    else:
        selector = VectorSelector(
            _name(query.get("field", VECTOR_FIELD), "query.field"),
            _vector(query["vector"], "query.vector"),
            _distance(query.get("max_distance"), "query.max_distance"),
        )
    return ResultCountRequest(selector, _filters(given), mode == "exhaustive", _seconds(given))


def _read(body: bytes, keys: Sequence[str], not_built: Sequence[str]) -> dict[str, Any]:
    try:
        names = top_level(body, [*keys, *not_built])
        for key, text in names.items():
            check_parts(text, key)
        check_parts(body, "the body")
        decoded = orjson.loads(body)
    except SpliceError as error:
        if error.code == "bad_json" and _is_too_deep(body, error.message):
            raise ValidationError(f"the body is nested deeper than {JSON_DEPTH_MAX} levels") from error
        raise refusal(error) from error
    except orjson.JSONDecodeError as error:
        raise ValidationError(f"the body cannot be read: {error}") from error
    for key in not_built:
        if names.get(key, b"null") != b"null":
            raise NotSupportedError(f"{key}: this version has not built it")
    unknown = [key for key in decoded if key not in keys and key not in not_built]
    if unknown:
        raise ValidationError(f"{_shown(unknown[0])}: not a key of this request; known are {', '.join(keys)}")
    # Clients send null for what they leave out.
    return {key: value for key, value in decoded.items() if value is not None}


def _is_too_deep(body: bytes, fault: str) -> bool:
    """Whether that is all that is wrong with a JSON text; of one with too many parts, whether it is the first fault."""
    if separators(body) > PARTS_MAX:
        return _TOO_DEEP in fault
    try:
        level: list[object] = [msgspec.json.decode(body)]
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeError):
        return False
    for _ in range(JSON_DEPTH_MAX + 1):
        nested = [each for each in level if isinstance(each, list | dict)]
        level = [part for each in nested for part in (each.values() if isinstance(each, dict) else each)]
        if not nested:
            return False
    return True


def _shown(key: str) -> str:
    return key[:80]


def _selector(given: Mapping[str, Any]) -> Selector:
    fts, ann = given.get("fts"), given.get("ann")
    if fts is not None and ann is not None:
        raise ValidationError("fts, ann: at most one of them")
    if fts is not None:
        if not isinstance(fts, Mapping):
            raise ValidationError("fts: must be an object with `field` and `query`")
        return TextSelector(_name(fts.get("field"), "fts.field"), _text(fts.get("query"), "fts.query"))
    if ann is not None:
        if not isinstance(ann, Mapping):
            raise ValidationError("ann: must be an object with `vector` and `radius`")
        field = ann.get("field")
        return VectorSelector(
            VECTOR_FIELD if field is None else _name(field, "ann.field"),
            _vector(ann.get("vector"), "ann.vector"),
            _distance(ann.get("radius"), "ann.radius"),
        )
    return FilterSelector()


def _filters(given: Mapping[str, Any]) -> Filter | None:
    filters = given.get("filters")
    if filters is None:
        return None
    check_filters(filters)
    assert isinstance(filters, list)
    return filters


_Word = Mode | Source


def _word(given: Mapping[str, Any], key: str, words: type[Any], default: Any) -> Any:
    value = given.get(key)
    if value is None:
        return default
    allowed = {each.value: each for each in words}
    if not isinstance(value, str) or value not in allowed:
        raise ValidationError(f"{key}: must be one of {', '.join(allowed)}")
    return allowed[value]


def _whole(given: Mapping[str, Any], key: str, most: int) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValidationError(f"{key}: must be an integer in 1..{most}")
    return value


def _seconds(given: Mapping[str, Any]) -> float:
    value = given.get("timeout_seconds", TIMEOUT_SECONDS)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= TIMEOUT_SECONDS_MAX:
        raise ValidationError(f"timeout_seconds: must be a number over 0 and at most {TIMEOUT_SECONDS_MAX:g}")
    return float(value)


def _switch(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise ValidationError(f"{key}: must be true or false")
    return value


def _name(value: object, key: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= FIELD_BYTES_MAX:
        raise ValidationError(f"{key}: must be the name of an attribute, a text of 1..{FIELD_BYTES_MAX} bytes")
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or len(value.encode()) > TEXT_BYTES_MAX:
        raise ValidationError(f"{key}: must be a text of at most {TEXT_BYTES_MAX} bytes")
    return value


def _vector(value: object, key: str) -> list[float] | str:
    if isinstance(value, str) and 1 <= len(value) <= DIMENSIONS_MAX * 6:
        return value
    if not isinstance(value, list) or not 1 <= len(value) <= DIMENSIONS_MAX:
        raise ValidationError(f"{key}: must be an array of 1..{DIMENSIONS_MAX} numbers, or base64 of float32")
    for index, each in enumerate(value):
        if not isinstance(each, int | float) or isinstance(each, bool):
            raise ValidationError(f"{key}[{index}]: must be a number")
    return value


def _distance(value: object, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValidationError(f"{key}: required, the largest distance that counts, a number that is not negative")
    return float(value)
