//! HTTP/1.1 heads and framing: strict reading of requests and answers, and the heads that a gateway writes.
//!
//! `httparse` takes names, values and lines apart; the rules on top of it (RFC 9112) are here: which length a message
//! has, what is refused because two peers could read it differently, and how large anything may be. Nothing here does
//! I/O, and nothing is copied that stands in one piece in what was read.

#![forbid(unsafe_op_in_unsafe_fn)]

mod answer;
mod chunked;
mod fetch;
mod head;
mod line;
mod query;
mod reader;
mod render;
mod request;
mod response;
mod response_reader;
mod room;
mod trace;

pub use answer::{billing, client_answer, AnswerParts, Billing, Rendered};
pub use chunked::{ChunkError, Chunked};
pub use fetch::{hit_head, same_secret, PlainFetch, Vouchers};
pub use head::{Header, Limits, Refusal, Span, HEADERS_MAX};
pub use line::{access_line, Access};
pub use query::PlainQuery;
pub use reader::{Event, Phase, RequestReader, Source};
pub use render::{upstream_request, ForwardRules, Forwarded};
pub use request::{Request, CHUNKED, ENCODED, EXPECTS, HTTP_1_0, KEEP_ALIVE, METHODS};
pub use response::Response;
pub use response_reader::{Ended, ResponseEvent, ResponseReader};
pub use room::{BodyRoom, BodyShare};
pub use trace::{accept_request_id, accept_traceparent, TraceIds};
