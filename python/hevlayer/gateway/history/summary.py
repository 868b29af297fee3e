"""What is kept of a query and of its answer: the shape of the one, the first ids of the other."""

import gzip
import io
from collections.abc import Mapping, Sequence

import msgspec
import orjson

TOP_IDS_MAX = 100
# Larger bodies are told by their size only.
BODY_BYTES_MAX = 4 << 20
ANSWER_BYTES_MAX = 16 << 20
SUMMARY_BYTES_MAX = 8 << 10
TEXT_CHARS_MAX = 256
ITEMS_MAX = 32
DEPTH_MAX = 12
# A list of at least so many numbers, a vector or a set in a filter, is told by its length.
VECTOR_NUMBERS_MIN = 3
_VECTOR_KEYS = frozenset({"vector", "vectors"})


class _Row(msgspec.Struct):
    id: int | str | None = None


class _Leg(msgspec.Struct):
    rows: list[_Row] | None = None


class _Answer(msgspec.Struct):
    rows: list[_Row] | None = None
    results: list[_Leg] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_ROWS = msgspec.json.Decoder(_Leg)


def summarize_query(body: bytes) -> dict[str, object]:
    """The query with vectors told by their length and long texts and lists cut.

    Returns: at most `SUMMARY_BYTES_MAX` of JSON; what is larger keeps the names of its keys.
    """
    if len(body) > BODY_BYTES_MAX:
        return {"bytes": len(body)}
    try:
        query = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Served all the same, for instance with a text that is not a Unicode one.
        return {"bytes": len(body)}
    if not isinstance(query, dict):
        return {"bytes": len(body)}
    summary = {str(key)[:TEXT_CHARS_MAX]: _cut(value, str(key), 0) for key, value in list(query.items())[:ITEMS_MAX]}
    if len(orjson.dumps(summary)) <= SUMMARY_BYTES_MAX:
        return summary
    return {"bytes": len(body), "keys": list(summary)}


def _cut(value: object, key: str, depth: int) -> object:
    if isinstance(value, str):
        if key in _VECTOR_KEYS and len(value) > TEXT_CHARS_MAX:
            return f"[{len(value)} characters of base64]"
        return value if len(value) <= TEXT_CHARS_MAX else f"{value[:TEXT_CHARS_MAX]}…"
    if isinstance(value, list):
        return _cut_list(value, key, depth)
    if isinstance(value, Mapping):
        if depth >= DEPTH_MAX:
            return "{…}"
        return {str(name)[:TEXT_CHARS_MAX]: _cut(each, str(name), depth + 1) for name, each in _first(value.items())}
    return value


def _cut_list(items: list[object], key: str, depth: int) -> object:
    if len(items) >= VECTOR_NUMBERS_MIN and all(type(each) in (int, float) for each in items):
        return f"[{len(items)} numbers]"
    if depth >= DEPTH_MAX:
        return "[…]"
    cut: list[object] = [_cut(each, key, depth + 1) for each in items[:ITEMS_MAX]]
    if len(items) > ITEMS_MAX:
        cut.append(f"… {len(items) - ITEMS_MAX} more")
    return cut


def _first(items: object) -> Sequence[tuple[object, object]]:
    return list(items)[:ITEMS_MAX]  # type: ignore[call-overload, no-any-return]


def top_ids(answer: bytes | None, encoding: bytes | None) -> list[str]:
    """The ids of the served rows in rank order, at most `TOP_IDS_MAX`; of several legs one after the other.

    Args:
        answer: None: it went through in pieces and was not kept.
        encoding: its `content-encoding`.
    """
    if answer is None:
        return []
    if encoding == b"gzip":
        answer = _inflated(answer)
    elif encoding is not None and encoding != b"identity":
        return []
    if len(answer) > ANSWER_BYTES_MAX:
        return []
    # `results` holds legs in one dialect and documents in the other, which then stand in `rows` as well.
    try:
        rows = _ROWS.decode(answer).rows
        legs = [rows] if rows is not None else [leg.rows for leg in _ANSWER.decode(answer).results or ()]
    except (msgspec.DecodeError, RecursionError):
        return []
    ids = [str(row.id) for leg in legs for row in (leg or ())[:TOP_IDS_MAX] if row.id is not None]
    return ids[:TOP_IDS_MAX]


def _inflated(answer: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(answer)) as file:
            return file.read(ANSWER_BYTES_MAX + 1)
    except (OSError, EOFError):
        return b""
