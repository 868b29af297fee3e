"""Warms and scans."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Mapping
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Jobs(Caller):
    """Warms and scans."""

    @overload
    def warm_cache(
        self,
        namespace: str,
        *,
        page_size: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.WarmJob: ...

    @overload
    def warm_cache(
        self,
        namespace: str,
        *,
        page_size: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.WarmJob]: ...

    def warm_cache(
        self,
        namespace: str,
        *,
        page_size: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.WarmJob | LayerResponse[models.WarmJob]:
        """Puts every row into the document cache. While one runs, a second call gives the same job.

        `POST /v2/namespaces/{namespace}/warm`

        Args:
            page_size: rows of one upstream page, 1 to 10,000; chosen by their size by default.
        """
        answer: LayerResponse[models.WarmJob] = self._call(
            OPERATIONS["warm_cache"],
            path={"namespace": namespace},
            query={"page_size": page_size},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_warm_jobs(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.WarmJobList: ...

    @overload
    def list_warm_jobs(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.WarmJobList]: ...

    def list_warm_jobs(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.WarmJobList | LayerResponse[models.WarmJobList]:
        """Lists a namespace's warms, newest first.

        `GET /v2/namespaces/{namespace}/warm-jobs`
        """
        answer: LayerResponse[models.WarmJobList] = self._call(
            OPERATIONS["list_warm_jobs"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_warm_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.WarmJob: ...

    @overload
    def get_warm_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.WarmJob]: ...

    def get_warm_job(
        self, namespace: str, job_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.WarmJob | LayerResponse[models.WarmJob]:
        """Asks how far a warm is.

        `GET /v2/namespaces/{namespace}/warm-jobs/{job_id}`
        """
        answer: LayerResponse[models.WarmJob] = self._call(
            OPERATIONS["get_warm_job"],
            path={"namespace": namespace, "job_id": job_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def delete_warm_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse: ...

    @overload
    def delete_warm_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.StatusResponse]: ...

    def delete_warm_job(
        self, namespace: str, job_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse | LayerResponse[models.StatusResponse]:
        """Stops and forgets a warm. What it has put stays.

        `DELETE /v2/namespaces/{namespace}/warm-jobs/{job_id}`
        """
        answer: LayerResponse[models.StatusResponse] = self._call(
            OPERATIONS["delete_warm_job"],
            path={"namespace": namespace, "job_id": job_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def create_scan(
        self,
        namespace: str,
        body: models.CreateScanRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.ScanCountResponse | models.ScanJob: ...

    @overload
    def create_scan(
        self,
        namespace: str,
        body: models.CreateScanRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.ScanCountResponse | models.ScanJob]: ...

    def create_scan(
        self,
        namespace: str,
        body: models.CreateScanRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.ScanCountResponse | models.ScanJob | LayerResponse[models.ScanCountResponse | models.ScanJob]:
        """Counts rows at once (mode `count`), or starts a job that lists their ids or counts an attribute's values.

        `POST /v2/namespaces/{namespace}/scans`
        """
        answer: LayerResponse[models.ScanCountResponse | models.ScanJob] = self._call(
            OPERATIONS["create_scan"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_scans(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.ScanJobList: ...

    @overload
    def list_scans(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.ScanJobList]: ...

    def list_scans(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.ScanJobList | LayerResponse[models.ScanJobList]:
        """Lists a namespace's scans, newest first.

        `GET /v2/namespaces/{namespace}/scans`
        """
        answer: LayerResponse[models.ScanJobList] = self._call(
            OPERATIONS["list_scans"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_scan(
        self, namespace: str, scan_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.ScanJob: ...

    @overload
    def get_scan(
        self, namespace: str, scan_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.ScanJob]: ...

    def get_scan(
        self, namespace: str, scan_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.ScanJob | LayerResponse[models.ScanJob]:
        """Asks how far a scan is.

        `GET /v2/namespaces/{namespace}/scans/{scan_id}`
        """
        answer: LayerResponse[models.ScanJob] = self._call(
            OPERATIONS["get_scan"],
            path={"namespace": namespace, "scan_id": scan_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_scan_results(
        self,
        namespace: str,
        scan_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.ScanIdsResponse | models.ScanValuesResponse: ...

    @overload
    def get_scan_results(
        self,
        namespace: str,
        scan_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.ScanIdsResponse | models.ScanValuesResponse]: ...

    def get_scan_results(
        self,
        namespace: str,
        scan_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> (
        models.ScanIdsResponse
        | models.ScanValuesResponse
        | LayerResponse[models.ScanIdsResponse | models.ScanValuesResponse]
    ):
        """Reads a slice of a completed scan's results.

        `GET /v2/namespaces/{namespace}/scans/{scan_id}/results`

        Args:
            limit: 1 to 10,000; 1,000 by default.
            offset: how many to pass over.
        """
        answer: LayerResponse[models.ScanIdsResponse | models.ScanValuesResponse] = self._call(
            OPERATIONS["get_scan_results"],
            path={"namespace": namespace, "scan_id": scan_id},
            query={"limit": limit, "offset": offset},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def delete_scan(
        self, namespace: str, scan_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse: ...

    @overload
    def delete_scan(
        self, namespace: str, scan_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.StatusResponse]: ...

    def delete_scan(
        self, namespace: str, scan_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse | LayerResponse[models.StatusResponse]:
        """Stops and forgets a scan and its results.

        `DELETE /v2/namespaces/{namespace}/scans/{scan_id}`
        """
        answer: LayerResponse[models.StatusResponse] = self._call(
            OPERATIONS["delete_scan"],
            path={"namespace": namespace, "scan_id": scan_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
