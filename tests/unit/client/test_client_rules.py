"""The decisions: pauses, addresses and keys, waiting; and what importing costs."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

import hevlayer
from hevlayer.client.connection import connection_of
from hevlayer.client.errors import HevlayerConnectionError, RawAnswer, error_of
from hevlayer.client.operation import Prepared
from hevlayer.client.waiting import Wait

POLICY = hevlayer.RetryPolicy(chance=lambda: 0.0)


def refusal(status=503, **headers):
    return error_of(RawAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}))


def test_pauses_double_up_to_a_bound():
    policy = hevlayer.RetryPolicy(max_retries=8, chance=lambda: 0.0)
    delays = [policy.delay_seconds(refusal(), retries=each, repeatable=True) for each in range(9)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]


def test_chance_takes_up_to_a_quarter():
    policy = hevlayer.RetryPolicy(chance=lambda: 0.999)
    assert policy.delay_seconds(refusal(), retries=0, repeatable=True) == pytest.approx(0.25 * 0.75, rel=0.01)


def test_a_client_s_own_policy_is_bounded():
    assert hevlayer.RetryPolicy().delay_seconds(refusal(), retries=4, repeatable=True) is None
    with pytest.raises(ValueError, match="max_retries must be 0 or more"):
        hevlayer.RetryPolicy(max_retries=-1)


NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "40", "retry_after": "3"}, 0.04),
        ({"retry_after": "Sat, 21 Nov 2026 12:00:07 GMT"}, 7.0),
        ({"retry_after": "1800"}, 1800.0),
        # Past, too far, or not readable: the pause is our own.
        ({"retry_after": "1801"}, 0.25),
        ({"retry_after": "0"}, 0.25),
        ({"retry_after": "-1"}, 0.25),
        ({"retry_after": "nan"}, 0.25),
        ({"retry_after": "inf"}, 0.25),
        ({"retry_after": "Sat, 21 Nov 2026 11:59:00 GMT"}, 0.25),
        ({"retry_after": "soon"}, 0.25),
        ({"retry_after_ms": "x"}, 0.25),
    ],
)
def test_what_the_server_asks_for(headers, delay):
    assert POLICY.delay_seconds(refusal(429, **headers), retries=0, repeatable=True, now=lambda: NOW) == delay


@pytest.mark.parametrize(("sent", "repeatable", "again"), [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 0)])
def test_broken_connections(sent, repeatable, again):
    failure = HevlayerConnectionError("broke", request_sent=bool(sent))
    assert (POLICY.delay_seconds(failure, retries=0, repeatable=bool(repeatable)) is not None) == bool(again)


def connection(environment=None, **options):
    arguments = dict.fromkeys(("base_url", "api_key", "turbopuffer_api_key", "turbopuffer_url"))
    return connection_of(**{**arguments, "fallback_to_turbopuffer": True, "environment": environment or {}, **options})


ENVIRONMENT = {
    "LAYER_GATEWAY_URL": "https://gateway.example/eu/",
    "LAYER_GATEWAY_API_KEY": "gk",
    "TURBOPUFFER_API_KEY": "tk",
    "TURBOPUFFER_API_URL": "https://gcp-us-central1.example",
}


def test_the_environment():
    found = connection(ENVIRONMENT)
    assert (found.gateway.base_url, found.gateway.api_key) == ("https://gateway.example/eu", "gk")
    assert found.turbopuffer is not None
    assert (found.turbopuffer.base_url, found.turbopuffer.api_key) == ("https://gcp-us-central1.example", "tk")


def test_arguments_win():
    found = connection(
        ENVIRONMENT, base_url="http://a:1", api_key="", turbopuffer_api_key="x", turbopuffer_url="http://b"
    )
    assert (found.gateway.base_url, found.gateway.api_key) == ("http://a:1", "")
    assert found.turbopuffer is not None
    assert (found.turbopuffer.base_url, found.turbopuffer.api_key) == ("http://b", "x")


def test_defaults():
    found = connection()
    assert (found.gateway.base_url, found.gateway.api_key, found.turbopuffer) == ("http://localhost:8080", "", None)
    found = connection({"TURBOPUFFER_API_KEY": "tk"})
    assert found.turbopuffer is not None
    assert found.turbopuffer.base_url == "https://aws-us-east-1.turbopuffer.com"
    assert connection({"TURBOPUFFER_API_KEY": "tk"}, fallback_to_turbopuffer=False).turbopuffer is None
    assert connection({"LAYER_GATEWAY_URL": ""}).gateway.base_url == "http://localhost:8080"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "localhost:8080"}, "base_url or LAYER_GATEWAY_URL must be an http or https address"),
        ({"base_url": "ftp://a"}, "base_url"),
        ({"base_url": "http://a?b=c"}, "without user, query"),
        ({"base_url": "http://a:port"}, "base_url"),
        ({"base_url": "http://user:word@a"}, "without user"),
        ({"api_key": "a\nb"}, "api_key or LAYER_GATEWAY_API_KEY must be ASCII"),
        ({"turbopuffer_api_key": "ü"}, "turbopuffer_api_key or TURBOPUFFER_API_KEY"),
        ({"turbopuffer_api_key": "k", "turbopuffer_url": "x"}, "turbopuffer_url or TURBOPUFFER_API_URL"),
    ],
)
def test_what_cannot_be_used(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        connection(**options)
    assert "a\nb" not in str(caught.value)
    assert "word" not in str(caught.value)


def test_keys_are_not_shown():
    client = hevlayer.Hevlayer(base_url="http://a", api_key="gk-secret", turbopuffer_api_key="tk-secret")
    request = client._core.request(Prepared("GET", "/", {}, None, None), None)
    assert request.headers["authorization"] == "Bearer gk-secret"
    for text in (repr(client), repr(client._core), repr(request)):
        assert "secret" not in text
    client.close()


def job(status, progress=0.0):
    return hevlayer.WarmJob(
        id="j", namespace="a", status=status, progress=progress, documents_scanned=0, created_at="t", error="why"
    )


def test_waiting():
    now = [0.0]
    seen = []
    wait = Wait(0.05, 0.3, 1.0, lambda each: seen.append(each.progress), clock=lambda: now[0])
    delays = []
    for _ in range(10):
        delay = wait.next_delay_seconds(job("running", now[0]))
        delays.append(delay)
        now[0] += delay
        if now[0] >= 1.0:
            break
    assert delays == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.3, 0.05])
    with pytest.raises(hevlayer.HevlayerWaitError, match=r"job j did not end in 1\.0 s; it goes on") as caught:
        wait.next_delay_seconds(job("running", 0.9))
    assert caught.value.job.progress == 0.9
    assert wait.next_delay_seconds(job("completed", 1.0)) is None
    assert seen[-1] == 1.0
    with pytest.raises(hevlayer.HevlayerJobError, match="why"):
        wait.next_delay_seconds(job("failed"))


@pytest.mark.parametrize("name", ["initial_delay", "max_delay", "timeout"])
def test_delays_are_above_0(name):
    arguments = {"initial_delay": 1, "max_delay": 1, "timeout": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        Wait(**arguments, progress=None)


LIGHT = """
import sys
import hevlayer
from hevlayer import __version__, kernels
import hevlayer.gateway.app, hevlayer.origin
loaded = {"pydantic", "pyreqwest", "hevlayer.client"} & set(sys.modules)
assert not loaded, loaded
assert not hasattr(hevlayer, "Nothing")
assert hevlayer.AsyncHevlayer.__name__ == "AsyncHevlayer"
assert "Hevlayer" in dir(hevlayer)
from hevlayer import QueryRequest
"""


def test_the_gateway_does_not_load_the_client():
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True, timeout=60)
