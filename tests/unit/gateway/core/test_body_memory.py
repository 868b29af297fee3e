"""What a request's body takes of the memory for all of them comes back when the request ends, however it does."""

import asyncio
import json

import pytest
from gateway_bench import eventually

from hevlayer.testing.recording import Canned, answer

# Larger than what comes whole with its head.
ROWS = json.dumps({"upsert_rows": [{"id": 1, "t": "x" * (3 << 20)}]}).encode()
WRITE = "/v2/namespaces/a"


@pytest.fixture
async def bench(benches):
    made = await benches()
    made.upstream.default = answer(200, b'{"status":"OK"}')
    return made


async def test_it_counts_while_the_request_lasts(bench):
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, b"{}").raw, before=gate))
    writing = asyncio.create_task(bench.call("POST", WRITE, ROWS))
    await bench.upstream.arrived(1)
    assert bench.gateway.body_memory.used_bytes == len(ROWS)
    gate.set()
    assert (await writing).status == 200
    await eventually(lambda: bench.gateway.body_memory.used_bytes == 0)


@pytest.mark.parametrize("given", [Canned(reset=True), answer(500, b"no", reason=b"No")])
async def test_it_comes_back_after_a_failure(bench, given):
    bench.upstream.default = given
    assert (await bench.call("POST", WRITE, ROWS)).status >= 500
    assert (await bench.call("POST", WRITE, ROWS[:-5])).status == 400
    await eventually(lambda: bench.gateway.body_memory.used_bytes == 0)


async def test_beyond_the_bound_a_write_is_spooled_and_a_query_comes_again(benches):
    bench = await benches(body_memory_bytes_max=4 << 20, body_memory_total_bytes_max=4 << 20)
    bench.upstream.default = answer(200, b'{"status":"OK"}')
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, b"{}").raw, before=gate))
    first = asyncio.create_task(bench.call("POST", WRITE, ROWS))
    await bench.upstream.arrived(1)
    assert (await bench.call("POST", WRITE, ROWS)).status == 200
    assert bench.gateway.spool.used_bytes == 0
    query = json.dumps({"rank_by": ["a", "asc"], "limit": 1, "x": "y" * (3 << 20)}).encode()
    refused = await bench.call("POST", f"{WRITE}/query", query)
    assert refused.status == 503
    assert b"LAYER" not in await refused.read(1 << 20)
    gate.set()
    assert (await first).status == 200
    assert (await bench.call("POST", f"{WRITE}/query", query)).status == 200
