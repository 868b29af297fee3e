"""Fixtures: gateways in front of recording upstreams."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gateway_bench import Bench, Benches


@pytest.fixture
async def benches(tmp_path: Path) -> AsyncIterator[Benches]:
    made = Benches(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def bench(benches: Benches) -> Bench:
    """A gateway in pass-through mode with defaults."""
    return await benches()
