"""TLS on both sides: verification, names, the protocol that is agreed on."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator

import pytest
from http_stage import Stage, until

from hevlayer.clock import SystemClock
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.errors import ConnectError, ConnectTimeout
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import HttpServer, serve


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of a self-signed certificate for localhost and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    names = (str(folder / "cert.pem"), str(folder / "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return names


async def halves(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    yield body[len(body) // 2 :]


async def start(stage: Stage, certificate: tuple[str, str]) -> HttpServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def handler(request: Request) -> Response:
        body = await request.body.read(1 << 24)
        return Response(200, [], halves(body) if request.path == "/stream" else body)

    server = await serve(handler, port=0, ssl_context=context, clock=stage.clock)
    stage.servers.append(server)
    return server


def client(stage: Stage, server: HttpServer, host: str, name: str | None, **options: object) -> HttpClient:
    made = HttpClient(Origin("https", host, server.port, name), ClientConfig(**options), SystemClock())  # type: ignore[arg-type]
    stage.clients.append(made)
    return made


async def test_requests_over_tls(stage: Stage, certificate: tuple[str, str]) -> None:
    secure = client(stage, await start(stage, certificate), "127.0.0.1", "localhost", tls_ca_file=certificate[0])
    for size in (0, 10, 3_000_000):
        for path in (b"/", b"/stream"):
            answer = await secure.request("POST", path, [], b"x" * size)
            assert await answer.read(1 << 24) == b"x" * size
    assert (secure.opened, secure.idle) == (1, 1)
    transport = secure._idle[0]._transport
    assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("name", "options"),
    [("localhost", {}), ("elsewhere", {"tls_ca_file": True}), (None, {"tls_ca_file": True})],
)
async def test_peers_that_cannot_be_verified_are_refused(
    stage: Stage, certificate: tuple[str, str], name: str | None, options: dict[str, object]
) -> None:
    server = await start(stage, certificate)
    given = dict.fromkeys(options, certificate[0])
    secure = client(stage, server, "127.0.0.1", name, **given)
    with pytest.raises(ConnectError, match=r"(?i)certificate") as raised:
        await secure.request("POST", b"/", [], b"x")
    assert raised.value.outcome_known
    trusting = client(stage, server, "127.0.0.1", name, tls_verify=False)
    assert (await trusting.request("POST", b"/", [], b"x")).body == b"x"


async def test_a_peer_that_never_shakes_hands(stage: Stage) -> None:
    async def silent(raw: object) -> None:
        await asyncio.sleep(0.2)

    port = await stage.peer(silent)
    secure = HttpClient(Origin("https", "127.0.0.1", port), ClientConfig(), SystemClock())
    stage.clients.append(secure)
    with pytest.raises(ConnectTimeout):
        await secure.request("GET", b"/", [], connect_timeout=0.05)


async def test_a_plain_peer_is_no_tls_peer(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        return Response(200)

    server = await stage.serve(handler)
    secure = client(stage, server, "127.0.0.1", "localhost")
    with pytest.raises(ConnectError):
        await secure.request("GET", b"/", [])
    await until(lambda: server.inflight == 0)
