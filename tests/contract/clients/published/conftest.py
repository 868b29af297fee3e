"""The published client against LAYER_TEST_URL, every call once plain and once with its timing."""

import itertools
import os
import re

import pytest

from hevlayer import AsyncHevlayer, LayerPerf, LayerResponse

_numbers = itertools.count()


@pytest.fixture
async def client():
    async with AsyncHevlayer(api_key=os.environ["LAYER_TEST_KEY"], base_url=os.environ["LAYER_TEST_URL"]) as opened:
        yield opened


@pytest.fixture
async def ns(request, client):
    """The name of a namespace that does not exist yet; deleted afterwards."""
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)[:80]}-{os.getpid()}-{next(_numbers)}"
    yield name
    await client._client.delete(f"/v2/namespaces/{name}")


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
