"""What suites that load a server on this machine share."""

import http.client
import socket

WORDS = ["amber", "bridge", "copper", "delta", "ember", "forest", "glass", "harbour", "island", "jasmine", "kernel",
         "lantern", "meadow", "nickel", "orchid", "prairie", "quartz", "river", "silver", "timber"]  # fmt: skip
CALL_SECONDS_MAX = 600


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Caller:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS_MAX)

    def call(self, method: str, path: str, body: bytes | None = None, status: int = 200) -> bytes:
        """The answer's body; another status ends the suite."""
        headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != status:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return text
