"""A process with a document cache of its own on a directory that others share: it writes and reads until it is killed.

Started as `cache_process.py DIRECTORY SOCKET`. It imports what is needed, then forks a process that works for each line
of its standard input, and prints that one's id. The upstream and the judge of all reads are
behind the socket: one JSON text a line, and a line for an answer.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from random import Random
from typing import Any

from hevlayer.clock import SystemClock
from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache, WriteOutcome
from hevlayer.stores.doccache_embedded import EmbeddedEngine

NAMESPACES = ("one", "two")
IDS = [f"doc-{number}" for number in range(12)]
KINDS = ["upsert"] * 6 + ["patch"] * 4 + ["delete"] * 2 + ["by_filter"]
TASKS = 6
WRITE_SECONDS = 30.0
UNKNOWN_SECONDS = 1.0
CALL_SECONDS = 10.0
PLAIN = DocProjection()
Json = dict[str, Any]


def key_of(name: str) -> bytes:
    return b"\x02" + name.encode()


def rows_of(rows: dict[str, Json | None]) -> DocRows:
    found = [{"id": name, **row} for name, row in rows.items() if row is not None]
    return DocRows(json.dumps({"rows": found}).encode(), [])


class Worker:
    """One caller: an operation at a time, over a connection of its own."""

    def __init__(self, cache: DocumentCache, random: Random, socket: str) -> None:
        self.cache = cache
        self.random = random
        self.socket = socket

    async def run(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(self.socket)
        while True:
            await (self.write() if self.random.random() < 0.35 else self.read())

    async def ask(self, **question: object) -> Json:
        self.writer.write(json.dumps(question).encode() + b"\n")
        answer = await asyncio.wait_for(self.reader.readline(), CALL_SECONDS)
        return dict(json.loads(answer))

    async def write(self) -> None:
        random, cache = self.random, self.cache
        namespace, kind = random.choice(NAMESPACES), random.choice(KINDS)
        names = random.sample(IDS, random.choice([1, 1, 3]))
        keys = None if kind == "by_filter" else [key_of(name) for name in names]
        token = await cache.begin_write(namespace, keys, WRITE_SECONDS)
        answer = await self.ask(call="write", namespace=namespace, kind=kind, ids=names)
        if answer["outcome"] != "applied":
            outcome = WriteOutcome.REFUSED if answer["outcome"] == "refused" else WriteOutcome.UNKNOWN
            await cache.settle(token, outcome)
            return
        rows: dict[str, Json | None] = {}
        if kind == "upsert":
            rows = answer["rows"]
        elif kind == "patch":
            beneath = await cache.beneath(token)
            for key in [] if beneath is None else beneath.keys():
                text = beneath.document(key, PLAIN) if beneath is not None else None
                if text is not None:
                    rows[key[1:].decode()] = {**json.loads(text)["attributes"], **answer["patch"]}
        await cache.settle(
            token,
            WriteOutcome.APPLIED,
            changed=[key_of(name) for name in answer["changed"]] if kind == "by_filter" else None,
            rows=rows_of(rows),
            deleted=[key_of(name) for name in names] if kind == "delete" else (),
        )

    async def read(self) -> None:
        random, cache = self.random, self.cache
        namespace, names = random.choice(NAMESPACES), random.sample(IDS, random.choice([1, 1, 4]))
        floors = await self.ask(call="floors", namespace=namespace, ids=names)
        batch = await cache.lookup_many(namespace, [key_of(name) for name in names], PLAIN)
        hits = {name: text for name, text in zip(names, batch.documents, strict=True) if text is not None}
        if len(names) == 1 and not hits:
            text = cache.lookup_now(namespace, key_of(names[0]), PLAIN, None)
            hits = {} if text is None else {names[0]: text}
        if hits:
            rows = {name: json.loads(text)["attributes"] for name, text in hits.items()}
            await self.ask(call="check", namespace=namespace, floors=floors, rows=rows)
        missing = [(name, ticket) for name, ticket in zip(names, batch.tickets, strict=True) if name not in hits]
        if missing:
            answer = await self.ask(call="read", namespace=namespace, ids=[name for name, _ in missing])
            keys, tickets = [key_of(name) for name, _ in missing], [ticket for _, ticket in missing]
            await cache.fill(namespace, keys, tickets, rows_of(answer["rows"]))


async def work(directory: Path, socket: str) -> None:
    clock, random = SystemClock(), Random()
    engine = EmbeddedEngine.open(
        directory,
        clock,
        upstream="https://upstream",
        capacity_bytes=64 << 20,
        timeout_seconds=CALL_SECONDS,
        unknown_write_seconds=UNKNOWN_SECONDS,
    )
    cache = DocumentCache(engine, clock, unknown_write_seconds=UNKNOWN_SECONDS)
    await asyncio.gather(cache.run(), *(Worker(cache, random, socket).run() for _ in range(TASKS)))


def main() -> None:
    directory, socket = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work(directory, socket))
            finally:
                os._exit(1)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
