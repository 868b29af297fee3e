"""Fixtures of the namespace tests."""

import pytest
from namespace_house import House


@pytest.fixture
async def house(tmp_path):
    built = House(tmp_path)
    await built.store.open()
    return built
