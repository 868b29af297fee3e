"""Two gateways over one PostgreSQL and one origin: one table of jobs, floors in flight, and neither needs the other."""

import asyncio
import json

import pytest

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.gateway.consistency import Outcome
from hevlayer.http.client import HttpClient, Origin
from hevlayer.origin.config import OriginConfig
from hevlayer.origin.process import start_origin

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60
BEARER = (b"authorization", b"Bearer tpuf_two")


class House:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), None, SystemClock())

    async def call(self, method, target, body=None):
        content = b"" if body is None else json.dumps(body).encode()
        answer = await self.client.request(method, target.encode(), [BEARER], content)
        text = await answer.read(1 << 20)
        return answer.status, json.loads(text) if text else None


@pytest.fixture
async def origin(tmp_path):
    started = await start_origin(OriginConfig(tmp_path / "origin", port=0, control=True))
    yield started
    await started.close()


@pytest.fixture
async def open_house(tmp_path, url, origin):
    houses = []

    async def make(**settings) -> House:
        config = GatewayConfig(
            **{
                "port": 0,
                "upstream_url": origin.url,
                "turbopuffer_api_key": "tpuf_two",
                "data_dir": tmp_path / f"data-{len(houses)}",
                "database_url": url,
                "consistency_poll_interval_ms": 20,
                "consistency_safety_margin_ms": 0,
                "drain_seconds": 5.0,
                **settings,
            }
        ).check()
        gateway = Gateway(config, access_log=AccessLog(OFF))
        await gateway.start()
        houses.append(House(gateway))
        return houses[-1]

    yield make
    for house in houses:
        await house.client.close()
        await house.gateway.stop()


async def until(condition):
    async with asyncio.timeout(GUARD_SECONDS):
        while not await condition():
            await asyncio.sleep(0.01)


async def write(house, rows):
    status, _ = await house.call("POST", "/v2/namespaces/films", {"upsert_rows": rows})
    assert status == 200


async def test_a_job_of_one_gateway_is_seen_and_kept_by_the_other(open_house):
    here, there = await open_house(), await open_house()
    await write(here, [{"id": number, "name": str(number)} for number in range(50)])
    status, job = await here.call("POST", "/v2/namespaces/films/warm")
    assert status == 202
    path = f"/v2/namespaces/films/warm-jobs/{job['id']}"

    async def is_done():
        return (await there.call("GET", path))[1]["status"] == "completed"

    await until(is_done)
    await here.gateway.stop()
    status, listed = await there.call("GET", "/v2/namespaces/films/warm-jobs")
    assert (status, [each["id"] for each in listed["warm_jobs"]]) == (200, [job["id"]])
    assert (await there.call("DELETE", path))[0] in (200, 204)
    assert (await there.call("GET", path))[0] == 404


async def test_a_write_in_flight_in_one_gateway_holds_the_other_s_watermark(open_house):
    here, there = await open_house(), await open_house()
    await write(there, [{"id": 1}])
    ticket = here.gateway.stamper.begin("films")

    async def knows():
        floor = there.gateway.shared.peer_floor("films")
        return floor is not None and floor <= ticket.stamp_ms

    await until(knows)

    async def polled():
        await there.call("POST", "/v2/namespaces/films/query", {"rank_by": ["id", "asc"], "limit": 1})
        return (there.gateway.registry.view("films").polled_at_ms or 0) > ticket.stamp_ms + 300

    await until(polled)
    assert there.gateway.registry.view("films").watermark_ms < ticket.stamp_ms
    ticket.settle(Outcome.OK)

    async def passed():
        await there.call("POST", "/v2/namespaces/films/query", {"rank_by": ["id", "asc"], "limit": 1})
        return there.gateway.registry.view("films").watermark_ms >= ticket.stamp_ms

    await until(passed)


async def test_with_the_server_frozen_requests_are_served_and_jobs_are_a_clear_503(server, open_house):
    house = await open_house(database_timeout_seconds=0.3, database_connect_timeout_seconds=0.3)
    frozen = server.freeze()
    try:
        await write(house, [{"id": 1, "name": "one"}])
        status, answer = await house.call("POST", "/v2/namespaces/films/query", {"rank_by": ["id", "asc"], "limit": 5})
        assert (status, [row["id"] for row in answer["rows"]]) == (200, [1])
        status, answer = await house.call("POST", "/v2/namespaces/films/warm")
        assert (status, answer["error"]) == (503, "service_unavailable")
        assert "jobs' store is away" in answer["message"]
        status, answer = await house.call("GET", "/v1/namespaces/films/hint_cache_warm")
        assert (status, answer["documents"]["status"]) == (202, "skipped")

        async def is_noted():
            return any("PostgreSQL is away" in note for note in (await house.call("GET", "/ready"))[1]["notes"])

        await until(is_noted)
        second = await open_house(database_timeout_seconds=0.3, database_connect_timeout_seconds=0.3)
        assert (await second.call("GET", "/v2/namespaces/films/documents/1"))[0] == 200
    finally:
        server.thaw(frozen)

    async def warms():
        return (await second.call("POST", "/v2/namespaces/films/warm"))[0] == 202

    await until(warms)


async def test_a_lease_goes_to_the_gateway_that_is_left(open_house):
    here, there = await open_house(), await open_house()
    assert await here.gateway.shared.leases.try_acquire("snapshots") is not None
    assert await there.gateway.shared.leases.try_acquire("snapshots") is None
    await here.gateway.stop()

    async def acquired():
        return await there.gateway.shared.leases.try_acquire("snapshots") is not None

    await until(acquired)
