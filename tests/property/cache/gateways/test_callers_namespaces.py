"""A gateway without a key of its own: callers' namespaces that are deleted and made anew, and their cached rows."""

import asyncio
from pathlib import Path

from gateways_stage import NAMESPACE, POLL_SECONDS, Stage, staged

PATH = f"/v2/namespaces/{NAMESPACE}"
# Two namespaces of one name are told apart by their times of creation.
CREATED_APART_SECONDS = 0.02
LOOKS_MAX = 200


async def write(stage: Stage, title: str) -> None:
    status, answer = await stage.callers[0].write({"upsert_rows": [{"id": "a", "title": title}]})
    assert status == 200, answer


async def hit(stage: Stage, title: str) -> None:
    """Until the row is served from the cache; it is never another one."""
    for _ in range(LOOKS_MAX):
        source, row = await stage.callers[0].fetch("a")
        assert row == {"title": title}
        if source == "hit":
            return
    raise AssertionError("the row is never cached")


async def test_a_namespace_that_was_deleted_and_written_anew_is_cached_and_warmed_at_once(tmp_path: Path) -> None:
    async with staged(tmp_path, engine="embedded", gateways=1, trusted=False) as stage:
        caller = stage.callers[0]
        await write(stage, "one")
        await hit(stage, "one")
        status, _, answer = await caller.call("DELETE", PATH)
        assert status == 200, answer
        await asyncio.sleep(CREATED_APART_SECONDS)
        await write(stage, "two")
        await hit(stage, "two")
        status, _, answer = await caller.call("POST", f"{PATH}/warm", {})
        assert status in (200, 202), answer


async def test_one_that_was_made_anew_around_the_gateway_is_cached_once_a_poll_has_seen_it(tmp_path: Path) -> None:
    async with staged(tmp_path, engine="embedded", gateways=1, trusted=False) as stage:
        caller = stage.callers[0]
        await write(stage, "one")
        await stage.polled()
        await hit(stage, "one")
        status, _, answer = await stage.origin.call("DELETE", PATH)
        assert status == 200, answer
        await asyncio.sleep(CREATED_APART_SECONDS)
        await write(stage, "two")
        await stage.polled()
        await hit(stage, "two")
        for _ in range(LOOKS_MAX):
            status, _, answer = await caller.call("POST", f"{PATH}/warm", {})
            if status != 503:
                break
            await asyncio.sleep(POLL_SECONDS)
        assert status in (200, 202), answer
