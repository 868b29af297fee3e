//! Write bodies: what they do, and where each row takes its stamp.

mod field;
mod rows;
mod stored;
mod walk;

use std::borrow::Cow;
use std::collections::HashSet;

use hevlayer_doc::id;

use crate::error::SpliceError;
use crate::reader::Reader;
use crate::tape::{rendered_len, Positions, Renderer, Tape, Texts};
use crate::text;
use crate::Dialect;
pub use stored::{Facts, Written};
use walk::Walk;

/// An operation that stands alone in its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusive {
    Copy,
    Branch,
}

/// What a write body says. Keeps positions only; give the same body again to `render` and `ids`.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a request
pub struct WriteScan {
    pub dialect: Dialect,
    pub upserts: u64,
    pub patches: u64,
    pub deletes: u64,
    pub has_vectors: bool,
    pub by_filter: bool,
    pub conditional: bool,
    pub exclusive: Option<Exclusive>,
    pub drops_attribute: bool,
    pub writes_rows: bool,
    pub ids_known: bool,
    /// `return_affected_ids`: whether it is true; `None` when the body does not have it.
    pub affected_ids: Option<bool>,
    tape: Tape,
    ids: Positions,
}

/// Where a render in chunks stands, kept between the calls.
#[derive(Debug, Default)]
pub struct RenderState(Option<Renderer>);

impl WriteScan {
    /// Reads a write body.
    ///
    /// # Errors
    /// The body is not JSON, breaks a rule, or asks for what is not built.
    pub fn new(body: &[u8], patch_method: bool) -> Result<Self, SpliceError> {
        Self::sharded(body, patch_method, None)
    }

    /// The same for a namespace of so many shards, whose rows are stamped with theirs.
    ///
    /// # Errors
    /// As `new`.
    pub fn sharded(body: &[u8], patch_method: bool, shards: Option<u32>) -> Result<Self, SpliceError> {
        let mut walk = Walk::new(body, patch_method, shards);
        let mut reader = Reader::new(body);
        walk.body(&mut reader).and_then(|()| reader.finish()).map_err(|fault| fault.explain(body))?;
        walk.conclude()
    }

    /// The keys of all ids, each once, in the order of the body; a uuid-shaped string gives its canonical form's too.
    #[must_use]
    pub fn ids(&self, body: &[u8]) -> Vec<Vec<u8>> {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        let mut put = |key: Vec<u8>| {
            if seen.insert(key.clone()) {
                keys.push(key);
            }
        };
        for start in self.ids.iter() {
            let mut reader = Reader::resume(body, start);
            if reader.skip_value().is_err() {
                continue;
            }
            match read_id(&body[start..reader.at]) {
                Some(Id::Uint(number)) => put(id::uint_key(number)),
                Some(Id::String(name)) => {
                    put(id::string_key(&name));
                    if let Some(canonical) = id::uuid_text_key(&name) {
                        put(canonical);
                    }
                }
                None => {}
            }
        }
        keys
    }

    /// True when rendering gives the body back as it is.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.tape.is_empty()
    }

    /// The native body with every written row stamped. A `distance_metric` goes into a Layer body that has vectors
    /// and none of its own.
    #[must_use]
    pub fn render(&self, body: &[u8], stamp_ms: u64, distance_metric: Option<&str>) -> Vec<u8> {
        let texts = self.texts(stamp_ms, distance_metric);
        let mut out = Vec::with_capacity(rendered_len(body, &self.tape, &texts));
        Renderer::new(texts).fill(body, &self.tape, usize::MAX, &mut out);
        out
    }

    fn texts(&self, stamp_ms: u64, distance_metric: Option<&str>) -> Texts {
        Texts::new(stamp_ms, distance_metric.filter(|_| self.has_vectors))
    }

    /// Bytes that `render` gives.
    #[must_use]
    pub fn rendered_length(&self, body: &[u8], stamp_ms: u64, distance_metric: Option<&str>) -> usize {
        rendered_len(body, &self.tape, &self.texts(stamp_ms, distance_metric))
    }

    /// Appends bytes `offset..offset + size` of the rendered body. Cheap when each call goes on where the last one
    /// with the same `state` ended; any other offset renders from the start.
    pub fn render_chunk(
        &self,
        body: &[u8],
        state: &mut RenderState,
        stamp_ms: u64,
        distance_metric: Option<&str>,
        range: (usize, usize),
        out: &mut Vec<u8>,
    ) {
        let (offset, size) = range;
        let texts = self.texts(stamp_ms, distance_metric);
        let mut renderer = match state.0.take() {
            Some(renderer) if renderer.offset <= offset && *renderer.texts() == texts => renderer,
            _ => Renderer::new(texts),
        };
        let mut passed = Vec::new();
        while renderer.offset < offset {
            passed.clear();
            renderer.fill(body, &self.tape, (offset - renderer.offset).min(SKIP_BYTES), &mut passed);
            if passed.is_empty() {
                break;
            }
        }
        if renderer.offset == offset {
            renderer.fill(body, &self.tape, size, out);
        }
        state.0 = Some(renderer);
    }
}

/// Bytes rendered at a time on the way to an offset.
const SKIP_BYTES: usize = 64 * 1024;

pub(crate) enum Id<'a> {
    Uint(u64),
    String(Cow<'a, str>),
}

/// An id from its JSON text; `None` when the upstream cannot take it for an id either.
pub(crate) fn read_id(raw: &[u8]) -> Option<Id<'_>> {
    if raw.first() == Some(&b'"') {
        let decoded = text::decode(&raw[1..raw.len() - 1]);
        return decoded.exact.then_some(Id::String(decoded.text));
    }
    text::uint(raw).map(Id::Uint)
}
