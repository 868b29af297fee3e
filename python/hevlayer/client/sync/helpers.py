"""What is more than one request: waiting for jobs, and lists that turn their own pages."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.errors import HevlayerAnswerError
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.documents import Documents
from hevlayer.client.sync.jobs import Jobs
from hevlayer.client.sync.metrics import Metrics
from hevlayer.client.sync.namespaces import Namespaces
from hevlayer.client.sync.queries import Queries
from hevlayer.client.sync.records import Records
from hevlayer.client.sync.snapshots import Snapshots
from hevlayer.client.sync.writes import Writes
from hevlayer.client.waiting import Wait

RESULT_PAGE_ROWS = 10_000
# A list of history may give empty pages; no list is longer than this.
PAGES_MAX = 1_000_000


class Hevlayer(
    Queries,
    Writes,
    Namespaces,
    Documents,
    Jobs,
    Snapshots,
    Records,
    Metrics,
):
    """The client of the gateway."""

    @overload
    def patch_columns(
        self,
        namespace: str,
        ids: Sequence[str | int],
        attrs: Mapping[str, Sequence[Any]],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse: ...

    @overload
    def patch_columns(
        self,
        namespace: str,
        ids: Sequence[str | int],
        attrs: Mapping[str, Sequence[Any]],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferWriteResponse]: ...

    def patch_columns(
        self,
        namespace: str,
        ids: Sequence[str | int],
        attrs: Mapping[str, Sequence[Any]],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferWriteResponse | LayerResponse[models.TurbopufferWriteResponse]:
        """Changes attributes of documents that exist: each attribute has one value for each id.

        Raises: ValueError: an attribute has more or fewer values than there are ids.
        """
        for name, values in attrs.items():
            if len(values) != len(ids):
                raise ValueError(f"attrs[{name!r}] has {len(values)} values for {len(ids)} ids")
        columns = {"id": list(ids), **{name: list(values) for name, values in attrs.items()}}
        answer = self.write_namespace(
            namespace, {"patch_columns": columns}, with_perf=True, timeout_seconds=timeout_seconds
        )
        return answer if with_perf else answer.data

    @overload
    def warm_namespace(
        self, namespace: str, *, page_size: int | None = None, with_perf: Literal[False] = False
    ) -> models.WarmJob: ...

    @overload
    def warm_namespace(
        self, namespace: str, *, page_size: int | None = None, with_perf: Literal[True]
    ) -> LayerResponse[models.WarmJob]: ...

    def warm_namespace(
        self, namespace: str, *, page_size: int | None = None, with_perf: bool = False
    ) -> models.WarmJob | LayerResponse[models.WarmJob]:
        """`warm_cache` by its other name."""
        answer = self.warm_cache(namespace, page_size=page_size, with_perf=True)
        return answer if with_perf else answer.data

    def scan(
        self,
        namespace: str,
        body: models.CreateScanRequest | Mapping[str, Any] | None = None,
        *,
        initial_delay: float = 0.05,
        max_delay: float = 2.0,
        timeout: float | None = None,
        progress: Callable[[models.ScanJob], object] | None = None,
    ) -> models.ScanJob:
        """Starts a scan that lists ids or counts values, and waits for its end.

        Raises: HevlayerAnswerError: it was a count, which has no job. Else as `wait_for_scan`.
        """
        started = self.create_scan(namespace, body)
        if not isinstance(started, models.ScanJob):
            raise HevlayerAnswerError("scan: mode count has its answer at once; use create_scan")
        return self.wait_for_scan(
            namespace,
            started.id,
            initial_delay=initial_delay,
            max_delay=max_delay,
            timeout=timeout,
            progress=progress,
        )

    def wait_for_scan(
        self,
        namespace: str,
        scan_id: str,
        *,
        initial_delay: float = 0.05,
        max_delay: float = 2.0,
        timeout: float | None = None,
        progress: Callable[[models.ScanJob], object] | None = None,
    ) -> models.ScanJob:
        """Asks until the scan has ended.

        Args:
            initial_delay: seconds before the second question; each further one waits twice as long.
            max_delay: seconds between two questions at most.
            timeout: seconds; without one, for as long as it takes.
            progress: called with each state of the job.
        Raises: HevlayerJobError: it failed. HevlayerWaitError: it did not end in time.
        """
        wait: Wait[models.ScanJob] = Wait(initial_delay, max_delay, timeout, progress)
        while True:
            job = self.get_scan(namespace, scan_id)
            delay = wait.next_delay_seconds(job)
            if delay is None:
                return job
            self._transport.sleep(delay)

    def wait_for_warm_job(
        self,
        namespace: str,
        job_id: str,
        *,
        initial_delay: float = 0.05,
        max_delay: float = 2.0,
        timeout: float | None = None,
        progress: Callable[[models.WarmJob], object] | None = None,
    ) -> models.WarmJob:
        """Asks until the warm has ended; arguments and errors as of `wait_for_scan`."""
        wait: Wait[models.WarmJob] = Wait(initial_delay, max_delay, timeout, progress)
        while True:
            job = self.get_warm_job(namespace, job_id)
            delay = wait.next_delay_seconds(job)
            if delay is None:
                return job
            self._transport.sleep(delay)

    def wait_for_snapshot_job(
        self,
        namespace: str,
        job_id: str,
        *,
        initial_delay: float = 0.05,
        max_delay: float = 2.0,
        timeout: float | None = None,
        progress: Callable[[models.SnapshotJob], object] | None = None,
    ) -> models.SnapshotJob:
        """Asks until the snapshot has ended; arguments and errors as of `wait_for_scan`."""
        wait: Wait[models.SnapshotJob] = Wait(initial_delay, max_delay, timeout, progress)
        while True:
            job = self.get_snapshot_job(namespace, job_id)
            delay = wait.next_delay_seconds(job)
            if delay is None:
                return job
            self._transport.sleep(delay)

    def iter_namespaces(
        self, *, prefix: str | None = None, page_size: int | None = None
    ) -> Iterator[models.NamespaceListEntry]:
        """Every namespace, page by page."""
        cursor = None
        for _ in range(PAGES_MAX):
            page = self.list_namespaces(prefix=prefix, cursor=cursor, page_size=page_size)
            yield from page.namespaces
            cursor = page.next_cursor
            if not cursor:
                return

    def iter_scan_ids(self, namespace: str, scan_id: str, *, page_size: int = RESULT_PAGE_ROWS) -> Iterator[str]:
        """Every id that a completed scan has found, page by page.

        Raises: HevlayerAnswerError: the scan counted values.
        """
        offset = 0
        for _ in range(PAGES_MAX):
            page = self.get_scan_results(namespace, scan_id, limit=page_size, offset=offset)
            if not isinstance(page, models.ScanIdsResponse):
                raise HevlayerAnswerError("iter_scan_ids: the scan has values, no ids")
            yield from page.ids
            offset += len(page.ids)
            if not page.ids or offset >= page.total:
                return

    def iter_search_history(
        self,
        namespace: str,
        *,
        tags: Sequence[str] | None = None,
        trace_id: str | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[models.SearchHistoryEntry]:
        """Every query that was served in a time, newest first, page by page."""
        before = None
        for _ in range(PAGES_MAX):
            page = self.list_search_history(
                namespace, tags=tags, trace_id=trace_id, from_=from_, to=to, before=before, limit=page_size
            )
            yield from page.entries
            before = page.next_cursor
            if not before:
                return

    def iter_clickstream(
        self,
        namespace: str,
        *,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[models.ClickstreamEvent]:
        """Every fetch that was recorded in a time, newest first, page by page."""
        before = None
        for _ in range(PAGES_MAX):
            page = self.list_clickstream(
                namespace, trace_id=trace_id, tags=tags, from_=from_, to=to, before=before, limit=page_size
            )
            yield from page.events
            before = page.next_cursor
            if not before:
                return

    def iter_snapshot_activity(
        self, *, since: int, namespace: str | None = None, page_size: int | None = None
    ) -> Iterator[models.SnapshotActivityEvent]:
        """Every snapshot that was written since a time in epoch milliseconds, page by page."""
        cursor = None
        for _ in range(PAGES_MAX):
            page = self.list_snapshot_activity(since=since, namespace=namespace, cursor=cursor, limit=page_size)
            yield from page.events
            cursor = page.next_cursor
            if not cursor:
                return
