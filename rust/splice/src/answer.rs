//! Answers on their way back, and raw members of small bodies.

use memchr::memmem;

use crate::error::{Parsed, SpliceError};
use crate::prune::Pruner;
use crate::reader::{Key, Kind, Reader};
use crate::{text, RESERVED_PREFIX};

fn name_is(body: &[u8], key: Key, wanted: impl Fn(&[u8]) -> bool) -> bool {
    let raw = &body[key.start + 1..key.end - 1];
    if key.escaped {
        wanted(text::decode(raw).text.as_bytes())
    } else {
        wanted(raw)
    }
}

fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(RESERVED_PREFIX.as_bytes())
}

/// False when no key can be reserved: neither the prefix nor an escape that could spell it stands anywhere.
fn may_hold_reserved(body: &[u8]) -> bool {
    memmem::find(body, RESERVED_PREFIX.as_bytes()).is_some() || memmem::find(body, b"\\u00").is_some()
}

/// Parts of an answer that go.
struct Stripper<'a> {
    body: &'a [u8],
    cuts: Vec<(usize, usize)>,
}

impl<'a> Stripper<'a> {
    /// Reads an object and cuts its reserved members.
    fn object(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        if reader.kind() != Kind::Object {
            return reader.skip_value();
        }
        let mut pruner = Pruner::default();
        reader.members(|reader, key| {
            self.cuts.extend(pruner.begin(key.start));
            reader.skip_value()?;
            if name_is(self.body, key, is_reserved) {
                self.cuts.extend(pruner.drop(key.start, reader.at));
            } else {
                pruner.keep(reader.at);
            }
            Ok(())
        })?;
        self.cuts.extend(pruner.end().0);
        Ok(())
    }

    /// Reads an array and strips each object in it.
    fn rows(&mut self, reader: &mut Reader<'a>) -> Parsed<()> {
        if reader.kind() != Kind::Array {
            return reader.skip_value();
        }
        reader.elements(|reader, _| self.object(reader)).map(|_| ())
    }

    /// Reads an answer, or one of the answers to a multi-query.
    fn answer(&mut self, reader: &mut Reader<'a>, nested: bool) -> Parsed<()> {
        if reader.kind() != Kind::Object {
            return reader.skip_value();
        }
        let body = self.body;
        reader.members(|reader, key| {
            if name_is(body, key, |name| matches!(name, b"rows" | b"aggregation_groups")) {
                self.rows(reader)
            } else if !nested && reader.kind() == Kind::Array && name_is(body, key, |name| name == b"results") {
                reader.elements(|reader, _| self.answer(reader, true)).map(|_| ())
            } else {
                reader.skip_value()
            }
        })?;
        Ok(())
    }

    fn without_cuts(self) -> Option<Vec<u8>> {
        if self.cuts.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(self.body.len());
        let mut read = 0;
        for (start, end) in self.cuts {
            out.extend_from_slice(&self.body[read..start]);
            read = end;
        }
        out.extend_from_slice(&self.body[read..]);
        Some(out)
    }
}

fn strip<'a>(
    body: &'a [u8],
    walk: impl FnOnce(&mut Stripper<'a>, &mut Reader<'a>) -> Parsed<()>,
) -> Parsed<Option<Vec<u8>>> {
    if !may_hold_reserved(body) {
        return Ok(None);
    }
    let mut stripper = Stripper { body, cuts: Vec::new() };
    let mut reader = Reader::new(body);
    reader.skip_blank();
    walk(&mut stripper, &mut reader)?;
    reader.finish()?;
    Ok(stripper.without_cuts())
}

/// A query answer without reserved keys in `rows` and `aggregation_groups`, also under `results`; `None` when there
/// are none.
///
/// # Errors
/// The answer is not JSON, and reserved text stands in it; one without such text is not read at all.
pub fn strip_rows(body: &[u8]) -> Result<Option<Vec<u8>>, SpliceError> {
    strip(body, |stripper, reader| stripper.answer(reader, false)).map_err(|fault| fault.explain(body))
}

/// A map without reserved keys: the answer itself, or the object at its top-level key `under`. `None` when there are
/// none, or when the answer is not JSON.
#[must_use]
pub fn strip_schema(body: &[u8], under: Option<&str>) -> Option<Vec<u8>> {
    strip(body, |stripper, reader| {
        let Some(under) = under else {
            return stripper.object(reader);
        };
        if reader.kind() != Kind::Object {
            return reader.skip_value();
        }
        reader.members(|reader, key| {
            if name_is(body, key, |name| name == under.as_bytes()) {
                stripper.object(reader)
            } else {
                reader.skip_value()
            }
        })?;
        Ok(())
    })
    // What is not JSON is not ours to change.
    .unwrap_or(None)
}

/// A native query answer with `results: [{id, dist, attributes}]` right after `rows`; `None` when it has no array of
/// rows, or `results` of its own.
///
/// # Errors
/// The answer is not JSON.
pub fn layer_results(body: &[u8]) -> Result<Option<Vec<u8>>, SpliceError> {
    with_results(body).map_err(|fault| fault.explain(body))
}

fn with_results(body: &[u8]) -> Parsed<Option<Vec<u8>>> {
    let mut results = Vec::new();
    let mut rows_end = None;
    let mut taken = false;
    let mut reader = Reader::new(body);
    reader.skip_blank();
    if reader.kind() != Kind::Object {
        reader.skip_value()?;
        reader.finish()?;
        return Ok(None);
    }
    reader.members(|reader, key| {
        taken |= name_is(body, key, |name| name == b"results");
        if rows_end.is_some() || reader.kind() != Kind::Array || !name_is(body, key, |name| name == b"rows") {
            return reader.skip_value();
        }
        results.reserve(reader.bytes().len() - reader.at);
        reader.elements(|reader, index| {
            if index > 0 {
                results.push(b',');
            }
            layer_row(body, reader, &mut results)
        })?;
        rows_end = Some(reader.at);
        Ok(())
    })?;
    reader.finish()?;
    let Some(rows_end) = rows_end.filter(|_| !taken) else {
        return Ok(None);
    };
    let mut out = Vec::with_capacity(body.len() + results.len() + 13);
    out.extend_from_slice(&body[..rows_end]);
    out.extend_from_slice(b",\"results\":[");
    out.extend_from_slice(&results);
    out.push(b']');
    out.extend_from_slice(&body[rows_end..]);
    Ok(Some(out))
}

/// Appends `{"id":…,"dist":…,"attributes":{…}}` for the row at the reader; what is no object stays as it is.
fn layer_row<'a>(body: &'a [u8], reader: &mut Reader<'a>, out: &mut Vec<u8>) -> Parsed<()> {
    let start = reader.at;
    if reader.kind() != Kind::Object {
        reader.skip_value()?;
        out.extend_from_slice(&body[start..reader.at]);
        return Ok(());
    }
    let (mut id, mut dist) = (None, None);
    // The attributes as runs of the row's text: members that follow each other are copied at once.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    reader.members(|reader, key| {
        let value_start = reader.at;
        reader.skip_value()?;
        if name_is(body, key, |name| name == b"id") {
            id = Some((value_start, reader.at));
        } else if name_is(body, key, |name| name == b"$dist") {
            dist = Some((value_start, reader.at));
        } else {
            match runs.last_mut() {
                Some(run) if Some(run.1) == key.previous_end => run.1 = reader.at,
                _ => runs.push((key.start, reader.at)),
            }
        }
        Ok(())
    })?;
    out.push(b'{');
    for (key, value) in [("\"id\":", id), ("\"dist\":", dist)] {
        if let Some((start, end)) = value {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&body[start..end]);
            out.push(b',');
        }
    }
    out.extend_from_slice(b"\"attributes\":{");
    for (index, &(start, end)) in runs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&body[start..end]);
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Ranges of the raw text of the named top-level members, in the order of `keys`.
///
/// # Errors
/// The body is not a JSON object, or has one of the keys twice.
pub fn top_level(body: &[u8], keys: &[String]) -> Result<Vec<Option<(usize, usize)>>, SpliceError> {
    let mut found = vec![None; keys.len()];
    let mut duplicate = None;
    let mut reader = Reader::new(body);
    reader.skip_blank();
    let is_object = reader.kind() == Kind::Object;
    let read = if is_object {
        reader
            .members(|reader, key| {
                let start = reader.at;
                reader.skip_value()?;
                for (wanted, place) in keys.iter().zip(&mut found) {
                    if name_is(body, key, |name| name == wanted.as_bytes())
                        && place.replace((start, reader.at)).is_some()
                    {
                        duplicate.get_or_insert((key.start, wanted));
                    }
                }
                Ok(())
            })
            .map(|_| ())
    } else {
        reader.skip_value()
    };
    read.and_then(|()| reader.finish()).map_err(|fault| fault.explain(body))?;
    if let Some((at, name)) = duplicate {
        return Err(SpliceError::bad_json(body, at, &format!("duplicate field `{name}`")));
    }
    if !is_object {
        return Err(SpliceError::validation("the body must be a JSON object"));
    }
    Ok(found)
}
