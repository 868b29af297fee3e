//! The listing of namespaces: order, pages and cursors.

use crate::reply::{ApiError, ApiResult};
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{json, Value as Json};
use std::collections::BTreeMap;
use std::ops::Bound;

pub const PAGE_SIZE_DEFAULT: usize = 100;
pub const PAGE_SIZE_MAX: usize = 1000;
/// Longest name of a namespace.
pub const NAME_BYTES_MAX: usize = 128;

/// What the upstream answers to a cursor that it did not make.
const UNKNOWN_ERROR: &str = "Unknown error, if this persists, please contact support!! We'll be happy to help :)";

/// Names are ordered as if this stood behind them.
const SORT_SUFFIX: &str = "-table/";

/// The key under which a namespace is sorted.
#[must_use]
pub fn sort_key(name: &str) -> String {
    format!("{name}{SORT_SUFFIX}")
}

/// # Errors
/// 400, plain text: the name has other characters than it may, or too many.
pub fn check_name(name: &str) -> ApiResult<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(ApiError::url("Namespace contains invalid characters, must be [A-Za-z0-9-_.]"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(ApiError::url(format!(
            "Namespace `{name}` is too long, limit is currently {NAME_BYTES_MAX} characters"
        )));
    }
    Ok(())
}

/// One page's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub prefix: String,
    pub size: usize,
    /// Sort key to start after.
    start_after: Option<String>,
}

#[derive(Deserialize)]
struct Cursor {
    start_after: String,
}

impl Page {
    /// Reads a query string; parameters that it does not know are passed over.
    ///
    /// # Errors
    /// 400: the page size is not a number or out of range; 500: the cursor is not one.
    pub fn parse(query: &str) -> ApiResult<Self> {
        let mut page = Self { prefix: String::new(), size: PAGE_SIZE_DEFAULT, start_after: None };
        for (key, value) in parameters(query) {
            match key.as_str() {
                "prefix" => page.prefix = value,
                "page_size" => {
                    page.size = value.parse().map_err(|_| {
                        ApiError::url(format!("Failed to parse query parameter page_size: '{value}' is not a number"))
                    })?;
                }
                "cursor" if !value.is_empty() => page.start_after = Some(read_cursor(&value)?),
                _ => {}
            }
        }
        if (1..=PAGE_SIZE_MAX).contains(&page.size) {
            Ok(page)
        } else {
            let reason = format!("Page size must be in range 1..={PAGE_SIZE_MAX}, was {}", page.size);
            Err(ApiError::invalid(reason))
        }
    }

    /// The page of a listing by sort key. `include` tells which entries exist for readers.
    pub fn list<T>(&self, all: &BTreeMap<String, T>, include: impl Fn(&T) -> bool) -> Json {
        let start = match &self.start_after {
            Some(key) if *key >= self.prefix => Bound::Excluded(key.as_str()),
            _ => Bound::Included(self.prefix.as_str()),
        };
        let names: Vec<&str> = all
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&self.prefix))
            .filter(|(_, entry)| include(entry))
            .filter_map(|(key, _)| key.strip_suffix(SORT_SUFFIX))
            .filter(|name| name.starts_with(&self.prefix))
            .take(self.size)
            .collect();
        let next = names.last().filter(|_| names.len() == self.size).map(|name| write_cursor(&sort_key(name)));
        let ids: Vec<Json> = names.iter().map(|name| json!({"id": name})).collect();
        json!({"namespaces": ids, "next_cursor": next})
    }
}

fn write_cursor(start_after: &str) -> String {
    STANDARD_NO_PAD.encode(json!({"continuation_token": null, "start_after": start_after}).to_string())
}

fn read_cursor(text: &str) -> ApiResult<String> {
    let decoded = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
    let cursor = decoded.and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
    cursor.map(|cursor| cursor.start_after).ok_or_else(|| ApiError::internal(UNKNOWN_ERROR))
}

/// Names and values of a query string, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    })
}

/// Undoes percent-encoding, and `+` for a space.
#[must_use]
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let hex = bytes.get(place + 1..place + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[place], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                place += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        place += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(names: &[&str]) -> BTreeMap<String, ()> {
        names.iter().map(|name| (sort_key(name), ())).collect()
    }

    fn ids(page: &Json) -> Vec<&str> {
        page["namespaces"].as_array().expect("a list").iter().filter_map(|entry| entry["id"].as_str()).collect()
    }

    #[test]
    fn names_sort_as_if_a_suffix_stood_behind_them() {
        let all = all(&["demo", "demo-copy", "a"]);
        let page = Page::parse("").expect("valid").list(&all, |()| true);
        assert_eq!(ids(&page), ["a", "demo-copy", "demo"]);
        assert_eq!(page["next_cursor"], Json::Null);
    }

    #[test]
    fn a_full_page_has_a_cursor_even_when_it_is_the_last() {
        let all = all(&["n1", "n2", "other"]);
        let first = Page::parse("prefix=n&page_size=2").expect("valid").list(&all, |()| true);
        assert_eq!(ids(&first), ["n1", "n2"]);
        let cursor = first["next_cursor"].as_str().expect("a cursor").to_owned();
        let second = Page::parse(&format!("prefix=n&page_size=2&cursor={cursor}")).expect("valid");
        let second = second.list(&all, |()| true);
        assert_eq!(second, json!({"namespaces": [], "next_cursor": null}));
    }

    #[test]
    fn a_prefix_is_one_of_the_name() {
        let all = all(&["a", "a-t", "a-table"]);
        let page = Page::parse("prefix=a-t").expect("valid").list(&all, |()| true);
        assert_eq!(ids(&page), ["a-t", "a-table"]);
    }

    #[test]
    fn parameters_are_checked() {
        let message = |query: &str| Page::parse(query).expect_err(query);
        assert_eq!(message("page_size=0").message, "💔 Page size must be in range 1..=1000, was 0");
        assert_eq!(message("page_size=1001").message, "💔 Page size must be in range 1..=1000, was 1001");
        assert!(message("page_size=many").plain);
        assert_eq!(message("cursor=!!").status, 500);
        assert!(message("cursor=!!").message.starts_with("🐡 Unknown error"));
        assert_eq!(Page::parse("prefix=a%2Db+c&other=1").expect("valid").prefix, "a-b c");
        assert_eq!(decode("%zz%4"), "%zz%4");
    }

    #[test]
    fn names_are_checked() {
        for name in ["a", ".", "..", "A-z_0.9", &"x".repeat(128)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "a b", "a/b", "ä"] {
            let error = check_name(name).expect_err(name);
            assert_eq!(error.message, "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]");
            assert!(error.plain);
        }
        let long = "x".repeat(129);
        assert_eq!(
            check_name(&long).expect_err("too long").message,
            format!("Invalid URL: Namespace `{long}` is too long, limit is currently 128 characters")
        );
    }
}
