"""Requests become spans that a collector receives."""

import asyncio
import gzip
import random

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hevlayer.clock import SystemClock
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.messages import Response
from hevlayer.http.server import serve

QUERY = b'{"rank_by":["id","asc"],"limit":1}'
TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"


class Collector:
    """Keeps what it is sent."""

    def __init__(self):
        self.requests = []
        self.paths = []

    async def __call__(self, request):
        self.paths.append(request.path)
        body = await request.body.read(10_000_000)
        if request.header(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return Response(200, [(b"content-type", b"application/x-protobuf")], b"")

    @property
    def spans(self):
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


async def upstream(request):
    await request.body.read(10_000)
    if request.path.endswith("/broken/query"):
        return Response(500, [(b"content-type", b"text/plain")], b"no")
    return Response(200, [(b"content-type", b"application/json")], b'{"rows":[]}')


@pytest.fixture
async def stage(tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector = Collector()
    sink, origin = await serve(collector), await serve(upstream)
    gateway = Gateway(
        GatewayConfig(
            port=0,
            upstream_url=f"http://127.0.0.1:{origin.port}",
            data_dir=tmp_path,
            access_log="off",
            otlp_endpoint=f"http://127.0.0.1:{sink.port}",
        )
    )
    await gateway.start()
    client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), ClientConfig(), SystemClock())

    async def ask(target, body=QUERY, headers=()):
        answer = await client.request("POST", target, [(b"authorization", b"Bearer secret"), *headers], body)
        await answer.read(10_000)
        return answer

    yield gateway, collector, ask
    await client.close()
    if gateway.spans is not None:
        await gateway.stop()
    await sink.close()
    await origin.close()


async def some(collector, count):
    async with asyncio.timeout(30):
        while len(collector.spans) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return collector.spans


def facts(span):
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_query_is_a_span_of_the_callers_trace(stage):
    _, collector, ask = stage
    await ask(b"/v2/namespaces/films/query?secret=1", headers=[(b"traceparent", b"00-%b-%b-01" % (TRACE, SPAN))])
    (span,) = await some(collector, 1)
    assert collector.paths == ["/v1/traces"]
    assert (span.trace_id.hex().encode(), span.parent_span_id.hex().encode()) == (TRACE, SPAN)
    assert span.span_id.hex().encode() != SPAN
    assert span.name == "query"
    told = facts(span)
    assert told["http.route"] == "/v2/namespaces/{namespace}/query"
    assert (told["http.response.status_code"], told["hevlayer.namespace"]) == (200, "films")
    assert told["hevlayer.upstream_calls"] == 1
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 30_000_000_000
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "hevlayer-gateway"
    assert b"secret" not in collector.requests[0].SerializeToString()


async def test_a_trace_that_begins_here_is_the_one_that_the_answer_names(stage):
    _, collector, ask = stage
    answer = await ask(b"/v2/namespaces/films/query")
    (span,) = await some(collector, 1)
    told = answer.header(b"traceparent")
    assert told == b"00-%b-%b-01" % (span.trace_id.hex().encode(), span.span_id.hex().encode())
    assert span.parent_span_id == b""


async def test_failures_are_errors_and_refusals_are_named(stage):
    _, collector, ask = stage
    await ask(b"/v2/namespaces/broken/query")
    await ask(b"/v2/namespaces/films/query", b'{"rank_by":["id","asc"],"as_of":1}')
    await ask(b"/nowhere")
    spans = await some(collector, 3)
    assert [span.status.code for span in spans] == [2, 0, 0]
    assert [facts(span).get("error.type") for span in spans][1:] == ["not_supported", "not_found"]


async def test_a_caller_that_does_not_sample_is_obeyed(stage):
    _, collector, ask = stage
    await ask(b"/v2/namespaces/films/query", headers=[(b"traceparent", b"00-%b-%b-00" % (TRACE, SPAN))])
    await ask(b"/v2/namespaces/films/query")
    (span,) = await some(collector, 1)
    assert span.trace_id.hex().encode() != TRACE


async def test_what_is_left_is_sent_at_the_stop(stage, monkeypatch):
    gateway, collector, ask = stage
    await ask(b"/v2/namespaces/films/query")
    await gateway.stop()
    gateway.spans = None
    assert len(collector.spans) == 1


async def test_a_collector_that_is_away_changes_no_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.spans.STOP_SECONDS_MAX", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    origin = await serve(upstream)
    config = GatewayConfig(
        port=0,
        upstream_url=f"http://127.0.0.1:{origin.port}",
        data_dir=tmp_path,
        access_log="off",
        otlp_endpoint="http://127.0.0.1:9",
    )
    gateway = Gateway(config, rng=random.Random(1))
    await gateway.start()
    client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), ClientConfig(), SystemClock())
    answer = await client.request("POST", b"/v2/namespaces/films/query", [(b"authorization", b"Bearer x")], QUERY)
    assert orjson.loads(await answer.read(1000))["rows"] == []
    await client.close()
    await gateway.stop()
    await origin.close()
