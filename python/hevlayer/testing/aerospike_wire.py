"""The part of Aerospike's wire protocol that the document cache uses: its codes, and messages as values. Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PARTITIONS = 4096
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
TOO_BIG, OVERLOAD, NO_NAMESPACE, BIN_NAME, FORBIDDEN, FILTERED_OUT = 13, 18, 20, 21, 22, 27

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


def partition_of(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "little") & (PARTITIONS - 1)


def read_request(body: bytes) -> Request:
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


def batch_rows(data: bytes) -> Iterator[tuple[int, bytes, Request]]:
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


def answer(
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


def holds(expression: bytes, bins: Bins) -> bool:
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
