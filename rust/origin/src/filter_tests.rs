use super::{parse, Filter, NewRow};
use crate::filter_bitmap::Bitmap;
use crate::filter_scan::visible;
use crate::input::Input;
use crate::query_testing::{attribute, put, table, Rng};
use crate::table::Table;
use crate::value::{Id, Value};
use serde_json::{json, Value as Json};

const ATTRIBUTES: [(&str, &str); 9] = [
    ("name", "string"),
    ("count", "int"),
    ("size", "uint"),
    ("price", "float"),
    ("live", "bool"),
    ("at", "datetime"),
    ("tags", "[]string"),
    ("numbers", "[]int"),
    ("body", "text"),
];

fn films() -> Table {
    let mut films = table(
        &ATTRIBUTES,
        &[
            json!({"id": 1, "name": "Alien", "count": -1, "size": 7, "price": 1.5, "live": true, "at": "2024-01-01",
                   "tags": ["space", "horror"], "numbers": [1, 2], "body": "in space no one can hear you scream"}),
            json!({"id": 2, "name": "Brazil", "count": 2, "size": 9, "price": 2.0, "live": false,
                   "at": "2024-01-02T00:00:00Z", "tags": ["satire"], "numbers": [4], "body": "a scream of a film"}),
            json!({"id": 3, "name": "Casablanca", "count": 3, "tags": [], "body": "you must remember this"}),
            json!({"id": 4}),
        ],
    );
    let mut schema = films.schema.clone();
    for (name, _) in ATTRIBUTES {
        let ordinal = schema.ordinal(name).expect("declared");
        let attribute = &mut schema.attributes[ordinal];
        (attribute.regex, attribute.fuzzy) = (name == "name" || name == "tags", name == "name");
    }
    films.set_schema(schema);
    films
}

fn compile(table: &Table, filter: &Json) -> Filter {
    parse(&Input::from_json(filter), &table.schema, false).unwrap_or_else(|error| panic!("{filter}: {}", error.message))
}

/// The ids that a filter finds, by both ways of evaluating it.
fn found(table: &Table, filter: &Json) -> Vec<u64> {
    let compiled = compile(table, filter);
    let scanned: Vec<u32> = compiled.scan(table, table.seq, visible(table, table.seq).as_ref()).iter().collect();
    let matched: Vec<u32> = table.visible(table.seq).filter(|slot| compiled.matches(table, *slot, None)).collect();
    assert_eq!(scanned, matched, "{filter}");
    let id = |slot: u32| match &table.slots[slot as usize].id {
        Id::Uint(id) => *id,
        other => panic!("{other:?}"),
    };
    scanned.into_iter().map(id).collect()
}

fn refusal(table: &Table, filter: &Json) -> String {
    let error = parse(&Input::from_json(filter), &table.schema, false).expect_err("a refusal");
    assert_eq!(error.status, 400);
    error.message
}

#[test]
fn each_operator_has_its_rule_and_its_rule_for_null() {
    let films = films();
    for (filter, ids) in [
        (json!(["name", "Eq", "Alien"]), vec![1]),
        (json!(["name", "Eq", null]), vec![4]),
        (json!(["name", "NotEq", "Alien"]), vec![2, 3, 4]),
        (json!(["name", "NotEq", null]), vec![1, 2, 3]),
        (json!(["live", "Eq", false]), vec![2]),
        (json!(["tags", "Eq", ["satire"]]), vec![2]),
        (json!(["tags", "Eq", null]), vec![4]),
        (json!(["name", "In", ["Alien", "Brazil", "x"]]), vec![1, 2]),
        (json!(["name", "In", "Alien"]), vec![1]),
        (json!(["name", "In", []]), vec![]),
        (json!(["name", "NotIn", ["Alien", "Brazil"]]), vec![3, 4]),
        (json!(["tags", "In", "horror"]), vec![1]),
        (json!(["numbers", "In", [2, 4]]), vec![1, 2]),
        (json!(["numbers", "NotIn", [2]]), vec![2, 3, 4]),
        (json!(["tags", "Contains", "space"]), vec![1]),
        (json!(["tags", "NotContains", "space"]), vec![2, 3, 4]),
        (json!(["tags", "ContainsAny", ["space", "satire"]]), vec![1, 2]),
        (json!(["tags", "NotContainsAny", ["space", "satire"]]), vec![3, 4]),
        (json!(["count", "Lt", 2]), vec![1, 4]),
        (json!(["count", "Lte", 2]), vec![1, 2, 4]),
        (json!(["count", "Gt", -1]), vec![2, 3]),
        (json!(["count", "Gte", 2]), vec![2, 3]),
        (json!(["count", "Lt", null]), vec![]),
        (json!(["count", "Lte", null]), vec![4]),
        (json!(["count", "Gt", null]), vec![1, 2, 3]),
        (json!(["count", "Gte", null]), vec![1, 2, 3, 4]),
        (json!(["price", "Gt", 1]), vec![1, 2]),
        (json!(["price", "Eq", 2]), vec![2]),
        (json!(["at", "Gte", "2024-01-01T12:00:00+00:00"]), vec![2]),
        (json!(["numbers", "AnyLt", 2]), vec![1]),
        (json!(["numbers", "AnyLte", 1]), vec![1]),
        (json!(["numbers", "AnyGt", 2]), vec![2]),
        (json!(["numbers", "AnyGte", 2]), vec![1, 2]),
        (json!(["name", "Glob", "*a*"]), vec![2, 3]),
        (json!(["name", "Glob", "[AB]*"]), vec![1, 2]),
        (json!(["name", "IGlob", "a*"]), vec![1]),
        (json!(["name", "NotGlob", "A*"]), vec![2, 3, 4]),
        (json!(["name", "NotIGlob", "a*"]), vec![2, 3, 4]),
        (json!(["tags", "Glob", "s*e"]), vec![1, 2]),
        (json!(["name", "Regex", "z.l$"]), vec![2]),
        (json!(["tags", "Regex", "^hor"]), vec![1]),
        (json!(["name", "Fuzzy", "Brasil", {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]}]), vec![2]),
        (json!(["name", "Fuzzy", "Bras", {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]}]), vec![]),
        (
            json!(["name", "Fuzzy", "brasil", {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}],
                   "case_sensitive": false}]),
            vec![2],
        ),
        (json!(["body", "ContainsAllTokens", "scream space"]), vec![1]),
        (json!(["body", "ContainsAllTokens", "you scr", {"last_as_prefix": true}]), vec![1]),
        (json!(["body", "ContainsAnyToken", "film remember"]), vec![2, 3]),
        (json!(["body", "ContainsTokenSequence", "hear you"]), vec![1]),
        (json!(["body", "ContainsTokenSequence", "you hear"]), vec![]),
        (json!(["Not", ["body", "ContainsAnyToken", "scream"]]), vec![3, 4]),
        (json!(["And", []]), vec![1, 2, 3, 4]),
        (json!(["Or", []]), vec![]),
        (json!(["And", [["live", "Eq", true], ["Not", ["count", "Gt", 0]]]]), vec![1]),
        (json!(["Or", [["live", "Eq", true], ["count", "Eq", 3]]]), vec![1, 3]),
        (json!(["id", "Eq", 2]), vec![2]),
        (json!(["id", "Eq", null]), vec![]),
        (json!(["id", "NotEq", null]), vec![1, 2, 3, 4]),
        (json!(["id", "In", [4, 2, 9, 2]]), vec![2, 4]),
        (json!(["id", "NotIn", [4, 2]]), vec![1, 3]),
        (json!(["id", "Gt", 2]), vec![3, 4]),
        (json!(["And", [["id", "In", [1, 2]], ["live", "Eq", false]]]), vec![2]),
    ] {
        assert_eq!(found(&films, &filter), ids, "{filter}");
    }
}

#[test]
fn refusals_name_the_key_and_the_rule() {
    let mut films = films();
    let mut schema = films.schema.clone();
    schema.attributes.push(crate::schema::Attribute { filterable: false, ..attribute("hidden", "string") });
    schema.attributes.push(attribute("vector", "[2]f32"));
    films.set_schema(schema);
    let fuzzy = |min: u64, distance: u64| json!(["name", "Fuzzy", "x", {"max_edit_distance": [{"min_query_chars": min, "distance": distance}]}]);
    for (filter, message) in [
        (json!(["x", "Eq", 1]), "filter error in key `x`: attribute not found"),
        (
            json!(["tags", "ContainsAny", "python"]),
            "filter error in key `tags`: type mismatch, ContainsAny expects []string, but got 'python'",
        ),
        (
            json!(["tags", "NotContainsAny", "python"]),
            "filter error in key `tags`: type mismatch, NotContainsAny expects []string, but got 'python'",
        ),
        (
            json!(["tags", "Contains", ["a"]]),
            "filter error in key `tags`: type mismatch, Contains expects string, but got '[a]'",
        ),
        (json!(["name", "Eq", 1]), "filter error in key `name`: type mismatch, Eq expects string, but got '1'"),
        (json!(["id", "Eq", "1"]), "filter error in key `id`: type mismatch, Eq expects uint, but got '1'"),
        (
            json!(["id", "In", ["a", "b"]]),
            "filter error in key `id`: type mismatch, In expects uint or []uint, but got '[a, b]'",
        ),
        (
            json!(["count", "In", [1, null]]),
            "filter error in key `count`: type mismatch, In expects int or []int, but got '[1, null]'",
        ),
        (
            json!(["body", "ContainsAllTokens", ["rust", "ranking"]]),
            "filter error in key `body`: type mismatch, ContainsAllTokens expects string, but got '[rust, ranking]'",
        ),
        (
            json!(["tags", "Lt", "a"]),
            "filter error in key `tags`: type mismatch, Lt expects a scalar attribute, but it is []string",
        ),
        (
            json!(["name", "Contains", "a"]),
            "filter error in key `name`: type mismatch, Contains expects an array attribute, but it is string",
        ),
        (json!(["hidden", "Eq", "a"]), "filter error in key `hidden`: attribute is not filterable"),
        (json!(["vector", "Eq", [1, 2]]), "filter error in key `vector`: attribute is not filterable"),
        (
            json!(["body", "Regex", "a"]),
            "filter error in key `body`: Regex requires the attribute to have `regex` set to `true`",
        ),
        (
            json!(["name", "ContainsAnyToken", "a"]),
            "filter error in key `name`: ContainsAnyToken requires the attribute to have `full_text_search` enabled",
        ),
        (
            json!(["count", "Glob", "a"]),
            "filter error in key `count`: type mismatch, Glob expects a string attribute, but it is int",
        ),
        (
            json!(["name", "Eq", {"$ref_new": "name"}]),
            "filter error in key `name`: `$ref_new` can only be used in the condition of a write",
        ),
        (fuzzy(9, 3), "filter error in key `name`: `max_edit_distance.distance` must be between 0 and 2"),
        (
            fuzzy(5, 1),
            "filter error in key `name`: `max_edit_distance.min_query_chars` must be at least 6 for distance 1",
        ),
        (
            json!(["name", "Fuzzy", "x", {"max_edit_distance": []}]),
            "filter error in key `name`: Fuzzy requires `max_edit_distance`, a non-empty array of {min_query_chars, \
             distance}",
        ),
    ] {
        assert_eq!(refusal(&films, &filter), message);
    }
    assert!(refusal(&films, &json!(["name", "Regex", "("])).starts_with("filter error in key `name`: invalid regex: "));
    assert!(refusal(&films, &json!(["name", "Glob", "["])).starts_with("filter error in key `name`: invalid glob: "));
    let many = json!(["Or", vec![json!(["name", "Glob", "a*"]); 101]]);
    assert_eq!(refusal(&films, &many), "filter error in key `name`: a filter can have at most 100 patterns");
    let mut nested = json!(["name", "Eq", "x"]);
    for _ in 0..60 {
        nested = json!(["Not", nested]);
    }
    assert!(refusal(&films, &nested).contains("nested deeper than"));
}

struct Incoming(Vec<Value>, Vec<f32>);

impl NewRow for Incoming {
    fn value(&self, ordinal: usize) -> &Value {
        &self.0[ordinal]
    }

    fn vector(&self, _ordinal: usize) -> Option<&[f32]> {
        Some(&self.1)
    }
}

#[test]
fn conditions_compare_with_the_row_that_is_written() {
    let mut stored = table(&[("version", "int"), ("vector", "[2]f32")], &[]);
    put(&mut stored, &json!({"id": 1, "version": 5, "vector": [1, 2]}));
    put(&mut stored, &json!({"id": 2, "vector": [1, 2]}));
    let holds = |filter: Json, slot: u32, new: Option<(Value, Vec<f32>)>| {
        let filter = parse(&Input::from_json(&filter), &stored.schema, true).expect("valid");
        let row = new.map(|(version, vector)| Incoming(vec![version, Value::Null], vector));
        filter.matches(&stored, slot, row.as_ref().map(|row| row as &dyn NewRow))
    };
    let newer = json!(["Or", [["version", "Lt", {"$ref_new": "version"}], ["version", "Eq", null]]]);
    let row = |version: i64| Some((Value::Int(version), vec![1.0, 2.0]));
    assert!(holds(newer.clone(), 0, row(6)));
    assert!(!holds(newer.clone(), 0, row(5)));
    assert!(holds(newer.clone(), 1, row(0)));
    assert!(!holds(newer, 0, None));
    let changed = json!(["vector", "NotEq", {"$ref_new": "vector"}]);
    assert!(!holds(changed.clone(), 0, row(0)));
    assert!(holds(changed, 0, Some((Value::Null, vec![1.0, 3.0]))));
    assert!(holds(json!(["vector", "Eq", [1, 2]]), 0, None));
    assert!(!holds(json!(["vector", "Eq", null]), 0, None));
    assert!(!holds(json!(["id", "Eq", null]), 0, row(0)));
    assert!(holds(json!(["id", "Eq", {"$ref_new": "id"}]), 0, row(0)));
    let refused = parse(&Input::from_json(&json!(["version", "Lt", {"$ref_new": "vector"}])), &stored.schema, true);
    assert!(refused.expect_err("types differ").message.contains("but `vector` is [2]f32"));
}

#[test]
fn old_versions_answer_for_old_sequences() {
    let mut rows = table(&[("name", "string")], &[json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "a"})]);
    put(&mut rows, &json!({"id": 1, "name": "b"}));
    let count = |filter: Json, seq: u64| {
        let filter = compile(&rows, &filter);
        filter.scan(&rows, seq, visible(&rows, seq).as_ref()).iter().collect::<Vec<_>>()
    };
    assert_eq!(count(json!(["name", "Eq", "a"]), 2), [0, 1]);
    assert_eq!(count(json!(["name", "Eq", "a"]), 3), [1]);
    assert_eq!(count(json!(["id", "Eq", 1]), 2), [0]);
    assert_eq!(count(json!(["id", "Eq", 1]), 3), [2]);
    assert_eq!(visible(&rows, 1).map(|bitmap| Bitmap::count(&bitmap)), Some(1));
}

/// Filters on JSON rows, by the rules as they are written down: no types, no compilation.
fn slow_matches(row: &Json, filter: &Json) -> bool {
    let part = |index: usize| &filter[index];
    let all = |index: usize| part(index).as_array().expect("filters").iter();
    match part(0).as_str().expect("a name") {
        "And" => return all(1).all(|filter| slow_matches(row, filter)),
        "Or" => return all(1).any(|filter| slow_matches(row, filter)),
        "Not" => return !slow_matches(row, part(1)),
        _ => {}
    }
    let value = row.get(part(0).as_str().expect("a name")).unwrap_or(&Json::Null);
    let operand = part(2);
    let elements: Vec<&Json> = value.as_array().map_or_else(Vec::new, |elements| elements.iter().collect());
    let listed = |item: &Json| operand.as_array().expect("a list").contains(item);
    let less = |left: &Json, right: &Json| match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => left < right,
        _ => left.as_str().expect("text") < right.as_str().expect("text"),
    };
    match part(1).as_str().expect("an operator") {
        "Eq" => value == operand,
        "NotEq" => value != operand,
        "In" => listed(value) || elements.into_iter().any(listed),
        "NotIn" => !listed(value) && !elements.into_iter().any(listed),
        "Contains" => elements.contains(&operand),
        "NotContains" => !elements.contains(&operand),
        "ContainsAny" => elements.into_iter().any(listed),
        "NotContainsAny" => !elements.into_iter().any(listed),
        "Lt" => value.is_null() || less(value, operand),
        "Lte" => value.is_null() || !less(operand, value),
        "Gt" => !value.is_null() && less(operand, value),
        "Gte" => !value.is_null() && !less(value, operand),
        "AnyLt" => elements.into_iter().any(|element| less(element, operand)),
        "AnyGte" => elements.into_iter().any(|element| !less(element, operand)),
        other => panic!("{other}"),
    }
}

fn random_filter(rng: &mut Rng, depth: u64) -> Json {
    if depth > 0 && rng.below(2) == 0 {
        let nodes: Vec<Json> = (0..rng.below(4)).map(|_| random_filter(rng, depth - 1)).collect();
        return match rng.below(3) {
            0 => json!(["Not", random_filter(rng, depth - 1)]),
            1 => json!(["And", nodes]),
            _ => json!(["Or", nodes]),
        };
    }
    let word = |rng: &mut Rng| json!(rng.pick(&["a", "b", "c", "d"]));
    let number = |rng: &mut Rng| json!(rng.below(5));
    let scalar = ["Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"];
    match rng.below(6) {
        0 => json!(["name", *rng.pick(&scalar), word(rng)]),
        1 => json!(["count", *rng.pick(&scalar), number(rng)]),
        2 => json!(["name", *rng.pick(&["In", "NotIn"]), [word(rng), word(rng)]]),
        3 => json!(["tags", *rng.pick(&["In", "NotIn", "ContainsAny", "NotContainsAny"]), [word(rng), word(rng)]]),
        4 => json!(["tags", *rng.pick(&["Contains", "NotContains"]), word(rng)]),
        _ => json!(["numbers", *rng.pick(&["AnyLt", "AnyGte"]), number(rng)]),
    }
}

#[test]
fn filters_agree_with_their_slow_twin() {
    let mut rng = Rng::new(29);
    let attributes = [("name", "string"), ("count", "int"), ("tags", "[]string"), ("numbers", "[]int")];
    let rows: Vec<Json> = (1..200)
        .map(|id| {
            let mut row = json!({"id": id});
            if rng.below(4) > 0 {
                row["name"] = json!(rng.pick(&["a", "b", "c"]));
            }
            if rng.below(4) > 0 {
                row["count"] = json!(rng.below(5));
            }
            if rng.below(4) > 0 {
                row["tags"] = (0..rng.below(3)).map(|_| *rng.pick(&["a", "b", "c"])).collect();
                row["numbers"] = (0..rng.below(3)).map(|_| rng.below(5)).collect();
            }
            row
        })
        .collect();
    let table = table(&attributes, &rows);
    for _ in 0..400 {
        let filter = random_filter(&mut rng, 3);
        let expected: Vec<u64> = rows
            .iter()
            .filter(|row| slow_matches(row, &filter))
            .map(|row| row["id"].as_u64().expect("an id"))
            .collect();
        assert_eq!(found(&table, &filter), expected, "{filter}");
    }
}
