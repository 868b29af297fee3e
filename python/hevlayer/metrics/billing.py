"""Reads the billing of an upstream answer without parsing the answer."""

import re
from typing import NamedTuple

# The upstream puts it behind the rows, before `performance`.
TAIL_BYTES = 2048
# A query's billing as the upstream writes it today; anything else is read number by number.
_QUERY_BILLING = re.compile(
    rb'"billing"\s*:\s*\{\s*"billable_logical_bytes_queried"\s*:\s*(\d{1,20})\s*,'
    rb'\s*"billable_logical_bytes_returned"\s*:\s*(\d{1,20})\s*\}'
)
_NUMBER = re.compile(rb'"billable_logical_bytes_(written|queried|returned)"\s*:\s*(\d{1,20})')


class Billing(NamedTuple):
    written: int
    queried: int
    returned: int


def read_billing(body: bytes) -> Billing | None:
    """The logical bytes billed for one answer, also those of a write's own query; None when its end has no billing.

    An unescaped `"billing"` cannot stand inside a JSON string, so the last one in the body is a key; rows that have an
    attribute of that name come before it.
    """
    start = body.rfind(b'"billing"', max(0, len(body) - TAIL_BYTES))
    if start < 0:
        return None
    plain = _QUERY_BILLING.match(body, start)
    if plain is not None:
        return Billing(0, int(plain[1]), int(plain[2]))
    written = queried = returned = 0
    for kind, amount in _NUMBER.findall(body, start):
        if kind == b"queried":
            queried += int(amount)
        elif kind == b"returned":
            returned += int(amount)
        else:
            written += int(amount)
    return Billing(written, queried, returned)
