"""How the asynchronous client makes a call: the gateway, again where that helps, Turbopuffer where that may be."""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from hevlayer.client.aio.transport import AsyncTransport
from hevlayer.client.connection import connection_of
from hevlayer.client.core import (
    MAX_RETRIES_DEFAULT,
    TIMEOUT_SECONDS_DEFAULT,
    Received,
    checked_timeout,
    core_of,
    read_answer,
)
from hevlayer.client.errors import HevlayerConnectionError, HevlayerError, HevlayerTimeoutError, error_of
from hevlayer.client.http import Request
from hevlayer.client.operation import Operation, prepare
from hevlayer.client.perf import LayerResponse
from hevlayer.client.retry import RetryPolicy

ResultT = TypeVar("ResultT")


class AsyncCaller:
    """A pool of connections, and the one way in which every operation is asked."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        turbopuffer_api_key: str | None = None,
        turbopuffer_url: str | None = None,
        fallback_to_turbopuffer: bool = True,
        timeout_seconds: float = TIMEOUT_SECONDS_DEFAULT,
        max_retries: int = MAX_RETRIES_DEFAULT,
        retry: RetryPolicy | None = None,
        compression: bool = False,
    ) -> None:
        """Connects nowhere yet.

        Args:
            base_url: of the gateway; else `LAYER_GATEWAY_URL`, else `http://localhost:8080`.
            api_key: sent as the bearer; else `LAYER_GATEWAY_API_KEY`.
            turbopuffer_api_key: for asking Turbopuffer when the gateway cannot be reached; else `TURBOPUFFER_API_KEY`.
                Without one that is never done. The gateway does not see it.
            turbopuffer_url: else `TURBOPUFFER_API_URL`, else `https://aws-us-east-1.turbopuffer.com`.
            fallback_to_turbopuffer: False never asks Turbopuffer.
            timeout_seconds: of one attempt, from its start to the last byte.
            max_retries: how often a request is sent again.
            retry: the whole policy; it takes the place of `max_retries`.
            compression: gzip in both directions.
        Raises: ValueError: an argument or a variable cannot be used; it says which.
        """
        connection = connection_of(
            base_url=base_url,
            api_key=api_key,
            turbopuffer_api_key=turbopuffer_api_key,
            turbopuffer_url=turbopuffer_url,
            fallback_to_turbopuffer=fallback_to_turbopuffer,
        )
        self._core = core_of(
            connection,
            timeout_seconds=timeout_seconds,
            compression=compression,
            max_retries=max_retries,
            retry=retry,
            kind="async",
        )
        self._transport = AsyncTransport(timeout_seconds=timeout_seconds, compression=compression)

    @property
    def base_url(self) -> str:
        """Of the gateway."""
        return self._core.connection.gateway.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. Calls after it fail."""
        await self._transport.aclose()

    async def _call(
        self,
        operation: Operation[ResultT],
        *,
        path: Mapping[str, str | int],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        context: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> LayerResponse[ResultT]:
        if timeout_seconds is not None:
            checked_timeout(timeout_seconds)
        core = self._core
        started = core.clock()
        prepared = prepare(operation, path, query or {}, body, context or {})
        around = core.direct(operation, prepared)
        place = core.connection.turbopuffer if around else None
        try:
            received = await self._attempts(
                operation, core.request(prepared, timeout_seconds), leave_when_unsent=around is not None
            )
        except HevlayerConnectionError as error:
            if error.request_sent or around is None or isinstance(error, HevlayerTimeoutError):
                raise
            core.warn_of_direct(error)
        else:
            return read_answer(operation, received, prepared, latency_ms=(core.clock() - started) * 1000, direct=False)
        received = await self._attempts(operation, core.request(around, timeout_seconds, place=place))
        return read_answer(operation, received, prepared, latency_ms=(core.clock() - started) * 1000, direct=True)

    async def _attempts(
        self, operation: Operation[Any], request: Request, *, leave_when_unsent: bool = False
    ) -> Received:
        """Sends until an answer comes or nothing more is to be tried.

        Args:
            leave_when_unsent: do not wait for a server that cannot be reached.
        Raises: HevlayerError: of the last attempt. `request_sent` tells whether any attempt may have been seen.
        """
        retry = self._core.retry
        seen = False
        for retries in range(retry.max_retries + 1):
            try:
                answer = await self._transport.send(request)
            except HevlayerConnectionError as error:
                seen = seen or error.request_sent
                error.request_sent = seen
                failure: HevlayerError = error
                # With all connections in use, the server is there.
                unsent = not seen and not isinstance(error, HevlayerTimeoutError)
            else:
                if answer.status_code < 300:
                    return Received(answer, retries + 1)
                failure = error_of(answer)
                seen = True
                unsent = False
            delay = retry.delay_seconds(failure, retries=retries, repeatable=operation.repeatable)
            if delay is None or (unsent and leave_when_unsent):
                raise failure
            await self._transport.sleep(delay)
        raise AssertionError("the policy allows no more retries than it has")
