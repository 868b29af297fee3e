"""Limits and timeouts of the server, each with its unit."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Every wait and every buffer of a server. Timeouts are kept by a sweep and may run over by `sweep_seconds`."""

    head_bytes_max: int = 64 * 1024
    header_count_max: int = 256
    # A body that declares at most this many bytes is complete before its handler starts.
    whole_body_bytes_max: int = MEBIBYTE
    # All such bodies of one moment; those that find no room arrive while their handlers read, as larger ones do.
    whole_bodies_bytes_max: int = 256 * MEBIBYTE
    whole_body_timeout_seconds: float = 120.0
    head_timeout_seconds: float = 20.0
    body_stall_timeout_seconds: float = 30.0
    # A body that arrives while its handler reads may take this long, and a second more for each so many bytes of it.
    body_grace_seconds: float = 120.0
    body_bytes_per_second_min: int = 1024
    keep_alive_timeout_seconds: float = 75.0
    write_stall_timeout_seconds: float = 60.0
    # How long a connection stays open for reading after an answer that came before the request's end: closing at
    # once would reset it, and the client might never see the answer.
    linger_timeout_seconds: float = 2.0
    # An unread rest of at most this many bytes is read away to keep the connection.
    drain_body_bytes_max: int = 256 * 1024
    connections_max: int = 10_000
    pipelined_requests_max: int = 128
    write_buffer_bytes: int = 256 * 1024
    backlog: int = 2048
    tls_handshake_timeout_seconds: float = 10.0
    sweep_seconds: float = 0.25
