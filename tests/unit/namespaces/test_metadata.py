"""Metadata keeps every native byte."""

import orjson
import pytest
from namespace_house import context

from hevlayer.gateway.consistency import NamespaceView, Status
from hevlayer.gateway.namespaces import Exchanged
from hevlayer.gateway.namespaces.splice import add_members


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
    cache = b'"cache_state":{"state":"cold","warmed_through_ms":null,"warm_inflight":false}'
    layer = b',"id":"films","layer":{"stable_as_of":null,"is_stable":false,' + cache + b"}}"
    assert response.body == native[:-1] + layer
    assert "films" in house.registry


async def test_the_layer_block_says_what_the_watcher_knows(house):
    house.upstream.add("films")
    house.registry.touch("films")
    next(iter(house.registry)).view = NamespaceView(status=Status.STABLE, watermark_ms=123)
    response = await house.routes.handlers["metadata"](context(namespace="films"))
    layer = orjson.loads(response.body)["layer"]
    assert (layer["stable_as_of"], layer["is_stable"]) == (123, True)


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
