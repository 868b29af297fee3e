"""The slow twin of `query_shape` and `answer_ids`: what a record keeps of a query and of its answer."""

import json
import re

BODY_BYTES_MAX = 4 << 20
SHAPE_BYTES_MAX = 8 << 10
TEXT_CHARS_MAX = 256
ITEMS_MAX = 32
DEPTH_MAX = 12
NUMBERS_MIN = 3
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-]*", re.ASCII)
_VECTOR_KEYS = frozenset({"vector", "vectors"})


def query_shape(body: bytes) -> dict[str, object]:
    """The query with lists of numbers told by their length, and long texts and lists cut."""
    try:
        query = json.loads(body) if len(body) <= BODY_BYTES_MAX else None
    except ValueError:
        query = None
    if not isinstance(query, dict):
        return {"bytes": len(body)}
    shape = _members(query, 0)
    if len(json.dumps(shape, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")) <= SHAPE_BYTES_MAX:
        return shape
    return {"bytes": len(body), "keys": list(shape)}


def _members(members: dict[str, object], depth: int) -> dict[str, object]:
    return {name[:TEXT_CHARS_MAX]: _cut(each, name, depth) for name, each in list(members.items())[:ITEMS_MAX]}


def _cut(value: object, key: str, depth: int) -> object:
    if isinstance(value, str):
        if key in _VECTOR_KEYS and len(value) > TEXT_CHARS_MAX and _BASE64.fullmatch(value):
            return f"[{len(value)} characters of base64]"
        return value if len(value) <= TEXT_CHARS_MAX else f"{value[:TEXT_CHARS_MAX]}…"
    if isinstance(value, list):
        return _cut_list(value, key, depth)
    if isinstance(value, dict):
        return "{…}" if depth >= DEPTH_MAX else _members(value, depth + 1)
    return value


def _cut_list(items: list[object], key: str, depth: int) -> object:
    if len(items) >= NUMBERS_MIN and all(type(each) in (int, float) for each in items):
        return f"[{len(items)} numbers]"
    if depth >= DEPTH_MAX:
        return "[…]"
    cut = [_cut(each, key, depth + 1) for each in items[:ITEMS_MAX]]
    if len(items) > ITEMS_MAX:
        cut.append(f"… {len(items) - ITEMS_MAX} more")
    return cut


def answer_ids(answer: bytes, most: int) -> list[str]:
    """The ids of `rows`, else those of the legs in `results`, one after the other."""
    try:
        told = json.loads(answer)
    except ValueError:
        return []
    if not isinstance(told, dict):
        return []
    rows = told.get("rows")
    legs = [rows] if isinstance(rows, list) else [leg.get("rows") for leg in _objects(told.get("results"))]
    ids = [row.get("id") for leg in legs for row in _objects(leg)]
    return [str(each) for each in ids if isinstance(each, (str, int, float)) and not isinstance(each, bool)][:most]


def _objects(value: object) -> list[dict[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
