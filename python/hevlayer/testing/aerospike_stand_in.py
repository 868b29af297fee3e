"""A test double of an Aerospike server: one node that speaks what the document cache uses of the wire protocol.

It is no database: records live in a dictionary, and what a real server does slowly or rarely (stop-writes, an overload,
a crash that loses the last writes) is a switch here. It stands in where no server is at hand, so that the real client
runs over a real socket; the same suites run against a real server when `AEROSPIKE_HOSTS` is set.

Spoken: info commands, batches of reads and writes with generation and existence policies and a time to live, and
queries of a set by partition with an equality filter on an integer bin.
"""

import asyncio
import base64
import contextlib
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PARTITIONS = 4096
EPOCH_2010 = 1_262_304_000
ACCEPT_ROUNDS = 20
NEVER = 0xFFFFFFFF
KEEP_TTL = 0xFFFFFFFE

INFO, MESSAGE = 1, 3
READ, GET_ALL, NO_BINS, BATCH = 0x01, 0x02, 0x20, 0x08
WRITE, DELETE, GENERATION, CREATE_ONLY, RESPOND_ALL = 0x01, 0x02, 0x04, 0x20, 0x80
LAST, PARTITION_DONE, UPDATE_ONLY, REPLACE, REPLACE_ONLY = 0x01, 0x04, 0x08, 0x10, 0x20
REPEAT, HAS_INFO, HAS_GENERATION, HAS_TTL, HAS_INFO4 = 0x01, 0x02, 0x04, 0x08, 0x10
F_NAMESPACE, F_SET, F_DIGEST, F_PARTITIONS, F_DIGESTS, F_BATCH, F_FILTER = 0, 1, 4, 11, 12, 41, 43
OP_READ, OP_WRITE, OP_ADD = 1, 2, 5
NIL, INTEGER = 0, 1

OK, NOT_FOUND, WRONG_GENERATION, PARAMETER, EXISTS, FULL, UNAVAILABLE = 0, 2, 3, 4, 5, 8, 11
TOO_BIG, OVERLOAD, NO_NAMESPACE, FORBIDDEN, FILTERED_OUT = 13, 18, 20, 22, 27

_HEADER = struct.Struct(">BBBBBBIIIHH")
Bins = dict[bytes, tuple[int, bytes]]


@dataclass
class StoredRecord:
    set_name: bytes
    bins: Bins
    generation: int
    void_time: int  # seconds since 2010; 0: never

    @property
    def size(self) -> int:
        return sum(len(name) + len(value) for name, (_, value) in self.bins.items())


@dataclass
class Operation:
    code: int
    kind: int
    name: bytes
    value: bytes


@dataclass
class Request:
    info1: int
    info2: int
    info3: int
    generation: int
    ttl: int
    fields: dict[int, bytes]
    operations: list[Operation]


class RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class StandIn:
    """One node. Its switches may be turned at any time."""

    namespace: str = "test"
    nsup_period: int = 120
    record_bytes_max: int = 1 << 20
    data_bytes: int = 1 << 30
    stop_writes: bool = False
    overload: bool = False
    partitions_lost: bool = False
    batch_silent: bool = False
    """Batches are answered by an end marker alone."""
    scan_errors: int = 0
    """Queries that end with an error in their middle."""
    delay_seconds: float = 0.0
    host: str = "127.0.0.1"
    port: int = 0
    cluster_key: str = field(default_factory=lambda: secrets.token_hex(6).upper())
    records: dict[bytes, StoredRecord] = field(default_factory=dict)
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
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
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
                "nsup-period": self.nsup_period,
                "allow-ttl-without-nsup": "false",
                "max-record-size": self.record_bytes_max,
                "evicted_objects": self.evicted_objects,
                "data_total_bytes": self.data_bytes,
                "data_used_bytes": sum(each.size for each in self.records.values()),
            }
            return ";".join(f"{key}={value}" for key, value in facts.items())
        if name.startswith(f"sets/{self.namespace}/"):
            chosen = [each for each in self.records.values() if each.set_name == name.rsplit("/", 1)[1].encode()]
            return f"objects={len(chosen)}:data_used_bytes={sum(each.size for each in chosen)};"
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

    def _message(self, body: bytes) -> bytes:
        request = _request(body)
        if F_BATCH in request.fields:
            return self._batch(request.fields[F_BATCH])
        if F_PARTITIONS in request.fields or F_DIGESTS in request.fields:
            return self._query(request)
        return _answer(PARAMETER, info3=LAST)

    def _batch(self, data: bytes) -> bytes:
        self.batches += 1
        if self.batch_silent:
            return _answer(OK, info3=LAST)
        answers = []
        for index, digest, request in _batch_rows(data):
            try:
                answers.append(self._carry_out(index, digest, request))
            except RefusedError as refusal:
                answers.append(_answer(refusal.code, index=index))
        return b"".join(answers) + _answer(OK, info3=LAST)

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
        if self.partitions_lost:
            raise RefusedError(UNAVAILABLE)
        if self.overload:
            raise RefusedError(OVERLOAD)
        found = self._live(digest)
        if not request.info2 & WRITE:
            if found is None:
                raise RefusedError(NOT_FOUND)
            names = [each.name for each in request.operations if each.code == OP_READ]
            bins = found.bins if request.info1 & GET_ALL else {n: found.bins[n] for n in names if n in found.bins}
            return _answer(OK, index=index, record=found, bins={} if request.info1 & NO_BINS else bins)
        stored = self._write(digest, found, request)
        silent: Bins = {each.name: (NIL, b"") for each in request.operations if request.info2 & RESPOND_ALL}
        return _answer(OK, index=index, record=stored, bins=silent)

    def _write(self, digest: bytes, found: StoredRecord | None, request: Request) -> StoredRecord:
        if self.stop_writes:
            raise RefusedError(FULL)
        if request.info2 & DELETE:
            raise RefusedError(PARAMETER)
        if request.info2 & CREATE_ONLY and found is not None:
            raise RefusedError(EXISTS)
        if request.info3 & (UPDATE_ONLY | REPLACE_ONLY) and found is None:
            raise RefusedError(NOT_FOUND)
        if request.info2 & GENERATION and (found.generation if found else 0) != request.generation:
            raise RefusedError(WRONG_GENERATION)
        if F_FILTER in request.fields and found is not None and not _holds(request.fields[F_FILTER], found.bins):
            raise RefusedError(FILTERED_OUT)
        if request.ttl not in (0, NEVER, KEEP_TTL) and not self.nsup_period:
            raise RefusedError(FORBIDDEN)
        replaces = request.info3 & (REPLACE | REPLACE_ONLY)
        bins = {} if found is None or replaces else dict(found.bins)
        for each in request.operations:
            if len(each.name) > 15:
                raise RefusedError(21)
            if each.code == OP_WRITE and each.kind == NIL:
                bins.pop(each.name, None)
            elif each.code == OP_WRITE:
                bins[each.name] = (each.kind, each.value)
            elif each.code == OP_ADD:
                before = bins.get(each.name, (INTEGER, bytes(8)))[1]
                total = int.from_bytes(before, signed=True) + int.from_bytes(each.value, signed=True)
                bins[each.name] = (INTEGER, total.to_bytes(8, signed=True))
        generation = 1 if found is None else found.generation % 0xFFFF + 1
        void_time = 0 if request.ttl in (0, NEVER) else self._now() + request.ttl
        if request.ttl == KEEP_TTL and found is not None:
            void_time = found.void_time
        stored = StoredRecord(request.fields[F_SET], bins, generation, void_time)
        if stored.size > self.record_bytes_max:
            raise RefusedError(TOO_BIG)
        self._journal.append((digest, found))
        self.records[digest] = stored
        return stored

    def _query(self, request: Request) -> bytes:
        wanted = set(
            struct.unpack(f"<{len(request.fields.get(F_PARTITIONS, b'')) // 2}H", request.fields.get(F_PARTITIONS, b""))
        )
        resumed = {}
        digests = request.fields.get(F_DIGESTS, b"")
        for at in range(0, len(digests), 20):
            resumed[_partition(digests[at : at + 20])] = digests[at : at + 20]
        condition = request.fields.get(F_FILTER)
        answers: list[bytes] = []
        by_partition: dict[int, list[bytes]] = {}
        for digest in sorted(self.records):
            by_partition.setdefault(_partition(digest), []).append(digest)
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
                if condition is not None and not _holds(condition, found.bins):
                    continue
                if failing and answers:
                    return b"".join(answers) + _answer(OVERLOAD, info3=LAST)
                bins = {name: found.bins[name] for name in names if name in found.bins} if names else found.bins
                key = {F_NAMESPACE: self.namespace.encode(), F_SET: found.set_name, F_DIGEST: digest}
                answers.append(_answer(OK, record=found, bins=bins, fields=key))
            answers.append(_answer(OK, info3=PARTITION_DONE, generation=partition))
        return b"".join(answers) + _answer(OK, info3=LAST)


async def stop_listening(server: asyncio.Server) -> None:
    """Closes a server once what the system has accepted for it has become connections, which closing would break."""
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(ACCEPT_ROUNDS):
        await asyncio.sleep(0)
    server.close()


def _partition(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "little") & (PARTITIONS - 1)


def _request(body: bytes) -> Request:
    (size, info1, info2, info3, _, _, generation, ttl, _, fields, operations) = _HEADER.unpack_from(body)
    found, at = _fields(body, size, fields)
    ops, _ = _operations(body, at, operations)
    return Request(info1, info2, info3, generation, ttl, found, ops)


def _fields(body: bytes, at: int, count: int) -> tuple[dict[int, bytes], int]:
    found = {}
    for _ in range(count):
        size, kind = struct.unpack_from(">IB", body, at)
        found[kind] = body[at + 5 : at + 4 + size]
        at += 4 + size
    return found, at


def _operations(body: bytes, at: int, count: int) -> tuple[list[Operation], int]:
    found = []
    for _ in range(count):
        size, code, kind, _, name = struct.unpack_from(">IBBBB", body, at)
        start = at + 8 + name
        found.append(Operation(code, kind, body[at + 8 : start], body[start : at + 4 + size]))
        at += 4 + size
    return found, at


def _batch_rows(data: bytes) -> Iterator[tuple[int, bytes, Request]]:
    count, at = int.from_bytes(data[:4]), 5
    request = Request(0, 0, 0, 0, 0, {}, [])
    for _ in range(count):
        index, digest, flags = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 24], data[at + 24]
        at += 25
        if flags != REPEAT:
            if not flags & HAS_INFO:
                raise ValueError("a batch row without its attributes")
            info1, info2, info3 = data[at : at + 3]
            at += 3 + bool(flags & HAS_INFO4)
            generation = ttl = 0
            if flags & HAS_GENERATION:
                generation, at = int.from_bytes(data[at : at + 2]), at + 2
            if flags & HAS_TTL:
                ttl, at = int.from_bytes(data[at : at + 4]), at + 4
            n_fields, n_operations = struct.unpack_from(">HH", data, at)
            fields, at = _fields(data, at + 4, n_fields)
            operations, at = _operations(data, at, n_operations)
            request = Request(info1, info2, info3, generation, ttl, fields, operations)
        yield index, digest, request


def _answer(
    code: int,
    *,
    info3: int = 0,
    index: int = 0,
    generation: int = 0,
    record: StoredRecord | None = None,
    bins: Bins | None = None,
    fields: dict[int, bytes] | None = None,
) -> bytes:
    named = bins or {}
    keyed = fields or {}
    generation = record.generation if record else generation
    void_time = record.void_time if record else 0
    parts = [_HEADER.pack(22, 0, 0, info3, 0, code, generation, void_time, index, len(keyed), len(named))]
    parts += [struct.pack(">IB", len(value) + 1, kind) + value for kind, value in keyed.items()]
    for name, (kind, value) in named.items():
        parts.append(struct.pack(">IBBBB", 4 + len(name) + len(value), OP_READ, kind, 0, len(name)) + name + value)
    return b"".join(parts)


def _holds(expression: bytes, bins: Bins) -> bool:
    """Whether `bin == integer`, or several such joined by `and`, holds: [1, [81, type, name], value], [16, …]."""
    parsed, rest = _unpack(expression)
    if rest:
        raise ValueError("bytes after the end of an expression")
    return _is_true(parsed, bins)


def _is_true(expression: object, bins: Bins) -> bool:
    match expression:
        case [1, [81, 1 | 2, bytes(name)], int(number)]:
            return bins.get(name) == (INTEGER, number.to_bytes(8, signed=True))
        case [16, *parts]:
            return all(_is_true(part, bins) for part in parts)
    raise ValueError(f"an expression that the stand-in does not know: {expression!r}")


def _unpack(data: bytes) -> tuple[object, bytes]:
    """One MessagePack value of those that expressions are made of, and what follows it."""
    tag, rest = data[0], data[1:]
    if tag < 0x80:
        return tag, rest
    if tag >> 4 == 0x9:
        items = []
        for _ in range(tag & 0xF):
            item, rest = _unpack(rest)
            items.append(item)
        return items, rest
    if tag >> 5 == 0b101:
        return rest[: tag & 0x1F], rest[tag & 0x1F :]
    sizes = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
    size = sizes[tag]
    return int.from_bytes(rest[:size], signed=tag >= 0xD0), rest[size:]
