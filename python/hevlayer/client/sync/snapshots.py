"""Snapshots of attributes' values."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Mapping
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Snapshots(Caller):
    """Snapshots of attributes' values."""

    @overload
    def create_snapshot(
        self,
        namespace: str,
        body: models.CreateSnapshotRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotJob: ...

    @overload
    def create_snapshot(
        self,
        namespace: str,
        body: models.CreateSnapshotRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.SnapshotJob]: ...

    def create_snapshot(
        self,
        namespace: str,
        body: models.CreateSnapshotRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotJob | LayerResponse[models.SnapshotJob]:
        """Starts a job that counts the values of an attribute.

        `POST /v2/namespaces/{namespace}/snapshots`
        """
        answer: LayerResponse[models.SnapshotJob] = self._call(
            OPERATIONS["create_snapshot"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_snapshot_jobs(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.SnapshotJobList: ...

    @overload
    def list_snapshot_jobs(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.SnapshotJobList]: ...

    def list_snapshot_jobs(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.SnapshotJobList | LayerResponse[models.SnapshotJobList]:
        """Lists a namespace's snapshot jobs, newest first.

        `GET /v2/namespaces/{namespace}/snapshot-jobs`
        """
        answer: LayerResponse[models.SnapshotJobList] = self._call(
            OPERATIONS["list_snapshot_jobs"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.SnapshotJob: ...

    @overload
    def get_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.SnapshotJob]: ...

    def get_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.SnapshotJob | LayerResponse[models.SnapshotJob]:
        """Asks how far a snapshot is.

        `GET /v2/namespaces/{namespace}/snapshot-jobs/{job_id}`
        """
        answer: LayerResponse[models.SnapshotJob] = self._call(
            OPERATIONS["get_snapshot_job"],
            path={"namespace": namespace, "job_id": job_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def delete_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse: ...

    @overload
    def delete_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.StatusResponse]: ...

    def delete_snapshot_job(
        self, namespace: str, job_id: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.StatusResponse | LayerResponse[models.StatusResponse]:
        """Stops and forgets a snapshot job. A snapshot that it has made stays.

        `DELETE /v2/namespaces/{namespace}/snapshot-jobs/{job_id}`
        """
        answer: LayerResponse[models.StatusResponse] = self._call(
            OPERATIONS["delete_snapshot_job"],
            path={"namespace": namespace, "job_id": job_id},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_namespace_history(
        self,
        namespace: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> list[models.SnapshotHistoryEntry]: ...

    @overload
    def list_namespace_history(
        self,
        namespace: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[list[models.SnapshotHistoryEntry]]: ...

    def list_namespace_history(
        self,
        namespace: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> list[models.SnapshotHistoryEntry] | LayerResponse[list[models.SnapshotHistoryEntry]]:
        """Lists a namespace's stored snapshots, newest first.

        `GET /v2/namespaces/{namespace}/history`

        Args:
            limit: at most so many; 50 by default, 500 at most.
            before: only what is older than the snapshot with this SHA, whole or its first 7 characters.
        """
        answer: LayerResponse[list[models.SnapshotHistoryEntry]] = self._call(
            OPERATIONS["list_namespace_history"],
            path={"namespace": namespace},
            query={"limit": limit, "before": before},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_namespace_snapshot(
        self, namespace: str, sha: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.SnapshotBody: ...

    @overload
    def get_namespace_snapshot(
        self, namespace: str, sha: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.SnapshotBody]: ...

    def get_namespace_snapshot(
        self, namespace: str, sha: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.SnapshotBody | LayerResponse[models.SnapshotBody]:
        """Reads a snapshot by its SHA, whole or its first 7 characters.

        `GET /v2/namespaces/{namespace}/snapshots/{sha}`
        """
        answer: LayerResponse[models.SnapshotBody] = self._call(
            OPERATIONS["get_namespace_snapshot"],
            path={"namespace": namespace, "sha": sha},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_snapshot_policy(
        self, namespace: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.SnapshotPolicy: ...

    @overload
    def get_snapshot_policy(
        self, namespace: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.SnapshotPolicy]: ...

    def get_snapshot_policy(
        self, namespace: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.SnapshotPolicy | LayerResponse[models.SnapshotPolicy]:
        """Reads which attributes are watched, how often, and how long snapshots are kept.

        `GET /v2/namespaces/{namespace}/snapshot-policy`
        """
        answer: LayerResponse[models.SnapshotPolicy] = self._call(
            OPERATIONS["get_snapshot_policy"],
            path={"namespace": namespace},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def put_snapshot_policy(
        self,
        namespace: str,
        body: models.SnapshotPolicy | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotPolicy: ...

    @overload
    def put_snapshot_policy(
        self,
        namespace: str,
        body: models.SnapshotPolicy | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.SnapshotPolicy]: ...

    def put_snapshot_policy(
        self,
        namespace: str,
        body: models.SnapshotPolicy | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotPolicy | LayerResponse[models.SnapshotPolicy]:
        """Sets which attributes are watched, how often, and how long snapshots are kept.

        `PUT /v2/namespaces/{namespace}/snapshot-policy`
        """
        answer: LayerResponse[models.SnapshotPolicy] = self._call(
            OPERATIONS["put_snapshot_policy"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_snapshot_activity(
        self,
        *,
        since: int | None = None,
        limit: int | None = None,
        namespace: str | None = None,
        cursor: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotActivityList: ...

    @overload
    def list_snapshot_activity(
        self,
        *,
        since: int | None = None,
        limit: int | None = None,
        namespace: str | None = None,
        cursor: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.SnapshotActivityList]: ...

    def list_snapshot_activity(
        self,
        *,
        since: int | None = None,
        limit: int | None = None,
        namespace: str | None = None,
        cursor: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.SnapshotActivityList | LayerResponse[models.SnapshotActivityList]:
        """Lists the snapshots that were written, of all namespaces.

        `GET /v2/activity/snapshots`

        Args:
            since: epoch milliseconds; nothing older.
            limit: at most so many; 50 by default, 500 at most.
            namespace: only this one.
            cursor: `next_cursor` of the page before.
        """
        answer: LayerResponse[models.SnapshotActivityList] = self._call(
            OPERATIONS["list_snapshot_activity"],
            path={},
            query={"since": since, "limit": limit, "namespace": namespace, "cursor": cursor},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
