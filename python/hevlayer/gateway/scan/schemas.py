"""What the upstream says of a namespace's attributes, as native filters read it: asked for once and kept a while."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hevlayer.clock import Clock, SingleFlight
from hevlayer.errors import UpstreamError
from hevlayer.gateway.reads import Reads, ReadTarget
from hevlayer.kernels.filters import FilterSchema
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

# A schema only grows while a namespace lives: an old one knows too little, never something wrong.
SCHEMA_SECONDS = 60.0
SCHEMAS_MAX = 1_000
_STAMP = {STAMP_ATTRIBUTE: {"type": "int", "filterable": True}}


@dataclass(frozen=True, slots=True)
class KnownSchema:
    """The attributes of a namespace as of `asked_at`, in seconds of the monotonic clock.

    Attributes:
        filters: what a caller's filter may name.
        cuts: the same and the stamp. Rows that were all written around the gateways have none, and are in every cut.
    """

    metadata: Mapping[str, Any]
    filters: FilterSchema
    cuts: FilterSchema
    asked_at: float


def read_known(metadata: Mapping[str, Any], asked_at: float) -> KnownSchema:
    """Raises: UpstreamError: it has no schema."""
    try:
        schema = metadata["schema"]
        filters = FilterSchema(orjson.dumps(schema))
        cuts = filters if STAMP_ATTRIBUTE in schema else FilterSchema(orjson.dumps({**schema, **_STAMP}))
        return KnownSchema(metadata, filters, cuts, asked_at)
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamError("the upstream's metadata has no schema that can be read") from error


class Schemas:
    """Schemas by namespace and scope."""

    def __init__(self, reads: Reads, clock: Clock) -> None:
        self._reads = reads
        self._now = clock.monotonic
        self._known: OrderedDict[tuple[str, bytes], KnownSchema] = OrderedDict()
        self._flights: SingleFlight[tuple[str, bytes], KnownSchema] = SingleFlight()

    async def of(self, target: ReadTarget, *, age_max: float = SCHEMA_SECONDS) -> KnownSchema:
        """The schema, at most so many seconds old. Raises: RefusedReadError, UpstreamError."""
        key = (target.namespace, target.scope)
        known = self._known.get(key)
        if known is not None and self._now() - known.asked_at < age_max:
            return known

        async def ask() -> KnownSchema:
            asked_at = self._now()
            found = read_known(await self._reads.metadata(target), asked_at)
            self._known[key] = found
            self._known.move_to_end(key)
            if len(self._known) > SCHEMAS_MAX:
                self._known.popitem(last=False)
            return found

        return await self._flights.run(key, ask)

    def forget(self, namespace: str) -> None:
        """The namespace may have been made anew."""
        for key in [key for key in self._known if key[0] == namespace]:
            del self._known[key]
