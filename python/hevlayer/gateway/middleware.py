"""What happens to every request around its handler: `start` before it, `finish` after it."""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, NotFoundError
from hevlayer.gateway.access_log import AccessLog
from hevlayer.gateway.auth import ANONYMOUS, Authenticator, Credential, Grants
from hevlayer.gateway.drain import Drain
from hevlayer.gateway.responses import error_response
from hevlayer.gateway.router import Access, Family, Route, RouteContext, Router, RouteSpec
from hevlayer.gateway.tracing import accept_request_id, accept_traceparent, mint_traceparent
from hevlayer.http.messages import Reply, Request, Response
from hevlayer.kernels.http import TraceIds, access_line
from hevlayer.metrics.recorder import Metrics

log = logging.getLogger("hevlayer.gateway")

_OWN = (Access.OPEN, Access.OBSERVE)
_OTHER = Family.OTHER


async def _no_handler(context: RouteContext) -> Response:
    raise NotFoundError(f"no route {context.request.path}")


UNMATCHED = Route(RouteSpec("", "", "", "unmatched", Access.OPEN), _no_handler)


class SpanSink(Protocol):
    """Who is told of every request that has ended."""

    def ended(self, context: RouteContext, status: int, seconds: float) -> None: ...


class InternalError(LayerError):
    """A bug. Its text says nothing of what happened; the log does, under the same request id."""

    def __init__(self, request_id: str) -> None:
        super().__init__("an internal error occurred; the log has it under this request_id")
        self.fields = {"request_id": request_id}


class Pipeline:
    """The function that the server calls. It never raises but for cancellation."""

    def __init__(
        self,
        router: Router,
        authenticator: Authenticator,
        grants: Grants,
        drain: Drain,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Clock,
        rng: random.Random,
        *,
        prefix_region: str | None,
        spans: SpanSink | None = None,
    ) -> None:
        self._router = router
        self._authenticator = authenticator
        self._grants = grants
        self._drain = drain
        self._metrics = metrics
        self._access_log = access_log
        self._now = clock.monotonic
        self._now_ms = clock.now_ms
        self._rng = rng
        self._trace_ids = TraceIds(rng.getrandbits(64))
        self._prefix_region = prefix_region
        self._spans = spans
        self._observers: dict[Family, Callable[[RouteContext, int, float], None]] = {
            Family.QUERY: self._measure_query,
            Family.WRITE: self._measure_write,
            Family.HEAD: self._measure_head,
            Family.LIST: self._measure_list,
        }

    @property
    def routes(self) -> Sequence[Route]:
        return self._router.routes

    def start(self, request: Request, reply: Reply) -> Awaitable[Response] | None:
        """Begins to serve a request; see `Starter`."""
        context, refusal = self._open(request, self._now())
        try:
            self._identify(context)
            self._refuse_when_stopping(context)
            self._authenticate(context)
            if refusal is not None:
                raise refusal
            quick = context.route.quick
            if quick is not None:
                context.reply = reply
                if quick(context, self):
                    return None
        except Exception as error:
            return self.carry(context, _raising(error))
        return self.carry(context, self._handle(context))

    async def _handle(self, context: RouteContext) -> Response:
        route = context.route
        if route.access is Access.HELD:
            context.grant = await self._grants.require(context.namespace, context.credential)
        return await route.handler(context)

    async def carry(self, context: RouteContext, answering: Awaitable[Response]) -> Response:
        """See `Finisher`. It never raises but for cancellation."""
        try:
            response = await answering
        except LayerError as error:
            response = self._refuse(context, error)
        except Exception:
            log.exception(
                "request failed", extra={"request_id": context.request_id, "operation": context.route.operation}
            )
            response = self._refuse(context, InternalError(context.request_id))
        finally:
            lease = context.request.lease
            if lease is not None:
                lease.close()
        response.headers.append((b"traceparent", context.traceparent))
        body = response.body
        size = len(body) if type(body) is bytes else sum(map(len, body)) if type(body) is tuple else None
        self.finish(context, response.status, size)
        return response

    def finish(self, context: RouteContext, status: int, size: int | None) -> None:
        """See `Finisher`."""
        seconds = self._now() - context.started
        route = context.route
        self._metrics.observe_request(route.operation, status)
        if route.family is not _OTHER:
            self._observers[route.family](context, status, seconds)
        if self._access_log.enabled:
            self._log(context, status, size, seconds)
        if self._spans is not None:
            self._spans.ended(context, status, seconds)

    def _open(self, request: Request, started: float) -> tuple[RouteContext, LayerError | None]:
        """The request's context; with an error when no route will have it, so that it is logged and counted too."""
        try:
            route, match = self._router.route(request.method, request.path)
            prefix = self._prefix(match.region) if match.region else b""
        except LayerError as error:
            return RouteContext(request, UNMATCHED, {}, b"", ANONYMOUS, started), error
        return RouteContext(request, route, match.parameters, prefix, ANONYMOUS, started), None

    def _prefix(self, region: str) -> bytes:
        if self._prefix_region is not None and region != self._prefix_region:
            raise NotFoundError(f"this gateway serves region {self._prefix_region}, not {region}")
        return b"/" + region.encode("ascii", "replace")

    @staticmethod
    def _refuse(context: RouteContext, error: LayerError) -> Response:
        context.failure = error.code
        return error_response(error)

    def resume(
        self, request: Request, reply: Reply, credential: Credential, identity: tuple[bytes, str, str], started: float
    ) -> RouteContext:
        """See `Around`."""
        context, _ = self._open(request, started)
        context.reply = reply
        context.credential = credential
        context.traceparent, context.trace_id, context.request_id = identity
        return context

    # --- before the handler ------------------------------------------------------------------------------------------

    def _identify(self, context: RouteContext) -> None:
        request = context.request
        if request.head is not None:
            context.traceparent, context.trace_id, context.request_id = self._trace_ids.identify(request.head)
            return
        sent = request.header(b"traceparent")
        trace_id = accept_traceparent(sent) if sent is not None else None
        if trace_id is None or sent is None:
            sent, trace_id = mint_traceparent(self._rng)
        context.traceparent = sent
        context.trace_id = trace_id.decode("ascii")
        context.request_id = accept_request_id(request.header(b"x-request-id")) or context.trace_id

    def _refuse_when_stopping(self, context: RouteContext) -> None:
        if self._drain.draining and context.route.access not in _OWN:
            self._drain.refuse_if_stopping()

    def _authenticate(self, context: RouteContext) -> None:
        access = context.route.access
        if access is Access.OPEN:
            return
        request = context.request
        if access is Access.OBSERVE or (access is Access.KEYED and self._authenticator.passes_through):
            self._authenticator.require_observer(request.headers)
        else:
            context.credential = self._authenticator.credential(request)

    # --- after it ----------------------------------------------------------------------------------------------------

    def _measure_query(self, context: RouteContext, status: int, seconds: float) -> None:
        self._metrics.observe_query(
            context.namespace,
            status,
            seconds,
            context.upstream_seconds,
            context.has_filter,
            context.has_rank_by,
            context.consistency,
        )
        if context.legs:
            self._metrics.observe_multi_query(context.namespace, status, context.legs, context.upstream_calls)

    def _measure_write(self, context: RouteContext, status: int, seconds: float) -> None:
        self._metrics.observe_write(context.namespace, status, seconds, context.upstream_seconds, context.rows)

    def _measure_head(self, context: RouteContext, status: int, seconds: float) -> None:
        self._metrics.observe_head(context.namespace, status, seconds)

    def _measure_list(self, context: RouteContext, status: int, seconds: float) -> None:
        self._metrics.observe_list(status, seconds)

    def _log(self, context: RouteContext, status: int, size: int | None, seconds: float) -> None:
        request = context.request
        self._access_log.add(
            access_line(
                self._now_ms(),
                request.method,
                request.path,
                context.route.operation,
                status,
                size,
                seconds,
                context.upstream_seconds,
                context.request_id,
                context.trace_id,
                request.peer,
                context.consistency,
                context.failure,
            )
        )


async def _raising(error: Exception) -> Response:
    raise error
