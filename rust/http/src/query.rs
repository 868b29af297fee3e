//! A query as clients usually send it.

use crate::request::{Request, KEEP_ALIVE, METHODS};

const NAMESPACES: &str = "/v2/namespaces/";
/// Headers that ask for more than the answer: labels to be read, a text to be recorded.
const ASKS_FOR_MORE: [&[u8]; 2] = [b"x-hevlayer-tags", b"x-hevlayer-search-query"];

/// `POST /v2/namespaces/{namespace}/query`; the namespace is its own spelling in paths and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainQuery<'a> {
    pub namespace: &'a str,
}

impl<'a> PlainQuery<'a> {
    /// None for any other request, and for one that ends its connection, is encoded or asks for more.
    pub fn read(request: &Request, text: &'a [u8]) -> Option<Self> {
        if METHODS[request.method] != "POST" || request.flags != KEEP_ALIVE {
            return None;
        }
        let path = std::str::from_utf8(request.path.of(text)).ok()?;
        let (namespace, rest) = path.strip_prefix(NAMESPACES)?.split_once('/')?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if rest != "query" || namespace.is_empty() || !namespace.bytes().all(is_plain) {
            return None;
        }
        if ASKS_FOR_MORE.iter().any(|name| request.header(text, name).is_some()) {
            return None;
        }
        Some(Self { namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Limits;

    fn read(head: &str) -> Option<String> {
        let limits = Limits { head_bytes_max: 8192, header_count_max: 64 };
        let request = Request::parse(head.as_bytes(), &limits).expect("a head");
        PlainQuery::read(&request, head.as_bytes()).map(|query| query.namespace.to_owned())
    }

    fn post(target: &str, headers: &str) -> Option<String> {
        read(&format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{headers}\r\n"))
    }

    #[test]
    fn reads_the_namespace() {
        assert_eq!(post("/v2/namespaces/films/query", ""), Some("films".to_owned()));
        assert_eq!(
            post("/v2/namespaces/F-1.x_y/query?x=%20", "Traceparent: 00-0-0-01\r\n"),
            Some("F-1.x_y".to_owned())
        );
        assert_eq!(post("http://h/v2/namespaces/films/query", ""), Some("films".to_owned()));
    }

    #[test]
    fn leaves_what_is_not_plain() {
        for target in [
            "/v2/namespaces/films/query/",
            "/v2/namespaces/films/explain_query",
            "/v2/namespaces/films",
            "/v2/namespaces//query",
            "/v2/namespaces/a/b/query",
            "/v2/namespaces/fi%6Cms/query",
            "/v2/namespaces/fi\"lms/query",
            "/v2/namespaces/fi~lms/query",
            "/eu/v2/namespaces/films/query",
            "/v1/namespaces/films/query",
        ] {
            assert_eq!(post(target, ""), None, "{target}");
        }
        for headers in [
            "X-Hevlayer-Tags: a\r\n",
            "X-Hevlayer-Search-Query: a\r\n",
            "Connection: close\r\n",
            "Expect: 100-continue\r\n",
            "Content-Encoding: gzip\r\n",
        ] {
            assert_eq!(post("/v2/namespaces/films/query", headers), None, "{headers}");
        }
        assert_eq!(read("GET /v2/namespaces/films/query HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        let old = "POST /v2/namespaces/films/query HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(read(old), None);
        let chunked = "POST /v2/namespaces/films/query HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(chunked), None);
    }
}
