"""What is kept of a query and of its answer: the shape of the one, the first ids of the other."""

import gzip
import io

import orjson

from hevlayer.kernels.splice import answer_ids, query_shape

TOP_IDS_MAX = 100
ANSWER_BYTES_MAX = 16 << 20
NO_IDS = orjson.Fragment(b"[]")


def summarize_query(body: bytes) -> orjson.Fragment:
    """The query's shape, bounded; see `query_shape`."""
    return orjson.Fragment(query_shape(body))


def top_ids(answer: bytes | None, encoding: bytes | None) -> orjson.Fragment:
    """The ids of the served rows in rank order, at most `TOP_IDS_MAX`; of several legs one after the other.

    Args:
        answer: None: it went through in pieces and was not kept.
        encoding: its `content-encoding`.
    """
    text = plain_answer(answer, encoding)
    return orjson.Fragment(answer_ids(text, TOP_IDS_MAX)) if text else NO_IDS


def plain_answer(answer: bytes | None, encoding: bytes | None) -> bytes:
    """An answer's text without its encoding, to be read for its ids; b"" for what is not read."""
    if answer is None:
        return b""
    if encoding == b"gzip":
        answer = _inflated(answer)
    elif encoding is not None and encoding != b"identity":
        return b""
    return answer if len(answer) <= ANSWER_BYTES_MAX else b""


def _inflated(answer: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(answer)) as file:
            return file.read(ANSWER_BYTES_MAX + 1)
    except (OSError, EOFError):
        return b""
