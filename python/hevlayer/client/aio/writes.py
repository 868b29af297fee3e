"""Writes, copies and branches."""

# Written by scripts/make_client.py; change hevlayer/client/api.py, then run it again.

from collections.abc import Mapping
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.aio.caller import AsyncCaller
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse


class AsyncWrites(AsyncCaller):
    """Writes, copies and branches."""

    @overload
    async def write_namespace(
        self,
        namespace: str,
        body: models.TurbopufferWriteRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    async def write_namespace(
        self,
        namespace: str,
        body: models.TurbopufferWriteRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    async def write_namespace(
        self,
        namespace: str,
        body: models.TurbopufferWriteRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse | LayerResponse[models.TurbopufferWriteResponse]:
        """Writes documents: a native write, or the Layer dialect (`upserts`, `patches`, `deletes`).

        `POST /v2/namespaces/{namespace}`
        """
        answer: LayerResponse[models.TurbopufferWriteResponse] = await self._call(
            OPERATIONS["write_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    async def copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    async def copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse | LayerResponse[models.TurbopufferWriteResponse]:
        """Fills a new namespace with a copy of another one.

        `POST /v2/namespaces/{namespace}`
        """
        answer: LayerResponse[models.TurbopufferWriteResponse] = await self._call(
            OPERATIONS["copy_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def branch_namespace(
        self,
        namespace: str,
        body: models.TurbopufferBranchFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    async def branch_namespace(
        self,
        namespace: str,
        body: models.TurbopufferBranchFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    async def branch_namespace(
        self,
        namespace: str,
        body: models.TurbopufferBranchFromRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse | LayerResponse[models.TurbopufferWriteResponse]:
        """Makes a new namespace that shares what another one has now.

        `POST /v2/namespaces/{namespace}`
        """
        answer: LayerResponse[models.TurbopufferWriteResponse] = await self._call(
            OPERATIONS["branch_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def start_copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.OperationStarted: ...

    @overload
    async def start_copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.OperationStarted]: ...

    async def start_copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.OperationStarted | LayerResponse[models.OperationStarted]:
        """Starts a copy that goes on by itself; `get_operation` tells how far it is.

        `POST /v2/namespaces/{namespace}/async`
        """
        answer: LayerResponse[models.OperationStarted] = await self._call(
            OPERATIONS["start_copy_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def get_operation(
        self, namespace: str, token: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.OperationState: ...

    @overload
    async def get_operation(
        self, namespace: str, token: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.OperationState]: ...

    async def get_operation(
        self, namespace: str, token: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.OperationState | LayerResponse[models.OperationState]:
        """Asks how far a long operation is.

        `GET /v1/namespaces/{namespace}/operations/{token}`
        """
        answer: LayerResponse[models.OperationState] = await self._call(
            OPERATIONS["get_operation"],
            path={"namespace": namespace, "token": token},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
