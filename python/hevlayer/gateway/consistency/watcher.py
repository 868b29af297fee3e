"""Polls the upstream's metadata of every registered namespace and moves the watermarks."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.gateway.consistency.decide import Failed, Gone, PollResult, Seen, after_failure, judge_poll, plan_delay
from hevlayer.gateway.consistency.registry import Entry, Registry
from hevlayer.gateway.consistency.stamps import Stamper, lower

SAFETY_MARGIN_MS = 500
POLL_DEADLINE_SECONDS = 5.0
POLLS_CONCURRENT_MAX = 64
TICK_SECONDS = 0.05

log = logging.getLogger("hevlayer.consistency")

MetadataReader = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Reads `GET /v2/namespaces/{ns}/metadata` upstream under a bearer: (HTTP status, inflated body). Transport failures
raise LayerError."""


class Credentials(Protocol):
    """Whose key a background request carries."""

    def background_bearer(self, namespace: str, scope: bytes | None = None) -> bytes | None:
        """The bare token for `namespace` as a scope sees it (None: as any does); None when the gateway holds none that
        the upstream has accepted for it."""


PeerFloor = Callable[[str], int | None]
"""A stamp that no watermark of a namespace may reach in a poll that starts now, as far as other processes say."""


def _no_peers(_namespace: str) -> int | None:
    return None


class WatcherMetrics(Protocol):
    """What the watcher counts."""

    def observe_poll(self, result: str, seconds: float) -> None: ...

    def set_logical_bytes(self, namespace: str, logical_bytes: int) -> None: ...


class Watcher:
    """Polls concurrently and bounded; a call that hangs is cancelled at its deadline and holds nobody else up.

    Run `run` under a supervisor, and `close` at the end. `margin_ms` covers the writes that other processes have in
    flight and this one cannot see; `peer_floor` tells of those that it can.
    """

    def __init__(
        self,
        clock: Clock,
        registry: Registry,
        stamper: Stamper,
        read_metadata: MetadataReader,
        credentials: Credentials,
        metrics: WatcherMetrics,
        *,
        margin_ms: int = SAFETY_MARGIN_MS,
        deadline_seconds: float = POLL_DEADLINE_SECONDS,
        concurrent_max: int = POLLS_CONCURRENT_MAX,
        peer_floor: PeerFloor = _no_peers,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._peer_floor = peer_floor
        self._registry = registry
        self._stamper = stamper
        self._read_metadata = read_metadata
        self._credentials = credentials
        self._metrics = metrics
        self._margin_ms = margin_ms
        self._deadline_seconds = deadline_seconds
        self._concurrent_max = concurrent_max
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._running: dict[asyncio.Task[None], float] = {}
        self._closed = False

    @property
    def polls_running(self) -> int:
        return len(self._running)

    async def run(self) -> None:
        while True:
            self.tick()
            await self._clock.sleep(TICK_SECONDS)

    def tick(self) -> None:
        """Cancels polls past their deadline and starts those that are due, as far as the bound allows."""
        now = self._clock.monotonic()
        for task, cancel_at in list(self._running.items()):
            if now >= cancel_at:
                task.cancel()
        while len(self._running) < self._concurrent_max and not self._closed:
            entry = self._registry.take_due(now)
            if entry is None:
                return
            entry.polling = True
            task = asyncio.get_running_loop().create_task(self._poll(entry), name="consistency-poll")
            self._running[task] = now + self._deadline_seconds
            task.add_done_callback(self._running.pop)

    async def close(self) -> None:
        """Ends the polls under way; none starts any more."""
        self._closed = True
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, entry: Entry) -> None:
        started = self._clock.monotonic()
        result: PollResult = Failed("deadline")
        try:
            result = await self._ask(entry)
        except Exception:
            result = Failed("internal_error")
            log.exception("namespace poll failed", extra={"namespace": entry.namespace})
        finally:
            entry.polling = False
            self._settle(entry, result)
            self._metrics.observe_poll(_label(result), self._clock.monotonic() - started)

    async def _ask(self, entry: Entry) -> PollResult:
        namespace = entry.namespace
        bearer = self._credentials.background_bearer(namespace, entry.scope)
        if bearer is None:
            return Failed("no_credential")
        poll_start_ms = self._stamper.now_ms()
        peer_floor_ms = self._peer_floor(namespace)
        window = self._stamper.open_window(namespace)
        try:
            status, body = await self._read_metadata(namespace, bearer)
        except LayerError as error:
            return Failed(error.code)
        finally:
            floor_ms = lower(window.close(), peer_floor_ms)
        return judge_poll(
            entry.view, status, body, poll_start_ms=poll_start_ms, floor_ms=floor_ms, margin_ms=self._margin_ms
        )

    def _settle(self, entry: Entry, result: PollResult) -> None:
        # A namespace forgotten during the poll may have been deleted or recreated: the answer is about the past.
        if not self._registry.is_current(entry):
            return
        match result:
            case Seen(view, recreated):
                entry.view = view
                entry.failures = 0
                if view.logical_bytes is not None:
                    self._metrics.set_logical_bytes(entry.namespace, view.logical_bytes)
                if recreated:
                    self._registry.announce(entry.namespace, "recreated")
            case Gone():
                self._registry.mark_gone(entry)
                return
            case Failed("no_credential"):
                # Nothing was asked, so there is nothing to spare: the next request may bring a key.
                entry.view = after_failure(entry.view, self._stamper.now_ms())
            case Failed(reason):
                entry.view = after_failure(entry.view, self._stamper.now_ms())
                entry.failures += 1
                if entry.failures == 1:
                    log.warning("namespace poll failed", extra={"namespace": entry.namespace, "reason": reason})
        self._plan_next(entry)

    def _plan_next(self, entry: Entry) -> None:
        now = self._clock.monotonic()
        delay = plan_delay(
            entry.view.status,
            idle_seconds=now - entry.used_at,
            failures=entry.failures,
            previous_seconds=entry.delay_seconds,
            interval_seconds=self._registry.interval_seconds,
            writing=self._stamper.busy(entry.namespace),
            jitter=self._rng.random(),
        )
        entry.delay_seconds = delay
        self._registry.plan(entry, now + delay)


def _label(result: PollResult) -> str:
    match result:
        case Seen(view):
            return view.status.value
        case Gone():
            return "gone"
        case Failed(reason):
            return reason
