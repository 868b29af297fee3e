"""An S3 server for the session, and for each test a proxy that fails on demand and a prefix of its own."""

import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

from hevlayer.clock import SystemClock
from hevlayer.stores.objects import LocalObjects, ObjectStore
from hevlayer.stores.objects.s3 import S3Objects
from hevlayer.stores.objects.s3_client import S3Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from build_s3_server import build_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    running = S3Server(build_server())
    yield running
    running.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The server's own in the environment; nothing of the machine's."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return monkeypatch


@pytest.fixture
async def proxy(server: S3Server) -> AsyncIterator[FaultyProxy]:
    between = FaultyProxy(server.socket)
    await between.start()
    yield between
    await between.close()


@pytest.fixture
async def make_s3(proxy: FaultyProxy, credentials: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., S3Objects]]:
    """Makes stores over the proxy, with a prefix of the test's own where none is given."""
    made: list[S3Objects] = []
    prefix = f"test-{next(_numbers)}/"

    def make(**given: object) -> S3Objects:
        where = {"bucket": BUCKET, "prefix": prefix, "endpoint_url": proxy.url, "connect_seconds": 1.0}
        settings = S3Settings(**{**where, **{name: given.pop(name) for name in where if name in given}})
        made.append(S3Objects(settings, SystemClock(), **given))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
async def s3(make_s3: Callable[..., S3Objects]) -> S3Objects:
    return make_s3()


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each adapter in turn."""
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    return request.getfixturevalue("s3")
