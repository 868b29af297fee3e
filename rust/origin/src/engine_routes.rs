//! The routes of the API.

use crate::engine::{Engine, Inner};
use crate::namespaces::{check_name, decode, Page};
use crate::reply::{ApiError, ApiResult, Reply};
use crate::schema_json::show_v1;
use crate::{explain, metadata, query, recall};
use serde_json::json;

impl Engine {
    /// Answers one request.
    ///
    /// Args: `path` without region and without query string, percent-encoded or not; `query` without `?`.
    #[must_use]
    pub fn handle(&self, method: &str, path: &str, query: &str, body: &[u8]) -> Reply {
        self.inner.route(method, path, query, body).unwrap_or_else(|error| error.reply())
    }
}

impl Inner {
    fn route(&self, method: &str, path: &str, query: &str, body: &[u8]) -> ApiResult<Reply> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match segments.as_slice() {
            ["v1", "namespaces"] if method == "GET" => self.list(query),
            [version @ ("v1" | "v2"), "namespaces", name, rest @ ..] => {
                self.route_namespace(method, version, &decode_name(name)?, rest, body)
            }
            _ => Err(no_route(method, path)),
        }
    }

    fn route_namespace(&self, method: &str, version: &str, name: &str, rest: &[&str], body: &[u8]) -> ApiResult<Reply> {
        match (method, version, rest) {
            ("POST", "v2", []) => self.write(name, body),
            ("POST", "v2", ["async"]) => self.start_copy(name, body),
            ("DELETE", "v2", []) => {
                self.delete(name)?;
                Ok(Reply::json(200, &json!({"status": "OK"})))
            }
            ("GET", "v1", ["schema"]) => {
                let namespace = self.existing(name)?;
                let shown = show_v1(&namespace.state.read().table.schema);
                Ok(Reply::json(200, &shown))
            }
            ("POST", "v1", ["schema"]) => self.update_schema(name, body),
            ("GET", _, ["metadata"]) => self.metadata(name),
            ("PATCH", _, ["metadata"]) => self.update_metadata(name, body),
            ("GET", "v1", ["hint_cache_warm"]) => {
                self.existing(name)?;
                let accepted = json!({"status": "ACCEPTED", "message": "cache warm hint accepted"});
                Ok(Reply::json(202, &accepted))
            }
            // Everything is in memory: there is nothing to purge or to warm.
            ("GET", "v1", ["_debug", "purge_cache" | "warm_cache"]) => {
                self.existing(name)?;
                Ok(Reply::json(200, &json!({"status": "OK"})))
            }
            ("GET", "v1", ["operations", token]) => self.operation(name, token),
            ("POST", "v1", ["_debug", "recall"]) => self.read(name, |view| recall::handle(view, body)),
            ("POST", "v1" | "v2", ["query"]) => self.read(name, |view| query::handle(view, body)),
            ("POST", "v2", ["explain_query"]) => self.read(name, |view| explain::handle(view, body)),
            _ => Err(no_route(method, &format!("/{version}/namespaces/{name}/{}", rest.join("/")))),
        }
    }

    fn list(&self, query: &str) -> ApiResult<Reply> {
        let page = Page::parse(query)?;
        let namespaces = self.namespaces.read();
        Ok(Reply::json(200, &page.list(&namespaces, |namespace| namespace.exists())))
    }

    fn metadata(&self, name: &str) -> ApiResult<Reply> {
        let namespace = self.existing(name)?;
        let state = namespace.state.read();
        let lag = self.lag_report(&namespace, &state);
        Ok(Reply::json(200, &metadata::show(&state, lag, self.options.query.index_rows_min)))
    }
}

fn decode_name(segment: &str) -> ApiResult<String> {
    // A `+` in a path is itself.
    let name = decode(&segment.replace('+', "%2B"));
    check_name(&name)?;
    Ok(name)
}

fn no_route(method: &str, path: &str) -> ApiError {
    ApiError::new(404, format!("no such route: {method} {path}"))
}
