"""Puts the parts of the history together over the gateway's."""

import random
import time
from collections.abc import Callable, Collection, Mapping

from hevlayer.clock import Clock, Supervisor
from hevlayer.gateway.history.entry import WRITERS, Feed, prefix_of
from hevlayer.gateway.history.reader import Bodies, Reader
from hevlayer.gateway.history.recorder import Recorder, RecorderMetrics
from hevlayer.gateway.history.routes import HistoryRoutes, IdTypes
from hevlayer.gateway.history.tags import TAGS_HEADER, header_tags
from hevlayer.gateway.history.writer import Writer
from hevlayer.gateway.namespaces import Deletion
from hevlayer.gateway.router import Finisher, QuickHandler, RouteContext, RouteHandler
from hevlayer.gateway.trail import Trail
from hevlayer.http.messages import Response
from hevlayer.metrics.registry import Samples
from hevlayer.stores.objects import ObjectStore


class History:
    """What was searched and fetched. `start`; `stop` after the last request, before the object store is closed.

    Attributes:
        recorder: who makes the records.
        trail: the same, as it is to be told of what was served; None: nothing is recorded.
        handlers: the routes, by their names in the route table.
    """

    def __init__(
        self,
        objects: ObjectStore,
        id_types: IdTypes,
        clock: Clock,
        metrics: RecorderMetrics,
        *,
        rng: random.Random,
        is_on: bool = True,
        off: Collection[str] = (),
        now_nanos: Callable[[], int] = time.time_ns,
    ) -> None:
        """`off`: namespaces of which nothing is recorded."""
        self._objects = objects
        bodies = Bodies()
        self._writer = Writer(objects, clock, metrics, rng=rng, written=bodies.put)
        self.recorder = Recorder(
            self._writer, clock, metrics, writer_number=rng.randrange(WRITERS), off=off, now_nanos=now_nanos
        )
        self.trail: Trail | None = self.recorder if is_on else None
        reader = Reader(objects, self._writer, bodies, now_nanos)
        routes = HistoryRoutes(reader, self.recorder, id_types)
        self.handlers: Mapping[str, RouteHandler] = {
            "list_search_history": routes.list_search_history,
            "list_clickstream": routes.list_clickstream,
        }

    def start(self, supervisor: Supervisor) -> None:
        supervisor.start("history recorder", self.recorder.run)
        supervisor.start("history writer", self._writer.run)

    def pending_samples(self) -> Samples:
        """Bytes that the store does not have."""
        return [((), self._writer.pending_bytes)]

    async def stop(self) -> None:
        """Writes what is left, for at most `writer.STOP_SECONDS`."""
        await self.recorder.drain()
        await self._writer.stop()

    async def purge(self, deletion: Deletion) -> None:
        """Removes a deleted namespace's history, if that was asked for. Raises: ObjectStoreError."""
        if not deletion.purge_history:
            return
        for feed in Feed:
            self.recorder.settle(feed, deletion.namespace)
            self._writer.forget(feed, deletion.namespace)
            while keys := await self._objects.list_keys(prefix_of(feed, deletion.namespace)):
                for key in keys:
                    await self._objects.delete(key)


def checked(handler: RouteHandler) -> RouteHandler:
    """The handler for requests whose tags keep the rules; others are refused before anything is done."""

    async def handle(context: RouteContext) -> Response:
        header_tags(context.request.header_values(TAGS_HEADER))
        return await handler(context)

    return handle


def quick_checked(handler: QuickHandler) -> QuickHandler:
    """As `checked`, for a quick handler."""

    def start(context: RouteContext, around: Finisher) -> bool:
        header_tags(context.request.header_values(TAGS_HEADER))
        return handler(context, around)

    return start
