"""Fixtures: clients that send queries byte for byte."""

import asyncio
import sys
from pathlib import Path

import pytest
from gateway_bench import Bench

from hevlayer.gateway.query import vouched
from hevlayer.testing.recording import answer

sys.path.insert(0, str(Path(__file__).parent))

from quick_ways import ROWS, Ways


@pytest.fixture
async def open_ways():
    opened: list[Ways] = []

    async def open_one(bench: Bench) -> Ways:
        ways = Ways(bench, *await asyncio.open_connection("127.0.0.1", bench.gateway.port, limit=1 << 24))
        opened.append(ways)
        return ways

    yield open_one
    for ways in opened:
        ways.writer.close()


@pytest.fixture
async def ways(bench, open_ways) -> Ways:
    bench.upstream.default = answer(200, ROWS)
    return await open_ways(bench)


@pytest.fixture(autouse=True)
def _long_vouchers(monkeypatch):
    """However slow the machine is."""
    monkeypatch.setattr(vouched, "VOUCHER_SECONDS", 600.0)
