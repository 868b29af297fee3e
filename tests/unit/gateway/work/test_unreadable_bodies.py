"""Bodies of our own routes that nobody can read: the caller is told, and nothing is done."""

import pytest
from work_stage import FILMS

NS = "/v2/namespaces/films"
DEEP = 20_000


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", f"{NS}/scans"),
        ("POST", f"{NS}/result-count"),
        ("POST", f"{NS}/snapshots"),
        ("PUT", f"{NS}/snapshot-policy"),
        ("POST", f"{NS}/init"),
    ],
)
async def test_a_body_that_is_no_json(stage, method, target):
    await stage.films(rows=FILMS[:3])
    bodies = (
        b"{",
        b"\xff",
        b'{"shard_count":4,"field":"\xff"}',
        b'{"\xff":1}',
        b'{"field":"\\ud800"}',
        b'{"filters":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b"[" * DEEP,
    )
    for body in bodies:
        answer = await stage.call(method, target, body)
        assert answer.status in (400, 422), (body[:40], answer)
    assert (await stage.ok("POST", f"{NS}/init"))["layer"]["shard_count"] == 1
