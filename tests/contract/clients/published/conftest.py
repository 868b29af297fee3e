"""A client against LAYER_TEST_URL, every call once plain and once with its timing.

The client is the published one, or this project's own as LAYER_TEST_CLIENT says: `async`, or `sync` for the synchronous
class, whose calls then run in threads.
"""

import asyncio
import contextlib
import itertools
import os
import re

import pytest

import hevlayer
from hevlayer import AsyncHevlayer, LayerPerf, LayerResponse

KIND = os.environ.get("LAYER_TEST_CLIENT", "published")
_numbers = itertools.count()


class InThreads:
    """The synchronous client as the checks call it."""

    def __init__(self, **options):
        self._client = hevlayer.Hevlayer(**options)

    def __getattr__(self, name):
        method = getattr(self._client, name)

        async def call(*arguments, **options):
            return await asyncio.to_thread(method, *arguments, **options)

        return call

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self._client.close)


@pytest.fixture
def open_client():
    """Opens a client with a key."""
    kind = InThreads if KIND == "sync" else AsyncHevlayer

    def open_with(api_key):
        return kind(api_key=api_key, base_url=os.environ["LAYER_TEST_URL"])

    return open_with


@pytest.fixture
async def client(open_client):
    async with open_client(os.environ["LAYER_TEST_KEY"]) as opened:
        yield opened


@pytest.fixture
def in_path():
    """A document's id as the client takes it. The published one leaves the sign of percent to its caller."""
    return (lambda doc_id: doc_id.replace("%", "%25")) if KIND == "published" else str


@pytest.fixture
async def ns(request, client):
    """The name of a namespace that does not exist yet; deleted afterwards."""
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)[:80]}-{os.getpid()}-{next(_numbers)}"
    yield name
    with contextlib.suppress(hevlayer.HevlayerError):
        await client.delete_namespace(name)


@pytest.fixture(params=["plain", "perf"])
def data(request):
    """Makes a call, checks the timing when it is asked for, and gives the data."""

    async def call(method, *arguments, cache_status=None, **options):
        if request.param == "plain":
            answer = await method(*arguments, **options)
            assert not isinstance(answer, LayerResponse)
            return answer
        answer = await method(*arguments, with_perf=True, **options)
        assert isinstance(answer, LayerResponse)
        assert isinstance(answer.perf, LayerPerf)
        assert answer.perf.latency_ms > 0
        assert answer.perf.cache_status == cache_status
        return answer.data

    return call
