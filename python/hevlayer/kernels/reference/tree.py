"""JSON as a tree that forgets nothing.

Objects are `Pairs`, so that order and duplicate keys survive; numbers are `Number`, their text untouched.
"""

import json
import uuid
from typing import NoReturn, TypeAlias

from hevlayer.kernels.splice import JSON_DEPTH_MAX

NAME_SHOWN_MAX = 128


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class Pairs(list[tuple[str, "Json"]]):
    """An object: its members in order, duplicates kept."""

    __slots__ = ()


Json: TypeAlias = "bool | str | Number | list[Json] | Pairs | None"


class RefusedError(Exception):
    """What the splicer raises as `SpliceError`. The message of `bad_json` is not specified here."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse(body: bytes) -> Json:
    """The tree of a JSON text. Raises: RefusedError: not JSON, or nested too deep."""
    try:
        text = body.decode("utf-8")
        tree: Json = json.loads(
            text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise RefusedError("bad_json", str(error)) from error
    if _depth(tree) > JSON_DEPTH_MAX:
        raise RefusedError("bad_json", "recursion limit exceeded")
    return tree


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _depth(tree: Json) -> int:
    deepest = 0
    open_values: list[tuple[Json, int]] = [(tree, 0)]
    while open_values:
        value, depth = open_values.pop()
        children: list[Json] = []
        if isinstance(value, Pairs):
            children = [child for _, child in value]
        elif isinstance(value, list):
            children = elements(value)
        else:
            continue
        deepest = max(deepest, depth + 1)
        open_values.extend((child, depth + 1) for child in children)
    return deepest


def member(pairs: Pairs, key: str) -> Json:
    """The first member called `key`, None when there is none or it is null."""
    return next((value for name, value in pairs if name == key), None)


def is_list(value: Json) -> bool:
    return isinstance(value, list) and not isinstance(value, Pairs)


def elements(value: Json) -> list[Json]:
    return value if isinstance(value, list) and not isinstance(value, Pairs) else []


def is_plain_string(value: Json) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def shown(name: str) -> str:
    name = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in name)
    return name if len(name) <= NAME_SHOWN_MAX else name[:NAME_SHOWN_MAX] + "…"


def is_uint(value: Json) -> bool:
    return isinstance(value, Number) and value.isdigit() and int(value) < 2**64


def has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def id_key(value: str | int) -> bytes:
    if isinstance(value, str):
        return b"\x02" + value.encode()
    return b"\x01" + value.to_bytes(8, "big")


def uuid_key(text: str) -> bytes | None:
    """As the splicer's, by the standard library's parser, which takes more forms than the upstream does."""
    forms = (len(text) == 32, len(text) == 36, len(text) == 38 and text[0] == "{" and text[-1] == "}")
    urn = len(text) == 45 and text[:9].lower() == "urn:uuid:"
    if not (any(forms) or urn):
        return None
    core = text[9:] if urn else text.strip("{}")
    hyphens = [at for at, char in enumerate(core) if char == "-"]
    if (hyphens != [] and hyphens != [8, 13, 18, 23]) or len(core) != (36 if hyphens else 32):
        return None
    if (urn or len(text) == 38) and not hyphens:
        return None
    if not all(char in "0123456789abcdefABCDEF-" for char in core):
        return None
    return id_key(str(uuid.UUID(core)))


def strings(value: Json) -> set[str]:
    return {element for element in elements(value) if isinstance(element, str) and not isinstance(element, Number)}
