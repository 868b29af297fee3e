"""Fixtures of the tests of warms."""

import pytest
from work_stage import Stages

from hevlayer.gateway.snapshots import writer


@pytest.fixture(autouse=True)
def eager_writer(monkeypatch):
    """The snapshot writer looks for watched namespaces that are not there at each turn."""
    monkeypatch.setattr(writer, "ABSENT_SECONDS", 0.0)


@pytest.fixture
async def stages(tmp_path):
    made = Stages(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def stage(stages):
    return await stages()
