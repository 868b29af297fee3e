//! From a filter's tree to typed tests on the attributes of a schema. Evaluation of what comes out cannot fail.

use crate::error::{Code, FilterError};
use crate::parse::{self, Comparison, Leaf, Operator, Tree};
use crate::pattern::{Pattern, PATTERNS_MAX};
use crate::schema::{AttributeType, Input, Kind, Scalar, ScalarRef, Schema};
use hevlayer_doc::AttributeName;
use serde_json::Value;

/// A condition on a row, typed.
#[derive(Clone, Debug)]
pub struct Filter {
    pub root: Node,
    /// The attributes that it reads; tests name them by their place here.
    pub attributes: Vec<Used>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub name: AttributeName,
    pub kind: AttributeType,
}

impl Used {
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.name.as_str() == "id"
    }
}

#[derive(Clone, Debug)]
pub enum Node {
    Always(bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Leaf { attribute: usize, test: Test },
}

impl Node {
    /// Has leaves read the attributes at other places.
    fn renumber(&mut self, places: &[usize]) {
        match self {
            Self::Always(_) => {}
            Self::And(nodes) | Self::Or(nodes) => nodes.iter_mut().for_each(|node| node.renumber(places)),
            Self::Not(node) => node.renumber(places),
            Self::Leaf { attribute, .. } => *attribute = places[*attribute],
        }
    }
}

#[derive(Clone, Debug)]
pub enum Test {
    Null,
    /// On a scalar; `null` is what a null gives.
    Scalar {
        test: ScalarTest,
        null: bool,
    },
    /// On an array: some element.
    Any(ScalarTest),
    /// On an array: exactly these elements.
    Equal(Vec<Scalar>),
}

#[derive(Clone, Debug)]
pub enum ScalarTest {
    Eq(Scalar),
    Compare(Comparison, Scalar),
    /// Sorted, each once.
    In(Vec<Scalar>),
    Pattern(Pattern),
}

impl ScalarTest {
    #[must_use]
    pub fn matches(&self, value: ScalarRef<'_>) -> bool {
        match self {
            Self::Eq(operand) => value == operand.borrowed(),
            Self::Compare(comparison, operand) => comparison.holds(value, operand.borrowed()),
            Self::In(list) => list.binary_search_by(|item| item.borrowed().cmp(&value)).is_ok(),
            Self::Pattern(pattern) => matches!(value, ScalarRef::Text(text) if pattern.matches(text)),
        }
    }
}

impl Comparison {
    #[must_use]
    pub fn holds(self, left: ScalarRef<'_>, right: ScalarRef<'_>) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
        }
    }
}

impl Filter {
    /// Parses and compiles a filter's JSON text.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(text: &[u8], schema: &Schema) -> Result<Self, FilterError> {
        let tree = parse::parse(text)?;
        let mut compiler = Compiler { schema, attributes: Vec::new(), patterns: 0 };
        let root = compiler.node(&tree)?;
        Ok(Self { root, attributes: compiler.attributes })
    }

    /// The filter of the rows that meet both. Each was checked against the bounds by itself.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        let places: Vec<usize> =
            other.attributes.iter().map(|used| self.place(used.name.as_str(), used.kind)).collect();
        other.root.renumber(&places);
        self.root = match (self.root, other.root) {
            (Node::Always(true), root) | (root, Node::Always(true)) => root,
            (root, other) => Node::And(vec![root, other]),
        };
        self
    }

    /// The filter that every row meets.
    #[must_use]
    pub fn all() -> Self {
        Self { root: Node::Always(true), attributes: Vec::new() }
    }

    /// The place of an attribute that is read beside the filter's own, to list or count its values.
    ///
    /// # Errors
    /// The schema has no such attribute, or it is a vector.
    pub fn read_also(&mut self, name: &str, schema: &Schema) -> Result<usize, FilterError> {
        let refuse = |code, rule: &str| FilterError::new(code, "/field", format!("`{name}`: {rule}"));
        if name == "id" {
            let Some(kind) = schema.id else { return Err(refuse(Code::Schema, "the namespace has no id type yet")) };
            return Ok(self.place(name, AttributeType { kind, array: false }));
        }
        let attribute = schema.attributes.get(name).ok_or_else(|| refuse(Code::Schema, "attribute not found"))?;
        let kind = attribute.kind.ok_or_else(|| {
            if attribute.vector {
                refuse(Code::Validation, "the values of a vector attribute cannot be counted")
            } else {
                refuse(Code::Unsupported, "the attribute's type is not known here")
            }
        })?;
        Ok(self.place(name, kind))
    }

    fn place(&mut self, name: &str, kind: AttributeType) -> usize {
        place(&mut self.attributes, name, kind)
    }
}

fn place(attributes: &mut Vec<Used>, name: &str, kind: AttributeType) -> usize {
    attributes.iter().position(|used| used.name.as_str() == name).unwrap_or_else(|| {
        attributes.push(Used { name: AttributeName::new(name), kind });
        attributes.len() - 1
    })
}

struct Compiler<'s> {
    schema: &'s Schema,
    attributes: Vec<Used>,
    patterns: usize,
}

impl Compiler<'_> {
    /// The tree's depth is bounded by the parser.
    fn node(&mut self, tree: &Tree) -> Result<Node, FilterError> {
        Ok(match tree {
            Tree::And(trees) => Node::And(trees.iter().map(|tree| self.node(tree)).collect::<Result<_, _>>()?),
            Tree::Or(trees) => Node::Or(trees.iter().map(|tree| self.node(tree)).collect::<Result<_, _>>()?),
            Tree::Not(tree) => match self.node(tree)? {
                Node::Always(answer) => Node::Always(!answer),
                Node::Not(inner) => *inner,
                node => Node::Not(Box::new(node)),
            },
            Tree::Leaf(leaf) => self.leaf(leaf)?,
        })
    }

    fn leaf(&mut self, leaf: &Leaf) -> Result<Node, FilterError> {
        if matches!(leaf.operator, Operator::Glob { .. } | Operator::Regex | Operator::Fuzzy) {
            self.patterns += 1;
            if self.patterns > PATTERNS_MAX {
                let rule = format!("a filter has at most {PATTERNS_MAX} patterns");
                return Err(FilterError::invalid(&leaf.pointer, rule));
            }
        }
        let Some(kind) = self.attribute(leaf)? else { return Ok(Node::Always(false)) };
        let attribute = place(&mut self.attributes, &leaf.key, kind);
        let test = match leaf.operator {
            Operator::Eq if leaf.value.is_null() => Test::Null,
            Operator::Eq if kind.array => Test::Equal(list(leaf, kind.kind).ok_or_else(|| leaf.mismatch(kind))?),
            Operator::Eq => scalar(ScalarTest::Eq(leaf.one(kind.kind)?), false),
            // Null counts as smaller than every value: no value is below it, and only null is not above it.
            Operator::Compare(comparison) if !kind.array && leaf.value.is_null() => match comparison {
                Comparison::Lt => return Ok(Node::Always(false)),
                Comparison::Gte => return Ok(Node::Always(true)),
                Comparison::Lte => Test::Null,
                Comparison::Gt => return Ok(Node::Not(Box::new(Node::Leaf { attribute, test: Test::Null }))),
            },
            Operator::Compare(comparison) if !kind.array => {
                let null = matches!(comparison, Comparison::Lt | Comparison::Lte);
                scalar(ScalarTest::Compare(comparison, leaf.one(kind.kind)?), null)
            }
            Operator::Compare(_) => return Err(leaf.wrong_attribute("a scalar", kind)),
            Operator::AnyCompare(_) | Operator::Contains if kind.array && leaf.value.is_null() => {
                return Ok(Node::Always(false));
            }
            Operator::AnyCompare(comparison) if kind.array => {
                Test::Any(ScalarTest::Compare(comparison, leaf.one(kind.kind)?))
            }
            Operator::Contains if kind.array => Test::Any(ScalarTest::Eq(leaf.one(kind.kind)?)),
            Operator::ContainsAny if kind.array => Test::Any(ScalarTest::In(sorted(
                list(leaf, kind.kind).ok_or_else(|| leaf.mismatch(AttributeType { array: true, ..kind }))?,
            ))),
            Operator::AnyCompare(_) | Operator::Contains | Operator::ContainsAny => {
                return Err(leaf.wrong_attribute("an array", kind));
            }
            Operator::In => {
                let one = || read(&leaf.value, kind.kind).map(|value| vec![value]);
                let values = list(leaf, kind.kind).or_else(one).ok_or_else(|| {
                    let name = kind.kind.name();
                    leaf.mismatch_text(&format!("{name} or []{name}"))
                })?;
                value_or_element(kind, ScalarTest::In(sorted(values)))
            }
            Operator::Glob { .. } | Operator::Regex | Operator::Fuzzy => {
                if kind.kind != Kind::Text {
                    return Err(leaf.wrong_attribute("a string", kind));
                }
                value_or_element(kind, ScalarTest::Pattern(Pattern::compile(leaf)?))
            }
        };
        Ok(Node::Leaf { attribute, test })
    }

    /// The type of the leaf's attribute; None for `id` while the namespace has no id type.
    fn attribute(&self, leaf: &Leaf) -> Result<Option<AttributeType>, FilterError> {
        if leaf.key == "id" {
            if matches!(leaf.operator, Operator::Regex | Operator::Fuzzy) {
                return Err(FilterError::invalid(
                    &format!("{}/1", leaf.pointer),
                    format!("{} is not supported on id", leaf.name),
                ));
            }
            return Ok(self.schema.id.map(|kind| AttributeType { kind, array: false }));
        }
        let Some(attribute) = self.schema.attributes.get(&leaf.key) else {
            return Err(leaf.refused_by_schema("attribute not found"));
        };
        let Some(kind) = attribute.kind else {
            if attribute.vector {
                return Err(leaf.refused_by_schema("vectors cannot be filtered on"));
            }
            let rule = format!("`{}`: the attribute's type is not known here", leaf.key);
            return Err(FilterError::new(Code::Unsupported, &format!("{}/0", leaf.pointer), rule));
        };
        let (allowed, rule) = match leaf.operator {
            Operator::Glob { .. } => {
                (attribute.glob || attribute.filterable, "Glob requires `glob` or `filterable` set to `true`")
            }
            Operator::Regex => (attribute.regex, "Regex requires `regex` set to `true`"),
            Operator::Fuzzy => (attribute.fuzzy, "Fuzzy requires `fuzzy` set to `true`"),
            _ => (attribute.filterable, "the attribute is not filterable"),
        };
        if allowed {
            Ok(Some(kind))
        } else {
            Err(leaf.refused_by_schema(rule))
        }
    }
}

fn scalar(test: ScalarTest, null: bool) -> Test {
    Test::Scalar { test, null }
}

fn value_or_element(kind: AttributeType, test: ScalarTest) -> Test {
    if kind.array {
        Test::Any(test)
    } else {
        scalar(test, false)
    }
}

fn sorted(mut values: Vec<Scalar>) -> Vec<Scalar> {
    values.sort_unstable();
    values.dedup();
    values
}

/// The elements of a list; None when it is none, or an element is of another type. Null is.
fn list(leaf: &Leaf, kind: Kind) -> Option<Vec<Scalar>> {
    leaf.value.as_array()?.iter().map(|item| read(item, kind)).collect()
}

fn read(value: &Value, kind: Kind) -> Option<Scalar> {
    kind.read(input(value)?).map(ScalarRef::to_owned)
}

/// A JSON scalar; None for null, arrays and objects.
#[must_use]
pub fn input(value: &Value) -> Option<Input<'_>> {
    Some(match value {
        Value::Bool(flag) => Input::Bool(*flag),
        Value::String(text) => Input::Text(text),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Input::Uint(number),
            (None, Some(number)) => Input::Int(number),
            (None, None) => Input::Float(number.as_f64()?),
        },
        _ => return None,
    })
}

impl Leaf {
    fn one(&self, kind: Kind) -> Result<Scalar, FilterError> {
        read(&self.value, kind).ok_or_else(|| self.mismatch(AttributeType { kind, array: false }))
    }

    fn mismatch(&self, expected: AttributeType) -> FilterError {
        self.mismatch_text(&expected.to_string())
    }

    fn mismatch_text(&self, expected: &str) -> FilterError {
        let got = shown(&self.value);
        let rule = format!("`{}`: {} expects {expected}, but got {got}", self.key, self.name);
        FilterError::invalid(&format!("{}/2", self.pointer), rule)
    }

    fn wrong_attribute(&self, expected: &str, found: AttributeType) -> FilterError {
        let rule = format!("`{}`: {} expects {expected} attribute, but it is {found}", self.key, self.name);
        FilterError::invalid(&format!("{}/1", self.pointer), rule)
    }

    fn refused_by_schema(&self, rule: &str) -> FilterError {
        let key: String = self.key.chars().take(SHOWN_CHARS_MAX).collect();
        FilterError::new(Code::Schema, &format!("{}/0", self.pointer), format!("`{key}`: {rule}"))
    }
}

/// Most characters of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string().chars().take(SHOWN_CHARS_MAX).collect(),
    }
}
