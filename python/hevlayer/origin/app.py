"""The local origin as one handler: authentication, routing, faults, and the engine in a pool of threads."""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import AbortConnection
from hevlayer.origin import codec
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.control import ControlRoutes
from hevlayer.origin.faults import FaultBook, FaultPlan, Reset, Side, SlowBody, Status, TruncatedBody
from hevlayer.origin.routes import Matched, NamespaceNameError, match
from hevlayer.wire.headers import accepts_gzip

SLOW_BODY_TICKS_PER_SECOND = 20

_BEARER = b"bearer "

log = logging.getLogger("hevlayer.origin")


class Engine(Protocol):
    """What the front needs of the engine; see `_native.pyi`."""

    def handle(self, method: str, path: str, query: str, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer. Blocks until an acknowledged write is on disk."""

    def set_index_lag(self, namespace: str | None, ms: int) -> None:
        """Makes rows count as indexed only `ms` after they were written; None is every namespace."""


class OriginApp:
    """The request handler. `close` waits for the engine calls under way."""

    def __init__(self, engine: Engine, config: OriginConfig, clock: Clock) -> None:
        self._engine = engine
        self._config = config
        self._clock = clock
        self._faults = FaultBook(config.faults)
        self._control = ControlRoutes(self._faults, engine) if config.control else None
        self._threads = ThreadPoolExecutor(config.threads, thread_name_prefix="origin")
        self._begun: dict[object, float] = {}

    @property
    def oldest_begun(self) -> float | None:
        """When the oldest request that is still being carried out began, in the loop's seconds. A caller that went away
        does not end it: what the engine has been given it does."""
        return min(list(self._begun.values()), default=None)

    async def handle(self, request: Request) -> Response:
        """Answers one request.

        Raises: AbortConnection: a fault asks for a reset.
        """
        token = object()
        self._begun[token] = asyncio.get_running_loop().time()
        try:
            return await self._handle(request)
        finally:
            del self._begun[token]

    async def _handle(self, request: Request) -> Response:
        if self._control is not None and request.path.startswith("/_origin/"):
            return await self._control.handle(request)
        if not _has_bearer(request):
            return codec.respond_error(401, "missing or malformed `Authorization: Bearer <api key>` header")
        try:
            matched = match(request.method, request.path)
        except NamespaceNameError as error:
            return codec.respond(400, str(error).encode(), b"text/plain; charset=utf-8")
        if matched is None:
            return codec.respond_error(404, f"no route for {request.method} {request.path}")
        plan = self._faults.plan(matched.route.name, request.method, matched.namespace)
        if plan is None:
            return await self._answer(request, matched)
        return await self._answer_with_faults(request, matched, plan)

    async def _answer(self, request: Request, matched: Matched) -> Response:
        bytes_max = self._config.body_bytes_max
        try:
            body = await request.body.read(bytes_max)
        except LayerError as error:
            if error.status == 413:
                return codec.respond_error(413, codec.too_large(bytes_max).message)
            return codec.respond_error(error.status, f"💔 {error.message}")
        job = self._threads.submit(self._call_engine, request, matched, body)
        self._begun[job] = asyncio.get_running_loop().time()
        job.add_done_callback(lambda done: self._begun.pop(done, None))
        return await asyncio.wrap_future(job)

    def _call_engine(self, request: Request, matched: Matched, body: bytes) -> Response:
        """Runs in a thread: a body may take a second to inflate and parse."""
        try:
            plain = codec.inflate(body, request.header(b"content-encoding"), self._config.body_bytes_max)
        except codec.BodyError as error:
            return codec.respond_error(error.status, error.message)
        try:
            status, content_type, answer = self._engine.handle(request.method, matched.path, request.query, plain)
        except BaseException:
            # A panic in the engine arrives as no Exception; the client must hear of it all the same.
            log.exception("engine failed on %s %s", request.method, matched.path)
            return codec.respond_error(500, codec.UNKNOWN_ERROR)
        wants_gzip = len(answer) >= codec.GZIP_RESPONSE_BYTES_MIN and accepts_gzip(request.header(b"accept-encoding"))
        if wants_gzip:
            answer = codec.deflate(answer)
        return codec.respond(status, answer, content_type.encode("latin-1"), encoded=wants_gzip)

    async def _answer_with_faults(self, request: Request, matched: Matched, plan: FaultPlan) -> Response:
        refused = await self._suffer(plan.before)
        if refused is not None:
            return refused
        response = await self._answer(request, matched)
        refused = await self._suffer(plan.after)
        if refused is not None:
            return refused
        assert isinstance(response.body, bytes)
        match plan.body:
            case SlowBody(bytes_per_second=rate):
                response.body = self._trickle(response.body, rate)
            case TruncatedBody(keep_fraction=fraction):
                response.body = _truncate(response.body, fraction)
        return response

    async def _suffer(self, side: Side) -> Response | None:
        if side.delay_ms > 0:
            await self._clock.sleep(side.delay_ms / 1000)
        match side.failure:
            case Reset():
                raise AbortConnection
            case Status(status=status, message=message, retry_after_seconds=retry_after):
                response = codec.respond_error(status, message)
                if retry_after is not None:
                    response.headers.append((b"retry-after", f"{retry_after:g}".encode()))
                return response
        return None

    async def _trickle(self, body: bytes, bytes_per_second: int) -> AsyncIterator[bytes]:
        step = max(1, bytes_per_second // SLOW_BODY_TICKS_PER_SECOND)
        for start in range(0, len(body), step):
            part = body[start : start + step]
            yield part
            await self._clock.sleep(len(part) / bytes_per_second)

    def close(self) -> None:
        self._threads.shutdown(wait=True)


async def _truncate(body: bytes, keep_fraction: float) -> AsyncIterator[bytes]:
    # The announced length stays, so that the client can tell; what was kept is sent before the connection ends.
    yield body[: int(len(body) * keep_fraction)]
    raise AbortConnection(reset=False)


def _has_bearer(request: Request) -> bool:
    value = request.header(b"authorization") or b""
    return value[: len(_BEARER)].lower() == _BEARER and bool(value[len(_BEARER) :].strip())
