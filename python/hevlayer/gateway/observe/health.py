"""Liveness and readiness."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from hevlayer.gateway.observe.cache_state import CacheConnection, CacheState, CacheStates
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Headers, Response

HEALTH_NAMESPACES_MAX = 1_000
HEALTH_STATES_SECONDS = 1.0

Watched = Callable[[], Sequence[tuple[str, int | None]]]
"""The namespaces whose cache state is told, and their watermarks."""

Observes = Callable[[Headers], bool]
"""Whether the sender of these headers may see what a metrics token closes."""


class HealthRoutes:
    """GET /health: 200 as long as the process answers at all."""

    def __init__(self, version: str, cache_states: CacheStates, observes: Observes, watched: Watched) -> None:
        self._version = version
        self._watched = watched
        self._cache_states = cache_states
        self._observes = observes

    async def health(self, context: RouteContext) -> Response:
        """The version, the cache's connection and, for those who may see it, each namespace's cache state."""
        names = self._watched() if self._observes(context.request.headers) else ()
        connection = await self._cache_states.connection()
        states = await self._states(names[:HEALTH_NAMESPACES_MAX])
        return json_response(200, describe_health(self._version, connection, states))

    async def _states(self, names: Sequence[tuple[str, int | None]]) -> dict[str, CacheState]:
        """By namespace; those that a slow cache does not tell in time are left out."""
        states: dict[str, CacheState] = {}
        try:
            async with asyncio.timeout(HEALTH_STATES_SECONDS):
                for name, watermark_ms in names:
                    states[name] = await self._cache_states.cache_state(name, watermark_ms)
        except TimeoutError:
            pass
        return states


def describe_health(version: str, connection: CacheConnection, states: Mapping[str, CacheState]) -> dict[str, object]:
    """The body of /health. `aerospike` is what dashboards read, whichever engine the document cache has."""
    rows = []
    for name, state in states.items():
        rows.append(
            {
                "namespace": name,
                "state": state.state,
                "warmed_through": state.warmed_through_ms,
                "warm_inflight": state.warm_inflight,
            }
        )
    return {
        "status": "ok",
        "version": version,
        "aerospike": {"connected": connection.connected, "generation": connection.generation},
        "document_cache": {
            "engine": connection.engine,
            "connected": connection.connected,
            "notes": list(connection.notes),
        },
        "cache_state": rows,
    }


Reason = Callable[[], str | None]
"""A condition's text while it holds, else None."""


class ReadyRoutes:
    """GET /ready: whether a load balancer should send requests here.

    An unreachable upstream does not make a gateway unready: every replica would leave at once, and callers would get
    a connection error in place of a clear answer.
    """

    def __init__(self, blockers: Sequence[Reason], notes: Sequence[Reason] = ()) -> None:
        self._blockers = tuple(blockers)
        self._notes = tuple(notes)

    async def ready(self, context: RouteContext) -> Response:
        """200 or 503, the reasons against, and notes on what runs in a reduced way."""
        reasons = _holding(self._blockers)
        body = {"status": "not_ready" if reasons else "ready", "reasons": reasons, "notes": _holding(self._notes)}
        return json_response(503 if reasons else 200, body)


def _holding(conditions: Sequence[Reason]) -> list[str]:
    return [text for condition in conditions if (text := condition()) is not None]


def scheduled_work_note(has_own_key: bool) -> Reason:
    """The note of a gateway that has no key of its own to work with while nobody asks."""
    note = (
        "scheduled work is off: without TURBOPUFFER_API_KEY, background reads use the bearer that the upstream "
        "last accepted for a namespace"
    )
    return lambda: None if has_own_key else note
