use crate::query_testing::{put, table, view, Rng};
use crate::table::Table;
use serde_json::{json, Value as Json};

const ROUNDS: usize = 4000;

fn rows() -> Table {
    let mut rows = table(
        &[
            ("vector", "[2]f32"),
            ("body", "text"),
            ("name", "string"),
            ("count", "int"),
            ("size", "uint"),
            ("at", "datetime"),
            ("tags", "[]string"),
            ("terms", "{}f16"),
        ],
        &[],
    );
    for id in 0..30 {
        let full = json!({"id": id, "vector": [id, 1], "body": format!("fox {id} dog"), "name": format!("n{id}"),
                          "count": id - 15, "size": id, "at": "2024-01-01", "tags": ["a", "b"], "terms": {"1": 1}});
        put(&mut rows, &if id % 3 == 0 { json!({"id": id, "vector": [0, 0]}) } else { full });
    }
    rows
}

fn seeds() -> Vec<Json> {
    vec![
        json!({"rank_by": ["vector", "ANN", [1, 2]], "limit": 5, "filters": ["And", [["count", "Gt", 1], ["id", "In", [1, 2]]]]}),
        json!({"rank_by": ["Sum", [["body", "BM25", "fox dog", {"last_as_prefix": true}], ["Product", 2, ["name", "Eq", "n1"]]]],
               "limit": {"total": 5}, "include_attributes": true, "offset": 1}),
        json!({"rank_by": [["name", "asc"], ["id", "desc"]], "limit": {"total": 5, "per": {"attributes": ["count"], "limit": 1}},
               "exclude_attributes": ["vector"]}),
        json!({"aggregate_by": {"n": ["Count"], "s": ["Sum", "count"]}, "group_by": ["name", {"t": ["ForEachUnique", "tags"]}], "limit": 3}),
        json!({"queries": [{"rank_by": ["id", "asc"], "limit": 2}, {"rank_by": ["body", "BM25", "dog"], "top_k": 3}],
               "rerank_by": ["RRF", {"rank_constant": 10, "weights": [1, 2]}], "limit": 3, "offset": 1,
               "consistency": {"level": "eventual"}, "vector_encoding": "base64"}),
        json!({"rank_by": ["Max", [0, ["Decay", ["Dist", ["Attribute", "at"], "2024-02-01"], {"midpoint": "2d", "exponent": 2}]]],
               "limit": 4, "compute_attributes": {"d": ["vector", "VectorDist", [1, 1]], "h": ["Highlight", "body", {"fragment_limit": 2,
               "rank_fragments_by": ["$fragment", "BM25", "fox"], "include_offsets": "utf-16"}], "f": ["tags", "Contains", "a"]}}),
        json!({"rank_by": ["terms", "SparseKNN", {"1": 1}], "limit": 4,
               "filters": ["Or", [["name", "Fuzzy", "n1xx", {"max_edit_distance": [{"min_query_chars": 3, "distance": 0}]}],
                                  ["body", "ContainsTokenSequence", "fox 1"], ["Not", ["name", "IGlob", "N*"]]]]}),
    ]
}

fn random_scrap(rng: &mut Rng, seeds: &[Json]) -> Json {
    match rng.below(14) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(1.5),
        6 => json!(1e300),
        7 => json!(""),
        8 => json!("é😀"),
        9 => json!([]),
        10 => json!({}),
        11 => json!(*rng.pick(&["vector", "body", "name", "count", "size", "at", "tags", "terms", "id", "nope"])),
        12 => json!(*rng.pick(&[
            "Eq",
            "Lt",
            "In",
            "ANN",
            "BM25",
            "asc",
            "Sum",
            "Max",
            "Attribute",
            "Saturate",
            "And",
            "Not"
        ])),
        _ => {
            let seed = rng.pick(seeds).clone();
            let nodes = node_count(&seed);
            let wanted = rng.below(nodes);
            node(&seed, &mut { wanted }).cloned().unwrap_or_default()
        }
    }
}

fn children(json: &Json) -> Vec<&Json> {
    match json {
        Json::Array(items) => items.iter().collect(),
        Json::Object(entries) => entries.values().collect(),
        _ => Vec::new(),
    }
}

fn node_count(json: &Json) -> u64 {
    1 + children(json).into_iter().map(node_count).sum::<u64>()
}

fn node<'a>(json: &'a Json, countdown: &mut u64) -> Option<&'a Json> {
    if *countdown == 0 {
        return Some(json);
    }
    *countdown -= 1;
    children(json).into_iter().find_map(|child| node(child, countdown))
}

fn replace(json: &mut Json, countdown: &mut u64, scrap: &Json) -> bool {
    if *countdown == 0 {
        *json = scrap.clone();
        return true;
    }
    *countdown -= 1;
    match json {
        Json::Array(items) => items.iter_mut().any(|item| replace(item, countdown, scrap)),
        Json::Object(entries) => entries.values_mut().any(|value| replace(value, countdown, scrap)),
        _ => false,
    }
}

#[test]
fn broken_queries_are_refused_and_never_panic() {
    let (table, seeds, mut rng) = (rows(), seeds(), Rng::new(37));
    let mut answered = 0;
    for _ in 0..ROUNDS {
        let mut body = rng.pick(&seeds).clone();
        for _ in 0..=rng.below(2) {
            let mut place = rng.below(node_count(&body));
            let scrap = random_scrap(&mut rng, &seeds);
            replace(&mut body, &mut place, &scrap);
        }
        let text = body.to_string();
        for handle in [crate::query::handle, crate::explain::handle, crate::recall::handle] {
            match handle(&view(&table), text.as_bytes()) {
                Ok(reply) => {
                    serde_json::from_slice::<Json>(&reply.body).unwrap_or_else(|error| panic!("{text}: {error}"));
                    answered += 1;
                }
                Err(error) => assert!(matches!(error.status, 400 | 422), "{text}: {} {}", error.status, error.message),
            }
        }
    }
    assert!(answered > ROUNDS / 10 && answered < ROUNDS * 3);
}
