use super::*;
use crate::value::Element;

const NEW: SchemaContext = SchemaContext { metric: Some(Metric::Cosine), is_old: false };
const OLD: SchemaContext = SchemaContext { metric: Some(Metric::Cosine), is_old: true };

fn merged(schema: &mut Schema, name: &str, change: Json, context: SchemaContext) -> ApiResult<()> {
    let change = serde_json::from_value(change).map_err(|error| ApiError::shape(name, error.to_string()))?;
    merge(schema, &[(name.to_owned(), change)], context)
}

fn refusal(name: &str, change: Json, context: SchemaContext) -> String {
    let mut schema = Schema::default();
    merged(&mut schema, "title", json!("string"), NEW).expect("fresh");
    merged(&mut schema, name, change, context).expect_err("refused").message
}

#[test]
fn the_two_forms_of_a_schema() {
    let mut schema = Schema { id_type: Some(IdType::Uint), ..Schema::default() };
    merged(&mut schema, "title", json!({"type": "string", "full_text_search": {"stemming": true}}), NEW).expect("fts");
    merged(&mut schema, "vector", json!({"type": "[2]f16", "ann": {}}), NEW).expect("vector");
    merged(&mut schema, "tags", json!({"type": "[]string", "glob": true, "filterable": true}), NEW).expect("tags");
    merged(&mut schema, "sparse", json!({"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}), NEW)
        .expect("sparse");
    let full_text = json!({"k1": 1.2, "k3": 8.0, "b": 0.75, "language": "english", "stemming": true,
        "max_token_length": 39, "remove_stopwords": false, "ascii_folding": false, "case_sensitive": false,
        "tokenizer": "word_v4"});
    assert_eq!(
        show_v1(&schema),
        json!({
            "id": {"type": "uint", "filterable": null, "full_text_search": null},
            "title": {"type": "string", "filterable": false, "full_text_search": full_text},
            "vector": {"type": "[2]f16", "ann": true, "filterable": null, "full_text_search": null},
            "tags": {"type": "[]string", "filterable": true, "full_text_search": null, "glob": true},
            "sparse": {"type": "{}f16", "filterable": false, "full_text_search": null},
        })
    );
    assert_eq!(
        show_v2(&schema, Some(Metric::Cosine)),
        json!({
            "id": {"type": "uint"},
            "title": {"type": "string", "filterable": false, "full_text_search": full_text},
            "vector": {"type": "[2]f16", "ann": {"distance_metric": "cosine_distance"}},
            "tags": {"type": "[]string", "filterable": true, "glob": true},
            "sparse": {"type": "{}f16", "filterable": false, "sparse_knn": {"distance_metric": "dot_product"}},
        })
    );
}

#[test]
fn pre_tokenized_text_has_no_language() {
    let mut schema = Schema::default();
    let change = json!({"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}});
    merged(&mut schema, "content", change, NEW).expect("allowed");
    let shown = &show_v1(&schema)["content"]["full_text_search"];
    assert_eq!((&shown["language"], &shown["max_token_length"]), (&Json::Null, &Json::Null));
    assert_eq!(shown["case_sensitive"], json!(true));
}

#[test]
fn a_type_alone_keeps_the_settings_and_a_config_replaces_them() {
    let mut schema = Schema::default();
    merged(&mut schema, "title", json!({"type": "string", "full_text_search": true}), NEW).expect("fts");
    merged(&mut schema, "title", json!("string"), OLD).expect("the type alone");
    assert!(schema.get("title").is_some_and(|title| title.full_text_search.is_some() && !title.filterable));
    merged(&mut schema, "title", json!({"type": "string", "full_text_search": false}), OLD).expect("off");
    assert!(schema.get("title").is_some_and(|title| title.full_text_search.is_none() && title.filterable));
}

#[test]
fn a_dropped_name_starts_anew_with_another_ordinal() {
    let mut schema = Schema::default();
    merged(&mut schema, "a", json!("string"), NEW).expect("new");
    merged(&mut schema, "a", json!({"drop": true}), OLD).expect("dropped");
    merged(&mut schema, "a", json!({"drop": true}), OLD).expect("dropped already");
    assert_eq!(schema.ordinal("a"), None);
    merged(&mut schema, "a", json!("int"), OLD).expect("anew");
    assert_eq!(schema.ordinal("a"), Some(1));
    assert_eq!(show_v2(&schema, None), json!({"a": {"type": "int", "filterable": true}}));
}

#[test]
fn vectors_are_fixed_when_the_namespace_is_made() {
    let mut schema = Schema::default();
    merged(&mut schema, "e", json!({"type": "[3]i8", "ann": true}), NEW).expect("new");
    assert_eq!(schema.vectors().collect::<Vec<_>>(), [(0, 3, Element::I8)]);
    merged(&mut schema, "e", json!({"type": "[3]i8", "ann": true}), OLD).expect("the same again");
    merged(&mut schema, "e", json!({"type": "[3]i8", "ann": {"distance_metric": "cosine_distance"}}), OLD)
        .expect("as metadata shows it");
    assert_eq!(
        refusal("e", json!({"type": "[3]f32", "ann": true}), OLD),
        "💔 Vector provided for namespace without vector attribute"
    );
}

#[test]
fn refusals_have_the_upstream_text() {
    for (name, change, message) in [
        ("id", json!("int"), "💔 int is not a valid ID type"),
        (
            "title",
            json!("int"),
            "🙅 invalid schema update for attribute 'title': cannot change attribute type from string to int",
        ),
        (
            "vector",
            json!("[2]f32"),
            "💔 the `vector` attribute must have `ann` set to `true`, eg: \
             `\"vector\": { \"type\": \"[1024]f32\", \"ann\": true }` ",
        ),
        ("embedding", json!({"type": "[2]f32"}), "💔 vector attribute 'embedding' must have ann:true"),
        (
            "embedding",
            json!({"type": "[2]f32", "ann": {"distance_metric": "euclidean_squared"}}),
            "💔 `distance_metric` must be specified as a field at the top level of the write request, not in the \
             `ann` configuration for an attribute",
        ),
    ] {
        assert_eq!(refusal(name, change, NEW), message);
    }
    for (change, part) in [
        (json!({"type": "string", "drop": true}), "drop"),
        (json!({"drop": true, "filterable": true}), "drop"),
        (json!({"type": "strong"}), "strong is not a valid type"),
        (json!({"type": "int", "full_text_search": true}), "need the type string or []string"),
        (json!({"type": "string", "full_text_search": {"language": "klingon"}}), "unknown language `klingon`"),
        (json!({"type": "string", "full_text_search": {"tokenizer": "word_v9"}}), "unknown tokenizer `word_v9`"),
        (json!({"type": "string", "full_text_search": {"b": 1.5}}), "b must be between 0 and 1"),
        (json!({"type": "string", "full_text_search": {"k1": 0}}), "k1 and k3 must be greater than 0"),
        (json!({"type": "string", "full_text_search": {"max_token_length": 255}}), "between 1 and 254"),
        (json!({"type": "string", "full_text_search": {"stemming": true, "case_sensitive": true}}), "case_sensitive"),
        (
            json!({"type": "string", "full_text_search": {"language": "tamil", "remove_stopwords": true}}),
            "not available for the language tamil",
        ),
        (
            json!({"type": "string", "full_text_search": {"tokenizer": "pre_tokenized_array"}}),
            "needs the type []string",
        ),
        (json!({"type": "string", "embed": "some-model"}), "native embedding is not available"),
        (json!({"type": "[][2]f32", "ann": {"late_interaction": true}}), "late interaction"),
        (json!({"filterable": true}), "data did not match any variant of untagged enum AttributeSchemaInput"),
    ] {
        let message = refusal("other", change, NEW);
        assert!(message.contains(part), "{message}");
    }
    assert!(refusal("$x", json!("int"), NEW).contains("must not start with '$'"));
    assert!(refusal(&"x".repeat(129), json!("int"), NEW).contains("128"));
}

#[test]
fn a_namespace_has_a_bounded_number_of_attributes() {
    let mut schema = Schema::default();
    let vector = json!({"type": "[2]f32", "ann": true});
    for number in 0..VECTOR_ATTRIBUTES_MAX {
        merged(&mut schema, &format!("v{number}"), vector.clone(), NEW).expect("few enough");
    }
    assert!(merged(&mut schema.clone(), "v", vector, NEW).is_err());
    for number in VECTOR_ATTRIBUTES_MAX..ATTRIBUTES_MAX {
        schema.attributes.push(Attribute::new(&format!("a{number}"), AttrType::Scalar(Scalar::Int)));
    }
    assert!(merged(&mut schema, "one-more", json!("int"), NEW).is_err());
}
