"""A process with a document cache on a directory that others share, told what to do by lines of its standard input.

`leaving_process.py DIRECTORY busy` changes marks as fast as it can until it is killed. `… told` answers each line:
`write` with whether the cache took the write's mark, `leave` by closing the cache and ending as any process does.
"""

import asyncio
import sys
from pathlib import Path

from hevlayer.clock import SystemClock
from hevlayer.stores.doccache import DocumentCache, WriteOutcome
from hevlayer.stores.doccache_embedded import EmbeddedEngine

KEYS = [b"\x02%d" % number for number in range(2_000)]
WRITE_SECONDS = 30.0
CALL_SECONDS = 0.2


def opened(directory: Path) -> DocumentCache:
    clock = SystemClock()
    engine = EmbeddedEngine.open(
        directory, clock, upstream="https://upstream", capacity_bytes=64 << 20, timeout_seconds=CALL_SECONDS
    )
    return DocumentCache(engine, clock)


async def write(cache: DocumentCache, keys: list[bytes]) -> bool:
    token = await cache.begin_write("ns", keys, WRITE_SECONDS)
    await cache.settle(token, WriteOutcome.APPLIED)
    return token.marked


async def be_busy(cache: DocumentCache) -> None:
    print("ready", flush=True)
    while True:
        await write(cache, KEYS)


async def be_told(cache: DocumentCache) -> None:
    upkeep = asyncio.ensure_future(cache.run())
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline) == "write\n":
        print("marked" if await write(cache, KEYS[:1]) else "not marked", flush=True)
    upkeep.cancel()
    await cache.close()


async def main() -> None:
    cache = opened(Path(sys.argv[1]))
    await (be_busy(cache) if sys.argv[2] == "busy" else be_told(cache))


if __name__ == "__main__":
    asyncio.run(main())
