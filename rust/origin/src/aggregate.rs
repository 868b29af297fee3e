//! Counts and sums over the rows that meet a filter, whole or by group.

use crate::filter::{compare, Filter};
use crate::filter_parse::items;
use crate::input::Input;
use crate::knn::scan_in_parts;
use crate::query_body::Named;
use crate::rank_run::{hash_value, Snapshot};
use crate::reply::{ApiError, ApiResult};
use crate::schema::Schema;
use crate::table::Table;
use crate::value::{write_json_f64, write_json_str, AttrType, Scalar, Value};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::io::Write as _;

/// Most groups of one answer, and how many there are when the query sets no limit.
pub const GROUPS_MAX: usize = 10_000;
const NUMBER_BYTES: u64 = 8;

#[derive(Clone, Debug)]
pub struct AggregatePlan {
    pub filter: Option<Filter>,
    aggregates: Vec<(String, Aggregate)>,
    /// None: one total over all rows.
    groups: Option<Vec<GroupKey>>,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Count,
    SumOfIntegers(usize),
    SumOfFloats(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupKey {
    name: String,
    ordinal: usize,
    /// One group per different element of the array.
    each: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Total {
    Integer(i128),
    Float(f64),
}

impl AggregatePlan {
    /// Resolves `aggregate_by` and `group_by`.
    ///
    /// # Errors
    /// 400 when a function or an attribute cannot be aggregated or grouped by.
    pub fn parse(
        aggregate_by: &Named<'_>,
        group_by: Option<&Vec<Input<'_>>>,
        limit: Option<usize>,
        filter: Option<Filter>,
        schema: &Schema,
    ) -> ApiResult<Self> {
        if aggregate_by.0.is_empty() {
            return Err(ApiError::invalid("aggregate_by cannot be empty"));
        }
        let aggregates =
            aggregate_by.0.iter().map(|(label, input)| Ok((label.clone(), parse_aggregate(input, schema)?)));
        let aggregates = aggregates.collect::<ApiResult<Vec<_>>>()?;
        let groups = match group_by {
            Some(keys) if keys.is_empty() => return Err(ApiError::invalid("group_by cannot be empty")),
            Some(keys) => Some(keys.iter().map(|key| parse_group_key(key, schema)).collect::<ApiResult<Vec<_>>>()?),
            None => None,
        };
        if let Some(keys) = &groups {
            for (label, _) in &aggregates {
                if keys.iter().any(|key| key.name == *label) {
                    return Err(ApiError::invalid(format!("`{label}` is both a group key and an aggregation label")));
                }
            }
        }
        Ok(Self { filter, aggregates, groups, limit: limit.unwrap_or(GROUPS_MAX) })
    }

    /// Writes `"aggregations":{…}` or `"aggregation_groups":[…]`; returns the bytes that are billed as returned.
    pub fn write(&self, out: &mut Vec<u8>, snapshot: &Snapshot<'_>) -> u64 {
        match &self.groups {
            None => self.write_totals(out, snapshot),
            Some(keys) => self.write_groups(out, snapshot, keys),
        }
    }

    fn write_totals(&self, out: &mut Vec<u8>, snapshot: &Snapshot<'_>) -> u64 {
        let totals = merge_totals(self.scan(
            snapshot,
            || self.zeros(),
            |totals, slot| self.add_row(totals, snapshot.table, slot),
        ));
        out.extend_from_slice(b"\"aggregations\":{");
        self.write_labels(out, &totals);
        out.push(b'}');
        NUMBER_BYTES * totals.len() as u64
    }

    fn write_groups(&self, out: &mut Vec<u8>, snapshot: &Snapshot<'_>, keys: &[GroupKey]) -> u64 {
        let table = snapshot.table;
        let zeros = self.zeros();
        let mut parts = self.scan(snapshot, Groups::default, |groups: &mut Groups<'_>, slot| {
            let mut key = std::mem::take(&mut groups.scratch);
            each_key(table, keys, slot, &mut key, &mut |key| self.add_row(groups.totals(key, &zeros), table, slot));
            groups.scratch = key;
        });
        let mut groups = parts.pop().unwrap_or_default();
        for part in parts {
            for (key, totals) in part.entries {
                add_totals(groups.totals(&key, &zeros), &totals);
            }
        }
        let mut entries = groups.entries;
        entries.sort_unstable_by(|left, right| {
            let orders = left.0.iter().zip(&right.0).map(|(left, right)| compare(left, right));
            orders.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        });
        entries.truncate(self.limit);
        let mut bytes = 0;
        out.extend_from_slice(b"\"aggregation_groups\":[");
        for (index, (values, totals)) in entries.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{" } else { b"{" });
            for (key, value) in keys.iter().zip(values) {
                write_json_str(out, &key.name);
                out.push(b':');
                value.write_json(out);
                out.push(b',');
                bytes += value.logical_bytes() as u64;
            }
            self.write_labels(out, totals);
            out.push(b'}');
            bytes += NUMBER_BYTES * totals.len() as u64;
        }
        out.push(b']');
        bytes
    }

    fn scan<T: Send>(
        &self,
        snapshot: &Snapshot<'_>,
        start_with: impl Fn() -> T + Sync,
        add: impl Fn(&mut T, u32) + Sync,
    ) -> Vec<T> {
        let candidates = snapshot.candidates(self.filter.as_ref());
        scan_in_parts(snapshot.table.slots.len(), |start, end| {
            let mut state = start_with();
            match &candidates {
                None => (start..end).for_each(|slot| add(&mut state, slot)),
                Some(bitmap) => bitmap.iter_range(start, end).for_each(|slot| add(&mut state, slot)),
            }
            state
        })
    }

    fn zeros(&self) -> Vec<Total> {
        let zero = |aggregate: &Aggregate| match aggregate {
            Aggregate::Count | Aggregate::SumOfIntegers(_) => Total::Integer(0),
            Aggregate::SumOfFloats(_) => Total::Float(0.0),
        };
        self.aggregates.iter().map(|(_, aggregate)| zero(aggregate)).collect()
    }

    fn add_row(&self, totals: &mut [Total], table: &Table, slot: u32) {
        for ((_, aggregate), total) in self.aggregates.iter().zip(totals) {
            match (aggregate, total) {
                (Aggregate::Count, Total::Integer(count)) => *count += 1,
                (Aggregate::SumOfIntegers(ordinal), Total::Integer(sum)) => match table.value(slot, *ordinal) {
                    Value::Int(number) => *sum += i128::from(*number),
                    Value::Uint(number) => *sum += i128::from(*number),
                    _ => {}
                },
                (Aggregate::SumOfFloats(ordinal), Total::Float(sum)) => {
                    if let Value::Float(number) = table.value(slot, *ordinal) {
                        *sum += number;
                    }
                }
                _ => {}
            }
        }
    }

    fn write_labels(&self, out: &mut Vec<u8>, totals: &[Total]) {
        for (index, ((label, _), total)) in self.aggregates.iter().zip(totals).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_json_str(out, label);
            out.push(b':');
            match total {
                // Writing to a vector cannot fail.
                Total::Integer(number) => drop(write!(out, "{number}")),
                Total::Float(number) => write_json_f64(out, number.clamp(f64::MIN, f64::MAX)),
            }
        }
    }
}

fn parse_aggregate(input: &Input<'_>, schema: &Schema) -> ApiResult<Aggregate> {
    let parts = items(input).unwrap_or_default();
    match parts.as_slice() {
        [Input::Str(function)] if function == "Count" => Ok(Aggregate::Count),
        [Input::Str(function), Input::Str(name)] if function == "Count" && name == "id" => Ok(Aggregate::Count),
        [Input::Str(function), Input::Str(_)] if function == "Count" => {
            Err(ApiError::invalid("aggregate_by with attributes other than \"id\" not yet supported"))
        }
        [Input::Str(function), Input::Str(name)] if function == "Sum" => {
            let ordinal = find(name, schema)?;
            let attribute = &schema.attributes[ordinal];
            match attribute.kind {
                _ if !attribute.filterable => {
                    Err(ApiError::invalid(format!("cannot aggregate attribute \"{name}\", it is not filterable")))
                }
                AttrType::Scalar(Scalar::Int | Scalar::Uint) => Ok(Aggregate::SumOfIntegers(ordinal)),
                AttrType::Scalar(Scalar::Float) => Ok(Aggregate::SumOfFloats(ordinal)),
                kind => Err(ApiError::invalid(format!("Sum expects a numeric attribute, but \"{name}\" is {kind}"))),
            }
        }
        _ => Err(ApiError::shape(
            "aggregate_by",
            "data did not match any variant of enum a valid variant of AggregateInput",
        )),
    }
}

fn find(name: &str, schema: &Schema) -> ApiResult<usize> {
    schema.ordinal(name).ok_or_else(|| ApiError::invalid(format!("attribute \"{name}\" not found in schema")))
}

fn parse_group_key(input: &Input<'_>, schema: &Schema) -> ApiResult<GroupKey> {
    let shape = || ApiError::shape("group_by", "data did not match any variant of untagged enum GroupByInput");
    let (name, attribute, each) = match input {
        Input::Str(name) => (name, name, false),
        Input::Object(entries) => {
            let [(name, function)] = entries.as_slice() else { return Err(shape()) };
            let Input::Array(parts) = function else { return Err(shape()) };
            match parts.as_slice() {
                [Input::Str(function), Input::Str(attribute)] if function == "ForEachUnique" => (name, attribute, true),
                _ => return Err(shape()),
            }
        }
        _ => return Err(shape()),
    };
    if attribute == "id" {
        return Err(ApiError::invalid("cannot group by \"id\""));
    }
    let ordinal = find(attribute, schema)?;
    let found = &schema.attributes[ordinal];
    if !found.filterable {
        return Err(ApiError::invalid(format!("cannot group by attribute \"{attribute}\", it is not filterable")));
    }
    match found.kind {
        AttrType::Scalar(_) => {}
        AttrType::Array(_) if each => {}
        AttrType::Array(_) => {
            return Err(ApiError::invalid(format!(
                "cannot group by array attribute \"{attribute}\", use [\"ForEachUnique\", \"{attribute}\"]"
            )));
        }
        kind => return Err(ApiError::invalid(format!("cannot group by attribute \"{attribute}\" of type {kind}"))),
    }
    Ok(GroupKey { name: name.to_string(), ordinal, each })
}

/// Calls `visit` with each combination of key values that the row belongs to. An empty or missing array belongs to no
/// group; a missing scalar belongs to the group of null.
fn each_key<'a>(
    table: &'a Table,
    keys: &[GroupKey],
    slot: u32,
    prefix: &mut Vec<&'a Value>,
    visit: &mut impl FnMut(&[&'a Value]),
) {
    let Some(key) = keys.get(prefix.len()) else { return visit(prefix) };
    match table.value(slot, key.ordinal) {
        Value::Array(elements) if key.each => {
            for (index, element) in elements.iter().enumerate() {
                if !elements[..index].contains(element) {
                    prefix.push(element);
                    each_key(table, keys, slot, prefix, visit);
                    prefix.pop();
                }
            }
        }
        Value::Null if key.each => {}
        value => {
            prefix.push(value);
            each_key(table, keys, slot, prefix, visit);
            prefix.pop();
        }
    }
}

fn merge_totals(parts: Vec<Vec<Total>>) -> Vec<Total> {
    let mut parts = parts.into_iter();
    let mut totals = parts.next().unwrap_or_default();
    parts.for_each(|part| add_totals(&mut totals, &part));
    totals
}

fn add_totals(totals: &mut [Total], others: &[Total]) {
    for (total, other) in totals.iter_mut().zip(others) {
        match (total, other) {
            (Total::Integer(sum), Total::Integer(number)) => *sum += number,
            (Total::Float(sum), Total::Float(number)) => *sum += number,
            _ => {}
        }
    }
}

#[derive(Default)]
struct Groups<'a> {
    entries: Vec<(Vec<&'a Value>, Vec<Total>)>,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// The key of the row at hand; empty between rows.
    scratch: Vec<&'a Value>,
}

impl<'a> Groups<'a> {
    /// The totals of a group, which begin as `zeros`.
    fn totals(&mut self, key: &[&'a Value], zeros: &[Total]) -> &mut [Total] {
        let hash = hash_key(&self.hasher, key);
        let (entries, hasher) = (&mut self.entries, &self.hasher);
        let place = match self.places.find(hash, |place| entries[*place].0 == key) {
            Some(place) => *place,
            None => {
                entries.push((key.to_vec(), zeros.to_vec()));
                let place = entries.len() - 1;
                self.places.insert_unique(hash, place, |place| hash_key(hasher, &entries[*place].0));
                place
            }
        };
        &mut entries[place].1
    }
}

fn hash_key(builder: &DefaultHashBuilder, key: &[&Value]) -> u64 {
    let mut hasher = builder.build_hasher();
    key.iter().for_each(|value| hash_value(value, &mut hasher));
    hasher.finish()
}
