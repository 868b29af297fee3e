"""Fixtures of the HTTP tests; each test runs on uvloop and on asyncio's own loop."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from http_stage import Stage


@pytest.fixture(params=["uvloop", "asyncio"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.tear_down()
