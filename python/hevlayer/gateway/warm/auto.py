"""Warms that nobody asked for: a scan could have been answered by the cache, had it been complete."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.warm.service import Warms

log = logging.getLogger("hevlayer.warm")

# A namespace that cannot be made complete is not read again and again.
AGAIN_SECONDS = 300.0
NAMESPACES_MAX = 1_000

Spawn = Callable[[str, Coroutine[object, object, None]], None]


class AutoWarm:
    """Starts a warm in the background, at most one in a while for each namespace and scope."""

    def __init__(self, warms: Warms, spawn: Spawn, clock: Clock, *, rows_max: int) -> None:
        self._warms = warms
        self._spawn = spawn
        self._now = clock.monotonic
        self._rows_max = rows_max
        self._started: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def start(self, namespace: str, credential: Credential) -> None:
        """Returns at once; a namespace of more rows than `rows_max` is left alone."""
        key = (namespace, credential.scope)
        now = self._now()
        if now - self._started.get(key, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._started[key] = now
        self._started.move_to_end(key)
        if len(self._started) > NAMESPACES_MAX:
            self._started.popitem(last=False)
        self._spawn("warm for scans", self._start(namespace, credential))

    async def _start(self, namespace: str, credential: Credential) -> None:
        try:
            await self._warms.start(namespace, credential, rows_max=self._rows_max)
        except LayerError as error:
            log.info("no warm for scans", extra={"namespace": namespace, "error": error.message})
