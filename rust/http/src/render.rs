//! The request that goes upstream, made from the one that came.

use crate::request::Request;

/// Which headers of a request go upstream, beside those that the gateway writes. Names are lower-case.
#[derive(Clone, Debug)]
pub struct ForwardRules {
    names: Vec<Vec<u8>>,
    prefixes: Vec<Vec<u8>>,
}

impl ForwardRules {
    pub fn new(mut names: Vec<Vec<u8>>, prefixes: Vec<Vec<u8>>) -> Self {
        names.sort_by_key(Vec::len);
        Self { names, prefixes }
    }

    fn allow(&self, name: &[u8]) -> bool {
        self.names
            .iter()
            .skip_while(|allowed| allowed.len() < name.len())
            .take_while(|allowed| allowed.len() == name.len())
            .any(|allowed| name.eq_ignore_ascii_case(allowed))
            || self
                .prefixes
                .iter()
                .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
    }
}

/// What the gateway decides about a request upstream.
pub struct Forwarded<'a> {
    /// The path of the upstream's base URL.
    pub base: &'a [u8],
    /// How many bytes at the start of the target are for the gateway only.
    pub prefix_bytes: usize,
    /// The value of the `host` header.
    pub host: &'a [u8],
    pub authorization: Option<&'a [u8]>,
    pub traceparent: &'a [u8],
    /// The answer must not be compressed.
    pub identity: bool,
    pub body: &'a [u8],
}

/// The whole message: the request line, allowed headers as sent, in order, with lower-case names, then the gateway's
/// own, and the body. The method is the request's; it has a body, if an empty one.
pub fn upstream_request(
    request: &Request,
    text: &[u8],
    method: &[u8],
    rules: &ForwardRules,
    given: &Forwarded<'_>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 160 + given.base.len() + given.host.len() + given.body.len());
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(given.base);
    let target = request.target.of(text);
    out.extend_from_slice(target.get(given.prefix_bytes..).unwrap_or(target));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(&mut out, b"host", given.host);
    for header in &request.headers {
        let name = header.name.of(text);
        if !rules.allow(name) || (given.identity && name.eq_ignore_ascii_case(b"accept-encoding")) {
            continue;
        }
        line(&mut out, name, header.value.of(text));
    }
    if let Some(authorization) = given.authorization {
        line(&mut out, b"authorization", authorization);
    }
    if !given.traceparent.is_empty() {
        line(&mut out, b"traceparent", given.traceparent);
    }
    if given.identity {
        line(&mut out, b"accept-encoding", b"identity");
    }
    out.extend_from_slice(b"content-length: ");
    number(&mut out, given.body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(given.body);
    out
}

/// One header line, its name in lower case.
pub(crate) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name);
    out[start..].make_ascii_lowercase();
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Decimal digits.
pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
