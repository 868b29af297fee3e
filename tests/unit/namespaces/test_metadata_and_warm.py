"""Metadata keeps every native byte; the warm hint reports what was done."""

import orjson
import pytest
from namespace_house import context

from hevlayer.errors import ValidationError
from hevlayer.gateway.consistency import NamespaceView, Status
from hevlayer.gateway.namespaces import Exchanged
from hevlayer.gateway.namespaces.splice import add_members
from hevlayer.gateway.namespaces.warm import describe_steps, read_steps, upstream_target


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"id":"a"}'),
        (b'{"x":1}', b'{"x":1,"id":"a"}'),
        (b' { "x" : 1.0 , "y":"}" } \n', b' { "x" : 1.0 , "y":"}" ,"id":"a"} \n'),
        (b'{"id":"theirs"}', b'{"id":"theirs"}'),
        (b"[]", None),
        (b"{", None),
        (b"", None),
    ],
)
def test_members_are_added_without_touching_a_byte(body, expected):
    assert add_members(body, {"id": "a"}) == expected


async def test_metadata_is_the_upstreams_with_id_and_layer(house):
    house.upstream.add("films")
    native = orjson.dumps(house.upstream.namespaces["films"])
    response = await house.routes.handlers["metadata"](context(namespace="films"))
    assert response.status == 200
    assert (b"x-upstream", b"yes") in response.headers
    layer = b',"id":"films","layer":{"stable_as_of":null,"is_stable":false}}'
    assert response.body == native[:-1] + layer
    assert "films" in house.registry


async def test_the_layer_block_says_what_the_watcher_knows(house):
    house.upstream.add("films")
    house.registry.touch("films")
    next(iter(house.registry)).view = NamespaceView(status=Status.STABLE, watermark_ms=123)
    response = await house.routes.handlers["metadata"](context(namespace="films"))
    assert orjson.loads(response.body)["layer"] == {"stable_as_of": 123, "is_stable": True}


async def test_reserved_attributes_leave_the_schema(house):
    house.upstream.add("films")
    house.upstream.namespaces["films"]["schema"]["_hevlayer_upserted_at"] = {"type": "int"}
    response = await house.routes.handlers["metadata"](context(namespace="films"))
    assert set(orjson.loads(response.body)["schema"]) == {"id", "title", "vector"}


async def test_a_missing_namespace_is_the_upstreams_404_and_is_not_watched(house):
    response = await house.routes.handlers["metadata"](context(namespace="none"))
    assert response.status == 404
    assert orjson.loads(response.body)["error"] == "🤷 namespace 'none' was not found"
    assert "none" not in house.registry


async def test_an_answer_that_is_not_json_is_relayed(house):
    house.upstream.next_answers = [Exchanged(200, [], b"surprise")]
    response = await house.routes.handlers["metadata"](context(namespace="films"))
    assert (response.status, response.body) == (200, b"surprise")


async def test_a_metadata_patch_goes_up_as_it_came_and_answers_metadata(house):
    house.upstream.add("films")
    body = b' {"read_only" : true}'
    asked = context("PATCH", "/v1/namespaces/films/metadata", namespace="films", body=body)
    response = await house.routes.handlers["update_metadata"](asked)
    assert house.upstream.calls == [("PATCH", b"/v1/namespaces/films/metadata", body)]
    assert orjson.loads(response.body)["id"] == "films"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (True, True, True)),
        ("turbopuffer=false&documents=0&snapshots=true", (False, False, True)),
        ("documents=FALSE&other=maybe", (True, False, True)),
    ],
)
def test_steps_are_on_unless_switched_off(query, asked):
    assert tuple(read_steps(query).values()) == asked


@pytest.mark.parametrize("query", ["documents=yes", "turbopuffer=", "snapshots=2"])
def test_a_switch_that_is_neither_is_refused_by_name(query):
    with pytest.raises(ValidationError, match=rf"{query.partition('=')[0]} must be true or false"):
        read_steps(query)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1/namespaces/a%2Fb/hint_cache_warm", b"/v1/namespaces/a%2Fb/hint_cache_warm"),
        (b"/v1/x?documents=false", b"/v1/x"),
        (b"/v1/x?a=1&documents=false&b=%20&turbopuffer=true", b"/v1/x?a=1&b=%20"),
    ],
)
def test_our_switches_do_not_go_upstream(target, expected):
    assert upstream_target(target) == expected


def test_steps_that_are_not_built_are_skipped():
    report = describe_steps("films", {"turbopuffer": True, "documents": True, "snapshots": False})
    assert report["turbopuffer"] == {"enabled": True, "status": "started"}
    assert report["documents"]["status"] == "skipped"
    assert report["snapshots"] == {"enabled": False, "status": "skipped"}


async def test_the_hint_has_the_upstreams_status_and_message(house):
    house.upstream.add("films")
    target = "/v1/namespaces/films/hint_cache_warm?documents=false"
    response = await house.routes.handlers["hint_cache_warm"](context(target=target, namespace="films"))
    assert response.status == 202
    body = orjson.loads(response.body)
    assert (body["status"], body["message"]) == ("ACCEPTED", "cache warm hint accepted")
    assert (body["namespace"], body["documents"]["enabled"]) == ("films", False)


async def test_the_hint_can_leave_the_upstream_alone(house):
    target = "/v1/namespaces/films/hint_cache_warm?turbopuffer=false"
    response = await house.routes.handlers["hint_cache_warm"](context(target=target, namespace="films"))
    assert response.status == 200
    assert house.upstream.calls == []
    assert orjson.loads(response.body)["turbopuffer"] == {"enabled": False, "status": "skipped"}


async def test_the_hints_error_is_the_upstreams(house):
    target = "/v1/namespaces/none/hint_cache_warm"
    response = await house.routes.handlers["hint_cache_warm"](context(target=target, namespace="none"))
    assert response.status == 404
    assert "layer" not in orjson.loads(response.body)
