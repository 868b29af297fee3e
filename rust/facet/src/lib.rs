//! Histograms of an attribute's values over the rows that meet a filter, from columns or from rows.
//!
//! An array counts each of its values once per row. Null is counted apart: it is no value.

pub mod codes;
pub mod rows;

use hevlayer_filter::schema::{AttributeType, Scalar, ScalarRef};

/// Most distinct values that are held at once; a field with more gets no groups.
pub const VALUES_HELD_MAX: usize = 1 << 20;

/// The values of one attribute and how many rows have each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    pub kind: AttributeType,
    /// The most frequent first, equally frequent ones in the order of values; at most as many as were asked for.
    pub groups: Vec<(Scalar, u64)>,
    /// Distinct values that were seen.
    pub observed: u64,
    /// All values were seen; false when there were more than can be held.
    pub exact: bool,
    /// Rows that meet the filter and have no value.
    pub nulls: u64,
    /// Rows that meet the filter.
    pub rows: u64,
}

/// What a histogram says beside its groups; see [`Histogram`].
#[derive(Clone, Copy, Debug)]
struct Seen {
    observed: u64,
    exact: bool,
    nulls: u64,
    rows: u64,
}

impl Seen {
    fn json<'a>(&self, kind: AttributeType, groups: impl ExactSizeIterator<Item = (ScalarRef<'a>, u64)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + groups.len() * 32);
        out.extend_from_slice(format!("{{\"type\":\"{}\",\"groups\":[", kind.kind.name()).as_bytes());
        let mut digits = itoa::Buffer::new();
        for (index, (value, count)) in groups.enumerate() {
            out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
            // Writing to a vector cannot fail.
            let _ = match value {
                ScalarRef::Text(text) if is_plain(text) => {
                    out.push(b'"');
                    out.extend_from_slice(text.as_bytes());
                    out.push(b'"');
                    Ok(())
                }
                ScalarRef::Text(text) => serde_json::to_writer(&mut out, text),
                other => serde_json::to_writer(&mut out, &kind.kind.show(other)),
            };
            out.push(b',');
            out.extend_from_slice(digits.format(count).as_bytes());
            out.push(b']');
        }
        let Self { observed, exact, nulls, rows } = self;
        let rest = format!("],\"observed\":{observed},\"exact\":{exact},\"nulls\":{nulls},\"rows\":{rows}}}");
        out.extend_from_slice(rest.as_bytes());
        out
    }
}

/// Whether a text stands in JSON as it is.
fn is_plain(text: &str) -> bool {
    // Every byte is looked at, so that the compiler can look at many at once.
    text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'))
}

impl Histogram {
    /// `{"type":…,"groups":[["value",count],…],"observed":…,"exact":…,"nulls":…,"rows":…}`; `type` is the values' own,
    /// of an array its elements'.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let groups = self.groups.iter().map(|(value, count)| (value.borrowed(), *count));
        Seen { observed: self.observed, exact: self.exact, nulls: self.nulls, rows: self.rows }.json(self.kind, groups)
    }

    fn of(kind: AttributeType, mut groups: Vec<(Scalar, u64)>, groups_max: usize, (rows, nulls): (u64, u64)) -> Self {
        let observed = groups.len() as u64;
        let order =
            |left: &(Scalar, u64), right: &(Scalar, u64)| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0));
        if groups_max < groups.len() {
            groups.select_nth_unstable_by(groups_max, order);
            groups.truncate(groups_max);
        }
        groups.sort_unstable_by(order);
        Self { kind, groups, observed, exact: true, nulls, rows }
    }

    fn too_many(kind: AttributeType, observed: u64, (rows, nulls): (u64, u64)) -> Self {
        Self { kind, groups: Vec::new(), observed, exact: false, nulls, rows }
    }
}
