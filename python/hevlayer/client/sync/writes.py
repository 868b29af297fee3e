"""Writes, copies and branches."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Mapping
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Writes(Caller):
    """Writes, copies and branches."""

    @overload
    def write_namespace(
        self,
        namespace: str,
        body: models.TurbopufferWriteRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    def write_namespace(
        self,
        namespace: str,
        body: models.TurbopufferWriteRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    def write_namespace(
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
        answer: LayerResponse[models.TurbopufferWriteResponse] = self._call(
            OPERATIONS["write_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    def copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    def copy_namespace(
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
        answer: LayerResponse[models.TurbopufferWriteResponse] = self._call(
            OPERATIONS["copy_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def branch_namespace(
        self,
        namespace: str,
        body: models.TurbopufferBranchFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    def branch_namespace(
        self,
        namespace: str,
        body: models.TurbopufferBranchFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    def branch_namespace(
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
        answer: LayerResponse[models.TurbopufferWriteResponse] = self._call(
            OPERATIONS["branch_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def start_copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.OperationStarted: ...

    @overload
    def start_copy_namespace(
        self,
        namespace: str,
        body: models.TurbopufferCopyFromRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.OperationStarted]: ...

    def start_copy_namespace(
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
        answer: LayerResponse[models.OperationStarted] = self._call(
            OPERATIONS["start_copy_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_operation(
        self, namespace: str, token: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.OperationState: ...

    @overload
    def get_operation(
        self, namespace: str, token: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.OperationState]: ...

    def get_operation(
        self, namespace: str, token: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.OperationState | LayerResponse[models.OperationState]:
        """Asks how far a long operation is.

        `GET /v1/namespaces/{namespace}/operations/{token}`
        """
        answer: LayerResponse[models.OperationState] = self._call(
            OPERATIONS["get_operation"],
            path={"namespace": namespace, "token": token},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
