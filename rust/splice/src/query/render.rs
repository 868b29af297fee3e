//! The body that goes upstream.

use super::leg::{Exclude, Field, Leg, Member};
use super::QueryScan;
use crate::text::quote;
use crate::{Dialect, SHARD_ATTRIBUTE, STAMP_ATTRIBUTE};

/// What is put into a query.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryRender<'a> {
    /// Add eventual consistency, unless the body has its own.
    pub eventual: bool,
    /// Join `["_hevlayer_upserted_at","Lte",w]` into every sub-query's filters.
    pub watermark_ms: Option<u64>,
    /// Exclude reserved attributes where the query would return them unnamed.
    pub exclude_reserved: bool,
    /// JSON text of the query vector, for `nearest_to_id`.
    pub vector: Option<&'a [u8]>,
}

const CONSISTENCY: &[u8] = b"{\"level\":\"eventual\",\"max_staleness_seconds\":1}";

struct Edit {
    at: usize,
    cut: usize,
    text: Vec<u8>,
}

#[derive(Default)]
struct Edits(Vec<Edit>);

impl Edits {
    fn insert(&mut self, at: usize, text: &[u8]) {
        self.0.push(Edit { at, cut: 0, text: text.to_vec() });
    }

    fn replace(&mut self, start: usize, end: usize, text: Vec<u8>) {
        self.0.push(Edit { at: start, cut: end - start, text });
    }

    fn apply(mut self, body: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        // What stands at one place keeps its order; a cut there begins after it.
        self.0.sort_by_key(|edit| (edit.at, edit.cut != 0));
        let added: usize = self.0.iter().map(|edit| edit.text.len()).sum();
        let mut out = Vec::with_capacity(body.len() + added);
        let mut read = 0;
        for edit in self.0 {
            out.extend_from_slice(&body[read..edit.at]);
            out.extend_from_slice(&edit.text);
            read = edit.at + edit.cut;
        }
        out.extend_from_slice(&body[read..]);
        Some(out)
    }
}

/// Members put at the end of one object.
struct Appender {
    close: usize,
    comma: bool,
}

impl Appender {
    fn new(leg: &Leg) -> Self {
        Self { close: leg.close, comma: !leg.empty }
    }

    fn append(&mut self, edits: &mut Edits, key: &str, value: &[u8]) {
        let mut text = Vec::with_capacity(key.len() + value.len() + 4);
        if self.comma {
            text.push(b',');
        }
        self.comma = true;
        text.extend_from_slice(&quote(key));
        text.push(b':');
        text.extend_from_slice(value);
        edits.insert(self.close, &text);
    }
}

impl QueryScan {
    /// The body with what `render` asks for; `None` when nothing changes.
    #[must_use]
    pub fn render(&self, body: &[u8], render: &QueryRender<'_>) -> Option<Vec<u8>> {
        if !self.spliceable {
            return None;
        }
        let mut edits = Edits::default();
        if self.dialect == Dialect::Layer {
            self.layer_ranking(render, &mut edits);
        }
        let mut top = Appender::new(&self.top);
        if !self.multi {
            splice_leg(&self.top, render, &mut top, &mut edits);
        }
        for leg in &self.subqueries {
            splice_leg(leg, render, &mut Appender::new(leg), &mut edits);
        }
        if render.eventual && !self.has_consistency {
            match self.top.member(Field::Consistency) {
                Some(null) => edits.replace(null.value_start, null.value_end, CONSISTENCY.to_vec()),
                None => top.append(&mut edits, Field::Consistency.name(), CONSISTENCY),
            }
        }
        edits.apply(body)
    }

    /// `vector` or `nearest_to_id` becomes `rank_by`; those of the three that are null go.
    fn layer_ranking(&self, render: &QueryRender<'_>, edits: &mut Edits) {
        const HEAD: &[u8] = b"[\"vector\",\"ANN\",";
        let mut nulls = Vec::new();
        for field in [Field::RankBy, Field::Vector, Field::NearestToId] {
            let Some(member) = self.top.member(field) else {
                continue;
            };
            if member.is_null {
                nulls.push(*member);
                continue;
            }
            edits.replace(member.key_start, member.key_end, quote(Field::RankBy.name()));
            if field == Field::Vector {
                edits.insert(member.value_start, HEAD);
                edits.insert(member.value_end, b"]");
            } else {
                let mut ranking = HEAD.to_vec();
                ranking.extend_from_slice(render.vector.unwrap_or(b"null"));
                ranking.push(b']');
                edits.replace(member.value_start, member.value_end, ranking);
            }
        }
        remove(nulls, edits);
    }
}

/// Takes members of one object out, each with one comma.
fn remove(mut members: Vec<Member>, edits: &mut Edits) {
    members.sort_by_key(|member| member.key_start);
    // End of the run of removed members at the head of the object.
    let mut head_end = None;
    for member in members {
        let leads = member.previous_end.is_none() || member.previous_end == head_end;
        if leads {
            head_end = Some(member.value_end);
            edits.replace(member.key_start, member.next_start.unwrap_or(member.value_end), Vec::new());
        } else if let Some(start) = member.previous_end {
            edits.replace(start, member.value_end, Vec::new());
        }
    }
}

fn splice_leg(leg: &Leg, render: &QueryRender<'_>, end: &mut Appender, edits: &mut Edits) {
    if let Some(watermark_ms) = render.watermark_ms {
        let mut predicate = b"[".to_vec();
        predicate.extend_from_slice(&quote(STAMP_ATTRIBUTE));
        predicate.extend_from_slice(format!(",\"Lte\",{watermark_ms}]").as_bytes());
        match leg.member(Field::Filters) {
            Some(filters) if !filters.is_null => {
                edits.insert(filters.value_start, b"[\"And\",[");
                let mut tail = b",".to_vec();
                tail.append(&mut predicate);
                tail.extend_from_slice(b"]]");
                edits.insert(filters.value_end, &tail);
            }
            Some(null) => edits.replace(null.value_start, null.value_end, predicate),
            None => end.append(edits, Field::Filters.name(), &predicate),
        }
    }
    if render.exclude_reserved && leg.wants_reserved() {
        exclude_reserved(leg, edits);
    }
}

fn exclude_reserved(leg: &Leg, edits: &mut Edits) {
    if let Exclude::List { close, mut empty, stamp, shard } = leg.exclude {
        let mut names = Vec::new();
        for (name, there) in [(STAMP_ATTRIBUTE, stamp), (SHARD_ATTRIBUTE, shard)] {
            if !there {
                if !empty {
                    names.push(b',');
                }
                empty = false;
                names.extend_from_slice(&quote(name));
            }
        }
        edits.insert(close, &names);
        return;
    }
    let Some(include) = leg.member(Field::IncludeAttributes) else {
        return;
    };
    let mut member = quote(Field::ExcludeAttributes.name());
    member.extend_from_slice(b":[");
    member.extend_from_slice(&quote(STAMP_ATTRIBUTE));
    member.push(b',');
    member.extend_from_slice(&quote(SHARD_ATTRIBUTE));
    member.push(b']');
    edits.replace(include.key_start, include.value_end, member);
    if let Some(null) = leg.member(Field::ExcludeAttributes) {
        remove(vec![*null], edits);
    }
}
