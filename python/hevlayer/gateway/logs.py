"""The program's log: JSON lines with their fields, and no secrets in them."""

import logging
import re
from typing import TextIO

import orjson

from hevlayer.clock import Clock, SystemClock
from hevlayer.gateway.line_writer import LineWriter
from hevlayer.wire.bodies import encode

_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Nothing that we log should hold a key; an exception's text from elsewhere might.
_SECRETS = re.compile(
    r"(?i)(bearer\s+)[^\s\"',}]+|(\"?source_api_key\"?\s*[:=]\s*\"?)[^\s\"',}]+|(tpuf_)[A-Za-z0-9_-]+"
)
STDERR = 2
_HIDDEN = "[hidden]"


def hide_secrets(text: str) -> str:
    """The text without bearers, upstream keys and `source_api_key` values."""
    return _SECRETS.sub(lambda found: next(filter(None, found.groups())) + _HIDDEN, text)


class JsonFormatter(logging.Formatter):
    """One record as one line: time, level, logger, event (its message), and the record's extra fields."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time_ms": self._clock.now_ms(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return hide_secrets(orjson.dumps(line, default=str).decode())
        except TypeError:
            return hide_secrets(encode(line).decode())


class LineHandler(logging.Handler):
    """Records as lines for a descriptor, which is never waited for while the process runs."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._writer = LineWriter(descriptor)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            self._writer.offer(line.encode() + b"\n", 1)

    def flush(self) -> None:
        """Called when the process ends."""
        self._writer.settle()


def configure_logging(level: str, stream: TextIO | None = None, clock: Clock | None = None) -> None:
    """Sends every record of `level` and above to `stream` (default: standard error) as JSON lines."""
    handler = LineHandler(STDERR) if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(clock or SystemClock()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
