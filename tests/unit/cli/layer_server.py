"""A server that answers canned JSON and keeps what it was asked, for commands that run in the test's own process."""

import http.server
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

KEY = "key-of-the-gateway"
NS = "/v2/namespaces/films"


@dataclass
class Asked:
    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class CannedServer:
    """Use as a context manager. `answers` maps `METHOD /path` (without the query) to a status and a body; a list of
    them is answered in turn, the last one for ever."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "CannedServer":
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.partition("?")[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append(Asked(self.command, self.path, json.loads(body) if body else None, headers))
                found = outer.answers.get(
                    f"{self.command} {path}", (404, {"error": "not_found", "message": f"no {path}"})
                )
                if isinstance(found, list):
                    found = found.pop(0) if len(found) > 1 else found[0]
                status, content = found
                raw = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


def table(text: str) -> list[list[str]]:
    """The cells of a table, which stand at least two spaces apart."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]
