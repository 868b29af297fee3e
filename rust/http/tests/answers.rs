//! Answers read in every two pieces, and the messages that are made of requests and answers.

use hevlayer_http::{
    accept_request_id, accept_traceparent, access_line, billing, client_answer, upstream_request, Access, AnswerParts,
    Billing, BodyRoom, Ended, Event, ForwardRules, Forwarded, Limits, RequestReader, Response, ResponseEvent,
    ResponseReader, Source, TraceIds,
};

const LIMITS: Limits = Limits { head_bytes_max: 1000, header_count_max: 8 };

fn bytes(source: Source, input: &[u8]) -> Vec<u8> {
    match source {
        Source::Input(range) => input[range].to_vec(),
        Source::Owned(bytes) => bytes,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    is_whole: bool,
    body: Vec<u8>,
    is_complete: bool,
    is_reusable: bool,
}

fn read(pieces: &[&[u8]], is_head: bool, whole: u64, closes: bool) -> Result<Seen, String> {
    let mut reader = ResponseReader::new(LIMITS);
    reader.begin(is_head, whole);
    let mut seen = Seen { status: 0, is_whole: false, body: Vec::new(), is_complete: false, is_reusable: false };
    let mut take = |event: ResponseEvent, input: &[u8]| match event {
        ResponseEvent::Response { response, body, .. } => {
            seen.status = response.status;
            if let Some(body) = body {
                seen.is_whole = true;
                seen.is_complete = true;
                seen.body = bytes(body, input);
            }
        }
        ResponseEvent::Piece(piece) => seen.body.extend(bytes(piece, input)),
        ResponseEvent::End => seen.is_complete = true,
    };
    for input in pieces {
        let mut at = 0;
        while let Some(event) = reader.step(input, &mut at)? {
            take(event, input);
        }
        assert_eq!(at, input.len());
    }
    if closes {
        if let Ended::Complete(event) = reader.finish(true) {
            take(event, b"");
        }
    }
    seen.is_reusable = reader.is_reusable();
    Ok(seen)
}

fn read_however_cut(message: &[u8], is_head: bool, whole: u64, closes: bool) -> Result<Seen, String> {
    let expected = read(&[message], is_head, whole, closes);
    for cut in 1..message.len() {
        let halves = read(&[&message[..cut], &message[cut..]], is_head, whole, closes);
        assert_eq!(expected.is_err(), halves.is_err(), "cut at {cut}: {expected:?} {halves:?}");
        if let (Ok(expected), Ok(halves)) = (&expected, &halves) {
            assert_eq!(expected, halves, "cut at {cut}");
        }
    }
    expected
}

#[test]
fn answers_are_framed_as_they_say() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for (message, is_head, closes, body, is_reusable) in [
        (format!("{ok}Content-Length: 3\r\n\r\nabc"), false, false, "abc", true),
        (format!("{ok}Content-Length: 0\r\n\r\n"), false, false, "", true),
        (format!("{ok}Content-Length: 3\r\n\r\n"), true, false, "", true),
        (format!("{ok}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), false, false, "abc", true),
        (format!("{ok}Connection: close\r\nContent-Length: 1\r\n\r\nz"), false, false, "z", false),
        (format!("{ok}\r\nabc"), false, true, "abc", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nz".into(), false, false, "z", false),
        ("HTTP/1.1 204\r\nContent-Length: 9\r\n\r\n".into(), false, false, "", true),
        ("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n".into(), false, false, "", true),
        (
            format!("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\n{ok}Content-Length: 1\r\n\r\nz"),
            false,
            false,
            "z",
            true,
        ),
        (format!("{ok}Content-Length: 1\r\n\r\nzX"), false, false, "z", false),
    ] {
        for whole in [0, 2, 100] {
            let seen = read_however_cut(message.as_bytes(), is_head, whole, closes).expect(&message);
            assert!(seen.is_complete, "{message:?} {whole}");
            assert_eq!(seen.is_whole, body.len() as u64 <= whole || is_head, "{message:?} {whole}");
            assert_eq!((seen.body.as_slice(), seen.is_reusable), (body.as_bytes(), is_reusable), "{message:?} {whole}");
        }
    }
}

#[test]
fn broken_answers_are_refused() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for message in [
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "\u{15}\u{3}".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 101 S\r\n\r\n".to_owned(),
        format!("{ok}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        format!("{ok}Content-Length: -3\r\n\r\n"),
        format!("{ok}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("{ok}Transfer-Encoding: gzip\r\n\r\n"),
        format!("{ok}A: b\r\n c\r\n\r\n"),
        format!("{ok}A: b\n\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n2\r\nabcd"),
        format!("{ok}{}\r\n", "A: b\r\n".repeat(9)),
        "HTTP/1.1 102 P\r\n\r\n".repeat(100),
        format!("{ok}A: {}", "b".repeat(2000)),
    ] {
        assert!(read_however_cut(message.as_bytes(), false, 100, false).is_err(), "{message:?}");
    }
}

#[test]
fn the_end_of_the_connection_is_judged() {
    for (message, is_clean, truncated, complete) in [
        ("", true, false, false),
        ("HTTP/1.1 200 O", true, false, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, true, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", true, true, false),
        ("HTTP/1.1 200 OK\r\n\r\nab", true, false, true),
        ("HTTP/1.1 200 OK\r\n\r\nab", false, true, false),
    ] {
        let mut reader = ResponseReader::new(LIMITS);
        reader.begin(false, 100);
        let mut at = 0;
        while let Ok(Some(_)) = reader.step(message.as_bytes(), &mut at) {}
        let ended = reader.finish(is_clean);
        assert_eq!(matches!(ended, Ended::Truncated), truncated, "{message:?}");
        assert_eq!(matches!(ended, Ended::Complete(_)), complete, "{message:?}");
    }
}

fn answer(message: &[u8]) -> (Response, Vec<u8>, Vec<u8>) {
    let mut reader = ResponseReader::new(LIMITS);
    reader.begin(false, 10_000);
    let mut at = 0;
    match reader.step(message, &mut at) {
        Ok(Some(ResponseEvent::Response { response, text, body: Some(body) })) => {
            (response, bytes(text, message), bytes(body, message))
        }
        other => panic!("{other:?}"),
    }
}

fn relayed(headers: &str, body: &str, stable_as_of_ms: Option<u64>) -> (String, Option<Billing>) {
    let message = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    let (response, text, body) = answer(message.as_bytes());
    let given = AnswerParts {
        status_line: b"HTTP/1.1 200 OK\r\n",
        own: b"x-own: 1\r\n",
        date: b"date: now\r\n",
        connection: b"",
        stable_as_of_ms,
    };
    let rendered = client_answer(&response, &text, &body, &given);
    (String::from_utf8(rendered.parts().concat()).expect("text"), rendered.billing)
}

#[test]
fn an_answer_is_relayed_without_its_hop() {
    let headers =
        "Server: s\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: 5\r\nx-hop: 1\r\nA: 1\r\na: 2\r\nDate: then\r\n";
    let (message, billing) = relayed(headers, "[]", Some(7));
    assert_eq!(
        message,
        "HTTP/1.1 200 OK\r\nserver: s\r\na: 1\r\na: 2\r\ndate: then\r\nx-own: 1\r\ncontent-length: 2\r\n\r\n[]"
    );
    assert_eq!(billing, None);
}

#[test]
fn the_watermark_is_the_last_key() {
    for (body, expected) in [
        (r#"{"a":1}"#, r#"{"a":1,"stable_as_of":7}"#),
        ("{\"a\":{}} \n", "{\"a\":{},\"stable_as_of\":7} \n"),
        ("{ }\n", r#"{"stable_as_of":7}"#),
        ("", ""),
        ("{", "{"),
        ("[{}]", "[{}]"),
    ] {
        let (message, _) = relayed("", body, Some(7));
        let length = expected.len();
        let head = format!("HTTP/1.1 200 OK\r\nx-own: 1\r\ndate: now\r\ncontent-length: {length}\r\n\r\n");
        assert_eq!(message, format!("{head}{expected}"));
    }
    let (message, billing) = relayed("Content-Encoding: gzip\r\n", r#"{"billing":{}}"#, Some(7));
    assert!(message.ends_with("\r\n\r\n{\"billing\":{}}"));
    assert_eq!(billing, None);
}

#[test]
fn billing_is_the_last_of_its_name() {
    let (written, queried, returned) = (1, 2, 3);
    for (body, expected) in [
        (r#"{"rows":[]}"#, None),
        (
            r#"{"billing":1,"billing":{"billable_logical_bytes_queried":2,"billable_logical_bytes_returned":3}}"#,
            Some(Billing { written: 0, queried, returned }),
        ),
        (
            r#"{"billing" : {"billable_logical_bytes_written":1,
                "query":{"billable_logical_bytes_returned":3,"billable_logical_bytes_queried": 2}}}"#,
            Some(Billing { written, queried, returned }),
        ),
        (r#"{"billing":null}"#, Some(Billing::default())),
        (r#"{"billing":{"billable_logical_bytes_queried":"x"}}"#, Some(Billing::default())),
    ] {
        assert_eq!(billing(body.as_bytes()), expected, "{body}");
    }
    let far = format!("{}{}", r#"{"billing":{"billable_logical_bytes_queried":2}}"#, " ".repeat(3000));
    assert_eq!(billing(far.as_bytes()), None);
}

#[test]
fn a_request_goes_upstream_with_what_is_allowed() {
    let rules =
        ForwardRules::new(vec![b"accept".to_vec(), b"accept-encoding".to_vec()], vec![b"x-stainless-".to_vec()]);
    let message = b"POST /r/v2/x?y HTTP/1.1\r\nHost: h\r\nX-Stainless-Lang: a\r\nCookie: c\r\nACCEPT:  b \r\n\
        Accept-Encoding: gzip\r\nAuthorization: bEARER  tok \r\nContent-Length: 2\r\n\r\n{}";
    let mut reader = RequestReader::new(LIMITS, 100, BodyRoom::new(1000));
    let mut at = 0;
    let Ok(Some(Event::Request { request, text, .. })) = reader.step(message, &mut at, 0.0) else {
        panic!("not read");
    };
    let text = bytes(text, message);
    assert_eq!(request.bearer(&text), Some(&b"tok"[..]));
    let given = |identity| Forwarded {
        base: b"/base",
        prefix_bytes: 2,
        host: b"up",
        authorization: Some(b"Bearer k"),
        traceparent: b"00-t",
        identity,
        body: b"[1]",
    };
    let sent = |identity| {
        String::from_utf8(upstream_request(&request, &text, b"POST", &rules, &given(identity))).expect("text")
    };
    let start = "POST /base/v2/x?y HTTP/1.1\r\nhost: up\r\nx-stainless-lang: a\r\naccept: b\r\n";
    let own = "authorization: Bearer k\r\ntraceparent: 00-t\r\n";
    let end = "content-length: 3\r\n\r\n[1]";
    assert_eq!(sent(false), format!("{start}accept-encoding: gzip\r\n{own}{end}"));
    assert_eq!(sent(true), format!("{start}{own}accept-encoding: identity\r\n{end}"));
}

#[test]
fn traces_are_taken_up_or_minted() {
    let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(accept_traceparent(good), Some(&good[3..35]));
    assert!(accept_traceparent(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x").is_some());
    for bad in [
        &good[..54],
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(accept_traceparent(bad), None);
    }
    let mut ids = TraceIds::new(0);
    let minted: std::collections::HashSet<_> = (0..1000).map(|_| ids.mint()).collect();
    assert_eq!(minted.len(), 1000);
    assert!(minted.iter().all(|traceparent| accept_traceparent(traceparent).is_some()));
    assert_eq!(accept_request_id(b"a-1 b"), Some("a-1 b"));
    for bad in [&b""[..], b"a\tb", b"\xff", &[b'a'; 129]] {
        assert_eq!(accept_request_id(bad), None);
    }
}

#[test]
fn a_log_line_is_json() {
    let line = access_line(&Access {
        time_ms: 5,
        method: "GET",
        path: "/\u{1}",
        operation: "query",
        status: 503,
        bytes: None,
        seconds: 0.0015,
        upstream_seconds: 0.0,
        request_id: "a\"\\",
        trace_id: "t",
        peer: "p",
        consistency: "",
        failure: "cache_cold",
    });
    assert_eq!(
        line,
        concat!(
            r#"{"time_ms":5,"level":"error","event":"request","method":"GET","path":"/\u0001","operation":"query","#,
            r#""status":503,"bytes":null,"us":1500,"upstream_us":0,"request_id":"a\"\\","trace_id":"t","peer":"p","#,
            r#""error":"cache_cold"}"#
        )
    );
}
