"""The snapshot step of a cache-warm hint: the latest body is brought into the document cache and the memory."""

from hevlayer.errors import LayerError
from hevlayer.gateway.auth import Grants
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.snapshots.latest import LatestSnapshots
from hevlayer.gateway.snapshots.place import place_of
from hevlayer.gateway.snapshots.store import key_of


class SnapshotStep:
    """One step of a hint."""

    def __init__(self, latest: LatestSnapshots, grants: Grants) -> None:
        self._latest = latest
        self._grants = grants

    async def run(self, context: RouteContext) -> dict[str, object]:
        """The report on the step; one that did nothing says why. A hint never fails for what it might have done."""
        try:
            grant = await self._grants.require(context.namespace, context.credential)
            place = place_of(context.namespace, grant is None, None if grant is None else grant.identity)
            found = await self._latest.get(place, fresh=True)
        except LayerError as error:
            return {"enabled": True, "status": "skipped", "reason": error.message}
        if found is None:
            return {"enabled": True, "status": "no_snapshot"}
        return {
            "enabled": True,
            "status": "completed",
            "key": key_of(found),
            "watermark_ms": found.watermark_ms,
            "sha": found.sha,
        }
