//! The walk over a query body.

use std::borrow::Cow;

use super::leg::{Exclude, Field, Include, Leg, Member};
use super::{NearestId, QueryScan, LEGS_MAX};
use crate::error::{Parsed, SpliceError};
use crate::reader::{Key, Kind, Reader};
use crate::{text, Dialect, SHARD_ATTRIBUTE, STAMP_ATTRIBUTE};

/// Rankings that Layer clients know and that are not built.
const UNBUILT_RANKINGS: [&str; 2] = ["HybridText", "Auto"];

pub(super) struct Walk<'a> {
    body: &'a [u8],
    top: Leg,
    subqueries: Vec<Leg>,
    /// Sub-queries of whatever type.
    legs: usize,
    multi: bool,
    spliceable: bool,
    nearest: Option<Vec<NearestId>>,
    vector_kind: Option<Kind>,
    /// The first rule that the body breaks; broken JSON goes before it, wherever it stands.
    refusal: Option<SpliceError>,
}

impl<'a> Walk<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            top: Leg::default(),
            subqueries: Vec::new(),
            legs: 0,
            multi: false,
            spliceable: false,
            nearest: None,
            vector_kind: None,
            refusal: None,
        }
    }

    #[cold]
    fn refuse(&mut self, error: impl FnOnce() -> SpliceError) {
        if self.refusal.is_none() {
            self.refusal = Some(error());
        }
    }

    fn name(&self, key: Key) -> Cow<'a, [u8]> {
        let raw = &self.body[key.start + 1..key.end - 1];
        if key.escaped {
            Cow::Owned(text::decode(raw).text.into_owned().into_bytes())
        } else {
            Cow::Borrowed(raw)
        }
    }

    /// Reads a string and gives what it says.
    fn string(&mut self, reader: &mut Reader<'a>) -> Parsed<text::Decoded<'a>> {
        let start = reader.at + 1;
        reader.string()?;
        Ok(text::decode(&self.body[start..reader.at - 1]))
    }

    pub fn body(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        reader.skip_blank();
        match reader.kind() {
            Kind::Object => {}
            Kind::Array => {
                // A struct may be read from an array of its fields in order; such a query would lose its watermark.
                self.refuse(|| SpliceError::validation("the body must be a JSON object, not an array"));
                return reader.skip_value();
            }
            _ => return reader.skip_value(),
        }
        self.spliceable = true;
        self.top = self.leg(reader, None)?;
        Ok(())
    }

    /// Reads one query object; `index` is its place among sub-queries.
    fn leg(&mut self, reader: &mut Reader<'a>, index: Option<usize>) -> Parsed<Leg> {
        let mut leg = Leg::default();
        let mut previous = None;
        let span = reader.members(|reader, key| {
            if let Some(member) = previous.take().and_then(|field| leg.member_mut(field)) {
                member.next_start = Some(key.start);
            }
            let Some(field) = Field::named(&self.name(key)) else {
                return reader.skip_value();
            };
            if leg.member(field).is_some() {
                let body = self.body;
                self.refuse(|| SpliceError::bad_json(body, key.start, &format!("duplicate field `{}`", field.name())));
                return reader.skip_value();
            }
            let kind = reader.kind();
            let value_start = reader.at;
            if kind == Kind::Null {
                reader.skip_value()?;
            } else {
                self.value(reader, field, kind, index, &mut leg)?;
            }
            previous = Some(field);
            leg.put(
                field,
                Member {
                    key_start: key.start,
                    key_end: key.end,
                    value_start,
                    value_end: reader.at,
                    is_null: kind == Kind::Null,
                    previous_end: key.previous_end,
                    next_start: None,
                },
            );
            Ok(())
        })?;
        leg.close = span.close;
        leg.empty = span.last_end.is_none();
        Ok(leg)
    }

    /// Reads the value of a known key that is not null.
    fn value(
        &mut self,
        reader: &mut Reader<'a>,
        field: Field,
        kind: Kind,
        index: Option<usize>,
        leg: &mut Leg,
    ) -> Parsed<()> {
        match (field, kind) {
            (Field::RankBy, _) => self.rank_by(reader, index, leg),
            (Field::IncludeAttributes, _) => {
                leg.include = if kind == Kind::True { Include::All } else { Include::Other };
                reader.skip_value()
            }
            (Field::ExcludeAttributes, Kind::Array) => self.exclude(reader, leg),
            (Field::ExcludeAttributes, _) => {
                leg.exclude = Exclude::Other;
                reader.skip_value()
            }
            (Field::RerankBy, Kind::Object) => {
                reader.members(|reader, key| {
                    leg.model_rerank |= *self.name(key) == *b"model";
                    reader.skip_value()
                })?;
                Ok(())
            }
            (Field::Queries, _) if index.is_none() => self.queries(reader, kind),
            (Field::NearestToId, _) if index.is_none() => self.nearest_to_id(reader, kind),
            (Field::NearestToId, _) => {
                self.refuse(|| {
                    SpliceError::validation(format!("{}: not possible in a sub-query", place(index, "nearest_to_id")))
                });
                reader.skip_value()
            }
            (Field::Vector, _) if index.is_none() => {
                self.vector_kind = Some(kind);
                reader.skip_value()
            }
            (Field::AsOf | Field::Between | Field::Cursor, _) => {
                self.refuse(|| {
                    SpliceError::not_supported(format!("`{}` is not supported yet", place(index, field.name())))
                });
                reader.skip_value()
            }
            _ => reader.skip_value(),
        }
    }

    fn queries(&mut self, reader: &mut Reader<'a>, kind: Kind) -> Parsed<()> {
        self.multi = true;
        if kind != Kind::Array {
            return reader.skip_value();
        }
        reader.elements(|reader, index| {
            self.legs = index + 1;
            if index >= LEGS_MAX {
                self.refuse(|| SpliceError::validation(format!("queries: at most {LEGS_MAX} sub-queries")));
                return reader.skip_value();
            }
            match reader.kind() {
                Kind::Object => {
                    let leg = self.leg(reader, Some(index))?;
                    self.subqueries.push(leg);
                    Ok(())
                }
                kind => {
                    if kind == Kind::Array {
                        self.refuse(|| {
                            SpliceError::validation(format!("queries[{index}]: expected an object, not an array"))
                        });
                    }
                    reader.skip_value()
                }
            }
        })?;
        Ok(())
    }

    /// Tells the rankings that matter apart: `[attribute, operator, …]` or `[function, …]`.
    fn rank_by(&mut self, reader: &mut Reader<'a>, index: Option<usize>, leg: &mut Leg) -> Parsed<()> {
        let mut first = None;
        let mut second = None;
        let mut length = 0;
        if reader.kind() == Kind::String {
            length = 1;
            first = Some(self.string(reader)?.text);
        } else if reader.kind() == Kind::Array {
            reader.elements(|reader, index| {
                length = index + 1;
                if index > 1 || reader.kind() != Kind::String {
                    return reader.skip_value();
                }
                let word = Some(self.string(reader)?.text);
                *(if index == 0 { &mut first } else { &mut second }) = word;
                Ok(())
            })?;
        } else {
            return reader.skip_value();
        }
        let (first, second) = (first.as_deref(), second.as_deref());
        leg.knn = first.is_some() && second == Some("kNN");
        // An attribute may be called like a ranking: then an operator follows it, and what that is applied to.
        let is_attribute = matches!(second, Some("asc" | "desc")) || (second.is_some() && length > 2);
        let unbuilt = UNBUILT_RANKINGS
            .into_iter()
            .find(|&ranking| second == Some(ranking) || (first == Some(ranking) && !is_attribute));
        if let Some(ranking) = unbuilt {
            self.refuse(|| {
                SpliceError::not_supported(format!(
                    "{}: the ranking `{ranking}` is not supported yet",
                    place(index, "rank_by")
                ))
            });
        }
        Ok(())
    }

    fn exclude(&mut self, reader: &mut Reader<'a>, leg: &mut Leg) -> Parsed<()> {
        let (mut stamp, mut shard) = (false, false);
        let span = reader.elements(|reader, _| {
            if reader.kind() != Kind::String {
                return reader.skip_value();
            }
            let name = self.string(reader)?.text;
            stamp |= name == STAMP_ATTRIBUTE;
            shard |= name == SHARD_ATTRIBUTE;
            Ok(())
        })?;
        leg.exclude = Exclude::List { close: span.close, empty: span.last_end.is_none(), stamp, shard };
        Ok(())
    }

    fn nearest_to_id(&mut self, reader: &mut Reader<'a>, kind: Kind) -> Parsed<()> {
        let mut ids = Vec::new();
        if kind == Kind::Array {
            reader.elements(|reader, _| self.nearest_id(reader, &mut ids))?;
        } else {
            self.nearest_id(reader, &mut ids)?;
        }
        if ids.is_empty() {
            self.refuse(|| SpliceError::validation("nearest_to_id: expected at least one id"));
        }
        self.nearest = Some(ids);
        Ok(())
    }

    fn nearest_id(&mut self, reader: &mut Reader<'a>, ids: &mut Vec<NearestId>) -> Parsed<()> {
        let start = reader.at;
        let id = if reader.kind() == Kind::String {
            let decoded = self.string(reader)?;
            decoded.exact.then(|| NearestId::String(decoded.text.into_owned()))
        } else {
            reader.skip_value()?;
            text::uint(&self.body[start..reader.at]).map(NearestId::Uint)
        };
        match id {
            Some(id) => ids.push(id),
            None => self.refuse(|| {
                SpliceError::validation("nearest_to_id: expected ids, each a string or an unsigned integer")
            }),
        }
        Ok(())
    }

    /// The facts of the whole body, and the rules that need them.
    pub fn conclude(mut self) -> Result<QueryScan, SpliceError> {
        let top = &self.top;
        let ranked = top.has(Field::RankBy);
        let is_layer = top.has(Field::NearestToId) || (top.has(Field::Vector) && !ranked);
        if is_layer {
            self.check_layer();
        }
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let mut scan = QueryScan {
            dialect: if is_layer { Dialect::Layer } else { Dialect::Native },
            multi: self.multi,
            legs: if self.multi { self.legs } else { 1 },
            has_consistency: self.top.has(Field::Consistency),
            has_filter: false,
            has_rank_by: false,
            model_rerank: self.top.model_rerank,
            wants_reserved: false,
            permits: 0,
            nearest_to_id: self.nearest,
            top: self.top,
            subqueries: self.subqueries,
            spliceable: self.spliceable,
        };
        let legs = scan.each_leg();
        let has_filter = legs.iter().any(|leg| leg.has(Field::Filters));
        let has_rank_by = legs.iter().any(|leg| leg.has(Field::RankBy));
        let model_rerank = legs.iter().any(|leg| leg.model_rerank);
        let wants_reserved = legs.iter().any(Leg::wants_reserved);
        let permits = legs.iter().map(Leg::permits).sum();
        scan.has_filter = has_filter;
        scan.has_rank_by = has_rank_by;
        scan.model_rerank |= model_rerank;
        scan.wants_reserved = wants_reserved;
        scan.permits = permits;
        Ok(scan)
    }

    fn check_layer(&mut self) {
        let layer = if self.top.has(Field::NearestToId) { Field::NearestToId } else { Field::Vector };
        let rivals = [Field::RankBy, Field::AggregateBy, Field::Queries, Field::Vector];
        let rival = rivals.into_iter().find(|&rival| rival != layer && self.top.has(rival));
        if let Some(rival) = rival {
            self.refuse(|| {
                SpliceError::validation(format!("`{}` and `{}` cannot be in one body", layer.name(), rival.name()))
            });
        }
        if !self.top.has(Field::TopK) && !self.top.has(Field::Limit) {
            self.refuse(|| SpliceError::validation(format!("`{}` needs `top_k`", layer.name())));
        }
        if layer == Field::Vector && !matches!(self.vector_kind, Some(Kind::Array | Kind::String)) {
            self.refuse(|| SpliceError::validation("vector: expected an array of numbers, or a base64 string"));
        }
    }
}

/// Where a refused key stood: `queries[3].as_of`.
fn place(index: Option<usize>, name: &str) -> String {
    index.map_or_else(|| name.to_owned(), |index| format!("queries[{index}].{name}"))
}
