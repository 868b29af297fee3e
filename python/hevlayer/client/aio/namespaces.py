"""Namespaces: lists, metadata, schema, shards."""

# Written by scripts/make_client.py; change hevlayer/client/api.py, then run it again.

from collections.abc import Mapping
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.aio.caller import AsyncCaller
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse


class AsyncNamespaces(AsyncCaller):
    """Namespaces: lists, metadata, schema, shards."""

    @overload
    async def list_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.NamespaceList: ...

    @overload
    async def list_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.NamespaceList]: ...

    async def list_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.NamespaceList | LayerResponse[models.NamespaceList]:
        """Lists namespaces with what the gateway knows of each.

        `GET /v2/namespaces`

        Args:
            prefix: only names that begin like this.
            cursor: `next_cursor` of the page before.
            page_size: names on a page, 1 to 1,000; 100 by default.
        """
        answer: LayerResponse[models.NamespaceList] = await self._call(
            OPERATIONS["list_namespaces"],
            path={},
            query={"prefix": prefix, "cursor": cursor, "page_size": page_size},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def list_turbopuffer_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferNamespaceList: ...

    @overload
    async def list_turbopuffer_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferNamespaceList]: ...

    async def list_turbopuffer_namespaces(
        self,
        *,
        prefix: str | None = None,
        cursor: str | None = None,
        page_size: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferNamespaceList | LayerResponse[models.TurbopufferNamespaceList]:
        """Lists the names of namespaces, as the upstream does.

        `GET /v1/namespaces`

        Args:
            prefix: only names that begin like this.
            cursor: `next_cursor` of the page before.
            page_size: names on a page, 1 to 1,000; 100 by default.
        """
        answer: LayerResponse[models.TurbopufferNamespaceList] = await self._call(
            OPERATIONS["list_turbopuffer_namespaces"],
            path={},
            query={"prefix": prefix, "cursor": cursor, "page_size": page_size},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def get_namespace_metadata(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.NamespaceMetadata: ...

    @overload
    async def get_namespace_metadata(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.NamespaceMetadata]: ...

    async def get_namespace_metadata(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.NamespaceMetadata | LayerResponse[models.NamespaceMetadata]:
        """Reads the upstream's metadata, and under `layer` what the gateway knows.

        `GET /v2/namespaces/{namespace}/metadata`
        """
        answer: LayerResponse[models.NamespaceMetadata] = await self._call(
            OPERATIONS["get_namespace_metadata"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def get_turbopuffer_v1_namespace_metadata(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.NamespaceMetadata: ...

    @overload
    async def get_turbopuffer_v1_namespace_metadata(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.NamespaceMetadata]: ...

    async def get_turbopuffer_v1_namespace_metadata(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.NamespaceMetadata | LayerResponse[models.NamespaceMetadata]:
        """Reads metadata through the upstream's older route.

        `GET /v1/namespaces/{namespace}/metadata`
        """
        answer: LayerResponse[models.NamespaceMetadata] = await self._call(
            OPERATIONS["get_turbopuffer_v1_namespace_metadata"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def update_turbopuffer_namespace_metadata(
        self,
        namespace: str,
        body: models.TurbopufferMetadataPatch | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.NamespaceMetadata: ...

    @overload
    async def update_turbopuffer_namespace_metadata(
        self,
        namespace: str,
        body: models.TurbopufferMetadataPatch | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.NamespaceMetadata]: ...

    async def update_turbopuffer_namespace_metadata(
        self,
        namespace: str,
        body: models.TurbopufferMetadataPatch | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.NamespaceMetadata | LayerResponse[models.NamespaceMetadata]:
        """Pins a namespace, unpins it, or makes it read-only.

        `PATCH /v1/namespaces/{namespace}/metadata`
        """
        answer: LayerResponse[models.NamespaceMetadata] = await self._call(
            OPERATIONS["update_turbopuffer_namespace_metadata"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def get_turbopuffer_namespace_schema(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.TurbopufferSchema: ...

    @overload
    async def get_turbopuffer_namespace_schema(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.TurbopufferSchema]: ...

    async def get_turbopuffer_namespace_schema(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.TurbopufferSchema | LayerResponse[models.TurbopufferSchema]:
        """Reads the schema: every attribute but the reserved ones.

        `GET /v1/namespaces/{namespace}/schema`
        """
        answer: LayerResponse[models.TurbopufferSchema] = await self._call(
            OPERATIONS["get_turbopuffer_namespace_schema"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def update_turbopuffer_namespace_schema(
        self,
        namespace: str,
        body: models.TurbopufferSchema | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferSchema: ...

    @overload
    async def update_turbopuffer_namespace_schema(
        self,
        namespace: str,
        body: models.TurbopufferSchema | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferSchema]: ...

    async def update_turbopuffer_namespace_schema(
        self,
        namespace: str,
        body: models.TurbopufferSchema | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferSchema | LayerResponse[models.TurbopufferSchema]:
        """Changes the schema and gives the whole new one.

        `POST /v1/namespaces/{namespace}/schema`
        """
        answer: LayerResponse[models.TurbopufferSchema] = await self._call(
            OPERATIONS["update_turbopuffer_namespace_schema"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def init_namespace(
        self,
        namespace: str,
        body: models.InitNamespaceRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.InitNamespaceResponse: ...

    @overload
    async def init_namespace(
        self,
        namespace: str,
        body: models.InitNamespaceRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.InitNamespaceResponse]: ...

    async def init_namespace(
        self,
        namespace: str,
        body: models.InitNamespaceRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.InitNamespaceResponse | LayerResponse[models.InitNamespaceResponse]:
        """Makes a namespace sharded, or tells its shards.

        `POST /v2/namespaces/{namespace}/init`
        """
        answer: LayerResponse[models.InitNamespaceResponse] = await self._call(
            OPERATIONS["init_namespace"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def delete_namespace(
        self,
        namespace: str,
        *,
        purge_history: bool | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.StatusResponse: ...

    @overload
    async def delete_namespace(
        self,
        namespace: str,
        *,
        purge_history: bool | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.StatusResponse]: ...

    async def delete_namespace(
        self,
        namespace: str,
        *,
        purge_history: bool | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.StatusResponse | LayerResponse[models.StatusResponse]:
        """Deletes a namespace, upstream first, then what the gateway keeps of it.

        `DELETE /v2/namespaces/{namespace}`

        Args:
            purge_history: what was recorded of its searches goes as well.
        """
        answer: LayerResponse[models.StatusResponse] = await self._call(
            OPERATIONS["delete_namespace"],
            path={"namespace": namespace},
            query={"purge_history": purge_history},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def hint_cache_warm(
        self,
        namespace: str,
        *,
        turbopuffer: bool | None = None,
        documents: bool | None = None,
        snapshots: bool | None = None,
        page_size: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.HintCacheWarmResponse: ...

    @overload
    async def hint_cache_warm(
        self,
        namespace: str,
        *,
        turbopuffer: bool | None = None,
        documents: bool | None = None,
        snapshots: bool | None = None,
        page_size: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.HintCacheWarmResponse]: ...

    async def hint_cache_warm(
        self,
        namespace: str,
        *,
        turbopuffer: bool | None = None,
        documents: bool | None = None,
        snapshots: bool | None = None,
        page_size: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.HintCacheWarmResponse | LayerResponse[models.HintCacheWarmResponse]:
        """Says that the namespace will be queried soon.

        `GET /v1/namespaces/{namespace}/hint_cache_warm`

        Args:
            turbopuffer: False leaves the upstream's caches alone.
            documents: False starts no warm of the document cache.
            snapshots: False leaves the latest snapshot where it is.
            page_size: rows of one upstream page, 1 to 10,000; chosen by their size by default.
        """
        answer: LayerResponse[models.HintCacheWarmResponse] = await self._call(
            OPERATIONS["hint_cache_warm"],
            path={"namespace": namespace},
            query={"turbopuffer": turbopuffer, "documents": documents, "snapshots": snapshots, "page_size": page_size},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
