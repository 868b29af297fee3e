"""Messages written in one native call are those of their slow twins, and are read back as they were written."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from hevlayer.gateway.tracing import accept_request_id, accept_traceparent
from hevlayer.http.messages import Headers
from hevlayer.kernels.http import (
    BodyRoom,
    ForwardRules,
    RequestHead,
    RequestReader,
    ResponseHead,
    ResponseReader,
    TraceIds,
    access_line,
)
from hevlayer.kernels.reference import heads
from hevlayer.wire.headers import REQUEST_ALLOWED, REQUEST_ALLOWED_PREFIXES

NAMES = sorted(REQUEST_ALLOWED)
RULES = ForwardRules(NAMES, list(REQUEST_ALLOWED_PREFIXES))
TOKEN = "!#$%&'*+-.^_`|~0123456789abcXYZ"

values = st.one_of(
    st.just(b""),
    st.sampled_from([b"identity", b"gzip", b"close", b"keep-alive", b"x-a, te", b"X-A,,date , keep-alive", b"a\tb  c"]),
    st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte > 31 and byte != 127).strip(b" \t")),
)


def spelled(names: list[bytes]) -> st.SearchStrategy[bytes]:
    """Known names in any case, and others."""
    known = st.builds(
        lambda name, upper: bytes(ord(chr(c).upper()) if upper >> i & 1 else c for i, c in enumerate(name)),
        st.sampled_from(names),
        st.integers(0, 2**30),
    )
    return st.one_of(known, st.text(TOKEN, min_size=1, max_size=8).map(str.encode))


def header_lists(names: list[bytes], unwanted: frozenset[bytes]) -> st.SearchStrategy[Headers]:
    pairs = st.tuples(spelled(names), values)
    return st.lists(pairs.filter(lambda pair: pair[0].lower() not in unwanted), max_size=8)


def raw(first: bytes, headers: Headers, body: bytes) -> bytes:
    return b"%b\r\n%b\r\n%b" % (first, b"".join(b"%b: %b\r\n" % pair for pair in headers), body)


# The framing is the test's own.
FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"host", b"upgrade"})
SENT = [*NAMES, b"cookie", b"x-layer-a", b"x-stainless-", b"x-stainless-os", b"x-turbopuffer-b", b"x-turbopuffer",
        b"authorization", b"traceparent", b"connection", b"te", b"accept-encodin"]  # fmt: skip
RECEIVED = [b"content-type", b"content-encoding", b"date", b"connection", b"x-a", b"te", b"trailer", b"keep-alive",
            b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"server", b"etag"]  # fmt: skip
targets = st.text("/abc%20?=&.~", max_size=12).map(lambda rest: b"/region/" + rest.encode())
small = st.binary(max_size=40)


def read_request(message: bytes) -> RequestHead:
    head = RequestReader(65536, 100, 1 << 20, BodyRoom(1 << 30)).feed(message, 0.0)
    assert isinstance(head, RequestHead)
    return head


@given(
    targets,
    header_lists(SENT, FRAMING),
    st.sampled_from([b"", b"/base"]),
    st.sampled_from([0, 7]),
    st.one_of(st.none(), st.just(b"Bearer k")),
    st.sampled_from([b"", b"00-trace-01"]),
    st.booleans(),
    small,
    small,
)
def test_the_upstream_s_message(target, headers, base, prefix, authorization, traceparent, identity, sent, body):
    framed = [(b"Host", b"g"), *headers, (b"Content-Length", b"%d" % len(sent))]
    head = read_request(raw(b"POST " + target + b" HTTP/1.1", framed, sent))
    assert head.body == sent
    message = head.forwarded(RULES, base, prefix, b"up", authorization, traceparent, identity, body)
    assert message == heads.forwarded(
        b"POST",
        target,
        headers,
        names=NAMES,
        prefixes=REQUEST_ALLOWED_PREFIXES,
        base=base,
        prefix_bytes=prefix,
        host=b"up",
        authorization=authorization,
        traceparent=traceparent,
        identity=identity,
        body=body,
    )
    # What we write we would accept ourselves, as one request.
    again = read_request(message)
    assert again.body == body
    assert again.target == base + target[prefix:]


spaces = st.text(" \t\r\n", max_size=3)
amounts = st.one_of(
    st.sampled_from(["7", "123456789012345678901", "", "-1", "1.5", '"7"']), st.integers(0, 2**66).map(str)
)


@st.composite
def billings(draw) -> str:
    def space() -> str:
        return draw(spaces)

    kinds = draw(st.lists(st.sampled_from(["queried", "returned", "written", "other"]), max_size=4))
    if draw(st.booleans()):
        kinds = ["queried", "returned"]
    members = [f'{space()}"billable_logical_bytes_{kind}"{space()}:{space()}{draw(amounts)}{space()}' for kind in kinds]
    return f'"billing"{space()}:{space()}{{{",".join(members)}}}'


@st.composite
def bodies(draw) -> bytes:
    if draw(st.booleans()):
        return draw(
            st.one_of(small, st.sampled_from([b"{}", b"{ \n}", b" {} ", b"}", b"[{}]", b"{" + b" " * 70 + b"}"]))
        )
    parts = draw(st.lists(st.one_of(billings(), st.just('"rows":[]'), st.just('"x":"}"')), max_size=3))
    filler = " " * draw(st.sampled_from([0, 0, 1990, 2048]))
    return f"{{{','.join(parts)}{filler}}}{draw(spaces)}".encode()


@example([], b"{" + b" " * 70 + b"}", False, 5)
@example([], b'{"billing":{"billable_logical_bytes_queried":123456789012345678901}}', False, 5)
@example([], b'{"billing":{"billable_logical_bytes_queried":7' + b" " * 2030 + b"}}", False, None)
@given(header_lists(RECEIVED, FRAMING), bodies(), st.booleans(), st.one_of(st.none(), st.integers(0, 2**63)))
def test_the_client_s_answer(headers, body, closes, at_ms):
    framed = [*headers, (b"Content-Length", b"%d" % len(body))]
    reader = ResponseReader(65536, 100)
    reader.begin(False, 1 << 20)
    head = reader.feed(raw(b"HTTP/1.1 200 OK", framed, body))
    assert isinstance(head, ResponseHead)
    given_parts = {
        "status_line": b"HTTP/1.1 200 OK\r\n",
        "own": b"x-own: 1\r\n",
        "date": b"date: now\r\n",
        "connection": b"connection: close\r\n" if closes else b"",
    }
    answer = head.relayed(*given_parts.values(), at_ms)
    assert answer == heads.relayed(framed, body, **given_parts, stable_as_of_ms=at_ms)
    again = ResponseReader(65536, 100)
    again.begin(False, 1 << 20)
    read = again.feed(answer[0])
    assert isinstance(read, ResponseHead)
    assert read.body == answer[0][len(answer[0]) - answer[1] :]
    assert again.reusable is not closes


hexes = st.text("0123456789abcdefg", min_size=1, max_size=3)
trace_values = st.one_of(
    values,
    st.builds(
        lambda version, trace, span, flags, more: f"{version}-{trace}-{span}-{flags}{more}".encode(),
        st.sampled_from(["00", "01", "ff", "0G"]),
        st.one_of(st.integers(0, 2**128 - 1).map("{:032x}".format), st.just("0" * 32), st.just("A" * 32), hexes),
        st.one_of(st.integers(0, 2**64 - 1).map("{:016x}".format), st.just("0" * 16)),
        st.sampled_from(["01", "00", "zz"]),
        st.sampled_from(["", "-", "-x", "x", "-" + "y" * 256, "-" + "y" * 257]),
    ),
)


@given(st.lists(trace_values, max_size=2), st.lists(st.one_of(values, st.just(b"i" * 129)), max_size=2))
def test_who_a_request_is(traces, ids):
    headers = [(b"traceparent", each) for each in traces] + [(b"X-Request-ID", each) for each in ids]
    head = read_request(raw(b"GET / HTTP/1.1", [(b"host", b"g"), *headers], b""))
    traceparent, trace_id, request_id = TraceIds(7).identify(head)
    accepted = accept_traceparent(traces[0] if traces else None)
    assert accept_traceparent(traceparent) == trace_id.encode()
    if accepted is not None:
        assert (traceparent, trace_id) == (traces[0], accepted.decode())
    else:
        assert traceparent not in traces
    assert request_id == (accept_request_id(ids[0] if ids else None) or trace_id)


texts = st.text(max_size=6)
seconds = st.floats(0, 1e5)


@given(st.integers(0, 2**42), texts, st.one_of(st.none(), st.integers(0, 2**40)), seconds, seconds, texts, texts, texts)
def test_a_log_line_is_json_of_one_line(time_ms, path, size, whole, upstream, request_id, consistency, failure):
    line = access_line(
        time_ms, "GET", path, "query", 200, size, whole, upstream, request_id, "t", "peer", consistency, failure
    )
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["path"], fields["request_id"], fields["status"]) == (path, request_id, 200)
    assert ("consistency" in fields) == bool(consistency)
    assert fields.get("consistency", "") == consistency
