//! A schema as the API takes it and shows it.

use crate::analyze::Analysis;
use crate::reply::{ApiError, ApiResult};
use crate::schema::{Attribute, FullText, Schema};
use crate::table::Metric;
use crate::value::{AttrType, IdType, Scalar};
use serde::Deserialize;
use serde_json::{json, Map, Value as Json};

/// Longest name of an attribute, in bytes.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 128;
/// Most attributes of a namespace.
pub const ATTRIBUTES_MAX: usize = 1024;
/// Most vector attributes of a namespace.
pub const VECTOR_ATTRIBUTES_MAX: usize = 8;

/// What a caller says about one attribute. The name is the upstream's: it is part of the message of a 422.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum AttributeSchemaInput {
    Type(String),
    Config(Box<AttributeConfig>),
    Change(AttributeChange),
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct AttributeConfig {
    #[serde(rename = "type")]
    kind: String,
    filterable: Option<bool>,
    full_text_search: Option<FullTextInput>,
    regex: Option<bool>,
    glob: Option<bool>,
    fuzzy: Option<bool>,
    ann: Option<AnnInput>,
    sparse_knn: Option<Json>,
    embed: Option<Json>,
    drop: Option<bool>,
}

/// An object without a type: it can only drop the attribute.
#[derive(Clone, Debug, Deserialize)]
pub struct AttributeChange {
    drop: bool,
    #[serde(flatten)]
    others: Map<String, Json>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum FullTextInput {
    Flag(bool),
    Settings(FullTextSettings),
}

#[derive(Clone, Debug, Default, Deserialize)]
struct FullTextSettings {
    tokenizer: Option<String>,
    language: Option<String>,
    stemming: Option<bool>,
    remove_stopwords: Option<bool>,
    case_sensitive: Option<bool>,
    ascii_folding: Option<bool>,
    max_token_length: Option<u32>,
    k1: Option<f64>,
    b: Option<f64>,
    k3: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum AnnInput {
    Flag(bool),
    Settings { distance_metric: Option<String>, late_interaction: Option<bool> },
}

const LANGUAGES: [&str; 18] = [
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
];
const LANGUAGES_WITHOUT_STOPWORDS: [&str; 5] = ["arabic", "greek", "romanian", "tamil", "turkish"];
const TOKENIZERS: [&str; 6] = ["word_v0", "word_v1", "word_v2", "word_v3", "word_v4", PRE_TOKENIZED];
const PRE_TOKENIZED: &str = "pre_tokenized_array";

/// What the rest of the request says that bears on a schema.
#[derive(Clone, Copy, Debug)]
pub struct SchemaContext {
    /// The namespace's metric, else the request's.
    pub metric: Option<Metric>,
    /// The namespace exists: its vector attributes are fixed.
    pub is_old: bool,
}

/// Merges changes into a schema.
///
/// # Errors
/// 400 with the upstream's message; the schema may then be half changed.
pub fn merge(schema: &mut Schema, changes: &[(String, AttributeSchemaInput)], context: SchemaContext) -> ApiResult<()> {
    for (name, change) in changes {
        if name == "id" {
            merge_id(schema, change)?;
            continue;
        }
        check_name(name)?;
        match change {
            AttributeSchemaInput::Type(kind) => merge_type(schema, name, kind, context)?,
            AttributeSchemaInput::Config(config) => merge_config(schema, name, config, context)?,
            AttributeSchemaInput::Change(change) => merge_drop(schema, name, change)?,
        }
    }
    check_counts(schema)
}

/// # Errors
/// 400: the name is too long or starts with `$`.
pub fn check_name(name: &str) -> ApiResult<()> {
    if name.is_empty() {
        return Err(ApiError::invalid("attribute names must not be empty"));
    }
    if name.len() > ATTRIBUTE_NAME_BYTES_MAX {
        let reason = format!(
            "attribute name '{name}' is too long: {} bytes, the limit is {ATTRIBUTE_NAME_BYTES_MAX} bytes",
            name.len()
        );
        return Err(ApiError::invalid(reason));
    }
    if name.starts_with('$') {
        return Err(ApiError::invalid(format!("attribute name '{name}' must not start with '$'")));
    }
    Ok(())
}

/// # Errors
/// 400: more attributes, or more vectors, than a namespace may have.
pub fn check_counts(schema: &Schema) -> ApiResult<()> {
    if schema.living().count() > ATTRIBUTES_MAX {
        return Err(ApiError::invalid(format!("too many attributes, the limit is {ATTRIBUTES_MAX} per namespace")));
    }
    if schema.vectors().count() > VECTOR_ATTRIBUTES_MAX {
        let reason = format!("too many vector attributes, the limit is {VECTOR_ATTRIBUTES_MAX} per namespace");
        return Err(ApiError::invalid(reason));
    }
    Ok(())
}

fn merge_id(schema: &mut Schema, change: &AttributeSchemaInput) -> ApiResult<()> {
    let kind = match change {
        AttributeSchemaInput::Type(kind) => kind,
        AttributeSchemaInput::Config(config) => &config.kind,
        AttributeSchemaInput::Change(_) => return Err(ApiError::schema("id", "cannot drop the ID attribute")),
    };
    let declared = IdType::parse(kind).ok_or_else(|| ApiError::invalid(format!("{kind} is not a valid ID type")))?;
    match schema.id_type {
        Some(old) if old != declared => Err(change_of_type("id", old.name(), declared.name())),
        _ => {
            schema.id_type = Some(declared);
            Ok(())
        }
    }
}

fn change_of_type(name: &str, old: &str, new: &str) -> ApiError {
    ApiError::schema(name, format!("cannot change attribute type from {old} to {new}"))
}

fn parse_type(name: &str, kind: &str) -> ApiResult<AttrType> {
    if kind.starts_with("[][") {
        return Err(ApiError::invalid(format!("attribute '{name}': late interaction is not enabled")));
    }
    AttrType::parse(kind).ok_or_else(|| ApiError::invalid(format!("attribute '{name}': {kind} is not a valid type")))
}

/// A type alone: settings stay as they are.
fn merge_type(schema: &mut Schema, name: &str, kind: &str, context: SchemaContext) -> ApiResult<()> {
    let parsed = parse_type(name, kind)?;
    match schema.get(name) {
        Some(old) if old.kind == parsed => Ok(()),
        _ => {
            let config = AttributeConfig { kind: kind.to_owned(), ..AttributeConfig::default() };
            merge_config(schema, name, &config, context)
        }
    }
}

fn merge_config(schema: &mut Schema, name: &str, config: &AttributeConfig, context: SchemaContext) -> ApiResult<()> {
    if config.drop == Some(true) {
        return Err(ApiError::schema(name, "drop cannot be combined with other options"));
    }
    let old = schema.get(name);
    let kind = parse_type(name, &config.kind)?;
    if let Some(old) = old {
        if old.kind != kind {
            return Err(change_of_type(name, &old.kind.to_string(), &kind.to_string()));
        }
    }
    if config.embed.as_ref().is_some_and(|embed| !embed.is_null()) {
        let reason = format!("attribute '{name}': native embedding is not available, write the vectors instead");
        return Err(ApiError::invalid(reason));
    }
    let attribute = match kind {
        AttrType::Vector { .. } => vector_attribute(name, config, old, context)?,
        AttrType::Sparse => sparse_attribute(name, config, old)?,
        AttrType::Scalar(_) | AttrType::Array(_) => plain_attribute(name, kind, config)?,
    };
    match schema.ordinal(name) {
        Some(ordinal) => schema.attributes[ordinal] = attribute,
        None => schema.attributes.push(attribute),
    }
    Ok(())
}

fn vector_attribute(
    name: &str,
    config: &AttributeConfig,
    old: Option<&Attribute>,
    context: SchemaContext,
) -> ApiResult<Attribute> {
    if old.is_none() && context.is_old {
        return Err(ApiError::invalid("Vector provided for namespace without vector attribute"));
    }
    match &config.ann {
        Some(AnnInput::Settings { late_interaction: Some(true), .. }) => {
            return Err(ApiError::invalid(format!("attribute '{name}': late interaction is not enabled")));
        }
        Some(AnnInput::Settings { distance_metric: Some(metric), .. })
            if context.metric.is_none_or(|known| known.name() != metric) =>
        {
            return Err(ApiError::invalid(
                "`distance_metric` must be specified as a field at the top level of the write request, not in the \
                 `ann` configuration for an attribute",
            ));
        }
        Some(AnnInput::Flag(true) | AnnInput::Settings { .. }) => {}
        // What the namespace already has needs no repetition.
        None if old.is_some() => {}
        None | Some(AnnInput::Flag(false)) if name == "vector" => {
            return Err(ApiError::invalid(
                "the `vector` attribute must have `ann` set to `true`, eg: \
                 `\"vector\": { \"type\": \"[1024]f32\", \"ann\": true }` ",
            ));
        }
        None | Some(AnnInput::Flag(false)) => {
            return Err(ApiError::invalid(format!("vector attribute '{name}' must have ann:true")));
        }
    }
    if has_index_options(config) {
        let reason = format!("attribute '{name}': a vector has no options but `ann`");
        return Err(ApiError::invalid(reason));
    }
    Ok(Attribute::new(name, AttrType::parse(&config.kind).unwrap_or(AttrType::Sparse)))
}

fn sparse_attribute(name: &str, config: &AttributeConfig, old: Option<&Attribute>) -> ApiResult<Attribute> {
    let metric = config.sparse_knn.as_ref().and_then(|settings| settings.get("distance_metric"));
    match (&config.sparse_knn, metric) {
        (None, _) if old.is_some() => {}
        (Some(Json::Bool(true)), _) | (Some(Json::Object(_)), None) => {}
        (Some(_), Some(Json::String(metric))) if metric == "dot_product" => {}
        _ => {
            let reason = format!(
                "sparse attribute '{name}' must have `sparse_knn` set, eg: \
                 `\"sparse_knn\": {{ \"distance_metric\": \"dot_product\" }}`"
            );
            return Err(ApiError::invalid(reason));
        }
    }
    if config.filterable == Some(true) || has_index_options(config) {
        return Err(ApiError::invalid(format!("attribute '{name}': a sparse vector has no options but `sparse_knn`")));
    }
    Ok(Attribute::new(name, AttrType::Sparse))
}

fn has_index_options(config: &AttributeConfig) -> bool {
    let searched = !matches!(config.full_text_search, None | Some(FullTextInput::Flag(false)));
    searched || [config.regex, config.glob, config.fuzzy].contains(&Some(true))
}

fn plain_attribute(name: &str, kind: AttrType, config: &AttributeConfig) -> ApiResult<Attribute> {
    let is_text = matches!(kind, AttrType::Scalar(Scalar::Str) | AttrType::Array(Scalar::Str));
    let is_on = |option: &Option<AnnInput>| matches!(option, Some(AnnInput::Flag(true) | AnnInput::Settings { .. }));
    if is_on(&config.ann) {
        return Err(ApiError::invalid(format!("attribute '{name}': `ann` needs a vector type, not {kind}")));
    }
    if config.sparse_knn.as_ref().is_some_and(|option| !matches!(option, Json::Null | Json::Bool(false))) {
        return Err(ApiError::invalid(format!("attribute '{name}': `sparse_knn` needs the type {{}}f16, not {kind}")));
    }
    if has_index_options(config) && !is_text {
        let reason = format!(
            "attribute '{name}': full_text_search, regex, glob and fuzzy need the type string or []string, not {kind}"
        );
        return Err(ApiError::invalid(reason));
    }
    let full_text_search = match &config.full_text_search {
        None | Some(FullTextInput::Flag(false)) => None,
        Some(FullTextInput::Flag(true)) => Some(FullText::default()),
        Some(FullTextInput::Settings(settings)) => Some(full_text(name, kind, settings)?),
    };
    Ok(Attribute {
        filterable: config.filterable.unwrap_or(!has_index_options(config)),
        full_text_search,
        regex: config.regex == Some(true),
        glob: config.glob == Some(true),
        fuzzy: config.fuzzy == Some(true),
        ..Attribute::new(name, kind)
    })
}

fn full_text(name: &str, kind: AttrType, settings: &FullTextSettings) -> ApiResult<FullText> {
    let refuse = |reason: String| {
        Err(ApiError::invalid(format!("invalid full_text_search settings for attribute '{name}': {reason}")))
    };
    let defaults = FullText::default();
    let tokenizer = settings.tokenizer.clone().unwrap_or(defaults.tokenizer);
    if !TOKENIZERS.contains(&tokenizer.as_str()) {
        return refuse(format!("unknown tokenizer `{tokenizer}`, expected one of {}", TOKENIZERS.join(", ")));
    }
    let stemming = settings.stemming.unwrap_or(false);
    let remove_stopwords = settings.remove_stopwords.unwrap_or(false);
    let pre_tokenized = tokenizer == PRE_TOKENIZED;
    if pre_tokenized {
        if kind != AttrType::Array(Scalar::Str) {
            return refuse(format!("tokenizer {PRE_TOKENIZED} needs the type []string, not {kind}"));
        }
        if settings.language.is_some() || stemming || remove_stopwords || settings.case_sensitive == Some(false) {
            let options = "language, stemming, remove_stopwords and case_sensitive: false";
            return refuse(format!("{options} cannot be used with the tokenizer {PRE_TOKENIZED}"));
        }
    }
    let language = settings.language.clone().unwrap_or_else(|| "english".to_owned());
    if !LANGUAGES.contains(&language.as_str()) {
        return refuse(format!("unknown language `{language}`, expected one of {}", LANGUAGES.join(", ")));
    }
    if remove_stopwords && LANGUAGES_WITHOUT_STOPWORDS.contains(&language.as_str()) {
        return refuse(format!("remove_stopwords is not available for the language {language}"));
    }
    let case_sensitive = settings.case_sensitive.unwrap_or(pre_tokenized);
    if case_sensitive && (stemming || remove_stopwords) {
        return refuse("stemming and remove_stopwords cannot be used with case_sensitive".to_owned());
    }
    let max_token_length = settings.max_token_length.unwrap_or(39);
    if !(1..=254).contains(&max_token_length) {
        return refuse(format!("max_token_length must be between 1 and 254, was {max_token_length}"));
    }
    let (k1, b, k3) = (settings.k1.unwrap_or(1.2), settings.b.unwrap_or(0.75), settings.k3.unwrap_or(8.0));
    if k1 <= 0.0 || k3 <= 0.0 {
        return refuse(format!("k1 and k3 must be greater than 0, were {k1} and {k3}"));
    }
    if !(0.0..=1.0).contains(&b) {
        return refuse(format!("b must be between 0 and 1, was {b}"));
    }
    let full_text = FullText {
        tokenizer,
        language: (!pre_tokenized).then_some(language),
        stemming,
        remove_stopwords,
        case_sensitive,
        ascii_folding: settings.ascii_folding.unwrap_or(false),
        max_token_length: (!pre_tokenized).then_some(max_token_length),
        k1,
        b,
        k3,
    };
    match Analysis::new(&full_text) {
        Ok(_) => Ok(full_text),
        Err(reason) => refuse(reason),
    }
}

fn merge_drop(schema: &mut Schema, name: &str, change: &AttributeChange) -> ApiResult<()> {
    if !change.others.is_empty() {
        return Err(ApiError::schema(name, "drop cannot be combined with other options"));
    }
    if !change.drop {
        return Err(ApiError::schema(name, "drop can only be true"));
    }
    // A retried request may find that the attribute is gone already.
    if let Some(ordinal) = schema.ordinal(name) {
        schema.attributes[ordinal].dropped = true;
    }
    Ok(())
}

/// The schema as the schema routes show it: nulls are explicit.
#[must_use]
pub fn show_v1(schema: &Schema) -> Json {
    show(
        schema,
        |attribute| {
            let mut shown = json!({"type": attribute.kind.to_string(), "filterable": null, "full_text_search": null});
            match attribute.kind {
                AttrType::Vector { .. } => shown["ann"] = json!(true),
                AttrType::Sparse => shown["filterable"] = json!(false),
                AttrType::Scalar(_) | AttrType::Array(_) => {
                    shown["filterable"] = json!(attribute.filterable);
                    shown["full_text_search"] = attribute.full_text_search.as_ref().map_or(Json::Null, show_full_text);
                }
            }
            shown
        },
        &json!({"filterable": null, "full_text_search": null}),
    )
}

/// The schema as metadata shows it: nulls are left out and `ann` says the metric.
#[must_use]
pub fn show_v2(schema: &Schema, metric: Option<Metric>) -> Json {
    show(
        schema,
        |attribute| {
            let mut shown = json!({"type": attribute.kind.to_string()});
            match attribute.kind {
                AttrType::Vector { .. } => {
                    shown["ann"] = metric.map_or(json!(true), |metric| json!({"distance_metric": metric.name()}));
                }
                AttrType::Sparse => {
                    shown["filterable"] = json!(false);
                    shown["sparse_knn"] = json!({"distance_metric": "dot_product"});
                }
                AttrType::Scalar(_) | AttrType::Array(_) => {
                    shown["filterable"] = json!(attribute.filterable);
                    if let Some(full_text) = &attribute.full_text_search {
                        shown["full_text_search"] = show_full_text(full_text);
                    }
                }
            }
            shown
        },
        &json!({}),
    )
}

fn show(schema: &Schema, show_one: impl Fn(&Attribute) -> Json, id_options: &Json) -> Json {
    let mut shown = Map::new();
    if let Some(kind) = schema.id_type {
        let mut id = id_options.clone();
        id["type"] = json!(kind.name());
        shown.insert("id".to_owned(), id);
    }
    for (_, attribute) in schema.living() {
        let mut one = show_one(attribute);
        for (option, is_on) in [("regex", attribute.regex), ("glob", attribute.glob), ("fuzzy", attribute.fuzzy)] {
            if is_on {
                one[option] = json!(true);
            }
        }
        shown.insert(attribute.name.clone(), one);
    }
    Json::Object(shown)
}

fn show_full_text(settings: &FullText) -> Json {
    json!({
        "k1": settings.k1,
        "k3": settings.k3,
        "b": settings.b,
        "language": settings.language,
        "stemming": settings.stemming,
        "max_token_length": settings.max_token_length,
        "remove_stopwords": settings.remove_stopwords,
        "ascii_folding": settings.ascii_folding,
        "case_sensitive": settings.case_sensitive,
        "tokenizer": settings.tokenizer,
    })
}

#[cfg(test)]
#[path = "schema_json_tests.rs"]
mod tests;
