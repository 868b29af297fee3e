"""Fixtures of the namespace tests."""

import pytest
from namespace_house import House


@pytest.fixture
async def house(tmp_path):
    return House(tmp_path)
