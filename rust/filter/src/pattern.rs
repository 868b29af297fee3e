//! Globs, regular expressions and fuzzy patterns, with bounds on what their compiled forms may take.

use crate::error::FilterError;
use crate::fuzzy::Fuzzy;
use crate::parse::{Leaf, Operator};
use serde_json::Value;

/// Memory that one compiled pattern may take, in bytes.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Most patterns in one filter.
pub const PATTERNS_MAX: usize = 100;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Longest reason of a pattern's refusal, in characters.
const REASON_CHARS_MAX: usize = 200;
const FUZZY_EDITS_MAX: u64 = 2;
/// A fuzzy pattern must have this many characters per allowed edit, and as many again.
const FUZZY_CHARS_PER_EDIT: u64 = 3;

#[derive(Clone, Debug)]
pub enum Pattern {
    Glob(regex::bytes::Regex),
    Regex(regex::Regex),
    /// None: the pattern is shorter than every threshold and matches nothing.
    Fuzzy(Option<Fuzzy>),
}

impl Pattern {
    /// Compiles a leaf's pattern.
    ///
    /// # Errors
    /// The value is no string, no pattern, or too large.
    pub fn compile(leaf: &Leaf) -> Result<Self, FilterError> {
        let value_at = format!("{}/2", leaf.pointer);
        let Value::String(text) = &leaf.value else {
            return Err(FilterError::invalid(&value_at, format!("{} expects string", leaf.name)));
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(FilterError::invalid(
                &value_at,
                format!("a pattern is at most {PATTERN_BYTES_MAX} bytes long"),
            ));
        }
        match leaf.operator {
            Operator::Glob { any_case } => glob(text, any_case)
                .map(Self::Glob)
                .map_err(|reason| FilterError::invalid(&value_at, format!("invalid glob: {reason}"))),
            Operator::Regex => {
                let built = regex::RegexBuilder::new(text).size_limit(PATTERN_COMPILED_BYTES_MAX).build();
                built
                    .map(Self::Regex)
                    .map_err(|error| FilterError::invalid(&value_at, format!("invalid regex: {}", reason(&error))))
            }
            _ => fuzzy(leaf, text).map(Self::Fuzzy),
        }
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Fuzzy(fuzzy) => fuzzy.as_ref().is_some_and(|fuzzy| fuzzy.matches(text)),
        }
    }
}

/// The glob's own expression, compiled here because its library neither bounds the size nor returns that error.
fn glob(text: &str, any_case: bool) -> Result<regex::bytes::Regex, String> {
    let glob = globset::GlobBuilder::new(text).case_insensitive(any_case).build().map_err(|error| reason(&error))?;
    regex::bytes::RegexBuilder::new(glob.regex())
        .dot_matches_new_line(true)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| reason(&error))
}

/// What is wrong, without the pattern, which the libraries repeat whole above it.
fn reason(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").chars().take(REASON_CHARS_MAX).collect()
}

fn fuzzy(leaf: &Leaf, text: &str) -> Result<Option<Fuzzy>, FilterError> {
    let params_at = if leaf.params.is_some() { format!("{}/3", leaf.pointer) } else { leaf.pointer.clone() };
    let refuse = |message: String| FilterError::invalid(&params_at, message);
    let param = |name: &str| leaf.params.as_ref().and_then(|params| params.get(name));
    let thresholds = match param("max_edit_distance") {
        Some(Value::Array(thresholds)) if !thresholds.is_empty() => thresholds,
        _ => {
            let rule = "Fuzzy requires `max_edit_distance`, a non-empty array of {min_query_chars, distance}";
            return Err(refuse(rule.to_owned()));
        }
    };
    let case_sensitive = match param("case_sensitive") {
        None => true,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => return Err(refuse("`case_sensitive` expects bool".to_owned())),
    };
    let chars = text.chars().count() as u64;
    let mut chosen: Option<(u64, u64)> = None;
    for threshold in thresholds {
        let number = |name: &str| {
            threshold
                .get(name)
                .and_then(Value::as_u64)
                .ok_or_else(|| refuse(format!("`max_edit_distance.{name}` expects a non-negative integer")))
        };
        let (chars_min, distance) = (number("min_query_chars")?, number("distance")?);
        if distance > FUZZY_EDITS_MAX {
            return Err(refuse(format!("`max_edit_distance.distance` must be between 0 and {FUZZY_EDITS_MAX}")));
        }
        let required = FUZZY_CHARS_PER_EDIT * (distance + 1);
        if chars_min < required {
            let rule =
                format!("`max_edit_distance.min_query_chars` must be at least {required} for distance {distance}");
            return Err(refuse(rule));
        }
        if chars_min <= chars && chosen.is_none_or(|(best, _)| chars_min >= best) {
            chosen = Some((chars_min, distance));
        }
    }
    let edits = chosen.and_then(|(_, distance)| usize::try_from(distance).ok());
    Ok(edits.map(|edits| Fuzzy::new(text, edits, case_sensitive)))
}
