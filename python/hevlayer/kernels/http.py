"""HTTP/1.1 heads and framing (`rust/http`): messages read strictly, and the heads that a gateway writes."""

from typing import Final

from hevlayer._native import (
    BodyRoom,
    BrokenAnswerError,
    ForwardRules,
    QueryRelays,
    RefusedError,
    RelayedQuery,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    TraceIds,
    access_line,
)

# What of a request its answer depends on, besides the method.
KEEP_ALIVE: Final = 1
HTTP_1_0: Final = 2
EXPECTS: Final = 8
ENCODED: Final = 16

__all__ = [
    "ENCODED",
    "EXPECTS",
    "HTTP_1_0",
    "KEEP_ALIVE",
    "BodyRoom",
    "BrokenAnswerError",
    "ForwardRules",
    "QueryRelays",
    "RefusedError",
    "RelayedQuery",
    "RequestHead",
    "RequestReader",
    "ResponseHead",
    "ResponseReader",
    "TraceIds",
    "access_line",
]
