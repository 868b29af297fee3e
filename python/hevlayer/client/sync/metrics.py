"""Metrics, and the state of the process."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from typing import Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Metrics(Caller):
    """Metrics, and the state of the process."""

    @overload
    def list_metrics_catalog(
        self,
        *,
        family: models.MetricFamily | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.MetricCatalog: ...

    @overload
    def list_metrics_catalog(
        self,
        *,
        family: models.MetricFamily | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.MetricCatalog]: ...

    def list_metrics_catalog(
        self,
        *,
        family: models.MetricFamily | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.MetricCatalog | LayerResponse[models.MetricCatalog]:
        """Lists every metric of the gateway.

        `GET /v2/metrics/catalog`

        Args:
            family: only this family.
        """
        answer: LayerResponse[models.MetricCatalog] = self._call(
            OPERATIONS["list_metrics_catalog"],
            path={},
            query={"family": family},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_metric_catalog_entry(
        self, name: str, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.MetricCatalogEntry: ...

    @overload
    def get_metric_catalog_entry(
        self, name: str, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.MetricCatalogEntry]: ...

    def get_metric_catalog_entry(
        self, name: str, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.MetricCatalogEntry | LayerResponse[models.MetricCatalogEntry]:
        """Describes a metric.

        `GET /v2/metrics/catalog/{name}`
        """
        answer: LayerResponse[models.MetricCatalogEntry] = self._call(
            OPERATIONS["get_metric_catalog_entry"],
            path={"name": name},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def query_metrics(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse: ...

    @overload
    def query_metrics(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.PrometheusResponse]: ...

    def query_metrics(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse | LayerResponse[models.PrometheusResponse]:
        """Asks the metrics store at one moment.

        `GET /v2/metrics/query`

        Args:
            query: PromQL.
            time: RFC 3339 or Unix seconds.
            timeout: a Prometheus duration.
        """
        answer: LayerResponse[models.PrometheusResponse] = self._call(
            OPERATIONS["query_metrics"],
            path={},
            query={"query": query, "time": time, "timeout": timeout},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def query_metrics_api_v1(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse: ...

    @overload
    def query_metrics_api_v1(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.PrometheusResponse]: ...

    def query_metrics_api_v1(
        self,
        *,
        query: str | None = None,
        time: str | None = None,
        timeout: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse | LayerResponse[models.PrometheusResponse]:
        """`query_metrics` by its long path.

        `GET /v2/metrics/api/v1/query`

        Args:
            query: PromQL.
            time: RFC 3339 or Unix seconds.
            timeout: a Prometheus duration.
        """
        answer: LayerResponse[models.PrometheusResponse] = self._call(
            OPERATIONS["query_metrics_api_v1"],
            path={},
            query={"query": query, "time": time, "timeout": timeout},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def query_metrics_range(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse: ...

    @overload
    def query_metrics_range(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.PrometheusResponse]: ...

    def query_metrics_range(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse | LayerResponse[models.PrometheusResponse]:
        """Asks the metrics store over a range.

        `GET /v2/metrics/query_range`

        Args:
            query: PromQL.
            start: RFC 3339 or Unix seconds.
            end: RFC 3339 or Unix seconds.
            step: a Prometheus duration, or seconds.
            timeout: a Prometheus duration.
        """
        answer: LayerResponse[models.PrometheusResponse] = self._call(
            OPERATIONS["query_metrics_range"],
            path={},
            query={"query": query, "start": start, "end": end, "step": step, "timeout": timeout},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def query_metrics_range_api_v1(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse: ...

    @overload
    def query_metrics_range_api_v1(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.PrometheusResponse]: ...

    def query_metrics_range_api_v1(
        self,
        *,
        query: str | None = None,
        start: str | None = None,
        end: str | None = None,
        step: str | None = None,
        timeout: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.PrometheusResponse | LayerResponse[models.PrometheusResponse]:
        """`query_metrics_range` by its long path.

        `GET /v2/metrics/api/v1/query_range`

        Args:
            query: PromQL.
            start: RFC 3339 or Unix seconds.
            end: RFC 3339 or Unix seconds.
            step: a Prometheus duration, or seconds.
            timeout: a Prometheus duration.
        """
        answer: LayerResponse[models.PrometheusResponse] = self._call(
            OPERATIONS["query_metrics_range_api_v1"],
            path={},
            query={"query": query, "start": start, "end": end, "step": step, "timeout": timeout},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_metrics(self, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None) -> str: ...

    @overload
    def get_metrics(self, *, with_perf: Literal[True], timeout_seconds: float | None = None) -> LayerResponse[str]: ...

    def get_metrics(self, *, with_perf: bool = False, timeout_seconds: float | None = None) -> str | LayerResponse[str]:
        """Reads the Prometheus text exposition.

        `GET /metrics`
        """
        answer: LayerResponse[str] = self._call(
            OPERATIONS["get_metrics"],
            path={},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def get_health(
        self, *, with_perf: Literal[False] = False, timeout_seconds: float | None = None
    ) -> models.HealthResponse: ...

    @overload
    def get_health(
        self, *, with_perf: Literal[True], timeout_seconds: float | None = None
    ) -> LayerResponse[models.HealthResponse]: ...

    def get_health(
        self, *, with_perf: bool = False, timeout_seconds: float | None = None
    ) -> models.HealthResponse | LayerResponse[models.HealthResponse]:
        """Asks whether the gateway answers.

        `GET /health`
        """
        answer: LayerResponse[models.HealthResponse] = self._call(
            OPERATIONS["get_health"],
            path={},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
