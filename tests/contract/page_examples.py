"""The examples of the pages: requests and answers in ```http fences, and how an answer is compared with the one shown.

A fence that begins with `METHOD target HTTP/1.1` is a request; one that begins with `HTTP/1.1 status` is the answer to
the request before it. In an answer:

* `…` in a text stands for any characters, and `"…"` for any value.
* An `id` with a `…` (`"6b1f…"`) stands for the whole id that comes, the same one in the rest of the page: where a later
  request says it, the one that came is sent.
* a member `"…"` of an object stands for more members, a last element `"…"` of an array for more elements;
* values of `VOLATILE` are other at each run: only their kind is compared.
* Only the headers that are shown are compared; of a body that is not JSON, the lines that are shown.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ANY = "…"
VOLATILE = frozenset(
    {
        *("stable_as_of", "watermark_ms", "warmed_through", "warmed_through_ms", "x-layer-stable-as-of"),
        *("created_at", "updated_at", "last_write_at", "completed_at", "timestamp", "timestamp_nanos"),
        *("next_cursor", "elapsed_ms"),
    }
)
NUMBER_TOLERANCE = 1e-5
_FENCE = re.compile(r"^```http\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REQUEST = re.compile(r"([A-Z]+) (/\S*) HTTP/1\.1")
_ANSWER = re.compile(r"HTTP/1\.1 (\d{3}) [A-Z][A-Za-z ]+")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class PageError(Exception):
    """A fence that is neither a request nor an answer, or an answer without a request."""


@dataclass(frozen=True)
class Shown:
    """An answer as a page shows it."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass
class Example:
    """A request of a page, and what it shows as the answer; `line` is the request's."""

    line: int
    method: str
    target: str
    headers: dict[str, str]
    body: str
    answer: Shown | None = None


def read_examples(page: str) -> list[Example]:
    """The examples of a page's text, in order. Raises: PageError."""
    examples: list[Example] = []
    for fence in _FENCE.finditer(page):
        line = page.count("\n", 0, fence.start()) + 2
        head, _, body = fence[1].partition("\n\n")
        first, *fields = head.strip().splitlines()
        headers = dict(_read_header(each, line) for each in fields)
        if request := _REQUEST.fullmatch(first):
            examples.append(Example(line, request[1], request[2], headers, body.strip()))
        elif answer := _ANSWER.fullmatch(first):
            if not examples or examples[-1].answer is not None:
                raise PageError(f"line {line}: an answer without a request")
            examples[-1].answer = Shown(int(answer[1]), headers, body.strip())
        else:
            raise PageError(f"line {line}: neither a request nor an answer: {first}")
    return examples


def _read_header(text: str, line: int) -> tuple[str, str]:
    name, colon, value = text.partition(": ")
    if not colon:
        raise PageError(f"line {line}: not a header: {text}")
    return name, value


@dataclass
class Comparison:
    """What of an answer is other than shown, and what the `…` of the page so far have stood for."""

    bound: dict[str, str] = field(default_factory=dict)

    def fill_in(self, text: str) -> str:
        """A request's text, with what came in place of what was shown."""
        for shown in sorted(self.bound, key=len, reverse=True):
            text = text.replace(shown, self.bound[shown])
        return text

    def differences(self, shown: Shown, status: int, headers: dict[str, str], body: str) -> list[str]:
        """One line each; header names are in lower case."""
        found = [] if status == shown.status else [f"status: {status}, shown {shown.status}"]
        for name, value in shown.headers.items():
            found += self._compare(value, headers.get(name), name, name)
        if not shown.body:
            return found
        try:
            wanted = json.loads(shown.body)
        except ValueError:
            return found + self._missing_lines(shown.body, body)
        try:
            return found + list(self._compare(wanted, json.loads(body), "body", ""))
        except ValueError:
            return [*found, f"body: not JSON: {body[:200]}"]

    def _missing_lines(self, shown: str, body: str) -> list[str]:
        lines = body.splitlines()
        return [
            f"body: no line {each!r}"
            for each in shown.splitlines()
            if each != ANY and not any(_pattern(each).fullmatch(line) for line in lines)
        ]

    def _compare(self, shown: object, came: object, place: str, key: str) -> Iterator[str]:
        if shown == ANY:
            return
        if key in VOLATILE:
            if _kind(shown) != _kind(came):
                yield f"{place}: {came!r} is of another kind than {shown!r}"
        elif isinstance(shown, dict) and isinstance(came, dict):
            yield from self._compare_members(shown, came, place)
        elif isinstance(shown, list) and isinstance(came, list):
            yield from self._compare_elements(shown, came, place)
        elif isinstance(shown, str) and isinstance(came, str) and ANY in shown:
            if key == "id":
                shown = self.bound.setdefault(shown, came)
            if _pattern(shown).fullmatch(came) is None:
                yield f"{place}: {came!r}, shown {shown!r}"
        elif isinstance(shown, float) and isinstance(came, float):
            if not math.isclose(shown, came, rel_tol=NUMBER_TOLERANCE):
                yield f"{place}: {came!r}, shown {shown!r}"
        elif shown != came or type(shown) is not type(came):
            yield f"{place}: {came!r}, shown {shown!r}"

    def _compare_members(self, shown: dict, came: dict, place: str) -> Iterator[str]:
        for name, value in shown.items():
            if name == ANY:
                continue
            if name not in came:
                yield f"{place}.{name}: missing"
            else:
                yield from self._compare(value, came[name], f"{place}.{name}", name)
        if ANY not in shown:
            yield from (f"{place}.{name}: not shown" for name in came if name not in shown)

    def _compare_elements(self, shown: list, came: list, place: str) -> Iterator[str]:
        is_open = bool(shown) and shown[-1] == ANY
        wanted = shown[:-1] if is_open else shown
        if len(came) < len(wanted) or (len(came) > len(wanted) and not is_open):
            yield f"{place}: {len(came)} elements, shown {len(wanted)}: {json.dumps(came)[:400]}"
            return
        for number, (one, other) in enumerate(zip(wanted, came, strict=False)):
            yield from self._compare(one, other, f"{place}[{number}]", "")


def _pattern(shown: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, shown.split(ANY))), re.DOTALL)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "moment" if _MOMENT.fullmatch(value) else "digits" if value.isdigit() else "text"
    return type(value).__name__


def pages(directory: Path) -> dict[str, list[Example]]:
    """The examples of each page of a directory that has any, by the page's name."""
    read = {path.stem: read_examples(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.md"))}
    return {name: examples for name, examples in read.items() if examples}
