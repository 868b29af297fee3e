//! Requests read whole and in every two pieces; what is refused, and when.

use hevlayer_http::{
    BodyRoom, Event, Limits, Phase, Refusal, Request, RequestReader, Source, CHUNKED, EXPECTS, KEEP_ALIVE, METHODS,
};

const LIMITS: Limits = Limits { head_bytes_max: 1000, header_count_max: 8 };
const WHOLE: u64 = 100;
const ROOM: u64 = 1 << 20;

fn bytes(source: &Source, input: &[u8]) -> Vec<u8> {
    match source {
        Source::Input(range) => input[range.clone()].to_vec(),
        Source::Owned(bytes) => bytes.clone(),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: Vec<(String, u32, Option<Vec<u8>>)>,
    pieces: Vec<u8>,
    ends: usize,
}

fn read(pieces: &[&[u8]]) -> Result<Seen, Refusal> {
    let mut reader = RequestReader::new(LIMITS, WHOLE, BodyRoom::new(ROOM));
    let mut seen = Seen::default();
    for input in pieces {
        let mut at = 0;
        while let Some(event) = reader.step(input, &mut at, 0.0)? {
            match event {
                Event::Request { request, text, body, .. } => {
                    let text = bytes(&text, input);
                    let line = format!("{} {}", METHODS[request.method], part(&text, &request));
                    seen.requests.push((line, request.flags, body.map(|body| bytes(&body, input))));
                }
                Event::Piece(piece) => seen.pieces.extend(bytes(&piece, input)),
                Event::End => seen.ends += 1,
            }
        }
        assert_eq!(at, input.len());
    }
    Ok(seen)
}

fn part(text: &[u8], request: &Request) -> String {
    let text = |span: hevlayer_http::Span| String::from_utf8_lossy(span.of(text)).into_owned();
    format!("{} {} {}", text(request.target), text(request.path), text(request.query))
}

/// Reads a message in one piece and cut at each place; all readings must agree.
fn read_however_cut(message: &[u8]) -> Result<Seen, Refusal> {
    let whole = read(&[message]);
    for cut in 1..message.len() {
        let halves = read(&[&message[..cut], &message[cut..]]);
        match (&whole, &halves) {
            (Ok(whole), Ok(halves)) => assert_eq!(whole, halves, "cut at {cut}"),
            (Err(whole), Err(halves)) => assert_eq!(whole.status, halves.status, "cut at {cut}"),
            _ => panic!("cut at {cut}: {whole:?} and {halves:?}"),
        }
    }
    let singles: Vec<&[u8]> = message.chunks(1).collect();
    assert_eq!(whole.as_ref().ok(), read(&singles).as_ref().ok());
    whole
}

#[test]
fn targets() {
    for (target, path, query) in [
        ("/a%2Fb?q=%20", "/a%2Fb", "q=%20"),
        ("/a?b?c", "/a", "b?c"),
        ("http://h:1/a?b", "/a", "b"),
        ("http://h?b/c", "/", "b/c"),
        ("http://h", "/", ""),
        ("*", "*", ""),
        ("//x", "//x", ""),
    ] {
        let message = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let seen = read_however_cut(message.as_bytes()).expect(target);
        assert_eq!(seen.requests[0].0, format!("GET {target} {path} {query}"));
        assert_eq!(seen.requests[0].1, KEEP_ALIVE);
    }
}

#[test]
fn bodies_come_whole_in_pieces_and_in_chunks() {
    let head = "POST / HTTP/1.1\r\nhost: x\r\n";
    let small = format!("\r\n{head}Content-Length: 3\r\n\r\nabc{head}\r\n");
    let seen = read_however_cut(small.as_bytes()).expect("small");
    let bodies: Vec<_> = seen.requests.iter().map(|request| request.2.clone()).collect();
    assert_eq!(bodies, [Some(b"abc".to_vec()), Some(Vec::new())]);

    let large = format!("{head}Content-Length: 101\r\n\r\n{}GET / HTTP/1.0\r\n\r\n", "y".repeat(101));
    let seen = read_however_cut(large.as_bytes()).expect("large");
    assert_eq!((seen.requests.len(), seen.pieces.len(), seen.ends), (2, 101, 1));
    assert_eq!(seen.requests[0].2, None);

    let chunks = "3;x=\"y\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
    let chunked = format!("{head}Transfer-Encoding: Chunked\r\n\r\n{chunks}{head}\r\n");
    let seen = read_however_cut(chunked.as_bytes()).expect("chunked");
    assert_eq!((seen.requests.len(), seen.pieces.as_slice(), seen.ends), (2, &b"abc0123456789"[..], 1));
    assert_eq!(seen.requests[0].1, KEEP_ALIVE | CHUNKED);

    let asked = format!("{head}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nab");
    let seen = read_however_cut(asked.as_bytes()).expect("expects");
    assert_eq!((seen.requests[0].1, seen.pieces.as_slice(), seen.ends), (KEEP_ALIVE | EXPECTS, &b"ab"[..], 1));
}

#[test]
fn connections_are_kept_as_the_version_says() {
    for (version, header, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: upgrade, close\r\nUpgrade: h2c\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let message = format!("GET / HTTP/{version}\r\nHost: x\r\n{header}\r\n");
        let seen = read_however_cut(message.as_bytes()).expect(header);
        assert_eq!(seen.requests[0].1 & KEEP_ALIVE != 0, kept, "{version} {header}");
    }
}

#[test]
fn what_two_peers_could_read_differently_is_refused() {
    for (status, rest) in [
        (400, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        (400, "Content-Length: 3\r\ncontent-length: 3\r\n"),
        (400, "Content-Length: 3, 3\r\n"),
        (400, "Content-Length: +3\r\n"),
        (400, "Content-Length: -0\r\n"),
        (400, "Content-Length: 0x3\r\n"),
        (400, "Content-Length:\r\n"),
        (400, "Content-Length: 18446744073709551616\r\n"),
        (400, "A: b\r\n c\r\n"),
        (400, "A : b\r\n"),
        (400, "A\r\n"),
        (400, ": b\r\n"),
        (400, "A: b\rc\r\n"),
        (400, "A: b\0c\r\n"),
        (400, "A: b\nB: c\r\n"),
        (400, "Host: y\r\n"),
        (400, "Transfer-Encoding: chunked, gzip\r\n"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked, chunked\r\n"),
        (501, "Transfer-Encoding: gzip\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (501, "Transfer-Encoding: xchunked\r\n"),
        (501, "Transfer-Encoding:\r\n"),
        (431, "A: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n"),
    ] {
        let message = format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}\r\n");
        let refusal = read_however_cut(message.as_bytes()).expect_err(rest);
        assert_eq!(refusal.status, status, "{rest:?}: {}", refusal.message);
        assert!(!refusal.message.is_empty());
    }
}

#[test]
fn first_lines_that_are_not_ours_are_refused() {
    for (status, line) in [
        (400, "get / HTTP/1.1"),
        (400, "FOO / HTTP/1.1"),
        (400, "GET  / HTTP/1.1"),
        (400, "GET / HTTP/1.1 "),
        (400, "GET /a b HTTP/1.1"),
        (400, "GET /\u{e9} HTTP/1.1"),
        (400, "GET / HTTP/1.2"),
        (400, "GET / HTTP/11"),
        (400, "GET a HTTP/1.1"),
        (400, "GET *a HTTP/1.1"),
        (400, "GET 1http://h HTTP/1.1"),
        (400, "PRI * HTTP/2.0"),
        (405, "CONNECT h:1 HTTP/1.1"),
        (505, "GET / HTTP/2.0"),
        (505, "GET /"),
    ] {
        let message = format!("{line}\r\nHost: x\r\n\r\n");
        let refusal = read_however_cut(message.as_bytes()).expect_err(line);
        assert_eq!(refusal.status, status, "{line:?}: {}", refusal.message);
    }
    assert_eq!(read(&[b"GET / HTTP/1.1\r\n\r\n"]).expect_err("no host").status, 400);
    let refusal = read(&[b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"]).expect_err("1.0 with chunks");
    assert_eq!(refusal.status, 400);
}

#[test]
fn what_can_be_no_request_is_refused_before_its_head_is_complete() {
    for start in [&b"\x16\x03\x01"[..], b"ge", b" GET", b"GET / HTTP/1.1\r\nA: b\n", b"ABCDEFGHIJKLMN"] {
        assert_eq!(read(&[start]).expect_err("start").status, 400, "{start:?}");
    }
    for start in [&b"GE"[..], b"\r", b"\r\nG", b"GET /"] {
        assert_eq!(read(&[start]), Ok(Seen::default()), "{start:?}");
    }
}

#[test]
fn heads_are_bounded_however_they_arrive() {
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(2000));
    for message in [long.clone(), format!("{long}\r\n\r\n")] {
        assert_eq!(read(&[message.as_bytes()]).expect_err("in one piece").status, 431);
        let pieces: Vec<&[u8]> = message.as_bytes().chunks(100).collect();
        assert_eq!(read(&pieces).expect_err("in many").status, 431);
    }
}

#[test]
fn broken_and_endless_chunks_are_refused() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for rest in [
        "zz\r\n",
        "3 \r\n",
        "3\nabc",
        "0x3\r\n",
        ";a\r\n",
        "00000000000000000\r\n",
        "3\r\nabcdef\r\n",
        "3\r\nabc\n",
        "1;\x01\r\n",
        "0\r\nA b\r\n\r\n",
        "0\r\nA: b\n\r\n",
    ] {
        let message = format!("{head}{rest}");
        assert_eq!(read_however_cut(message.as_bytes()).expect_err(rest).status, 400, "{rest:?}");
    }
    for start in ["3;", "0\r\nA: "] {
        let message = format!("{head}{start}{}", "e".repeat(2000));
        let pieces: Vec<&[u8]> = message.as_bytes().chunks(99).collect();
        assert_eq!(read(&pieces).expect_err(start).status, 400);
    }
}

#[test]
fn nothing_is_read_after_a_refusal() {
    let mut reader = RequestReader::new(LIMITS, WHOLE, BodyRoom::new(ROOM));
    let mut at = 0;
    assert!(reader.step(b"nonsense\r\n\r\n", &mut at, 1.0).is_err());
    at = 0;
    let good = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(matches!(reader.step(good, &mut at, 1.0), Ok(None)));
}

#[test]
fn a_body_that_finds_no_room_arrives_in_pieces() {
    let room = BodyRoom::new(50_000);
    let body = "x".repeat(30_000);
    let message = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n{body}");
    let (first, rest) = message.as_bytes().split_at(20_000);
    let mut one = RequestReader::new(LIMITS, 40_000, room.clone());
    assert!(matches!(one.step(first, &mut 0, 0.0), Ok(None)));
    assert_eq!(room.used(), 30_000);
    let mut other = RequestReader::new(LIMITS, 40_000, room.clone());
    let mut at = 0;
    let Ok(Some(Event::Request { body: None, share: None, .. })) = other.step(first, &mut at, 0.0) else {
        panic!("it takes no room that is not there");
    };
    assert!(matches!(other.step(first, &mut at, 0.0), Ok(Some(Event::Piece(_)))));
    assert!(matches!(other.step(rest, &mut 0, 0.0), Ok(Some(Event::Piece(_)))));
    let Ok(Some(Event::Request { body: Some(_), share: Some(share), .. })) = one.step(rest, &mut 0, 0.0) else {
        panic!("a whole body");
    };
    assert_eq!(room.used(), 30_000);
    drop(share);
    assert_eq!(room.used(), 0);
    // A connection that ends in the middle of a body gives its part back.
    assert!(matches!(one.step(first, &mut 0, 0.0), Ok(None)));
    assert_eq!(room.used(), 30_000);
    drop(one);
    assert_eq!(room.used(), 0);
}

#[test]
fn the_phase_tells_what_is_waited_for_and_since_when() {
    let mut reader = RequestReader::new(LIMITS, WHOLE, BodyRoom::new(ROOM));
    for (input, phase, since) in [
        (&b"GE"[..], Phase::Head, 1.0),
        (b"T / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na", Phase::Body, 1.0),
        (b"bc", Phase::Body, 1.0),
        (b"d", Phase::Idle, 1.0),
        (b"G", Phase::Head, 5.0),
    ] {
        let mut at = 0;
        let now = if phase == Phase::Head && since > 1.0 { since } else { 1.0 };
        while let Ok(Some(_)) = reader.step(input, &mut at, now) {}
        assert_eq!((reader.phase(), reader.since), (phase, since), "{input:?}");
    }
}
