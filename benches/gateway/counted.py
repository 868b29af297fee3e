"""A relay on the way upstream that counts queries, and the rows that the suites of large namespaces load."""

import base64
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from loopback import WORDS, Caller, free_port

DIMENSIONS = 16
BATCH_ROWS = 10_000
TOLD_ROWS = 100_000
CHUNK_BYTES = 1 << 16
CATEGORIES, YEARS, TAGS = 20, 120, 1_000


class CountingRelay:
    """Passes connections on to a local port, in threads; counts the requests that are queries."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = free_port()
        self.queries = 0
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        try:
            while chunk := source.recv(CHUNK_BYTES):
                # The head of a request comes at the beginning of a chunk: nothing here is pipelined.
                if is_request and chunk.startswith(b"POST ") and b"/query" in chunk.partition(b"\r\n")[0]:
                    self.queries += 1
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()


def batch(start: int, count: int, rng: np.random.Generator) -> bytes:
    """Rows from `start` on, as columns."""
    vectors = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    tags = rng.integers(0, TAGS, (count, 2))
    columns = {
        "id": list(range(start, start + count)),
        "vector": [base64.b64encode(vector.tobytes()).decode() for vector in vectors],
        "category": [WORDS[each] for each in rng.integers(0, CATEGORIES, count)],
        "year": rng.integers(1900, 1900 + YEARS, count).tolist(),
        "tags": [[f"tag {each}" for each in pair] for pair in tags],
    }
    return json.dumps({"upsert_columns": columns, "distance_metric": "cosine_distance"}).encode()


def load(port: int, path: str, rows: int) -> None:
    """The same rows for the same number of rows."""
    load_each(port, [path], rows)


def load_each(port: int, paths: Sequence[str], rows: int) -> None:
    """Several namespaces with the same rows, which are made once. Tells how far it is, since it may take minutes."""
    rng = np.random.default_rng(7)
    caller = Caller(port)
    began = time.monotonic()
    for start in range(0, rows, BATCH_ROWS):
        body = batch(start, min(BATCH_ROWS, rows - start), rng)
        for path in paths:
            caller.call("POST", path, body)
        done = min(start + BATCH_ROWS, rows)
        if done % TOLD_ROWS == 0:
            print(f"bench: {done} rows loaded after {time.monotonic() - began:.0f} s", file=sys.stderr)


def gateway_settings(origin_port: int, **more: str) -> dict[str, str]:
    return {
        "LAYER_UPSTREAM_URL": f"http://127.0.0.1:{origin_port}",
        "LAYER_ACCESS_LOG": "off",
        "LAYER_HISTORY": "off",
        "TURBOPUFFER_API_KEY": "bench-upstream",
        "LAYER_GATEWAY_API_KEY": "bench",
        **more,
    }


def metric(port: int, line: str) -> float:
    """The value of a sample whose name and labels are these; 0 when there is none."""
    text = Caller(port).call("GET", "/metrics").decode()
    return sum(float(each.removeprefix(line)) for each in text.splitlines() if each.startswith(line))


def bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
