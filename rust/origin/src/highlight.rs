//! Highlights: the parts of a text that a search matched, and where the matched words stand.
//!
//! A fragment's rank is the number of different query tokens in it, then the number of matches, then its place. The
//! chosen fragments are answered in the order of their rank.

use crate::analyze::{Analysis, PRE_TOKENIZED};
use crate::filter_parse::{items, member, text_query};
use crate::fts::TokenQuery;
use crate::input::Input;
use crate::rank::{Expression, Ranking};
use crate::reply::{ApiError, ApiResult};
use crate::schema::Schema;
use crate::value::{write_json_str, Value};
use std::io::Write as _;
use std::ops::Range;

const FRAGMENT_LIMIT_DEFAULT: usize = 3;
const FRAGMENT_LIMIT_MAX: usize = 1000;
/// Stands for the fragment in `rank_fragments_by`.
const FRAGMENT: &str = "$fragment";

#[derive(Clone, Debug)]
pub struct Highlight {
    pub ordinal: usize,
    analysis: Analysis,
    queries: Vec<TokenQuery>,
    fragment_by: FragmentBy,
    fragment_limit: usize,
    offsets: Option<OffsetUnit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FragmentBy {
    None,
    Sentence,
    Paragraph,
    Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OffsetUnit {
    Utf8,
    Utf16,
    Codepoints,
}

/// Resolves a highlight. Without `rank_fragments_by` the words are those that the query's own ranking searches for in
/// the attribute.
///
/// # Errors
/// 400 when the attribute has no full-text search or a setting is unknown.
pub fn parse_highlight(
    name: &str,
    config: Option<&Input<'_>>,
    schema: &Schema,
    ranking: &Ranking,
) -> ApiResult<Highlight> {
    let ordinal =
        schema.ordinal(name).ok_or_else(|| ApiError::invalid(format!("attribute \"{name}\" not found in schema")))?;
    let Some(full_text) = &schema.attributes[ordinal].full_text_search else {
        return Err(ApiError::invalid(format!("attribute \"{name}\" does not have full_text_search enabled")));
    };
    let analysis = Analysis::new(full_text).map_err(ApiError::invalid)?;
    let setting = |key: &str| config.and_then(|config| member(config, key));
    let refuse = |key: &str, expected: &str| ApiError::invalid(format!("Highlight `{key}` expects {expected}"));
    let fragment_by = match setting("fragment_by") {
        None => FragmentBy::Sentence,
        Some(Input::Str(text)) if text == "none" => FragmentBy::None,
        Some(Input::Str(text)) if text == "sentence" => FragmentBy::Sentence,
        Some(Input::Str(text)) if text == "paragraph" => FragmentBy::Paragraph,
        Some(Input::Str(text)) if text == "word" => FragmentBy::Word,
        Some(_) => return Err(refuse("fragment_by", "none, sentence, paragraph or word")),
    };
    let fragment_limit = match setting("fragment_limit") {
        None => FRAGMENT_LIMIT_DEFAULT,
        Some(Input::Uint(limit)) => usize::try_from(*limit)
            .ok()
            .filter(|limit| (1..=FRAGMENT_LIMIT_MAX).contains(limit))
            .ok_or_else(|| refuse("fragment_limit", &format!("a number between 1 and {FRAGMENT_LIMIT_MAX}")))?,
        Some(_) => return Err(refuse("fragment_limit", &format!("a number between 1 and {FRAGMENT_LIMIT_MAX}"))),
    };
    let offsets = match setting("include_offsets") {
        None | Some(Input::Null) => None,
        Some(Input::Str(text)) if text == "utf-8" => Some(OffsetUnit::Utf8),
        Some(Input::Str(text)) if text == "utf-16" => Some(OffsetUnit::Utf16),
        Some(Input::Str(text)) if text == "codepoints" => Some(OffsetUnit::Codepoints),
        Some(_) => return Err(refuse("include_offsets", "utf-8, utf-16 or codepoints")),
    };
    let mut queries = Vec::new();
    match setting("rank_fragments_by") {
        Some(rank_by) => {
            let pre_tokenized = full_text.tokenizer == PRE_TOKENIZED;
            fragment_queries(rank_by, name, &analysis, pre_tokenized, &mut queries);
            if queries.is_empty() {
                return Err(refuse("rank_fragments_by", &format!("a BM25 ranking of \"{name}\" or \"{FRAGMENT}\"")));
            }
        }
        None => {
            if let Ranking::Score(expression) = ranking {
                ranking_queries(expression, ordinal, &mut queries);
            }
        }
    }
    Ok(Highlight { ordinal, analysis, queries, fragment_by, fragment_limit, offsets })
}

fn fragment_queries(
    input: &Input<'_>,
    name: &str,
    analysis: &Analysis,
    pre_tokenized: bool,
    queries: &mut Vec<TokenQuery>,
) {
    let Some(parts) = items(input) else { return };
    match parts.as_slice() {
        [Input::Str(field), Input::Str(operator), query, rest @ ..]
            if operator == "BM25" && (field == name || field == FRAGMENT) =>
        {
            if let Ok(text) = text_query(query, pre_tokenized) {
                let prefix = rest.first().and_then(|params| member(params, "last_as_prefix"));
                let last_as_prefix = prefix == Some(&Input::Bool(true));
                queries.push(TokenQuery { tokens: analysis.query_tokens(&text), last_as_prefix });
            }
        }
        parts => {
            parts.iter().for_each(|part| fragment_queries(part, name, analysis, pre_tokenized, queries));
        }
    }
}

fn ranking_queries(expression: &Expression, ordinal: usize, queries: &mut Vec<TokenQuery>) {
    match expression {
        Expression::Bm25 { ordinal: searched, query } if *searched == ordinal => queries.push(query.clone()),
        Expression::Sum(parts) | Expression::Max(parts) | Expression::Product(parts) => {
            parts.iter().for_each(|part| ranking_queries(part, ordinal, queries));
        }
        Expression::Saturate { of, .. } | Expression::Decay { of, .. } | Expression::Distance { of, .. } => {
            ranking_queries(of, ordinal, queries);
        }
        _ => {}
    }
}

struct Fragment {
    bytes: Range<usize>,
    matches: Vec<Range<usize>>,
    different_tokens: usize,
}

impl Highlight {
    /// Writes `[{text, fragment_range?, match_ranges?}, …]`. Ranges are half open: of fragments in the whole text (in
    /// its element, for arrays), of matches in the fragment's text.
    pub fn write_json(&self, out: &mut Vec<u8>, value: &Value) {
        let texts: Vec<&str> = match value {
            Value::Str(text) => vec![text],
            Value::Array(elements) => elements
                .iter()
                .filter_map(|element| match element {
                    Value::Str(text) => Some(&**text),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut found: Vec<(&str, Fragment)> = Vec::new();
        for text in texts {
            found.extend(self.fragments(text).into_iter().map(|fragment| (text, fragment)));
        }
        found.sort_by_key(|(_, fragment)| std::cmp::Reverse((fragment.different_tokens, fragment.matches.len())));
        found.truncate(self.fragment_limit);
        out.push(b'[');
        for (index, (text, fragment)) in found.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.write_fragment(out, text, fragment);
        }
        out.push(b']');
    }

    fn write_fragment(&self, out: &mut Vec<u8>, text: &str, fragment: &Fragment) {
        let part = &text[fragment.bytes.clone()];
        out.extend_from_slice(b"{\"text\":");
        write_json_str(out, part);
        if let Some(unit) = self.offsets {
            let range = unit.range(text, &fragment.bytes);
            // Writing to a vector cannot fail.
            let _ = write!(out, ",\"fragment_range\":[{},{}],\"match_ranges\":[", range.start, range.end);
            for (index, matched) in fragment.matches.iter().enumerate() {
                let range = unit.range(part, matched);
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(out, "{comma}[{},{}]", range.start, range.end);
            }
            out.push(b']');
        }
        out.push(b'}');
    }

    /// The fragments of a text that hold a match.
    fn fragments(&self, text: &str) -> Vec<Fragment> {
        let tokens = self.analysis.spanned_tokens(text);
        let matched: Vec<(usize, Range<usize>)> = tokens
            .into_iter()
            .filter_map(|token| self.token_number(&token.text).map(|number| (number, token.bytes)))
            .collect();
        let bounds = match self.fragment_by {
            FragmentBy::None => whole(text),
            FragmentBy::Sentence => sentences(text),
            FragmentBy::Paragraph => paragraphs(text),
            FragmentBy::Word => matched.iter().map(|(_, bytes)| bytes.clone()).collect(),
        };
        let fragment_of = |bytes: Range<usize>| {
            let inside = matched.iter().filter(|(_, found)| bytes.start <= found.start && found.end <= bytes.end);
            let mut numbers: Vec<usize> = inside.clone().map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let matches = inside.map(|(_, found)| found.start - bytes.start..found.end - bytes.start).collect();
            Fragment { bytes, matches, different_tokens: numbers.len() }
        };
        bounds.into_iter().map(fragment_of).filter(|fragment| !fragment.matches.is_empty()).collect()
    }

    /// Which of the searched tokens a text's token is.
    fn token_number(&self, text: &str) -> Option<usize> {
        let mut number = 0;
        for query in &self.queries {
            let last = query.tokens.len().wrapping_sub(1);
            for (index, wanted) in query.tokens.iter().enumerate() {
                let prefix = query.last_as_prefix && index == last;
                if wanted.text == text || (prefix && text.starts_with(&wanted.text)) {
                    return Some(number + index);
                }
            }
            number += query.tokens.len();
        }
        None
    }
}

impl OffsetUnit {
    fn length(self, text: &str) -> usize {
        match self {
            Self::Utf8 => text.len(),
            Self::Utf16 => text.encode_utf16().count(),
            Self::Codepoints => text.chars().count(),
        }
    }

    fn range(self, text: &str, bytes: &Range<usize>) -> Range<usize> {
        let start = self.length(&text[..bytes.start]);
        start..start + self.length(&text[bytes.clone()])
    }
}

fn whole(text: &str) -> Vec<Range<usize>> {
    std::iter::once(0..text.len()).collect()
}

/// Sentences by UAX #29, without the white space around them.
fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut bounds = Vec::new();
    let mut previous = None;
    alyze::uax29::sentence::tokenize(text, alyze::uax29::sentence::Options::default(), |bound| {
        if let Some(start) = previous.replace(bound) {
            bounds.push(trimmed(text, start..bound));
        }
        true
    });
    bounds
}

fn paragraphs(text: &str) -> Vec<Range<usize>> {
    text.split_inclusive('\n')
        .scan(0, |start, line| {
            let bytes = *start..*start + line.len();
            *start = bytes.end;
            Some(trimmed(text, bytes))
        })
        .collect()
}

fn trimmed(text: &str, bytes: Range<usize>) -> Range<usize> {
    let part = &text[bytes.clone()];
    let start = bytes.start + part.len() - part.trim_start().len();
    start..(start + part.trim().len())
}

#[cfg(test)]
mod tests {
    use super::parse_highlight;
    use crate::input::Input;
    use crate::rank::{parse_ranking, Ranking};
    use crate::schema::{Attribute, FullText, Schema};
    use crate::value::{AttrType, IdType, Scalar, Value};

    fn schema() -> Schema {
        let mut attribute = Attribute::new("text", AttrType::Scalar(Scalar::Str));
        attribute.full_text_search = Some(FullText::default());
        Schema { id_type: Some(IdType::Uint), attributes: vec![attribute] }
    }

    fn highlighted(text: &str, config: &str) -> String {
        let rank_by: Input<'_> = serde_json::from_str(r#"["text","BM25","fox dog"]"#).expect("JSON");
        let ranking = parse_ranking(&rank_by, &schema(), false).expect("valid");
        let config: Input<'_> = serde_json::from_str(config).expect("JSON");
        let highlight = parse_highlight("text", Some(&config), &schema(), &ranking).expect("valid");
        let mut out = Vec::new();
        highlight.write_json(&mut out, &Value::Str(text.into()));
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_best_sentences_come_first() {
        let text = "A cat sat. The fox ran. A fox met a dog. Nothing.";
        assert_eq!(highlighted(text, "{}"), r#"[{"text":"A fox met a dog."},{"text":"The fox ran."}]"#);
        assert_eq!(highlighted(text, r#"{"fragment_limit":1}"#), r#"[{"text":"A fox met a dog."}]"#);
    }

    #[test]
    fn offsets_come_in_the_unit_that_was_asked_for() {
        let text = "é😀 fox";
        for (unit, range, found) in
            [("utf-8", "[0,10]", "[7,10]"), ("utf-16", "[0,7]", "[4,7]"), ("codepoints", "[0,6]", "[3,6]")]
        {
            let expected = format!(r#"[{{"text":"é😀 fox","fragment_range":{range},"match_ranges":[{found}]}}]"#);
            let config = format!(r#"{{"fragment_by":"none","include_offsets":"{unit}"}}"#);
            assert_eq!(highlighted(text, &config), expected);
        }
    }

    #[test]
    fn fragments_can_be_words_or_paragraphs_and_have_a_query_of_their_own() {
        let text = "one fox\ntwo dogs\nthree";
        assert_eq!(highlighted(text, r#"{"fragment_by":"paragraph"}"#), r#"[{"text":"one fox"}]"#);
        let own = r#"{"fragment_by":"word","rank_fragments_by":["$fragment","BM25","th",{"last_as_prefix":true}]}"#;
        assert_eq!(highlighted(text, own), r#"[{"text":"three"}]"#);
    }

    #[test]
    fn unknown_settings_are_refused_by_name() {
        let refusal = |config: &str| {
            let config: Input<'_> = serde_json::from_str(config).expect("JSON");
            let ranking = Ranking::Order(Vec::new());
            parse_highlight("text", Some(&config), &schema(), &ranking).expect_err("refused").message
        };
        assert!(refusal(r#"{"fragment_by":"line"}"#).contains("`fragment_by` expects"));
        assert!(refusal(r#"{"fragment_limit":0}"#).contains("`fragment_limit` expects"));
        assert!(refusal(r#"{"include_offsets":"bytes"}"#).contains("`include_offsets` expects"));
        assert!(refusal(r#"{"rank_fragments_by":["id","asc"]}"#).contains("`rank_fragments_by` expects"));
    }
}
