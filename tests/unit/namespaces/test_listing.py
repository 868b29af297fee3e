"""The augmented listing: whole, bounded, cached per credential."""

import asyncio

import orjson
import pytest
from namespace_house import CREATED, context

from hevlayer.errors import UpstreamError, ValidationError
from hevlayer.gateway.consistency import NamespaceView, Status
from hevlayer.gateway.namespaces import Exchanged
from hevlayer.gateway.namespaces.listing import FANOUT_MAX, epoch_ms, read_names, read_page_parameters


async def listed(house, query="", bearer=b"key"):
    response = await house.routes.handlers["list_namespaces"](context(target=f"/v2/namespaces{query}", bearer=bearer))
    return response.status, orjson.loads(response.body)


async def test_a_row_has_what_the_dashboard_reads(house):
    house.upstream.add("films", status="updating")
    house.registry.touch("films")
    next(iter(house.registry)).view = NamespaceView(status=Status.UPDATING, watermark_ms=77)
    status, body = await listed(house)
    assert status == 200
    assert body["next_cursor"] == "more"
    assert body["namespaces"] == [
        {
            "name": "films",
            "row_count": 3,
            "size_bytes": 99,
            "stable_as_of_ms": 77,
            "is_stable": False,
            "schema_summary": {"fields": ["id", "title", "vector"], "vector_dim": 4},
            "index": {"status": "updating"},
            "cache_state": {"state": "cold", "warmed_through_ms": None, "warm_inflight": False},
            "last_write_ms": 1795204801500,
            "shadow": False,
            "labels": {},
        }
    ]


async def test_a_row_that_cannot_be_read_says_so_and_stays(house):
    for name in ("a", "b", "c", "d", "e"):
        house.upstream.add(name)
    house.upstream.metadata_failures = {
        "a": UpstreamError("the upstream closed the connection before it answered"),
        "b": (500, b"boom"),
        "c": (200, b"no json"),
        "d": (200, b"[]"),
    }
    _, body = await listed(house)
    errors = {row["name"]: row.get("metadata_error") for row in body["namespaces"]}
    assert errors == {
        "a": "the upstream closed the connection before it answered",
        "b": "the upstream answered 500",
        "c": "the upstream's metadata is not a JSON object",
        "d": "the upstream's metadata is not a JSON object",
        "e": None,
    }


async def test_a_row_that_hangs_does_not_keep_the_others(house, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.namespaces.listing.ROW_SECONDS", 0.02)
    for name in ("hangs", "quick"):
        house.upstream.add(name)
    answer = house.upstream.metadata

    async def metadata(namespace, bearer):
        if namespace == "hangs":
            await asyncio.Event().wait()
        return await answer(namespace, bearer)

    house.upstream.metadata = metadata
    _, body = await listed(house)
    errors = {row["name"]: row.get("metadata_error") for row in body["namespaces"]}
    assert errors == {"hangs": "the upstream did not answer within 0.02 s", "quick": None}


async def test_a_listing_out_of_time_is_still_whole(house, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.namespaces.listing.FANOUT_SECONDS", 0.02)
    for number in range(FANOUT_MAX + 4):
        house.upstream.add(f"ns-{number:02}")

    async def metadata(namespace, bearer):
        await asyncio.Event().wait()

    house.upstream.metadata = metadata
    _, body = await listed(house)
    assert len(body["namespaces"]) == FANOUT_MAX + 4
    assert {row["metadata_error"] for row in body["namespaces"]} == {"not read within 0.02 s"}


async def test_the_fan_out_is_bounded_and_registers_nothing(house):
    for number in range(60):
        house.upstream.add(f"ns-{number:02}")
    _, body = await listed(house)
    assert [row["name"] for row in body["namespaces"]] == [f"ns-{number:02}" for number in range(60)]
    assert house.upstream.running_max == FANOUT_MAX
    assert len(house.registry) == 0


async def test_pages_are_kept_for_their_time_and_never_shared_between_credentials(house):
    house.upstream.add("films")
    for _ in range(3):
        await listed(house)
    assert len(house.upstream.calls) == 1
    await listed(house, bearer=b"other")
    assert len(house.upstream.calls) == 2
    assert {bearer for _, bearer in house.upstream.metadata_calls} == {b"key", b"other"}
    await listed(house, "?prefix=f")
    assert len(house.upstream.calls) == 3
    house.clock.move(10)
    await listed(house)
    assert len(house.upstream.calls) == 4


async def test_simultaneous_listings_share_one_fan_out(house):
    house.upstream.add("films")
    answers = await asyncio.gather(*(listed(house) for _ in range(10)))
    assert len(house.upstream.calls) == 1
    assert all(answer == answers[0] for answer in answers)


async def test_each_request_gets_headers_of_its_own(house):
    house.upstream.add("films")
    first = await house.routes.handlers["list_namespaces"](context(target="/v2/namespaces"))
    first.headers.append((b"x-trace", b"1"))
    second = await house.routes.handlers["list_namespaces"](context(target="/v2/namespaces"))
    assert (b"x-trace", b"1") not in second.headers


async def test_an_upstream_error_is_relayed_and_not_kept(house):
    house.upstream.next_answers = [Exchanged(403, [], b"forbidden")]
    response = await house.routes.handlers["list_namespaces"](context(target="/v2/namespaces"))
    assert (response.status, response.body) == (403, b"forbidden")
    assert (await listed(house))[0] == 200


async def test_a_page_under_way_while_a_namespace_is_deleted_is_not_kept(house):
    house.upstream.add("films")
    gate = asyncio.Event()
    answer = house.upstream.metadata

    async def metadata(namespace, bearer):
        await gate.wait()
        return await answer(namespace, bearer)

    house.upstream.metadata = metadata
    under_way = asyncio.create_task(listed(house))
    await house.clock.settle()
    house.routes.listing.forget()
    gate.set()
    await under_way
    await listed(house)
    assert len(house.upstream.calls) == 2


async def test_parameters_go_upstream_encoded(house):
    await listed(house, "?prefix=a%20b%26c&cursor=x%3D%3D&page_size=7&junk=1")
    assert house.upstream.calls[0][1] == b"/v1/namespaces?prefix=a+b%26c&cursor=x%3D%3D&page_size=7"


@pytest.mark.parametrize("size", ["0", "1001", "-1", "ten", "1e3", "99999999999999999999", "٣"])
def test_a_page_size_out_of_range_is_refused_by_name(size):
    with pytest.raises(ValidationError, match=r"page_size must be an integer in 1\.\.1000"):
        read_page_parameters({"page_size": size})


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"namespaces":[{}]}', b'{"namespaces":[{"id":1}]}', b'{"namespaces":3}']
)
def test_a_listing_of_another_shape_is_an_upstream_error(body):
    with pytest.raises(UpstreamError, match="another shape"):
        read_names(body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CREATED, 1795204800000),
        ("2026-11-20T20:00:00", 1795204800000),
        ("2026-11-20T21:00:00+01:00", 1795204800000),
        ("2026-11-20T20:00:00.123456789Z", 1795204800123),
        ("soon", None),
        (None, None),
        (5, None),
    ],
)
def test_times_become_epoch_milliseconds(text, expected):
    assert epoch_ms(text) == expected
