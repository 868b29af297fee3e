"""Fixtures of the tests of warms."""

import pytest
from work_stage import Stages


@pytest.fixture
async def stages(tmp_path):
    made = Stages(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def stage(stages):
    return await stages()
