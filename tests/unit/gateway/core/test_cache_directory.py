"""A gateway whose cache directory cannot be used serves without a cache."""

from hevlayer.testing.recording import answer

ROW = b'{"rows":[{"id":"d","title":"t"}]}'
SCHEMA = b'{"id":{"type":"string"},"title":{"type":"string"}}'
DOCUMENT = "/v2/namespaces/a/documents/d"
KEYED = {"gateway_api_key": "gk", "turbopuffer_api_key": "uk"}


async def test_a_file_in_the_cache_s_place(benches, tmp_path):
    place = tmp_path / "cache"
    place.write_text("in the way")
    bench = await benches(cache_dir=place, **KEYED)
    bench.upstream.default = answer(200, ROW)
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)

    async def ask(path: str):
        return await bench.call("GET", path, headers=[(b"authorization", b"Bearer gk")])

    assert (await ask("/ready")).status == 200
    assert b"cannot be used" in await (await ask("/health")).read(1 << 20)
    for _ in range(2):
        fetched = await ask(DOCUMENT)
        assert (fetched.status, fetched.header(b"x-layer-cache")) == (200, b"miss-on-error")
    text = bench.gateway.metrics.registry.exposition().decode()
    assert 'layer_cache_errors_total{operation="lookup"}' in text
