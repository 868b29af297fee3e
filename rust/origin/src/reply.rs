//! Answers and refusals, in the upstream's shapes.

use serde::Deserialize;
use serde_json::json;

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// One answer: what the HTTP front sends as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, content_type: JSON, body: body.to_string().into_bytes() }
    }

    /// 200 with a body that is JSON text already.
    #[must_use]
    pub fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, content_type: JSON, body }
    }
}

/// A refusal. `message` is complete: the emoji that the upstream puts before some messages is part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub message: String,
    /// The attribute that a schema refusal names beside the message.
    pub attribute: Option<String>,
    /// URL-layer refusals are plain text, not JSON.
    pub plain: bool,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A refusal whose message is given in full.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), attribute: None, plain: false }
    }

    /// 400 for a well-formed request that makes no sense; `reason` gets the broken heart.
    #[must_use]
    pub fn invalid(reason: impl AsRef<str>) -> Self {
        Self::new(400, format!("💔 {}", reason.as_ref()))
    }

    /// 404 for a namespace.
    #[must_use]
    pub fn no_namespace(name: &str) -> Self {
        Self::new(404, format!("🤷 namespace '{name}' was not found"))
    }

    /// 400 for a schema change that is not allowed.
    #[must_use]
    pub fn schema(attribute: &str, reason: impl AsRef<str>) -> Self {
        let message = format!("🙅 invalid schema update for attribute '{attribute}': {}", reason.as_ref());
        Self { attribute: Some(attribute.to_owned()), ..Self::new(400, message) }
    }

    /// 422 for JSON that is well formed but not of the expected shape. `path` may be empty.
    #[must_use]
    pub fn shape(path: &str, reason: impl AsRef<str>) -> Self {
        let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
        let reason = reason.as_ref();
        Self::new(422, format!("Failed to deserialize the JSON body into the target type: {at}{reason}"))
    }

    /// 400 for a URL that names nothing valid.
    #[must_use]
    pub fn url(reason: impl AsRef<str>) -> Self {
        Self { plain: true, ..Self::new(400, format!("Invalid URL: {}", reason.as_ref())) }
    }

    /// 500 for what the server did wrong.
    #[must_use]
    pub fn internal(reason: impl AsRef<str>) -> Self {
        Self::new(500, format!("🐡 {}", reason.as_ref()))
    }

    #[must_use]
    pub fn reply(&self) -> Reply {
        if self.plain {
            return Reply { status: self.status, content_type: TEXT, body: self.message.clone().into_bytes() };
        }
        Reply::json(self.status, &self.detail())
    }

    /// The JSON body of the refusal.
    #[must_use]
    pub fn detail(&self) -> serde_json::Value {
        let mut body = json!({"status": "error", "error": self.message});
        if let Some(attribute) = &self.attribute {
            body["attribute"] = json!(attribute);
        }
        body
    }
}

/// Parses a body; the error is the upstream's 400 or 422 with path, line and column.
///
/// # Errors
/// The body is not JSON (400) or not of the shape of `T` (422).
pub fn parse_body<'de, T: Deserialize<'de>>(body: &'de [u8]) -> ApiResult<T> {
    serde_json::from_slice(body).or_else(|_| parse_tracked(body))
}

/// The slow way, which knows the path of an error. Only taken once the fast way has failed.
fn parse_tracked<'de, T: Deserialize<'de>>(body: &'de [u8]) -> ApiResult<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!("{path}: ") };
        json_error(error.inner(), &at)
    })?;
    deserializer.end().map_err(|error| json_error(&error, ""))?;
    Ok(parsed)
}

fn json_error(error: &serde_json::Error, at: &str) -> ApiError {
    if error.is_data() {
        ApiError::new(422, format!("Failed to deserialize the JSON body into the target type: {at}{error}"))
    } else {
        ApiError::new(400, format!("Failed to parse the request body as JSON: {at}{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[allow(dead_code)]
        rows: Vec<u8>,
    }

    fn message(body: &str) -> (u16, String) {
        let error = parse_body::<Body>(body.as_bytes()).expect_err(body);
        (error.status, error.message)
    }

    #[test]
    fn shape_errors_name_the_path_and_the_place() {
        assert_eq!(
            message(r#"{"rows":[1,"x"]}"#),
            (
                422,
                "Failed to deserialize the JSON body into the target type: rows[1]: invalid type: string \"x\", \
                 expected u8 at line 1 column 14"
                    .to_owned()
            )
        );
        assert_eq!(
            message("{}").1,
            "Failed to deserialize the JSON body into the target type: missing field `rows` at line 1 column 2"
        );
    }

    #[test]
    fn broken_json_is_a_400() {
        assert_eq!(
            message(r#"{"rows":[1,"#),
            (
                400,
                "Failed to parse the request body as JSON: rows: EOF while parsing a value at line 1 column 11"
                    .to_owned()
            )
        );
        assert_eq!(message(r#"{"rows":[]} x"#).0, 400);
    }

    #[test]
    fn refusals_have_the_upstream_shape() {
        let reply = ApiError::schema("title", "cannot change attribute type from string to int").reply();
        assert_eq!(
            String::from_utf8(reply.body).expect("UTF-8"),
            r#"{"attribute":"title","error":"🙅 invalid schema update for attribute 'title': cannot change attribute type from string to int","status":"error"}"#
        );
        assert_eq!(ApiError::url("x").reply().content_type, TEXT);
    }
}
