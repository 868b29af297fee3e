"""A test double of an Aerospike server: one node that speaks what the document cache uses of the wire protocol.

It is no database: records live in a dictionary, and what a real server does slowly or rarely (stop-writes, an overload,
a crash that loses the last writes) is a switch here. It stands in where no server is at hand, so that the real client
runs over a real socket; the same suites run against a real server when `AEROSPIKE_HOSTS` is set. Run as a module it
is a server of its own, which a suite can be pointed at as at a real one.

Spoken: info commands, batches of reads and writes with generation and existence policies and a time to live, and
queries of a set by partition with an equality filter on an integer bin. What a Community server refuses is refused
with its code; there are no deletes, which it would not keep.
"""

import argparse
import asyncio
import base64
import contextlib
import secrets
import signal
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from hevlayer.testing.aerospike_wire import (
    BIN_NAME,
    CREATE_ONLY,
    DELETE,
    EXISTS,
    F_BATCH,
    F_DIGEST,
    F_DIGESTS,
    F_FILTER,
    F_NAMESPACE,
    F_PARTITIONS,
    F_SET,
    FILTERED_OUT,
    FORBIDDEN,
    FULL,
    GENERATION,
    GET_ALL,
    INFO,
    INTEGER,
    KEEP_TTL,
    LAST,
    NEVER,
    NIL,
    NO_BINS,
    NO_NAMESPACE,
    NOT_FOUND,
    OK,
    OP_ADD,
    OP_READ,
    OP_WRITE,
    OVERLOAD,
    PARAMETER,
    PARTITION_DONE,
    PARTITIONS,
    REPLACE,
    REPLACE_ONLY,
    RESPOND_ALL,
    TOO_BIG,
    UPDATE_ONLY,
    WRITE,
    WRONG_GENERATION,
    Bins,
    RefusedError,
    Request,
    StoredRecord,
    answer,
    batch_rows,
    holds,
    partition_of,
    read_request,
)

EPOCH_2010 = 1_262_304_000
TTL_SECONDS_MAX = 10 * 365 * 86_400
SET_BYTES_MAX = 63
SETS_MAX = 4095
BIN_BYTES_MAX = 15
# The one threshold that a test can set: from the percentage of a system's memory on, nothing is written.
STOP_WRITES_SETTING = "stop-writes-sys-memory-pct"
STOP_WRITES_PERCENT = 90
ACCEPT_ROUNDS = 20


@dataclass
class StandIn:
    """One node. Its switches may be turned at any time."""

    namespace: str = "test"
    nsup_period: int = 120
    record_bytes_max: int = 1 << 20
    data_bytes: int = 1 << 30
    default_ttl: int = 0
    """Of records that are written without a time to live, in seconds; 0: they stay."""
    stop_writes: bool = False
    stop_writes_percent: int = STOP_WRITES_PERCENT
    write_refusal: int = 0
    """The code that every write is refused with; 0: none is."""
    scan_errors: int = 0
    """Queries that end with an error in their middle."""
    host: str = "127.0.0.1"
    port: int = 0
    cluster_key: str = field(default_factory=lambda: secrets.token_hex(6).upper())
    records: dict[bytes, StoredRecord] = field(default_factory=dict)
    read_touch_percent: int = 0
    """Over 0: a read that does not say otherwise prolongs its record."""
    touches: int = 0
    sets: set[bytes] = field(default_factory=set)
    """Names that were ever used: none is given back."""
    evicted_objects: int = 0
    seconds_passed: int = 0
    batches: int = 0
    _journal: list[tuple[bytes, StoredRecord | None]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _clients: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)
    _running: asyncio.Event = field(default_factory=asyncio.Event)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens, on the port of its life before if there was one."""
        self._running.set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends as a process does that is killed: every connection breaks."""
        if self._server is None:
            return
        self._running.set()
        server, self._server = self._server, None
        await stop_listening(server)
        for client in self._clients.values():
            client.transport.abort()
        while self._clients:
            await asyncio.wait(list(self._clients))
        await server.wait_closed()
        # As every cluster that forms anew.
        self.cluster_key = secrets.token_hex(6).upper()

    @property
    def changes(self) -> int:
        """Records that were written so far."""
        return len(self._journal)

    def lose(self, changes: int) -> None:
        """Undoes the last changes, as a crash does with what was not on disk yet."""
        for _ in range(min(changes, len(self._journal))):
            digest, before = self._journal.pop()
            if before is None:
                self.records.pop(digest, None)
            else:
                self.records[digest] = before

    def lose_alone(self, name: bytes, value: bytes) -> None:
        """Loses the records with a bin of this name and these bytes, and no others."""
        for digest in [key for key, each in self.records.items() if each.bins.get(name, (NIL, b""))[1] == value]:
            del self.records[digest]

    def forget(self) -> None:
        self.records.clear()
        self._journal.clear()

    def hang(self) -> None:
        """Takes requests and answers none, until `go_on`."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def evict(self, count: int) -> None:
        """Removes the records that would end first, as a server over its high-water mark does."""
        mortal = sorted((each.void_time, digest) for digest, each in self.records.items() if each.void_time)
        for _, digest in mortal[:count]:
            del self.records[digest]
        self.evicted_objects += len(mortal[:count])

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    # --- the wire ----------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = writer
        if self._server is None:
            writer.transport.abort()
        try:
            while True:
                head = int.from_bytes(await reader.readexactly(8))
                kind, size = (head >> 48) & 0xFF, head & 0xFFFFFFFFFFFF
                body = await reader.readexactly(size)
                await self._running.wait()
                answer = self._info(body) if kind == INFO else self._message(body)
                writer.write((2 << 56 | kind << 48 | len(answer)).to_bytes(8) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._clients[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _info(self, body: bytes) -> bytes:
        return "".join(f"{name}\t{self._fact(name)}\n" for name in body.decode().split("\n") if name).encode()

    def _fact(self, name: str) -> str:
        if name == "replicas":
            owned = base64.b64encode(b"\xff" * (PARTITIONS // 8)).decode()
            return f"{self.namespace}:0,1,{owned}"
        if name == f"namespace/{self.namespace}":
            facts = {
                "objects": len(self.records),
                "stop_writes": str(self.stop_writes).lower(),
                STOP_WRITES_SETTING: self.stop_writes_percent,
                "nsup-period": self.nsup_period,
                "default-ttl": self.default_ttl,
                "allow-ttl-without-nsup": "false",
                "max-record-size": self.record_bytes_max,
                "evicted_objects": self.evicted_objects,
                "data_total_bytes": self.data_bytes,
                "data_used_bytes": sum(each.size for each in self.records.values()),
            }
            return ";".join(f"{key}={value}" for key, value in facts.items())
        if name == f"sets/{self.namespace}":
            counts = Counter(each.set_name for each in self.records.values())
            lines = [f"ns={self.namespace}:set={each.decode()}:objects={counts[each]}" for each in sorted(self.sets)]
            return "".join(f"{line};" for line in lines)
        command, _, given = name.partition(":")
        if command in ("truncate", "set-config"):
            parameters = dict(each.split("=", 1) for each in given.split(";") if "=" in each)
            return self._told(command, parameters)
        known = {
            "node": "A1",
            "cluster-name": "null",
            "build": "8.1.0.0",
            "partition-generation": "1",
            "service-clear-std": self.address,
            "peers-clear-std": "1,3000,[]",
            "cluster-stable:ignore-migrations=true": self.cluster_key,
        }
        return known.get(name, "ERROR:4:unrecognized command")

    def _told(self, command: str, parameters: dict[str, str]) -> str:
        if parameters.get("namespace") != self.namespace:
            return "ERROR:4:bad namespace"
        if command == "set-config":
            if STOP_WRITES_SETTING not in parameters:
                return "ERROR:4:bad parameter"
            self.stop_writes_percent = int(parameters[STOP_WRITES_SETTING])
            # A real one looks every ten seconds, and uses more than a hundredth of its memory.
            self.stop_writes = 0 < self.stop_writes_percent <= 1
            return "ok"
        wanted = parameters.get("set", "").encode()
        for digest in [key for key, each in self.records.items() if not wanted or each.set_name == wanted]:
            del self.records[digest]
        return "ok"

    def _message(self, body: bytes) -> bytes:
        request = read_request(body)
        if F_BATCH in request.fields:
            return self._batch(request.fields[F_BATCH])
        if F_PARTITIONS in request.fields or F_DIGESTS in request.fields:
            return self._query(request)
        return answer(PARAMETER, info3=LAST)

    def _batch(self, data: bytes) -> bytes:
        self.batches += 1
        answers = []
        for index, digest, request in batch_rows(data):
            try:
                answers.append(self._carry_out(index, digest, request))
            except RefusedError as refusal:
                answers.append(answer(refusal.code, index=index))
        return b"".join(answers) + answer(OK, info3=LAST)

    # --- records -----------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(time.time()) - EPOCH_2010 + self.seconds_passed

    def _live(self, digest: bytes) -> StoredRecord | None:
        found = self.records.get(digest)
        if found is not None and found.void_time and found.void_time <= self._now():
            del self.records[digest]
            return None
        return found

    def _carry_out(self, index: int, digest: bytes, request: Request) -> bytes:
        if request.fields.get(F_NAMESPACE) != self.namespace.encode():
            raise RefusedError(NO_NAMESPACE)
        found = self._live(digest)
        if not request.info2 & WRITE:
            if found is None:
                raise RefusedError(NOT_FOUND)
            self.touches += bool(self.read_touch_percent and found.void_time and request.ttl != NEVER)
            names = [each.name for each in request.operations if each.code == OP_READ]
            bins = found.bins if request.info1 & GET_ALL else {n: found.bins[n] for n in names if n in found.bins}
            return answer(OK, index=index, record=found, bins={} if request.info1 & NO_BINS else bins)
        stored = self._write(digest, found, request)
        silent: Bins = {each.name: (NIL, b"") for each in request.operations if request.info2 & RESPOND_ALL}
        return answer(OK, index=index, record=stored, bins=silent)

    def _write(self, digest: bytes, found: StoredRecord | None, request: Request) -> StoredRecord:
        if self.stop_writes:
            raise RefusedError(FULL)
        if self.write_refusal:
            raise RefusedError(self.write_refusal)
        if request.info2 & DELETE or not request.operations:
            raise RefusedError(PARAMETER)
        replaces = request.info3 & (REPLACE | REPLACE_ONLY)
        for each in request.operations:
            if not 0 < len(each.name) <= BIN_BYTES_MAX:
                raise RefusedError(BIN_NAME)
            if replaces and (each.code == OP_ADD or each.kind == NIL):
                raise RefusedError(PARAMETER)
        if request.info2 & CREATE_ONLY and found is not None:
            raise RefusedError(EXISTS)
        if request.info3 & (UPDATE_ONLY | REPLACE_ONLY) and found is None:
            raise RefusedError(NOT_FOUND)
        if request.info2 & GENERATION and (found.generation if found else 0) != request.generation:
            raise RefusedError(WRONG_GENERATION)
        if F_FILTER in request.fields and found is not None and not holds(request.fields[F_FILTER], found.bins):
            raise RefusedError(FILTERED_OUT)
        set_name = request.fields.get(F_SET, b"")
        if len(set_name) > SET_BYTES_MAX:
            raise RefusedError(PARAMETER)
        if set_name not in self.sets and len(self.sets) >= SETS_MAX:
            raise RefusedError(FORBIDDEN)
        void_time = self._void_time(request.ttl, found)
        bins = {} if found is None or replaces else dict(found.bins)
        for each in request.operations:
            if each.code == OP_WRITE and each.kind == NIL:
                bins.pop(each.name, None)
            elif each.code == OP_WRITE:
                bins[each.name] = (each.kind, each.value)
            elif each.code == OP_ADD:
                before = bins.get(each.name, (INTEGER, bytes(8)))[1]
                total = int.from_bytes(before, signed=True) + int.from_bytes(each.value, signed=True)
                bins[each.name] = (INTEGER, total.to_bytes(8, signed=True))
        generation = 1 if found is None else found.generation % 0xFFFF + 1
        stored = StoredRecord(set_name, bins, generation, void_time)
        if stored.size > self.record_bytes_max:
            raise RefusedError(TOO_BIG)
        self._journal.append((digest, found))
        self.records[digest] = stored
        self.sets.add(set_name)
        return stored

    def _void_time(self, ttl: int, found: StoredRecord | None) -> int:
        """When a record that is written with this time to live ends."""
        if ttl == KEEP_TTL and found is not None:
            return found.void_time
        if ttl == NEVER:
            return 0
        if ttl > TTL_SECONDS_MAX and ttl != KEEP_TTL:
            raise RefusedError(PARAMETER)
        seconds = self.default_ttl if ttl in (0, KEEP_TTL) else ttl
        if seconds and not self.nsup_period:
            raise RefusedError(FORBIDDEN)
        return self._now() + seconds if seconds else 0

    def _query(self, request: Request) -> bytes:
        wanted = set(
            struct.unpack(f"<{len(request.fields.get(F_PARTITIONS, b'')) // 2}H", request.fields.get(F_PARTITIONS, b""))
        )
        resumed = {}
        digests = request.fields.get(F_DIGESTS, b"")
        for at in range(0, len(digests), 20):
            resumed[partition_of(digests[at : at + 20])] = digests[at : at + 20]
        condition = request.fields.get(F_FILTER)
        answers: list[bytes] = []
        by_partition: dict[int, list[bytes]] = {}
        for digest in sorted(self.records):
            by_partition.setdefault(partition_of(digest), []).append(digest)
        names = [each.name for each in request.operations]
        failing = self.scan_errors > 0
        self.scan_errors -= failing
        for partition in sorted(wanted | resumed.keys()):
            for digest in by_partition.get(partition, []):
                found = self._live(digest)
                if (
                    found is None
                    or found.set_name != request.fields.get(F_SET)
                    or digest <= resumed.get(partition, b"")
                ):
                    continue
                if condition is not None and not holds(condition, found.bins):
                    continue
                if failing and answers:
                    return b"".join(answers) + answer(OVERLOAD, info3=LAST)
                bins = {name: found.bins[name] for name in names if name in found.bins} if names else found.bins
                key = {F_NAMESPACE: self.namespace.encode(), F_SET: found.set_name, F_DIGEST: digest}
                answers.append(answer(OK, record=found, bins=bins, fields=key))
            answers.append(answer(OK, info3=PARTITION_DONE, generation=partition))
        return b"".join(answers) + answer(OK, info3=LAST)


async def stop_listening(server: asyncio.Server) -> None:
    """Closes a server once what the system has accepted for it has become connections, which closing would break."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(ACCEPT_ROUNDS):
        await asyncio.sleep(0)
    server.close()


async def _serve_until_told(stand_in: StandIn) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stand_in.start()
    sys.stdout.write(f"{stand_in.address}\n")
    sys.stdout.flush()
    await stopped.wait()
    await stand_in.stop()


def main() -> None:
    """Serves until SIGINT or SIGTERM; the first line that is printed is the address."""
    parser = argparse.ArgumentParser(description="A test double of an Aerospike server.")
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--namespace", default="test")
    parser.add_argument("--nsup-period", type=int, default=120, help="in seconds; 0: nothing is given back")
    parser.add_argument("--default-ttl", type=int, default=0, help="in seconds; 0: none")
    chosen = parser.parse_args()
    stand_in = StandIn(
        chosen.namespace, port=chosen.port, nsup_period=chosen.nsup_period, default_ttl=chosen.default_ttl
    )
    asyncio.run(_serve_until_told(stand_in))


if __name__ == "__main__":
    main()
