"""Our own reads of the upstream: under permits, with retries where nobody waits, and walks over all ids."""

from hevlayer.gateway.reads.spans import WHOLE, Id, Scale, Span
from hevlayer.gateway.reads.upstream import Reads, ReadTarget, ReadUpstream, RefusedReadError, read_object
from hevlayer.gateway.reads.walk import PageEnd, Walk

__all__ = [
    "WHOLE",
    "Id",
    "PageEnd",
    "ReadTarget",
    "ReadUpstream",
    "Reads",
    "RefusedReadError",
    "Scale",
    "Span",
    "Walk",
    "read_object",
]
