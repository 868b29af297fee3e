"""Documents by their ids."""

# Written by scripts/make_client.py; change hevlayer/client/api.py, then run it again.

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.aio.caller import AsyncCaller
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse


class AsyncDocuments(AsyncCaller):
    """Documents by their ids."""

    @overload
    async def fetch_document(
        self,
        namespace: str,
        doc_id: str | int,
        *,
        include_attributes: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.Document: ...

    @overload
    async def fetch_document(
        self,
        namespace: str,
        doc_id: str | int,
        *,
        include_attributes: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.Document]: ...

    async def fetch_document(
        self,
        namespace: str,
        doc_id: str | int,
        *,
        include_attributes: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.Document | LayerResponse[models.Document]:
        """Gives a document, from the document cache when it is there.

        `GET /v2/namespaces/{namespace}/documents/{doc_id}`

        Args:
            include_attributes: these; all but vectors by default.
            tags: labels for the record, without commas.
            traceparent: the W3C trace that this belongs to.
        """
        answer: LayerResponse[models.Document] = await self._call(
            OPERATIONS["fetch_document"],
            path={"namespace": namespace, "doc_id": doc_id},
            query={"include_attributes": include_attributes},
            context={"tags": tags, "traceparent": traceparent},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    async def fetch_documents(
        self,
        namespace: str,
        body: models.FetchDocumentsRequest | Mapping[str, Any],
        *,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.FetchDocumentsResponse: ...

    @overload
    async def fetch_documents(
        self,
        namespace: str,
        body: models.FetchDocumentsRequest | Mapping[str, Any],
        *,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.FetchDocumentsResponse]: ...

    async def fetch_documents(
        self,
        namespace: str,
        body: models.FetchDocumentsRequest | Mapping[str, Any],
        *,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.FetchDocumentsResponse | LayerResponse[models.FetchDocumentsResponse]:
        """Gives up to 10,000 documents by their ids.

        `POST /v2/namespaces/{namespace}/documents`

        Args:
            tags: labels for the record, without commas.
            traceparent: the W3C trace that this belongs to.
        """
        answer: LayerResponse[models.FetchDocumentsResponse] = await self._call(
            OPERATIONS["fetch_documents"],
            path={"namespace": namespace},
            body=body,
            context={"tags": tags, "traceparent": traceparent},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
