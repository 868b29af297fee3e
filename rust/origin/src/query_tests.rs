use super::handle;
use crate::query_testing::{ask, ids, put, refusal, table, view, Rng};
use crate::schema::FullText;
use crate::table::Table;
use crate::view::View;
use serde_json::{json, Value as Json};

fn points() -> Table {
    let rows: Vec<Json> = (0..20)
        .map(|id| {
            let mut row = json!({"id": id, "vector": [f64::from(id) / 10.0, f64::from(id) / 10.0]});
            if id % 2 == 0 {
                row["kind"] = json!(if id % 4 == 0 { "a" } else { "b" });
                row["rank"] = json!(20 - id);
            }
            row
        })
        .collect();
    table(&[("vector", "[2]f32"), ("kind", "string"), ("rank", "int"), ("tags", "[]string")], &rows)
}

#[test]
fn nearest_rows_come_with_shortest_distances_and_ties_by_id() {
    let answer = ask(&points(), &json!({"rank_by": ["vector", "ANN", [1.5, 1.6]], "limit": 5})).expect("rows");
    assert_eq!(ids(&answer), [15, 16, 14, 17, 18]);
    let (x, y) = (1.5_f32 - 1.4, 1.6_f32 - 1.4);
    let shortest: f64 = (x * x + y * y).to_string().parse().expect("a number");
    assert_eq!(answer["rows"][2], json!({"id": 14, "$dist": shortest}));
    let encoded = ask(
        &points(),
        &json!({"rank_by": ["vector", "ANN", "AADAP83MzD8="], "top_k": 1, "include_attributes": ["vector"],
                "vector_encoding": "base64"}),
    );
    assert_eq!(encoded.expect("rows")["rows"][0]["vector"], json!("AADAPwAAwD8="));
}

#[test]
fn an_answer_has_the_upstream_shape() {
    let answer = ask(
        &points(),
        &json!({"rank_by": ["vector", "ANN", [0.7, 0.7]], "top_k": 2, "filters": ["kind", "Eq", "a"],
                "include_attributes": true}),
    )
    .expect("rows");
    assert_eq!(ids(&answer), [8, 4]);
    assert_eq!(answer["rows"][0].as_object().map(serde_json::Map::len), Some(5));
    assert_eq!(answer["rows"][0]["vector"], json!([0.8, 0.8]));
    assert_eq!(answer["rows"][0]["rank"], json!(12));
    assert_eq!(answer["billing"]["billable_logical_bytes_queried"], json!(256_000_000));
    assert_eq!(answer["billing"]["billable_logical_bytes_returned"], json!(2 * (8 + 4 + 8 + 1 + 8)));
    let performance = &answer["performance"];
    assert!(performance["cache_hit_ratio"].is_f64());
    assert!(performance["server_total_ms"].as_u64() > Some(2) && performance["query_execution_ms"].as_u64() > Some(2));
    assert_eq!(performance["exhaustive_search_count"], json!(20));
    assert_eq!(performance["approx_namespace_size"], json!(20));
    assert_eq!(performance["last_included_write_at"], json!("1970-01-01T00:00:00.000Z"));
}

#[test]
fn attribute_orders_put_null_first_ascending_and_last_descending() {
    let points = points();
    let order = |rank_by: Json, limit: u64| {
        let answer = ask(&points, &json!({"rank_by": rank_by, "limit": limit})).expect("rows");
        assert!(answer["rows"][0].get("$dist").is_none());
        ids(&answer)
    };
    assert_eq!(order(json!(["rank", "asc"]), 12), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 18, 16]);
    assert_eq!(order(json!(["rank", "desc"]), 11), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 1]);
    assert_eq!(order(json!(["id", "desc"]), 3), [19, 18, 17]);
    assert_eq!(order(json!([["kind", "desc"], ["id", "desc"]]), 7), [18, 14, 10, 6, 2, 16, 12]);
}

#[test]
fn pages_follow_each_other() {
    let points = points();
    let page = |offset: u64| {
        ids(&ask(&points, &json!({"rank_by": ["id", "asc"], "limit": 8, "offset": offset})).expect("rows"))
    };
    assert_eq!([page(0), page(8), page(16), page(24)].concat(), (0..20).collect::<Vec<u64>>());
    let limited =
        json!({"rank_by": ["rank", "desc"], "limit": {"total": 4, "per": {"attributes": ["kind"], "limit": 1}}});
    assert_eq!(ids(&ask(&points, &limited).expect("rows")), [0, 2, 1]);
}

#[test]
fn attributes_are_included_or_excluded() {
    let points = points();
    let keys = |extra: Json| {
        let mut body = json!({"rank_by": ["id", "asc"], "limit": 1});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let answer = ask(&points, &body).expect("rows");
        answer["rows"][0].as_object().expect("a row").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(json!({})), ["id"]);
    assert_eq!(keys(json!({"include_attributes": false})), ["id"]);
    assert_eq!(keys(json!({"include_attributes": []})), ["id"]);
    assert_eq!(keys(json!({"include_attributes": ["id", "kind"]})), ["id", "kind"]);
    assert_eq!(keys(json!({"exclude_attributes": ["vector", "unknown"]})), ["id", "kind", "rank"]);
    assert_eq!(keys(json!({"include_attributes": true})), ["id", "kind", "rank", "vector"]);
}

#[test]
fn contradictions_are_refused_with_the_upstream_texts() {
    let points = points();
    let ann = || json!(["vector", "ANN", [1, 1]]);
    for (body, message) in [
        (json!({"rank_by": [], "limit": 1}), "💔 rank_by cannot be empty"),
        (json!({"rank_by": ann()}), "💔 rank_by queries must specify top_k or limit"),
        (json!({"rank_by": ann(), "top_k": 0}), "💔 top_k must be between 1 and 10000"),
        (json!({"rank_by": ann(), "limit": {"total": 10001}}), "💔 top_k must be between 1 and 10000"),
        (
            json!({"rank_by": ann(), "limit": {"total": 1, "per": {"attributes": ["kind"], "limit": 1}}}),
            "💔 `limit.per` is only supported when ranking by an attribute",
        ),
        (
            json!({"rank_by": ann(), "limit": 1, "include_attributes": true, "exclude_attributes": []}),
            "💔 cannot specify both include_attributes and exclude_attributes",
        ),
        (
            json!({"rank_by": ann(), "limit": 1, "include_attributes": ["missing_attr"]}),
            "💔 attribute \"missing_attr\" not found in schema, cannot be part of `include_attributes`. consider \
             passing `include_attributes=True` to return all attribute data instead",
        ),
        (json!({"rank_by": ["vector", "kNN", [1, 1]], "limit": 1}), "💔 kNN requires filters"),
        (
            json!({"rank_by": ["vector", "ANN", [1]], "limit": 1}),
            "💔 vector dimension mismatch for rank_by field \"vector\", expected 2, got 1",
        ),
        (
            json!({"rank_by": ["vector", "ANN", ["Embed", "a film"]], "limit": 1}),
            "💔 cannot embed the query: attribute \"vector\" has no embedding model configured",
        ),
        (json!({"rank_by": ["x", "asc"], "limit": 1}), "💔 attribute \"x\" not found in schema"),
        (json!({"rank_by": ["tags", "asc"], "limit": 1}), "💔 cannot order by attribute \"tags\" of type []string"),
        (
            json!({"rank_by": ["kind", "BM25", "x"], "limit": 1}),
            "💔 attribute \"kind\" does not have full_text_search enabled",
        ),
        (json!({"rank_by": ann(), "limit": 9999, "offset": 2}), "💔 offset + limit must be at most 10000"),
        (
            json!({"rank_by": ann(), "limit": 1, "rerank_by": {"model": "m", "query": "q", "attribute": "kind"}}),
            "💔 rerank_by: model reranking is not available for this namespace, no reranking model is configured",
        ),
        (
            json!({"aggregate_by": {"n": ["Count"]}, "top_k": 1}),
            "💔 top_k is not supported in aggregation queries without group_by",
        ),
        (
            json!({"aggregate_by": {"n": ["Count", "kind"]}}),
            "💔 aggregate_by with attributes other than \"id\" not yet supported",
        ),
        (json!({"aggregate_by": {"n": ["Sum", "kind"]}}), "💔 Sum expects a numeric attribute, but \"kind\" is string"),
        (json!({"group_by": ["kind"], "limit": 1}), "💔 group_by requires aggregate_by"),
        (
            json!({"aggregate_by": {"n": ["Count"]}, "rank_by": ["id", "asc"]}),
            "💔 rank_by is not supported in aggregation queries",
        ),
        (json!({"queries": []}), "💔 must send at least one sub-query"),
        (
            json!({"queries": vec![json!({"rank_by": ["id", "asc"], "limit": 1}); 17]}),
            "💔 multi-query exceeds per-namespace concurrency budget: requires 17 permits, max is 16 (see \
             https://turbopuffer.com/docs/limits)",
        ),
        (
            json!({"queries": [{"rank_by": ["id", "asc"], "limit": 1}], "rerank_by": ["RRF", {"rank_constant": 0}]}),
            "💔 RRF rank_constant must be greater than 0",
        ),
        (
            json!({"queries": [{"rank_by": ["id", "asc"], "limit": 1}], "rerank_by": ["RRF", {"weights": [1, 2]}]}),
            "💔 RRF weights must match the number of sub-queries, expected 1, got 2",
        ),
        (
            json!({"rank_by": ["Attribute", "rank"], "limit": 1}),
            "💔 scores must be non-negative: wrap the signed attribute \"rank\" in [\"Max\", [0, ...]], Saturate or \
             Decay",
        ),
        (
            json!({"rank_by": ["Product", -1, ["kind", "Eq", "a"]], "limit": 1}),
            "💔 Product weights must be non-negative",
        ),
    ] {
        assert_eq!(refusal(&points, &body), message, "{body}");
    }
    let limited = ask(&points, &json!({"aggregate_by": {"n": ["Count"]}, "limit": 1})).expect_err("a refusal");
    assert_eq!(limited.status, 422);
    assert!(limited.message.contains("unknown field `limit`"));
}

#[test]
fn text_ranks_as_the_suites_expect() {
    let mut films = table(
        &[("blabla", "text"), ("fact_id", "string")],
        &[
            json!({"id": 1, "blabla": "the fox is quick and brown", "fact_id": "a"}),
            json!({"id": 2, "blabla": "fox jumped over the lazy dog", "fact_id": "b"}),
            json!({"id": 3, "blabla": "the dog is lazy and brown", "fact_id": "c"}),
            json!({"id": 4, "blabla": "walrus is slow and inferior", "fact_id": "d"}),
        ],
    );
    let mut schema = films.schema.clone();
    let settings = FullText { stemming: true, remove_stopwords: true, ..FullText::default() };
    schema.attributes[0].full_text_search = Some(settings);
    films.set_schema(schema);
    let search =
        |films: &Table, rank_by: Json| ids(&ask(films, &json!({"rank_by": rank_by, "limit": 10})).expect("rows"));
    assert_eq!(search(&films, json!(["blabla", "BM25", "fox jumping"])), [2, 1]);
    put(&mut films, &json!({"id": 7, "blabla": "walruses can live up to 40 years", "fact_id": "g"}));
    let both = json!(["Sum", [["blabla", "BM25", "walrus slow"], ["blabla", "BM25", "jumping fox"]]]);
    assert_eq!(search(&films, both)[..2], [4, 2]);
    put(&mut films, &json!({"id": 8, "blabla": "row based upsert format is cool"}));
    put(&mut films, &json!({"id": 9, "blabla": "dict format of row based upsert also works, but isn't typed as well"}));
    assert_eq!(search(&films, json!(["blabla", "BM25", "row based upsert"])), [8, 9]);
    assert_eq!(search(&films, json!(["blabla", "BM25", "walr", {"last_as_prefix": true}])), [4, 7]);
    let refused = |rank_by: Json| refusal(&films, &json!({"rank_by": rank_by, "limit": 1}));
    assert_eq!(
        refused(json!(["blabla", "BM25", ["rust", "hybrid"]])),
        "💔 invalid input '[rust, hybrid]' for rank_by field \"blabla\", expecting string"
    );
    assert!(refused(json!(["blabla", "BM25", "x".repeat(8193)])).contains("longer than 8192 bytes"));
}

#[test]
fn aggregates_count_and_sum_whole_and_by_group() {
    let sales = table(
        &[("shop", "string"), ("amount", "int"), ("price", "float"), ("tags", "[]string")],
        &[
            json!({"id": 1, "shop": "b", "amount": 3, "price": 0.5, "tags": ["x", "y", "x"]}),
            json!({"id": 2, "shop": "a", "amount": -1, "price": 1.0, "tags": ["y"]}),
            json!({"id": 3, "shop": "b", "tags": []}),
            json!({"id": 4, "amount": 10}),
        ],
    );
    let answer = |body: Json| ask(&sales, &body).expect("aggregates");
    let totals = json!({"n": ["Count"], "ids": ["Count", "id"], "sum": ["Sum", "amount"], "cost": ["Sum", "price"]});
    assert_eq!(
        answer(json!({"aggregate_by": totals}))["aggregations"],
        json!({"n": 4, "ids": 4, "sum": 12, "cost": 1.5})
    );
    assert_eq!(
        answer(json!({"aggregate_by": {"n": ["Count"]}, "filters": ["shop", "Eq", "b"]}))["aggregations"],
        json!({"n": 2})
    );
    let grouped = answer(json!({"aggregate_by": {"n": ["Count"], "sum": ["Sum", "amount"]}, "group_by": ["shop"]}));
    assert_eq!(
        grouped["aggregation_groups"],
        json!([{"shop": null, "n": 1, "sum": 10}, {"shop": "a", "n": 1, "sum": -1}, {"shop": "b", "n": 2, "sum": 3}])
    );
    assert!(grouped.get("rows").is_none() && grouped.get("aggregations").is_none());
    let each =
        json!({"aggregate_by": {"n": ["Count"]}, "group_by": [{"tag": ["ForEachUnique", "tags"]}, "shop"], "top_k": 2});
    assert_eq!(
        answer(each)["aggregation_groups"],
        json!([{"tag": "x", "shop": "b", "n": 1}, {"tag": "y", "shop": "a", "n": 1}])
    );
    assert!(refusal(&sales, &json!({"aggregate_by": {"n": ["Count"]}, "group_by": ["tags"]})).contains("ForEachUnique"));
    let empty = table(&[("amount", "int")], &[]);
    assert_eq!(
        ask(&empty, &json!({"aggregate_by": {"n": ["Count"], "s": ["Sum", "amount"]}})).expect("zeros")["aggregations"],
        json!({"n": 0, "s": 0})
    );
}

#[test]
fn score_expressions_combine_and_drop_what_did_not_match() {
    let films = table(
        &[("body", "text"), ("votes", "uint"), ("delta", "int"), ("at", "datetime")],
        &[
            json!({"id": 1, "body": "fox", "votes": 10, "delta": -4, "at": "2024-01-01"}),
            json!({"id": 2, "body": "dog", "votes": 30, "delta": 4, "at": "2024-01-03"}),
            json!({"id": 3, "votes": 0}),
        ],
    );
    let scores = |rank_by: Json| -> Vec<(u64, f64)> {
        let answer = ask(&films, &json!({"rank_by": rank_by, "limit": 9})).expect("rows");
        let rows = answer["rows"].as_array().expect("rows");
        rows.iter().map(|row| (row["id"].as_u64().expect("id"), row["$dist"].as_f64().expect("a score"))).collect()
    };
    assert_eq!(scores(json!(["Attribute", "votes"])), [(2, 30.0), (1, 10.0), (3, 0.0)]);
    assert_eq!(scores(json!(["body", "Eq", "fox"])), [(1, 1.0)]);
    assert_eq!(
        scores(json!(["Sum", [["body", "Eq", "fox"], ["Product", 0.5, ["votes", "Gt", 20]]]])),
        [(1, 1.0), (2, 0.5)]
    );
    assert_eq!(scores(json!(["Max", [0, ["Attribute", "delta"]]])), [(2, 4.0), (1, 0.0), (3, 0.0)]);
    assert_eq!(scores(json!(["Max", 0, ["Attribute", "delta"]])), [(2, 4.0), (1, 0.0), (3, 0.0)]);
    assert_eq!(scores(json!(["Saturate", ["Attribute", "delta"], {"midpoint": 4}])), [(2, 0.5), (1, 0.0), (3, 0.0)]);
    assert_eq!(
        scores(json!(["Saturate", ["Attribute", "votes"], {"midpoint": 10, "exponent": 2}])),
        [(2, 0.9), (1, 0.5), (3, 0.0)]
    );
    let recent = json!(["Decay", ["Dist", ["Attribute", "at"], "2024-01-02"], {"midpoint": "1d"}]);
    assert_eq!(scores(recent), [(1, 0.5), (2, 0.5), (3, 0.0)]);
    let refused = |rank_by: Json| refusal(&films, &json!({"rank_by": rank_by, "limit": 1}));
    assert!(refused(json!(["Decay", ["Attribute", "votes"], {}])).contains("positive `midpoint`"));
    assert!(refused(json!(["Sum", [-1, ["Attribute", "votes"]]])).contains("non-negative"));
    assert!(refused(json!(["Sum", [["body", "ANN", [1]]]])).contains("cannot be part of a score expression"));
}

#[test]
fn sparse_vectors_rank_by_dot_product_without_zeros() {
    let rows = table(
        &[("terms", "{}f16")],
        &[
            json!({"id": 1, "terms": {"3": 2, "10": 1}}),
            json!({"id": 2, "terms": {"4": 1}}),
            json!({"id": 3, "terms": {"10": 4}}),
            json!({"id": 4}),
        ],
    );
    let answer =
        ask(&rows, &json!({"rank_by": ["terms", "SparseKNN", {"10": 0.5, "3": 1}], "limit": 9})).expect("rows");
    assert_eq!(answer["rows"], json!([{"id": 1, "$dist": 2.5}, {"id": 3, "$dist": 2.0}]));
    assert!(
        refusal(&rows, &json!({"rank_by": ["terms", "SparseKNN", {"x": 1}], "limit": 9})).contains("expecting {}f16")
    );
}

#[test]
fn computed_attributes_stand_beside_the_others() {
    let rows = table(
        &[("vector", "[2]f32"), ("body", "text")],
        &[json!({"id": 1, "vector": [3, 4], "body": "A fox. A dog."}), json!({"id": 2, "vector": [0, 0]})],
    );
    let body = json!({
        "rank_by": ["id", "asc"], "limit": 2,
        "compute_attributes": {
            "far": ["vector", "VectorDist", [0, 0]],
            "fox": ["body", "ContainsAnyToken", "fox"],
            "score": ["Product", 2, ["body", "ContainsAnyToken", "fox"]],
            "shown": ["Highlight", "body", {"rank_fragments_by": ["$fragment", "BM25", "dog"]}],
        },
    });
    let answer = ask(&rows, &body).expect("rows");
    assert_eq!(
        answer["rows"],
        json!([
            {"id": 1, "far": 25.0, "fox": true, "score": 2.0, "shown": [{"text": "A dog."}]},
            {"id": 2, "far": 0.0, "fox": false, "score": 0.0},
        ])
    );
    let reserved = json!({"rank_by": ["id", "asc"], "limit": 2, "compute_attributes": {"$dist": ["id", "Eq", 1]}});
    assert_eq!(refusal(&rows, &reserved), "💔 compute_attributes cannot define `$dist`");
}

#[test]
fn multi_queries_answer_in_order_or_fused() {
    let points = points();
    let near = |x: f64| json!({"rank_by": ["vector", "ANN", [x, x]], "limit": 3});
    let answer =
        ask(&points, &json!({"queries": [near(0.0), {"aggregate_by": {"n": ["Count"]}}, near(1.9)]})).expect("results");
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    assert_eq!((ids(&results[0]), ids(&results[2])), (vec![0, 1, 2], vec![19, 18, 17]));
    assert_eq!(results[1]["aggregations"]["n"], json!(20));
    assert_eq!(answer["billing"]["billable_logical_bytes_queried"], json!(3 * 256_000_000));

    let fused = |rerank_by: Json, extra: Json| {
        let mut body = json!({"queries": [near(0.1), near(0.2)], "rerank_by": rerank_by});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let answer = ask(&points, &body).expect("one result");
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(1));
        answer["results"][0].clone()
    };
    // The lists are [1, 0, 2] and [2, 1, 3].
    let plain = fused(json!(["RRF"]), json!({}));
    assert_eq!(ids(&plain), [1, 2, 0, 3]);
    let score = plain["rows"][0]["$dist"].as_f64().expect("a score");
    assert!((score - (1.0 / 61.0 + 1.0 / 62.0)).abs() < 1e-6);
    assert_eq!(ids(&fused(json!(["RRF", {"rank_constant": 1, "weights": [0.1, 10]}]), json!({}))), [2, 1, 3, 0]);
    assert_eq!(ids(&fused(json!(["RRF"]), json!({"limit": {"total": 2}, "offset": 1}))), [2, 0]);
    let aggregate = json!({"queries": [{"aggregate_by": {"n": ["Count"]}}], "rerank_by": ["RRF"]});
    assert!(refusal(&points, &aggregate).contains("requires every sub-query to have a rank_by"));
    let misplaced = json!({"queries": [{"rank_by": ["id", "asc"], "limit": 1, "consistency": {"level": "strong"}}]});
    assert!(refusal(&points, &misplaced).contains("consistency must be set on the multi-query"));
}

#[test]
fn eventual_reads_stop_at_the_lagging_sequence() {
    let mut rows = table(&[("name", "string")], &[json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "b"})]);
    put(&mut rows, &json!({"id": 1, "name": "new"}));
    let ask_at = |level: &str| {
        let body = json!({"rank_by": ["id", "asc"], "limit": 9, "include_attributes": ["name"], "consistency": {"level": level}});
        let lagging = View { eventual_seq: 1, ..view(&rows) };
        let reply = handle(&lagging, body.to_string().as_bytes()).expect("rows");
        serde_json::from_slice::<Json>(&reply.body).expect("JSON")["rows"].clone()
    };
    assert_eq!(ask_at("strong"), json!([{"id": 1, "name": "new"}, {"id": 2, "name": "b"}]));
    assert_eq!(ask_at("eventual"), json!([{"id": 1, "name": "a"}]));
}

#[test]
fn recall_compares_the_search_with_a_full_sort() {
    let ask = |table: &Table, body: &str| crate::recall::handle(&view(table), body.as_bytes());
    let three = table(
        &[("vector", "[2]f32")],
        &[json!({"id": 1, "vector": [0, 0]}), json!({"id": 2, "vector": [1, 1]}), json!({"id": 3, "vector": [5, 5]})],
    );
    let text = |body: &str| String::from_utf8(ask(&three, body).expect("recall").body).expect("UTF-8");
    assert_eq!(text(r#"{"num":1,"top_k":2}"#), r#"{"avg_recall":1.0,"avg_exhaustive_count":2.0,"avg_ann_count":2.0}"#);
    assert_eq!(text(""), r#"{"avg_recall":1.0,"avg_exhaustive_count":3.0,"avg_ann_count":3.0}"#);
    let truth = r#"{"rank_by":["vector","ANN",[1,1]],"top_k":1,"include_ground_truth":true}"#;
    assert!(text(truth).contains(
        r#""ground_truth":[{"query_vector":[1.0,1.0],"nearest_neighbors":[{"id":2,"$dist":0.0,"vector":[1.0,1.0]}]}]"#
    ));
    let refused = |body: &str| ask(&three, body).expect_err("a refusal").message;
    assert_eq!(
        refused(r#"{"num":2,"rank_by":["vector","ANN",[1,1]]}"#),
        "💔 rank_by and num cannot be specified together"
    );
    assert_eq!(refused(r#"{"num":0}"#), "💔 samples must be between 1 and 200");
    assert!(refused(r#"{"num":"bad"}"#).contains(r#"num: invalid type: string "bad", expected usize"#));
}

#[test]
fn small_namespaces_have_no_plan_and_large_ones_do() {
    let points = points();
    let body = json!({"rank_by": ["Sum", [["kind", "Eq", "a"]]], "limit": 3}).to_string();
    let refused = crate::explain::handle(&view(&points), body.as_bytes()).expect_err("too small");
    assert_eq!(refused.message, "💔 index does not exist, cannot explain");
    let mut indexed = view(&points);
    indexed.options.index_rows_min = 1;
    let reply = crate::explain::handle(&indexed, body.as_bytes()).expect("a plan");
    let plan: Json = serde_json::from_slice(&reply.body).expect("JSON");
    let text = plan["plan_text"].as_str().expect("text");
    assert!(text.contains("TopK limit=3 offset=0") && text.contains("Sum") && text.contains("Filter match"), "{text}");
}

#[test]
fn orders_agree_with_a_full_sort() {
    let mut rng = Rng::new(31);
    let rows: Vec<Json> = (0..300)
        .map(|id| {
            let mut row = json!({"id": id});
            if rng.below(5) > 0 {
                row["a"] = json!(rng.below(6));
            }
            if rng.below(5) > 0 {
                row["b"] = json!(format!("{:02}", rng.below(9)));
            }
            row
        })
        .collect();
    let table = table(&[("a", "int"), ("b", "string")], &rows);
    let key =
        |row: &Json| (row.get("a").and_then(Json::as_i64), row.get("b").and_then(Json::as_str).map(str::to_owned));
    for (direction_a, direction_b) in [("asc", "asc"), ("asc", "desc"), ("desc", "asc"), ("desc", "desc")] {
        let mut sorted: Vec<&Json> = rows.iter().collect();
        sorted.sort_by(|left, right| {
            let ((a, b), (other_a, other_b)) = (key(left), key(right));
            let by_a = if direction_a == "asc" { a.cmp(&other_a) } else { other_a.cmp(&a) };
            let by_b = if direction_b == "asc" { b.cmp(&other_b) } else { other_b.cmp(&b) };
            by_a.then(by_b)
        });
        let expected: Vec<u64> = sorted.iter().take(120).map(|row| row["id"].as_u64().expect("id")).collect();
        let body = json!({"rank_by": [["a", direction_a], ["b", direction_b]], "limit": 120});
        assert_eq!(ids(&ask(&table, &body).expect("rows")), expected);
        let per = json!({"rank_by": [["a", direction_a], ["b", direction_b]],
                         "limit": {"total": 120, "per": {"attributes": ["a"], "limit": 4}}});
        let mut taken = std::collections::HashMap::new();
        let expected: Vec<u64> = sorted
            .iter()
            .filter(|row| {
                let count = taken.entry(key(row).0).or_insert(0);
                *count += 1;
                *count <= 4
            })
            .map(|row| row["id"].as_u64().expect("id"))
            .collect();
        assert_eq!(ids(&ask(&table, &per).expect("rows")), expected);
    }
}
