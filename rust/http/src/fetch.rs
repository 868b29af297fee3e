//! A fetch of one document as clients usually send it, who may have it at once, and the answer when it is cached.

use std::collections::HashMap;

use crate::render::{line, number};
use crate::request::{Request, KEEP_ALIVE, METHODS};

const NAMESPACES: &str = "/v2/namespaces/";
const DOCUMENTS: &str = "documents/";
/// Headers that ask for more than the document: a trace to be recorded, tags to be read.
const ASKS_FOR_MORE: [&[u8]; 2] = [b"traceparent", b"x-hevlayer-tags"];

/// `GET /v2/namespaces/{namespace}/documents/{id}`; nothing in its path is percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainFetch<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    pub query: &'a str,
}

impl<'a> PlainFetch<'a> {
    /// None for any other request, and for one that has a body, ends its connection or asks for more.
    pub fn read(request: &Request, text: &'a [u8]) -> Option<Self> {
        if METHODS[request.method] != "GET" || request.flags != KEEP_ALIVE || request.length.is_some_and(|it| it > 0) {
            return None;
        }
        let path = std::str::from_utf8(request.path.of(text)).ok().filter(|path| path.is_ascii())?;
        let (namespace, rest) = path.strip_prefix(NAMESPACES)?.split_once('/')?;
        let id = rest.strip_prefix(DOCUMENTS)?;
        let is_plain = |part: &str| !part.is_empty() && !part.contains(['%', '/']);
        if !is_plain(namespace) || !is_plain(id) {
            return None;
        }
        if ASKS_FOR_MORE.iter().any(|name| request.header(text, name).is_some()) {
            return None;
        }
        let query = std::str::from_utf8(request.query.of(text)).ok()?;
        Some(Self { namespace, id, query })
    }
}

/// The answer that gives a cached document: its head, up to the empty line.
pub fn hit_head(traceparent: &[u8], date: &[u8], document_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + traceparent.len() + date.len());
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-layer-cache: hit\r\n");
    line(&mut out, b"traceparent", traceparent);
    out.extend_from_slice(date);
    out.extend_from_slice(b"content-length: ");
    number(&mut out, document_bytes as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn same_secret(left: &[u8], right: &[u8]) -> bool {
    let differs = |all: u8, (left, right): (&u8, &u8)| std::hint::black_box(all | (left ^ right));
    left.len() == right.len() && left.iter().zip(right).fold(0, differs) == 0
}

struct Voucher<T> {
    /// Monotonic seconds.
    until: f64,
    value: T,
}

/// What was found out a moment ago about a caller's use of a namespace, for a short time and in bounded number.
pub struct Vouchers<T> {
    by_caller: HashMap<Vec<u8>, HashMap<String, Voucher<T>>>,
    count: usize,
    count_max: usize,
}

impl<T> Vouchers<T> {
    /// All are dropped when there are more than `count_max`.
    pub fn new(count_max: usize) -> Self {
        Self { by_caller: HashMap::new(), count: 0, count_max }
    }

    /// Args: `until`: monotonic seconds.
    pub fn put(&mut self, caller: &[u8], namespace: &str, until: f64, value: T) {
        let voucher = Voucher { until, value };
        if let Some(place) = self.by_caller.get_mut(caller).and_then(|held| held.get_mut(namespace)) {
            *place = voucher;
            return;
        }
        if self.count >= self.count_max {
            self.by_caller.clear();
            self.count = 0;
        }
        self.by_caller.entry(caller.to_vec()).or_default().insert(namespace.to_owned(), voucher);
        self.count += 1;
    }

    /// None when it was never put, is dropped, or its time is over.
    pub fn get(&self, caller: &[u8], namespace: &str, now: f64) -> Option<&T> {
        let voucher = self.by_caller.get(caller)?.get(namespace)?;
        (now < voucher.until).then_some(&voucher.value)
    }

    /// Drops those of all callers.
    pub fn forget(&mut self, namespace: &str) {
        for held in self.by_caller.values_mut() {
            if held.remove(namespace).is_some() {
                self.count -= 1;
            }
        }
        self.by_caller.retain(|_, held| !held.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Limits;

    fn read(head: &str) -> Option<(String, String, String)> {
        let limits = Limits { head_bytes_max: 8192, header_count_max: 64 };
        let request = Request::parse(head.as_bytes(), &limits).expect("a head");
        let found = PlainFetch::read(&request, head.as_bytes())?;
        Some((found.namespace.to_owned(), found.id.to_owned(), found.query.to_owned()))
    }

    fn get(target: &str, headers: &str) -> Option<(String, String, String)> {
        read(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
    }

    #[test]
    fn reads_the_parts_of_a_fetch() {
        let parts = |namespace: &str, id: &str, query: &str| Some((namespace.into(), id.into(), query.into()));
        assert_eq!(get("/v2/namespaces/films/documents/d1", ""), parts("films", "d1", ""));
        assert_eq!(
            get("/v2/namespaces/f-1.x/documents/a+b?include_attributes=a%2Cb", "Accept: */*\r\n"),
            parts("f-1.x", "a+b", "include_attributes=a%2Cb")
        );
        assert_eq!(get("http://h/v2/namespaces/films/documents/d1", "Content-Length: 0\r\n"), parts("films", "d1", ""));
    }

    #[test]
    fn leaves_what_is_not_plain() {
        for target in [
            "/v2/namespaces/films/documents/",
            "/v2/namespaces/films/documents",
            "/v2/namespaces/films/documents/a/b",
            "/v2/namespaces/films/documents/a%2Fb",
            "/v2/namespaces/fi%20lms/documents/a",
            "/v2/namespaces//documents/a",
            "/eu/v2/namespaces/films/documents/a",
            "/v1/namespaces/films/documents/a",
            "/v2/namespaces/films/query",
        ] {
            assert_eq!(get(target, ""), None, "{target}");
        }
        for headers in [
            "traceparent: 00-0-0-01\r\n",
            "X-Hevlayer-Tags: a\r\n",
            "Connection: close\r\n",
            "Content-Length: 2\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "Content-Encoding: gzip\r\n",
        ] {
            assert_eq!(get("/v2/namespaces/films/documents/d1", headers), None, "{headers}");
        }
        assert_eq!(read("HEAD /v2/namespaces/films/documents/d1 HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(read("GET /v2/namespaces/films/documents/d1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), None);
    }

    #[test]
    fn vouchers_end_and_are_bounded() {
        let mut vouchers = Vouchers::new(2);
        vouchers.put(b"a", "films", 5.0, 1);
        vouchers.put(b"b", "films", 6.0, 2);
        vouchers.put(b"b", "films", 7.0, 3);
        assert_eq!(vouchers.get(b"a", "films", 4.9), Some(&1));
        assert_eq!(vouchers.get(b"a", "films", 5.0), None);
        assert_eq!(vouchers.get(b"b", "films", 6.5), Some(&3));
        assert_eq!(vouchers.get(b"a", "books", 0.0), None);
        vouchers.put(b"c", "books", 9.0, 4);
        assert_eq!(vouchers.get(b"b", "films", 0.0), None);
        assert_eq!(vouchers.get(b"c", "books", 0.0), Some(&4));
        vouchers.forget("books");
        assert_eq!(vouchers.get(b"c", "books", 0.0), None);
        assert!(vouchers.by_caller.is_empty());
        assert_eq!(vouchers.count, 0);
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret(b"secret", b"secret"));
        for other in [&b"secreT"[..], b"Secret", b"secre", b"secrets", b""] {
            assert!(!same_secret(b"secret", other));
        }
    }
}
