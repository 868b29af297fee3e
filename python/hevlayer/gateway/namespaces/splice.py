"""Adds members to a JSON object without touching a byte of what it has."""

from collections.abc import Mapping

import orjson


def add_members(body: bytes, members: Mapping[str, object]) -> bytes | None:
    """`body` with `members` at its end; one that the object already has is left as it is.

    Returns: None when `body` is not a JSON object.
    """
    try:
        held = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(held, dict):
        return None
    added = {name: value for name, value in members.items() if name not in held}
    if not added:
        return body
    end = body.rindex(b"}")
    inner = orjson.dumps(added)[1:-1]
    return b"".join((body[:end], b"," if held else b"", inner, body[end:]))
