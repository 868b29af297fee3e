from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_stage import STAGES, Stage, opened

from hevlayer.stores.doccache_engine import Engine
from hevlayer.testing.clock import FakeClock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what an engine does not do yet."""
    items[:] = [item for item in items if not is_left_out(item)]


def is_left_out(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("stage") if callspec else None
    needed = {each for marker in item.iter_markers("needs") for each in marker.args}
    return name in STAGES and bool(needed & STAGES[name].lacks)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=sorted(STAGES))
async def stage(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Stage]:
    async with opened(request.param, tmp_path, clock) as made:
        yield made


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.open()
