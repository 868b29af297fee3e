"""Reads fetch requests, and ids by a namespace's id type. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus
from uuid import UUID

import orjson

from hevlayer.errors import ValidationError
from hevlayer.kernels.doccache import DocProjection
from hevlayer.wire.bodies import MalformedJsonError

BATCH_IDS_MAX = 10_000
INCLUDE_NAMES_MAX = 1_024
INCLUDE_NAME_BYTES_MAX = 128
INCLUDE_TEXT_BYTES_MAX = 8 * 1024
PROJECTIONS_MAX = 1_024

_INCLUDE = "include_attributes"
_UINT = re.compile(r"0|[1-9][0-9]{0,19}")
_UINT_END = 1 << 64
_UINT_TAG, _STRING_TAG = b"\x01", b"\x02"
_UUID = re.compile(
    r"(?:urn:uuid:)?(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|"
    r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\})",
    re.IGNORECASE,
)

PLAIN = DocProjection()


@dataclass(frozen=True, slots=True)
class DocumentId:
    """An id as the namespace has it: its cache key and its JSON text in a filter."""

    key: bytes
    json: bytes


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A batch fetch. `ids` are as the caller sent them, integers as decimal text."""

    ids: list[str]
    projection: DocProjection


def read_id(text: str, id_type: str) -> DocumentId | None:
    """The id that `text` names in a namespace with this id type; None when no id of that type reads so."""
    if id_type == "uint":
        if not _UINT.fullmatch(text) or int(text) >= _UINT_END:
            return None
        return DocumentId(_UINT_TAG + int(text).to_bytes(8, "big"), text.encode())
    if id_type == "uuid":
        if not _UUID.fullmatch(text):
            return None
        text = str(UUID(text))
    try:
        return DocumentId(_STRING_TAG + text.encode(), orjson.dumps(text))
    except UnicodeEncodeError:
        return None


def read_key(text: str, id_type: str) -> bytes | None:
    """The cache key of the id that `text` names; None as in `read_id`."""
    if id_type == "string" and text.isascii():
        return _STRING_TAG + text.encode()
    document_id = read_id(text, id_type)
    return None if document_id is None else document_id.key


class Projections:
    """Projections by the query string that asks for them, compiled once each."""

    def __init__(self) -> None:
        self._by_query: dict[str, DocProjection] = {"": PLAIN}

    def known(self, query: str) -> DocProjection | None:
        """The projection of a query string that was seen before."""
        return self._by_query.get(query)

    def of_query(self, query: str) -> DocProjection:
        """The projection of a query string's `include_attributes`, a comma list; repetitions add up.

        Raises: ValidationError: too many names or too long ones.
        """
        known = self._by_query.get(query)
        if known is not None:
            return known
        names: list[str] = []
        asked = False
        for part in query.split("&"):
            name, _, value = part.partition("=")
            if unquote_plus(name) in (_INCLUDE, _INCLUDE + "[]") and value:
                asked = True
                if len(value) > INCLUDE_TEXT_BYTES_MAX:
                    raise ValidationError(f"{_INCLUDE}: at most {INCLUDE_TEXT_BYTES_MAX} bytes")
                # Clients join the names by commas and may encode those commas; a name with a comma in it can only be
                # asked for in a batch.
                names.extend(each for each in unquote_plus(value).split(",") if each)
        projection = DocProjection(_checked(names)) if asked else PLAIN
        if len(self._by_query) >= PROJECTIONS_MAX:
            self._by_query = {"": PLAIN}
        self._by_query[query] = projection
        return projection


def read_batch(body: bytes) -> BatchRequest:
    """Reads `{"ids": [...], "include_attributes": [...]}`; other keys are ignored.

    Raises: MalformedJsonError: not JSON. ValidationError: a field breaks its rule.
    """
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJsonError(f"Failed to parse the request body as JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise ValidationError("the body must be an object with `ids`")
    ids = decoded.get("ids")
    if not isinstance(ids, list):
        raise ValidationError("ids: required, a list of strings or integers")
    if len(ids) > BATCH_IDS_MAX:
        raise ValidationError(f"ids: at most {BATCH_IDS_MAX}, got {len(ids)}")
    include = decoded.get(_INCLUDE)
    if include is None:
        return BatchRequest(_id_texts(ids), PLAIN)
    if not isinstance(include, list) or not all(isinstance(name, str) for name in include):
        raise ValidationError(f"{_INCLUDE}: a list of attribute names")
    return BatchRequest(_id_texts(ids), DocProjection(_checked(include)))


def _id_texts(ids: Sequence[object]) -> list[str]:
    texts: list[str] = []
    for index, each in enumerate(ids):
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, int) and not isinstance(each, bool) and each >= 0:
            texts.append(str(each))
        else:
            raise ValidationError(f"ids[{index}]: a string or an integer in 0..2^64")
    return texts


def _checked(names: list[str]) -> list[str]:
    if len(names) > INCLUDE_NAMES_MAX:
        raise ValidationError(f"{_INCLUDE}: at most {INCLUDE_NAMES_MAX} names, got {len(names)}")
    for name in names:
        if len(name.encode("utf-8", "surrogatepass")) > INCLUDE_NAME_BYTES_MAX:
            raise ValidationError(f"{_INCLUDE}: a name has at most {INCLUDE_NAME_BYTES_MAX} bytes")
    return names
