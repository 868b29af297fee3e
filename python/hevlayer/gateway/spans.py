"""Requests as OpenTelemetry spans, sent to a collector over OTLP/HTTP.

One span a request, made when the request has ended: what it costs the request is one object and a place in a bounded
queue; a thread of the SDK sends the batches. A collector that is away costs spans, never an answer. The SDK's own
variables hold (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_SERVICE_NAME`, …).
"""

import random
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hevlayer import __version__
from hevlayer.gateway.router import RouteContext

SERVICE_NAME = "hevlayer-gateway"
STOP_SECONDS_MAX = 5.0
"""At a stop, how long a collector may take for the spans that are left."""
_TRACES_PATH = "/v1/traces"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NANOSECONDS = 1_000_000_000


class RequestSpans:
    """Makes and sends the spans. `endpoint` is the collector's base URL, as in `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    def __init__(self, endpoint: str, rng: random.Random, now_ns: Callable[[], int]) -> None:
        """Args:
        now_ns: nanoseconds since 1970.
        """
        named = Resource.create({"service.version": __version__})
        if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
            named = named.merge(Resource({"service.name": SERVICE_NAME}))
        self._resource = named
        # Only its sampler is used: `OTEL_TRACES_SAMPLER` decides on traces that begin here.
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._scope = InstrumentationScope("hevlayer.gateway", __version__)
        self._processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _TRACES_PATH))
        self._rng = rng
        self._now_ns = now_ns

    def ended(self, context: RouteContext, status: int, seconds: float) -> None:
        """One request has been answered with `status` after `seconds`."""
        trace_id = int(context.trace_id, 16)
        _, _, told_span, flags = context.traceparent[:55].split(b"-")
        name = context.route.operation
        sent = context.request.header(b"traceparent") == context.traceparent
        if sent:
            # The caller's trace: its decision, and a span of ours below the caller's.
            if not int(flags, 16) & TraceFlags.SAMPLED:
                return
            parent = SpanContext(trace_id, int(told_span, 16), is_remote=True, trace_flags=_SAMPLED)
            span_id = self._rng.getrandbits(64) | 1
        else:
            # A trace that begins here: the span that the answer and the upstream were told of.
            if self._sampler.should_sample(None, trace_id, name).decision is not Decision.RECORD_AND_SAMPLE:
                return
            parent, span_id = None, int(told_span, 16)
        ended_ns = self._now_ns()
        self._processor.on_end(
            ReadableSpan(
                name=name,
                context=SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED),
                parent=parent,
                resource=self._resource,
                attributes=_attributes(context, status),
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR, context.failure or None) if status >= 500 else Status(StatusCode.UNSET),
                start_time=ended_ns - int(seconds * _NANOSECONDS),
                end_time=ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Sends what is left, for at most STOP_SECONDS_MAX. Blocks."""
        self._processor.force_flush(int(STOP_SECONDS_MAX * 1000))
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _attributes(context: RouteContext, status: int) -> dict[str, str | int | float]:
    """OpenTelemetry's names for HTTP, ours below `hevlayer.`; never a body, a bearer or a query string."""
    request = context.request
    attributes: dict[str, str | int | float] = {
        "http.request.method": request.method,
        "http.response.status_code": status,
        "url.path": request.path,
        "client.address": request.peer,
        "hevlayer.request_id": context.request_id,
        "hevlayer.upstream_calls": context.upstream_calls,
        "hevlayer.upstream_seconds": context.upstream_seconds,
    }
    if context.route.spec.pattern:
        attributes["http.route"] = context.route.spec.pattern
    notes = {
        "hevlayer.namespace": context.namespace,
        "hevlayer.consistency": context.consistency,
        "error.type": context.failure,
    }
    return attributes | {name: value for name, value in notes.items() if value}
