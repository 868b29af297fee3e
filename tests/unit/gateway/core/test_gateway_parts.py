"""The small parts: router, credentials, settings, tracing, logs, bodies."""

import asyncio
import gzip
import io
import json
import logging
import os
import random

import pytest

from hevlayer.errors import (
    BadRequestError,
    ConfigurationError,
    ForbiddenError,
    MethodNotAllowedError,
    NotFoundError,
    NotSupportedError,
    PayloadTooLargeError,
    ServiceUnavailableError,
    UnauthorizedError,
    UpstreamError,
)
from hevlayer.gateway.access_log import BUFFER_LINES_MAX, AccessLog
from hevlayer.gateway.auth import BEARERS_MAX, Authenticator, BackgroundBearers, Credential, Grants
from hevlayer.gateway.config import SETTINGS, GatewayConfig
from hevlayer.gateway.logs import JsonFormatter, configure_logging, hide_secrets
from hevlayer.gateway.router import Access, Router, RouteSpec
from hevlayer.gateway.routes import ROUTES
from hevlayer.gateway.spool import SPOOL_PREFIX, BodyMemory, Intake, Spool
from hevlayer.gateway.tracing import accept_request_id, accept_traceparent, mint_traceparent
from hevlayer.http.messages import Request, Response
from hevlayer.http.request_body import WholeBody
from hevlayer.kernels.http import access_line
from hevlayer.testing.clock import FakeClock
from hevlayer.wire.bodies import MalformedJsonError, encode, error_body


async def handler(context):
    return Response(204)


def router(*rows: tuple[str, str]) -> Router:
    return Router([RouteSpec(method, pattern, "h", pattern, Access.OPEN) for method, pattern in rows], {"h": handler})


TABLE = router(
    ("GET", "/health"),
    ("GET", "/v2/namespaces"),
    ("POST", "/v2/namespaces/{namespace}"),
    ("GET", "/v2/namespaces/{namespace}/documents/{doc_id*}"),
    ("POST", "/v2/namespaces/{namespace}/query"),
)


@pytest.mark.parametrize(
    ("method", "path", "pattern", "parameters", "region"),
    [
        ("GET", "/health", "/health", {}, ""),
        ("POST", "/v2/namespaces/a/query", "/v2/namespaces/{namespace}/query", {"namespace": "a"}, ""),
        ("POST", "/v2/namespaces/a%2Fquery", "/v2/namespaces/{namespace}", {"namespace": "a%2Fquery"}, ""),
        ("POST", "/v2/namespaces/..", "/v2/namespaces/{namespace}", {"namespace": ".."}, ""),
        ("POST", "/eu-1/v2/namespaces/a", "/v2/namespaces/{namespace}", {"namespace": "a"}, "eu-1"),
        (
            "GET",
            "/v2/namespaces/n/documents/a/b%20c//",
            "/v2/namespaces/{namespace}/documents/{doc_id*}",
            {"namespace": "n", "doc_id": "a/b%20c//"},
            "",
        ),
        (
            "GET",
            "/v2/namespaces/n/documents/",
            "/v2/namespaces/{namespace}/documents/{doc_id*}",
            {"namespace": "n", "doc_id": ""},
            "",
        ),
    ],
)
def test_routes_are_found_on_raw_segments(method, path, pattern, parameters, region):
    route, match = TABLE.route(method, path)
    assert (route.spec.pattern, match.parameters, match.region) == (pattern, parameters, region)


@pytest.mark.parametrize(
    "path", ["", "/", "//v2/namespaces", "/v2", "/v2/namespaces//query", "/eu/health", "/a/b/v2/namespaces"]
)
def test_unknown_paths(path):
    with pytest.raises(NotFoundError):
        TABLE.route("GET", path)


def test_a_wrong_method_names_the_right_ones():
    with pytest.raises(MethodNotAllowedError) as caught:
        TABLE.route("PUT", "/v2/namespaces/a/query")
    assert caught.value.fields == {"allow": ["POST"]}


def test_the_table_refuses_mistakes():
    with pytest.raises(ValueError, match="twice"):
        router(("GET", "/a"), ("GET", "/a"))
    with pytest.raises(ValueError, match="no handler"):
        Router([RouteSpec("GET", "/a", "missing", "a", Access.OPEN)], {})


def test_every_route_of_the_upstream_is_in_the_table():
    table = Router(ROUTES, {spec.handler: handler for spec in ROUTES})
    upstream = {
        "GET": "/v1/namespaces /v1/namespaces/n /v1/namespaces/n/schema /v2/namespaces/n/metadata "
        "/v1/namespaces/n/metadata /v1/namespaces/n/hint_cache_warm /v1/namespaces/n/operations/t "
        "/v1/namespaces/n/_debug/purge_cache /v1/namespaces/n/_debug/warm_cache",
        "POST": "/v1/namespaces/n /v2/namespaces/n /v2/namespaces/n/async /v2/namespaces/n/query "
        "/v2/namespaces/n/explain_query /v2/namespaces/n/read_only_optimize /v1/namespaces/n/query "
        "/v1/vectors/n/query /v1/namespaces/n/schema /v1/namespaces/n/_debug/recall",
        "PATCH": "/v1/namespaces/n/metadata /v2/namespaces/n",
        "DELETE": "/v2/namespaces/n",
        "HEAD": "/v1/namespaces/n",
    }
    for method, paths in upstream.items():
        for path in paths.split():
            assert table.route(method, path)


# --- credentials -----------------------------------------------------------------------------------------------------


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def test_a_gateway_key_never_goes_up():
    keyed = Authenticator("gateway", "upstream", "")
    credential = keyed.authenticate(bearer("gateway"))
    assert (credential.authorization, credential.trusted) == (b"Bearer upstream", True)
    for headers in (
        [],
        bearer("upstream"),
        bearer("gatewa"),
        bearer("gatewayy"),
        [(b"authorization", b"Basic gateway")],
    ):
        with pytest.raises(UnauthorizedError):
            keyed.authenticate(headers)


def test_without_one_the_caller_is_passed_through():
    open_to_all = Authenticator("", "upstream", "")
    assert open_to_all.authenticate(bearer("mine")).authorization == b"Bearer mine"
    assert open_to_all.authenticate([]).authorization is None


def test_a_metrics_token_closes_what_observes():
    closed = Authenticator("", "", "metrics")
    assert closed.observes(bearer("metrics"))
    assert not closed.observes(bearer("other"))
    assert not closed.observes([])
    assert Authenticator("", "", "").observes([])


def test_credentials_do_not_print_their_secrets():
    assert "mine" not in repr(Credential(b"Bearer mine", trusted=False))
    bearers = BackgroundBearers("")
    bearers.note_success("n", Credential(b"Bearer mine", trusted=False))
    assert "mine" not in repr(bearers)


async def test_a_grant_is_asked_for_once_a_minute_and_credential():
    asked: list[tuple[str, bytes]] = []

    async def probe(namespace, credential):
        asked.append((namespace, credential.bearer))
        await asyncio.sleep(0)
        return 200, None

    clock = FakeClock()
    grants = Grants(probe, clock)
    one, other = Credential(b"Bearer one", trusted=False), Credential(b"Bearer other", trusted=False)
    await asyncio.gather(*(grants.require("n", each) for each in (one, one, other, one)))
    assert sorted(asked) == [("n", b"one"), ("n", b"other")]
    clock.move(59.0)
    await grants.require("n", one)
    assert len(asked) == 2
    clock.move(2.0)
    await grants.require("n", one)
    assert len(asked) == 3
    await grants.require("m", one)
    assert asked[-1] == ("m", b"one")
    await grants.require("n", Credential(b"Bearer ours", trusted=True))
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UnauthorizedError), (403, ForbiddenError), (404, NotFoundError), (400, NotFoundError), (500, UpstreamError)],
)
async def test_a_refused_grant_is_not_remembered(status, kind):
    answers = [status, 200]

    async def probe(namespace, credential):
        return answers.pop(0), "2026-01-01T00:00:00Z"

    grants = Grants(probe, FakeClock())
    credential = Credential(b"Bearer one", trusted=False)
    with pytest.raises(kind):
        await grants.require("n", credential)
    await grants.require("n", credential)
    with pytest.raises(UnauthorizedError):
        await grants.require("n", Credential(None, trusted=False))


def test_background_bearers_are_bounded_and_the_configured_key_wins():
    bearers = BackgroundBearers("")
    for number in range(BEARERS_MAX + 1):
        bearers.note_success(f"n{number}", Credential(b"Bearer b%d" % number, trusted=False))
    assert bearers.background_bearer("n0") is None
    assert bearers.background_bearer("n1") == b"b1"
    configured = BackgroundBearers("key")
    configured.note_success("n", Credential(b"Bearer other", trusted=False))
    assert configured.background_bearer("n") == b"key"


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_a_valid_configuration():
    assert GatewayConfig.read({}) == GatewayConfig()
    assert len({each.env for each in SETTINGS}) == len({each.option for each in SETTINGS}) == len(SETTINGS)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        GatewayConfig.read(
            {
                "LAYER_GATEWAY_PORT": "70000",
                "LAYER_UPSTREAM_URL": "ftp://x",
                "LAYER_CONSISTENCY": "maybe",
                "LAYER_LOG_LEVEL": "",
            }
        )
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "LAYER_GATEWAY_PORT",
        "LAYER_UPSTREAM_URL",
        "LAYER_CONSISTENCY",
    ]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"LAYER_GATEWAY_API_KEY": "g"}, "TURBOPUFFER_API_KEY"),
        ({"LAYER_GATEWAY_API_KEY": "k", "TURBOPUFFER_API_KEY": "k"}, "must differ"),
        ({"LAYER_UPSTREAM_URL": "https://{region}.example"}, "LAYER_UPSTREAM_REGION"),
        (
            {"LAYER_UPSTREAM_URL": "https://{region}.example", "LAYER_UPSTREAM_REGION": "evil.example/"},
            "LAYER_UPSTREAM_REGION",
        ),
        ({"LAYER_BODY_BYTES_MAX": "2000"}, "LAYER_BODY_MEMORY_BYTES_MAX"),
    ],
)
def test_joint_rules(environment, named):
    with pytest.raises(ConfigurationError, match=named):
        GatewayConfig.read(environment)


def test_secrets_are_in_no_print():
    secrets = {"LAYER_GATEWAY_API_KEY": "hush1", "TURBOPUFFER_API_KEY": "hush2", "LAYER_METRICS_TOKEN": "hush3"}
    assert "hush" not in repr(GatewayConfig.read(secrets))
    with pytest.raises(ConfigurationError) as caught:
        GatewayConfig.read({"TURBOPUFFER_API_KEY": "hush hush"})
    assert "hush" not in str(caught.value)


def test_a_region_is_put_into_the_upstream_url():
    config = GatewayConfig.read({"LAYER_UPSTREAM_URL": "https://{region}.example/x/", "LAYER_UPSTREAM_REGION": "eu-1"})
    assert (config.upstream_base_url, config.prefix_region) == ("https://eu-1.example/x", "eu-1")


# --- tracing and logs ------------------------------------------------------------------------------------------------

VALID = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        (VALID, VALID[3:35]),
        (b"cc" + VALID[2:] + b"-later", VALID[3:35]),
        (None, None),
        (b"", None),
        (VALID + b"-x", None),
        (b"ff" + VALID[2:], None),
        (VALID.upper(), None),
        (b"00-" + b"0" * 32 + VALID[35:], None),
        (VALID[:36] + b"0" * 16 + b"-01", None),
    ],
)
def test_a_valid_traceparent_is_used(sent, accepted):
    assert accept_traceparent(sent) == accepted


def test_a_minted_traceparent_is_valid_and_not_repeated():
    rng = random.Random(7)
    minted = [mint_traceparent(rng) for _ in range(100)]
    assert all(accept_traceparent(parent) == trace for parent, trace in minted)
    assert len({trace for _, trace in minted}) == 100


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [(b"tpreq_1", "tpreq_1"), (None, None), (b"", None), (b"a\x01", None), (b"x" * 129, None), (b"\xff", None)],
)
def test_request_ids_that_go_into_logs_are_short_and_printable(sent, accepted):
    assert accept_request_id(sent) == accepted


def test_the_access_log_is_written_in_batches():
    written: list[bytes] = []

    def write(descriptor, data):
        # A pipe may take less than it is given.
        written.append(data[:1000])
        return min(len(data), 1000)

    log = AccessLog(1, write)
    for number in range(BUFFER_LINES_MAX + 3):
        log.add(f'{{"n":{number},"path":"?"}}')
    assert log.settle(10.0)
    assert b"".join(written).count(b"\n") == BUFFER_LINES_MAX
    log.flush()
    assert log.settle(10.0)
    assert log.dropped == 0
    lines = b"".join(written).splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(BUFFER_LINES_MAX + 3))


def test_a_closed_log_does_not_stop_the_service():
    def broken(descriptor, data):
        raise BrokenPipeError

    log = AccessLog(1, broken)
    log.add("{}")
    log.flush()
    assert log.settle(10.0)
    assert log.dropped == 1


@pytest.mark.parametrize("text", ["plain", 'a"b', "a\\b", "é\n", "", "\x7f", "\x00\x1f\b\f\r\t"])
def test_a_line_of_the_access_log_is_json(text):
    line = access_line(5, "GET", text, "query", 200, None, 0.0015, 0.5, text, "t", "p", "", text)
    expected = {
        "time_ms": 5, "level": "info", "event": "request", "method": "GET", "path": text, "operation": "query",
        "status": 200, "bytes": None, "us": 1500, "upstream_us": 500_000, "request_id": text, "trace_id": "t",
        "peer": "p",
    }  # fmt: skip
    assert json.loads(line) == expected | ({"error": text} if text else {})


def test_the_log_hides_secrets():
    text = 'x {"source_api_key": "sk1"} Bearer abc.def tpuf_AbC123 source_api_key=sk2'
    hidden = hide_secrets(text)
    for secret in ("sk1", "sk2", "abc.def", "AbC123"):
        assert secret not in hidden
    record = logging.makeLogRecord(
        {"msg": "said %s", "args": ("Bearer topsecret",), "levelname": "INFO", "operation": "query"}
    )
    line = json.loads(JsonFormatter(FakeClock()).format(record))
    assert line["event"] == "said Bearer [hidden]"
    assert line["operation"] == "query"


def test_logging_writes_json_lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure_logging("warning", stream, FakeClock())
        logging.getLogger("x").info("quiet")
        logging.getLogger("x").warning("loud", extra={"namespace": "\ud800"})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


# --- bodies ----------------------------------------------------------------------------------------------------------


class Arriving:
    """A body that comes in pieces."""

    whole = None

    def __init__(self, *chunks: bytes, declared: int | None = None) -> None:
        self._chunks = chunks
        self.content_length = declared

    async def read(self, limit_bytes: int) -> bytes:
        return b"".join(self._chunks)

    async def chunks(self):
        for chunk in self._chunks:
            yield chunk


def request(body, *headers: tuple[bytes, bytes]) -> Request:
    return Request("POST", b"/", "/", "", list(headers), body, "peer")


GZIP = (b"content-encoding", b"gzip")


def intake(
    tmp_path, *, memory: int = 1000, whole: int = 10_000, spool: int = 20_000, together: int = 100_000
) -> Intake:
    made = Spool(tmp_path / "spool", spool)
    made.prepare()
    return Intake(made, BodyMemory(together), memory_bytes_max=memory, bytes_max=whole)


async def test_small_bodies_stay_in_memory_and_large_ones_go_to_disk(tmp_path):
    taking = intake(tmp_path)
    assert await taking.take(request(WholeBody(b"x" * 1000))) == b"x" * 1000
    assert await taking.take(request(Arriving(b"x" * 600, b"y" * 400))) == b"x" * 600 + b"y" * 400
    spooled = await taking.take(request(Arriving(b"x" * 600, b"y" * 401)))
    assert spooled.path.read_bytes() == b"x" * 600 + b"y" * 401
    assert (spooled.size, taking.spool.used_bytes) == (1001, 1001)
    spooled.close()
    spooled.close()
    assert taking.spool.used_bytes == 0
    assert list((tmp_path / "spool").iterdir()) == []


async def test_bodies_in_memory_are_bounded_together(tmp_path):
    taking = intake(tmp_path, together=1500)
    first, second, third = (request(Arriving(b"x" * 600, b"y" * 300)) for _ in range(3))
    assert await taking.take(first) == b"x" * 600 + b"y" * 300
    assert taking.memory.used_bytes == 900
    # 600 more fit, 900 do not: what was taken is given back.
    spooled = await taking.take(second)
    assert spooled.path.read_bytes() == b"x" * 600 + b"y" * 300
    assert taking.memory.used_bytes == 900
    spooled.close()
    with pytest.raises(ServiceUnavailableError, match="1500 bytes"):
        await taking.in_memory(third)
    third.lease.close()
    first.lease.close()
    first.lease.close()
    assert taking.memory.used_bytes == 0
    assert await taking.in_memory(request(Arriving(b"z" * 1000))) == b"z" * 1000
    assert taking.memory.used_bytes == 1000


async def test_gzip_is_undone_with_a_bound(tmp_path):
    taking = intake(tmp_path)
    two_members = gzip.compress(b"a" * 300) + gzip.compress(b"b" * 300)
    assert await taking.take(request(WholeBody(two_members), GZIP)) == b"a" * 300 + b"b" * 300
    assert (
        await taking.take(request(Arriving(*(bytes([each]) for each in two_members)), GZIP)) == b"a" * 300 + b"b" * 300
    )
    bomb = gzip.compress(b"\0" * 5_000_000)
    assert len(bomb) < 10_000
    with pytest.raises(PayloadTooLargeError):
        await taking.take(request(WholeBody(bomb), GZIP))
    with pytest.raises(PayloadTooLargeError):
        await taking.in_memory(request(WholeBody(bomb), GZIP))
    assert (taking.spool.used_bytes, taking.spool.files) == (0, 0)


@pytest.mark.parametrize("broken", [b"not gzip", gzip.compress(b"abc" * 100)[:-9], gzip.compress(b"a") + b"rubbish"])
async def test_broken_gzip_is_refused(tmp_path, broken):
    with pytest.raises(BadRequestError):
        await intake(tmp_path).take(request(WholeBody(broken), GZIP))


async def test_other_encodings_are_refused(tmp_path):
    with pytest.raises(NotSupportedError):
        await intake(tmp_path).take(request(WholeBody(b"x"), (b"content-encoding", b"br")))
    assert await intake(tmp_path).take(request(WholeBody(b"x"), (b"content-encoding", b"identity"))) == b"x"


async def test_limits_hold(tmp_path):
    taking = intake(tmp_path, spool=5000)
    with pytest.raises(PayloadTooLargeError):
        await taking.take(request(Arriving(declared=10_001)))
    with pytest.raises(PayloadTooLargeError):
        await taking.in_memory(request(WholeBody(b"x" * 1001)))
    with pytest.raises(ServiceUnavailableError):
        await taking.take(request(Arriving(b"x" * 9000)))
    assert (taking.spool.used_bytes, list((tmp_path / "spool").iterdir())) == (0, [])


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    (tmp_path / f"{SPOOL_PREFIX}999999999-abc").write_bytes(b"x")
    (tmp_path / f"{SPOOL_PREFIX}{os.getpid()}-abc").write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x")
    Spool(tmp_path, 1).prepare()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{SPOOL_PREFIX}{os.getpid()}-abc", "other"]


def test_error_bodies():
    assert error_body(NotFoundError("no x", fields={"id": 7})) == (
        b'{"status":"error","error":"not_found","message":"no x","id":7}'
    )
    assert error_body(MalformedJsonError("Failed to parse")) == (
        b'{"status":"error","error":"Failed to parse","message":"Failed to parse"}'
    )
    assert encode({"lone": "\ud800", "list": ["\ud800", 1, None]}) == b'{"lone":"?","list":["?",1,null]}'
