"""What happens to every request around its handler, as two visible lists."""

import logging
import random
from collections.abc import Callable

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, NotFoundError
from hevlayer.gateway.access_log import AccessLog, json_text
from hevlayer.gateway.auth import ANONYMOUS, Authenticator, Grants
from hevlayer.gateway.drain import Drain
from hevlayer.gateway.responses import error_response
from hevlayer.gateway.router import Access, Family, Route, RouteContext, Router, RouteSpec
from hevlayer.gateway.tracing import accept_request_id, accept_traceparent, mint_traceparent
from hevlayer.http.messages import Request, Response
from hevlayer.metrics.recorder import Metrics

log = logging.getLogger("hevlayer.gateway")

_OWN = (Access.OPEN, Access.OBSERVE)
_OTHER = Family.OTHER


async def _no_handler(context: RouteContext) -> Response:
    raise NotFoundError(f"no route {context.request.path}")


UNMATCHED = Route(RouteSpec("", "", "", "unmatched", Access.OPEN), _no_handler)


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
        self._prefix_region = prefix_region
        self._before: tuple[Callable[[RouteContext], None], ...] = (
            self._identify,
            self._refuse_when_stopping,
            self._authenticate,
        )
        self._observers: dict[Family, Callable[[RouteContext, int, float], None]] = {
            Family.QUERY: self._measure_query,
            Family.WRITE: self._measure_write,
            Family.HEAD: self._measure_head,
            Family.LIST: self._measure_list,
        }
        self._after: tuple[Callable[[RouteContext, Response, float], None], ...] = (
            self._tell_trace,
            self._measure,
            self._log,
        )

    async def __call__(self, request: Request) -> Response:
        started = self._now()
        context, refusal = self._open(request, started)
        try:
            for step in self._before:
                step(context)
            if refusal is not None:
                raise refusal
            route = context.route
            if route.access is Access.HELD:
                context.grant = await self._grants.require(context.namespace, context.credential)
            response = await route.handler(context)
        except LayerError as error:
            response = self._refuse(context, error)
        except Exception:
            log.exception(
                "request failed", extra={"request_id": context.request_id, "operation": context.route.operation}
            )
            response = self._refuse(context, InternalError(context.request_id))
        seconds = self._now() - started
        for finish in self._after:
            finish(context, response, seconds)
        return response

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

    # --- before the handler ------------------------------------------------------------------------------------------

    def _identify(self, context: RouteContext) -> None:
        request = context.request
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
        headers = context.request.headers
        if access is Access.OBSERVE or (access is Access.KEYED and self._authenticator.passes_through):
            self._authenticator.require_observer(headers)
        else:
            context.credential = self._authenticator.authenticate(headers)

    # --- after it ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _tell_trace(context: RouteContext, response: Response, seconds: float) -> None:
        response.headers.append((b"traceparent", context.traceparent))

    def _measure(self, context: RouteContext, response: Response, seconds: float) -> None:
        route, status = context.route, response.status
        self._metrics.observe_request(route.operation, status)
        if route.family is not _OTHER:
            self._observers[route.family](context, status, seconds)

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

    def _log(self, context: RouteContext, response: Response, seconds: float) -> None:
        access_log = self._access_log
        if not access_log.enabled:
            return
        request, status, body = context.request, response.status, response.body
        size = len(body) if type(body) is bytes else sum(map(len, body)) if type(body) is tuple else "null"
        consistency = f',"consistency":"{context.consistency}"' if context.consistency else ""
        failure = f',"error":"{context.failure}"' if context.failure else ""
        access_log.add(
            f'{{"time_ms":{self._now_ms()},"level":"{"error" if status >= 500 else "info"}","event":"request",'
            f'"method":{json_text(request.method)},"path":{json_text(request.path)},'
            f'"operation":"{context.route.operation}","status":{status},"bytes":{size},"us":{int(seconds * 1e6)},'
            f'"upstream_us":{int(context.upstream_seconds * 1e6)},"request_id":{json_text(context.request_id)},'
            f'"trace_id":"{context.trace_id}","peer":{json_text(request.peer)}{consistency}{failure}}}'
        )
