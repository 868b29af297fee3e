"""How an operation of the API is described, and the request that a call of it makes."""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote, urlencode

import orjson
from pydantic import BaseModel, TypeAdapter

ResultT = TypeVar("ResultT")

# Smaller bodies are not worth compressing. Turbopuffer's own client has the same bound and level.
COMPRESSED_BYTES_MIN = 1024
_COMPRESSION_LEVEL = 1
# The gateway keeps no more of a search's text, and refuses headers that are much longer.
RAW_QUERY_BYTES_MAX = 8192
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class Direct(Enum):
    """Whether Turbopuffer itself can answer an operation."""

    NEVER = "needs what the gateway keeps"
    ALWAYS = "is the same at Turbopuffer"
    BY_BODY = "depends on the body"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query string. `kind` is its Python type; `wire` its name there."""

    name: str
    kind: type[Any]
    text: str
    wire: str = ""

    @property
    def wire_name(self) -> str:
        return self.wire or self.name


@dataclass(frozen=True)
class Operation(Generic[ResultT]):
    """One operation.

    Attributes:
        path: with its parameters in braces, in the order of the method's arguments.
        result: the type that the answer is read as; `str` is the text itself.
        body: the model of the body; None when there is none.
        body_optional: it may be left out.
        context: it takes `raw_query`, `tags` and `traceparent`; `tags` alone for fetches, which have no `raw_query`.
        repeatable: doing it twice is as good as doing it once.
        overload: sent as `stainless_overload`, as clients of Turbopuffer do.
    """

    name: str
    method: str
    path: str
    result: Any
    summary: str
    group: str
    body: type[BaseModel] | None = None
    body_optional: bool = False
    params: tuple[Param, ...] = ()
    context: tuple[str, ...] = ()
    repeatable: bool = True
    direct: Direct = Direct.NEVER
    overload: str = ""

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    def decode(self, content: bytes) -> ResultT:
        """Raises: ValueError: the content does not have the described shape."""
        return cast(ResultT, content.decode() if self.result is str else _adapter(self.result).validate_json(content))


@lru_cache(maxsize=256)
def _adapter(result: Any) -> TypeAdapter[Any]:
    return TypeAdapter(result)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request before it is known where it goes. `body` is what was given, as plain data; `content` its JSON."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Any
    content: bytes | None


def prepare(
    operation: Operation[Any],
    path: Mapping[str, str | int],
    query: Mapping[str, Any],
    body: Any,
    context: Mapping[str, Any],
) -> Prepared:
    """The request of a call.

    Raises: ValueError, TypeError: an argument cannot be sent; it says which.
    """
    target = operation.path
    for name in operation.path_parameters:
        target = target.replace(f"{{{name}}}", _segment(name, path[name]))
    pairs = [("stainless_overload", operation.overload)] if operation.overload else []
    for param in operation.params:
        value = query.get(param.name)
        if value is not None:
            pairs.append((param.wire_name, _text(value)))
    if pairs:
        target += "?" + urlencode(pairs, quote_via=quote)
    plain = plain_body(body)
    headers = _context_headers(context)
    content = None
    if plain is not None:
        content = as_json(plain)
        headers["content-type"] = "application/json"
    return Prepared(operation.method, target, headers, plain, content)


def plain_body(body: Any) -> Any:
    """A body as plain data; of a model only what was set."""
    if isinstance(body, BaseModel):
        return body.model_dump(mode="python", by_alias=True, exclude_unset=True)
    return body


def compressed(content: bytes) -> bytes:
    return gzip.compress(content, _COMPRESSION_LEVEL)


def as_json(plain: Any) -> bytes:
    try:
        return orjson.dumps(plain, default=_as_plain, option=_JSON_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise TypeError(f"body: {error}") from error


def _as_plain(value: Any) -> Any:
    """What orjson does not know: a model among plain data, and collections of other kinds."""
    if isinstance(value, BaseModel):
        return plain_body(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _segment(name: str, value: str | int) -> str:
    text = str(value)
    if not text:
        raise ValueError(f"{name} must not be empty")
    if text in (".", ".."):
        # In a path every HTTP library takes these for steps between directories, percent-encoded too.
        raise ValueError(f"{name} must not be {text!r}: it cannot be written in a path")
    return quote(text, safe="")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.isoformat()
    if isinstance(value, Sequence):
        return ",".join(str(each) for each in value)
    return str(value)


def _context_headers(context: Mapping[str, Any]) -> dict[str, str]:
    headers = {}
    raw_query = context.get("raw_query")
    if raw_query is not None:
        # A header is one line of what is visible; what a person typed must not make a search fail.
        line = " ".join(_CONTROL.sub(" ", raw_query).split())
        text = line.encode(errors="replace")[:RAW_QUERY_BYTES_MAX]
        headers["x-hevlayer-search-query"] = text.decode(errors="ignore")
    tags = context.get("tags")
    if tags is not None:
        headers["x-hevlayer-tags"] = _header("tags", _text(tags))
    traceparent = context.get("traceparent")
    if traceparent is not None:
        headers["traceparent"] = _header("traceparent", traceparent)
    return headers


def _header(name: str, text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{name} must not have control characters")
    return text
