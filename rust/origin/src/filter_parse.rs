//! From a filter's JSON to a typed condition.
//!
//! Two steps, as upstream: the shape (a 422 when it is no filter at all), then names and types against the schema (a
//! 400 that names the key).

use crate::analyze::{Analysis, PRE_TOKENIZED};
use crate::filter::{compare, Comparison, Filter, IdTest, Node, Operand, Test, TextTest, VectorOperand};
use crate::filter_fuzzy::Fuzzy;
use crate::fts::{TokenQuery, TokenRule};
use crate::input::Input;
use crate::reply::{ApiError, ApiResult};
use crate::schema::{Attribute, Schema};
use crate::value::{parse_uuid, AttrType, Id, IdType, Scalar, Value};
use serde::de::{Deserialize, Deserializer, Error as _};

/// Deepest nesting of `And`, `Or` and `Not`.
pub const FILTER_DEPTH_MAX: usize = 48;
/// Longest full-text query, in bytes.
pub const TEXT_QUERY_BYTES_MAX: usize = 8192;
/// Memory that one compiled regular expression may take, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Most globs, regular expressions and fuzzy patterns in one filter; each takes memory once it is compiled.
const PATTERNS_MAX: usize = 100;
const FUZZY_EDITS_MAX: u64 = 2;
/// A pattern must have this many characters per allowed edit, and as many again.
const FUZZY_CHARS_PER_EDIT: u64 = 3;
const REF_NEW: &str = "$ref_new";

const OPERATORS: [&str; 24] = [
    "Eq",
    "NotEq",
    "In",
    "NotIn",
    "Contains",
    "NotContains",
    "ContainsAny",
    "NotContainsAny",
    "Lt",
    "Lte",
    "Gt",
    "Gte",
    "AnyLt",
    "AnyLte",
    "AnyGt",
    "AnyGte",
    "Glob",
    "NotGlob",
    "IGlob",
    "NotIGlob",
    "Regex",
    "ContainsAllTokens",
    "ContainsAnyToken",
    "ContainsTokenSequence",
];
/// Operators that take an object of parameters as a fourth element.
const OPERATORS_WITH_PARAMS: [&str; 3] = ["Fuzzy", "ContainsAllTokens", "ContainsAnyToken"];

/// A filter in a request body, of which only the shape has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct FiltersInput<'a>(pub Input<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for FiltersInput<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let input = Input::deserialize(deserializer)?;
        if has_filter_shape(&input, 0) {
            Ok(Self(input))
        } else {
            Err(D::Error::custom(SHAPE_ERROR))
        }
    }
}

const SHAPE_ERROR: &str = "data did not match any variant of untagged enum FiltersInput";

/// Parses a filter against a schema. `allow_ref_new` is for the conditions of writes: values may then be
/// `{"$ref_new": attribute}`, and vectors may be compared.
///
/// # Errors
/// 422 when the input has not the shape of a filter; 400 when an attribute is missing or not filterable, or a value
/// is not of the attribute's type.
pub fn parse(input: &Input<'_>, schema: &Schema, allow_ref_new: bool) -> ApiResult<Filter> {
    if !has_filter_shape(input, 0) {
        return Err(ApiError::shape("", SHAPE_ERROR));
    }
    let mut parser = Parser { schema, allow_ref_new, token_leaves: 0, patterns: 0 };
    let root = parser.node(input, 0)?;
    Ok(Filter { root, token_leaves: parser.token_leaves })
}

/// Whether the input reads as a filter, whatever its names and types. Nesting beyond the bound passes here, so that
/// the parser can say what is wrong with it.
#[must_use]
pub fn has_filter_shape(input: &Input<'_>, depth: usize) -> bool {
    let Input::Array(items) = input else { return false };
    if depth > FILTER_DEPTH_MAX {
        return true;
    }
    match items.as_slice() {
        [Input::Str(name), Input::Array(nodes)] if name == "And" || name == "Or" => {
            nodes.iter().all(|node| has_filter_shape(node, depth + 1))
        }
        [Input::Str(name), node] if name == "Not" => has_filter_shape(node, depth + 1),
        [Input::Str(_), Input::Str(operator), _] => is_operator(operator),
        [Input::Str(_), Input::Str(operator), _, Input::Object(_)] => {
            OPERATORS_WITH_PARAMS.contains(&operator.as_ref())
        }
        _ => false,
    }
}

#[must_use]
pub fn is_operator(name: &str) -> bool {
    OPERATORS.contains(&name) || OPERATORS_WITH_PARAMS.contains(&name)
}

/// The items of any array, whichever way it is kept.
#[must_use]
pub fn items<'a>(input: &Input<'a>) -> Option<Vec<Input<'a>>> {
    Some(match input {
        Input::Array(items) => items.clone(),
        Input::Ints(numbers) => {
            numbers.iter().map(|number| u64::try_from(*number).map_or(Input::Int(*number), Input::Uint)).collect()
        }
        Input::Floats(numbers) => numbers.iter().map(|number| Input::Float(*number)).collect(),
        _ => return None,
    })
}

/// The value under a key of an object.
#[must_use]
pub fn member<'i, 'a>(object: &'i Input<'a>, key: &str) -> Option<&'i Input<'a>> {
    let Input::Object(entries) = object else { return None };
    entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn error(key: &str, reason: &str) -> ApiError {
    ApiError::new(400, format!("filter error in key `{key}`: {reason}"))
}

fn mismatch(key: &str, operator: &str, expected: &str, got: &Input<'_>) -> ApiError {
    error(key, &format!("type mismatch, {operator} expects {expected}, but got '{}'", got.shown()))
}

struct Parser<'s> {
    schema: &'s Schema,
    allow_ref_new: bool,
    token_leaves: usize,
    patterns: usize,
}

/// One leaf as it was written.
struct Leaf<'i> {
    key: &'i str,
    operator: &'i str,
    value: &'i Input<'i>,
    params: Option<&'i Input<'i>>,
}

impl Leaf<'_> {
    fn mismatch(&self, expected: &str) -> ApiError {
        mismatch(self.key, self.operator, expected, self.value)
    }

    fn error(&self, reason: &str) -> ApiError {
        error(self.key, reason)
    }
}

impl Parser<'_> {
    fn node(&mut self, input: &Input<'_>, depth: usize) -> ApiResult<Node> {
        if depth > FILTER_DEPTH_MAX {
            return Err(ApiError::invalid(format!("filters are nested deeper than {FILTER_DEPTH_MAX} levels")));
        }
        let Input::Array(items) = input else { return Err(ApiError::shape("", SHAPE_ERROR)) };
        match items.as_slice() {
            [Input::Str(name), Input::Array(nodes)] if name == "And" || name == "Or" => {
                let nodes = nodes.iter().map(|node| self.node(node, depth + 1)).collect::<ApiResult<Vec<_>>>()?;
                Ok(if name == "And" { Node::And(nodes) } else { Node::Or(nodes) })
            }
            [Input::Str(name), node] if name == "Not" => Ok(Node::Not(Box::new(self.node(node, depth + 1)?))),
            [Input::Str(key), Input::Str(operator), value, rest @ ..] => {
                self.leaf(&Leaf { key, operator, value, params: rest.first() })
            }
            _ => Err(ApiError::shape("", SHAPE_ERROR)),
        }
    }

    fn leaf(&mut self, leaf: &Leaf<'_>) -> ApiResult<Node> {
        let operator = leaf.operator;
        self.patterns += usize::from(operator.ends_with("Glob") || operator == "Regex" || operator == "Fuzzy");
        if self.patterns > PATTERNS_MAX {
            return Err(leaf.error(&format!("a filter can have at most {PATTERNS_MAX} patterns")));
        }
        // `NotContainsAny` is `ContainsAny` negated, and so on.
        if let Some(positive) = operator.strip_prefix("Not") {
            let node = self.positive_leaf(leaf, positive)?;
            return Ok(Node::Not(Box::new(node)));
        }
        self.positive_leaf(leaf, operator)
    }

    fn positive_leaf(&mut self, leaf: &Leaf<'_>, operator: &str) -> ApiResult<Node> {
        if leaf.key == "id" {
            return self.id_leaf(leaf, operator);
        }
        let ordinal = self.schema.ordinal(leaf.key).ok_or_else(|| leaf.error("attribute not found"))?;
        let attribute = &self.schema.attributes[ordinal];
        match attribute.kind {
            AttrType::Scalar(scalar) => self.value_test(leaf, operator, attribute, scalar, false),
            AttrType::Array(scalar) => self.value_test(leaf, operator, attribute, scalar, true),
            AttrType::Vector { .. } => return self.vector_leaf(leaf, operator, ordinal),
            AttrType::Sparse => Err(leaf.error("sparse vectors cannot be filtered on")),
        }
        .map(|test| Node::Attribute(ordinal, test))
    }

    fn value_test(
        &mut self,
        leaf: &Leaf<'_>,
        operator: &str,
        attribute: &Attribute,
        scalar: Scalar,
        is_array: bool,
    ) -> ApiResult<Test> {
        match operator {
            "ContainsAllTokens" => return self.tokens(leaf, attribute, TokenRule::All),
            "ContainsAnyToken" => return self.tokens(leaf, attribute, TokenRule::Any),
            "ContainsTokenSequence" => return self.tokens(leaf, attribute, TokenRule::Sequence),
            _ => {}
        }
        let indexed = match operator {
            "Glob" | "IGlob" => attribute.glob || attribute.filterable,
            "Regex" => attribute.regex,
            "Fuzzy" => attribute.fuzzy,
            _ => attribute.filterable,
        };
        if !indexed {
            return Err(match operator {
                "Regex" => leaf.error("Regex requires the attribute to have `regex` set to `true`"),
                "Fuzzy" => leaf.error("Fuzzy requires the attribute to have `fuzzy` set to `true`"),
                "Glob" | "IGlob" => {
                    leaf.error("Glob requires the attribute to have `glob` or `filterable` set to `true`")
                }
                _ => leaf.error("attribute is not filterable"),
            });
        }
        let one = AttrType::Scalar(scalar);
        let whole = if is_array { AttrType::Array(scalar) } else { one };
        let needs_array =
            || leaf.error(&format!("type mismatch, {} expects an array attribute, but it is {whole}", leaf.operator));
        match operator {
            "Eq" => Ok(Test::Eq(self.operand(leaf, whole)?)),
            "Lt" | "Lte" | "Gt" | "Gte" if !is_array => {
                Ok(Test::Compare(comparison(operator), self.operand(leaf, one)?))
            }
            "Lt" | "Lte" | "Gt" | "Gte" => {
                Err(leaf.error(&format!("type mismatch, {operator} expects a scalar attribute, but it is {whole}")))
            }
            "AnyLt" | "AnyLte" | "AnyGt" | "AnyGte" if is_array => {
                Ok(Test::AnyCompare(comparison(&operator[3..]), self.operand(leaf, one)?))
            }
            "Contains" if is_array => Ok(Test::Contains(self.operand(leaf, one)?)),
            "ContainsAny" if is_array => {
                value_list(leaf, scalar).map(Test::In).ok_or_else(|| leaf.mismatch(&format!("[]{}", scalar.name())))
            }
            "AnyLt" | "AnyLte" | "AnyGt" | "AnyGte" | "Contains" | "ContainsAny" => Err(needs_array()),
            "In" => {
                let single = || scalar.coerce(leaf.value).map(|value| vec![value]);
                let expected = || leaf.mismatch(&format!("{0} or []{0}", scalar.name()));
                value_list(leaf, scalar).or_else(single).map(Test::In).ok_or_else(expected)
            }
            _ => text_test(leaf, operator, scalar).map(Test::Pattern),
        }
    }

    fn operand(&self, leaf: &Leaf<'_>, kind: AttrType) -> ApiResult<Operand> {
        if let Some(name) = self.ref_new(leaf)? {
            let ordinal = self.schema.ordinal(name).ok_or_else(|| error(name, "attribute not found"))?;
            let found = self.schema.attributes[ordinal].kind;
            if found != kind {
                let reason = format!("type mismatch, {} expects {kind}, but `{name}` is {found}", leaf.operator);
                return Err(leaf.error(&reason));
            }
            return Ok(Operand::RefNew(ordinal));
        }
        leaf.value.to_value(kind).map(Operand::Value).ok_or_else(|| leaf.mismatch(&kind.to_string()))
    }

    fn ref_new<'i>(&self, leaf: &Leaf<'i>) -> ApiResult<Option<&'i str>> {
        match member(leaf.value, REF_NEW) {
            None => Ok(None),
            Some(_) if !self.allow_ref_new => {
                Err(leaf.error("`$ref_new` can only be used in the condition of a write"))
            }
            Some(Input::Str(name)) => Ok(Some(name)),
            Some(other) => {
                Err(leaf.error(&format!("`$ref_new` expects an attribute name, but got '{}'", other.shown())))
            }
        }
    }

    fn tokens(&mut self, leaf: &Leaf<'_>, attribute: &Attribute, rule: TokenRule) -> ApiResult<Test> {
        let Some(config) = &attribute.full_text_search else {
            let reason = format!("{} requires the attribute to have `full_text_search` enabled", leaf.operator);
            return Err(leaf.error(&reason));
        };
        let query = text_query(leaf.value, config.tokenizer == PRE_TOKENIZED).map_err(|problem| match problem {
            TextQueryError::Expected(kind) => leaf.mismatch(kind),
            TextQueryError::TooLong => {
                leaf.error(&format!("full-text queries are limited to {TEXT_QUERY_BYTES_MAX} bytes"))
            }
        })?;
        let last_as_prefix = match leaf.params.and_then(|params| member(params, "last_as_prefix")) {
            None => false,
            Some(Input::Bool(flag)) => *flag,
            Some(other) => {
                return Err(leaf.error(&format!("`last_as_prefix` expects bool, but got '{}'", other.shown())));
            }
        };
        let analysis = Analysis::new(config).map_err(|reason| leaf.error(&reason))?;
        let query = TokenQuery { tokens: analysis.query_tokens(&query), last_as_prefix };
        self.token_leaves += 1;
        Ok(Test::Tokens { leaf: self.token_leaves - 1, query, rule, analysis })
    }

    fn id_leaf(&self, leaf: &Leaf<'_>, operator: &str) -> ApiResult<Node> {
        let Some(id_type) = self.schema.id_type else { return Ok(Node::Always(false)) };
        // The row that a write brings has the id of the row that it meets.
        if self.ref_new(leaf)? == Some("id") {
            return Ok(Node::Always(matches!(operator, "Eq" | "Lte" | "Gte")));
        }
        let is_null = matches!(leaf.value, Input::Null);
        let one = || id(leaf.value, id_type).ok_or_else(|| leaf.mismatch(id_type.name()));
        match operator {
            "Eq" | "Lt" | "Lte" if is_null => Ok(Node::Always(false)),
            "Gt" | "Gte" if is_null => Ok(Node::Always(true)),
            "Eq" => Ok(Node::Id(IdTest::In(vec![one()?]))),
            "Lt" | "Lte" | "Gt" | "Gte" => Ok(Node::Id(IdTest::Compare(comparison(operator), one()?))),
            "In" => {
                let listed = items(leaf.value);
                let ids: Option<Vec<Id>> = match &listed {
                    Some(listed) => listed.iter().map(|item| id(item, id_type)).collect(),
                    None => id(leaf.value, id_type).map(|id| vec![id]),
                };
                let mut ids = ids.ok_or_else(|| leaf.mismatch(&format!("{0} or []{0}", id_type.name())))?;
                ids.sort_unstable();
                ids.dedup();
                Ok(Node::Id(IdTest::In(ids)))
            }
            "Glob" | "IGlob" => Ok(Node::Id(IdTest::Pattern(text_test(leaf, operator, id_type.scalar())?))),
            _ => Err(leaf.error(&format!("{} is not supported on id", leaf.operator))),
        }
    }

    fn vector_leaf(&self, leaf: &Leaf<'_>, operator: &str, ordinal: usize) -> ApiResult<Node> {
        let kind = self.schema.attributes[ordinal].kind;
        if !self.allow_ref_new || operator != "Eq" {
            return Err(leaf.error("attribute is not filterable"));
        }
        let operand = if let Some(name) = self.ref_new(leaf)? {
            let other = self.schema.ordinal(name).ok_or_else(|| error(name, "attribute not found"))?;
            VectorOperand::RefNew(other)
        } else if matches!(leaf.value, Input::Null) {
            VectorOperand::Null
        } else {
            let vector = leaf.value.vector().map_err(|_| leaf.mismatch(&kind.to_string()))?;
            let AttrType::Vector { dims, element } = kind else { return Err(leaf.mismatch(&kind.to_string())) };
            if vector.len() != dims as usize {
                return Err(leaf.mismatch(&kind.to_string()));
            }
            VectorOperand::Value(vector.into_iter().map(|number| element.round(number)).collect())
        };
        Ok(Node::Vector(ordinal, operand))
    }
}

pub enum TextQueryError {
    /// The type that the attribute's queries must have.
    Expected(&'static str),
    TooLong,
}

/// Reads a full-text query: a string, or strings for a pre-tokenized attribute.
pub fn text_query(input: &Input<'_>, pre_tokenized: bool) -> Result<Value, TextQueryError> {
    let (kind, name) = if pre_tokenized {
        (AttrType::Array(Scalar::Str), "[]string")
    } else {
        (AttrType::Scalar(Scalar::Str), "string")
    };
    match input.to_value(kind) {
        None | Some(Value::Null) => Err(TextQueryError::Expected(name)),
        Some(query) if query.logical_bytes() > TEXT_QUERY_BYTES_MAX => Err(TextQueryError::TooLong),
        Some(query) => Ok(query),
    }
}

fn id(input: &Input<'_>, kind: IdType) -> Option<Id> {
    match (kind, input) {
        (IdType::Uint, Input::Uint(number)) => Some(Id::Uint(*number)),
        (IdType::Str, Input::Str(text)) => Some(Id::Str(text.as_ref().into())),
        (IdType::Uuid, Input::Str(text)) => parse_uuid(text).map(Id::Uuid),
        _ => None,
    }
}

fn comparison(operator: &str) -> Comparison {
    match operator {
        "Lt" => Comparison::Lt,
        "Lte" => Comparison::Lte,
        "Gt" => Comparison::Gt,
        _ => Comparison::Gte,
    }
}

/// The elements of a list, sorted. None if it is no list or an element is of another type; null is.
fn value_list(leaf: &Leaf<'_>, scalar: Scalar) -> Option<Vec<Value>> {
    let mut values: Vec<Value> = items(leaf.value)?.iter().map(|item| scalar.coerce(item)).collect::<Option<_>>()?;
    values.sort_unstable_by(compare);
    values.dedup();
    Some(values)
}

fn text_test(leaf: &Leaf<'_>, operator: &str, scalar: Scalar) -> ApiResult<TextTest> {
    if scalar != Scalar::Str {
        let reason =
            format!("type mismatch, {} expects a string attribute, but it is {}", leaf.operator, scalar.name());
        return Err(leaf.error(&reason));
    }
    let Input::Str(pattern) = leaf.value else { return Err(leaf.mismatch("string")) };
    match operator {
        "Glob" | "IGlob" => {
            let glob = globset::GlobBuilder::new(pattern).case_insensitive(operator == "IGlob").build();
            let glob = glob.map_err(|problem| leaf.error(&format!("invalid glob: {problem}")))?;
            Ok(TextTest::Glob(glob.compile_matcher()))
        }
        "Regex" => {
            let regex = regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
            regex.map(TextTest::Regex).map_err(|problem| leaf.error(&format!("invalid regex: {problem}")))
        }
        _ => fuzzy_test(leaf, pattern),
    }
}

fn fuzzy_test(leaf: &Leaf<'_>, pattern: &str) -> ApiResult<TextTest> {
    let thresholds = leaf.params.and_then(|params| member(params, "max_edit_distance")).and_then(items);
    let thresholds = thresholds.filter(|thresholds| !thresholds.is_empty()).ok_or_else(|| {
        leaf.error("Fuzzy requires `max_edit_distance`, a non-empty array of {min_query_chars, distance}")
    })?;
    let case_sensitive = match leaf.params.and_then(|params| member(params, "case_sensitive")) {
        None => true,
        Some(Input::Bool(flag)) => *flag,
        Some(other) => return Err(leaf.error(&format!("`case_sensitive` expects bool, but got '{}'", other.shown()))),
    };
    let pattern_chars = pattern.chars().count() as u64;
    let mut chosen: Option<(u64, u64)> = None;
    for threshold in &thresholds {
        let number = |name: &str| match member(threshold, name) {
            Some(Input::Uint(number)) => Ok(*number),
            _ => Err(leaf.error(&format!("`max_edit_distance.{name}` expects a non-negative integer"))),
        };
        let (chars_min, distance) = (number("min_query_chars")?, number("distance")?);
        if distance > FUZZY_EDITS_MAX {
            return Err(leaf.error(&format!("`max_edit_distance.distance` must be between 0 and {FUZZY_EDITS_MAX}")));
        }
        let required = FUZZY_CHARS_PER_EDIT * (distance + 1);
        if chars_min < required {
            let reason =
                format!("`max_edit_distance.min_query_chars` must be at least {required} for distance {distance}");
            return Err(leaf.error(&reason));
        }
        if chars_min <= pattern_chars && chosen.is_none_or(|(best, _)| chars_min >= best) {
            chosen = Some((chars_min, distance));
        }
    }
    let edits = chosen.and_then(|(_, distance)| usize::try_from(distance).ok());
    Ok(TextTest::Fuzzy(edits.map(|edits| Fuzzy::new(pattern, edits, case_sensitive))))
}
