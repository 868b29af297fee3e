"""Where the client connects to, and its limits."""

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

KIBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Origin:
    """A peer: `scheme` is http or https; `server_name` is what TLS asks for and verifies, the host when None."""

    scheme: str
    host: str
    port: int
    server_name: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """The origin of an absolute URL. Raises: ValueError: not http(s), or without a host."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: must be http://host or https://host, is {url!r}")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def authority(self) -> bytes:
        """The value of the `host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        text = host if self.port == default else f"{host}:{self.port}"
        return text.encode("ascii" if text.isascii() else "idna")


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Every wait and every buffer of a client. Timeouts are kept by a sweep and may run over by `sweep_seconds`."""

    connections_max: int = 512
    idle_connections_max: int = 256
    # Shorter than the 60 to 75 s after which common servers close, so that it is mostly we who close first.
    idle_timeout_seconds: float = 30.0
    # A connection idle for longer is asked whether it still lives before a request that must not be sent twice.
    probe_idle_seconds: float = 1.0
    waiters_max: int = 4096
    pool_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 5.0
    first_byte_timeout_seconds: float = 60.0
    total_timeout_seconds: float | None = 120.0
    body_stall_timeout_seconds: float = 30.0
    # How long a streamed answer may lie unread before its connection is dropped.
    consumer_stall_timeout_seconds: float = 300.0
    head_bytes_max: int = 64 * KIBIBYTE
    header_count_max: int = 256
    # Answers up to this size come whole; the rest is streamed.
    whole_body_bytes_max: int = 1024 * KIBIBYTE
    stream_buffer_bytes: int = 256 * KIBIBYTE
    write_buffer_bytes: int = 256 * KIBIBYTE
    sweep_seconds: float = 0.05
    idle_sweep_seconds: float = 1.0
    tls_verify: bool = True
    tls_ca_file: str | None = None

    def tls_context(self) -> ssl.SSLContext:
        """Raises: OSError: the CA file cannot be read."""
        context = ssl.create_default_context(cafile=self.tls_ca_file)
        context.set_alpn_protocols(["http/1.1"])
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
