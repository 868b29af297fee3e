"""Bodies that we read and write ourselves."""

from collections.abc import Mapping

import msgspec
import orjson

from hevlayer.errors import BadRequestError, LayerError

# What reading a text that somebody else wrote comes to when it is not JSON in UTF-8, or is nested too deep to be read.
UNREADABLE_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)

JSON_CONTENT_TYPE = (b"content-type", b"application/json")


class MalformedJsonError(BadRequestError):
    """A body that is not JSON. Its answer has the upstream's shape, where `error` is the text itself."""


def decode_body(body: bytes) -> object:
    """The value of a JSON text. Raises: MalformedJsonError: it is none, is not UTF-8, or is nested too deep."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE_JSON as error:
        raise MalformedJsonError(f"the body is not JSON: {error}") from error


def encode(value: object) -> bytes:
    """JSON text; lone surrogates, which JSON cannot carry in UTF-8, become `?`."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return orjson.dumps(_printable(value))


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {str(_printable(str(key))): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_printable(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _printable(str(value))


def error_body(error: LayerError, **fields: object) -> bytes:
    """`{"status": "error", "error": code, "message": text}` and the fields of the error."""
    code = error.message if isinstance(error, MalformedJsonError) else error.code
    return encode({"status": "error", "error": code, "message": error.message, **error.fields, **fields})
