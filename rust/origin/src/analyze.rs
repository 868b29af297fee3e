//! From text to tokens: the open analyser of the upstream with the options of a full-text attribute.
//!
//! `word_v4` is what the analyser implements. The older tokenizers `word_v0` to `word_v3` are accepted and analysed
//! as `word_v4`; they differ only in how they cut ideographs and emoji.

use crate::schema::FullText;
use crate::value::Value;
use alyze::analyze::{
    AnalysisOptions, Analyzer, LanguageWithStopwords, ReusableBuffer, StemmingLanguage, StopwordRemoval,
    TokenizerOptions,
};
use std::cell::RefCell;
use std::ops::Range;

pub const PRE_TOKENIZED: &str = "pre_tokenized_array";
pub const TOKENIZERS: [&str; 6] = ["word_v0", "word_v1", "word_v2", "word_v3", "word_v4", PRE_TOKENIZED];

#[derive(Clone, Debug)]
pub enum Analysis {
    /// The tokens are the array's elements, as they are.
    PreTokenized,
    Words(AnalysisOptions),
}

/// A token of a query: what to look for, and how far into the query it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryToken {
    pub text: String,
    pub position: u32,
}

/// A token and the bytes of the input that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpannedToken {
    pub text: String,
    pub position: u32,
    pub bytes: Range<usize>,
}

thread_local! {
    // One buffer per stemming language: the buffer caches stems by word and does not know the language.
    static BUFFERS: RefCell<Vec<(String, ReusableBuffer)>> = const { RefCell::new(Vec::new()) };
}

impl Analysis {
    /// Errors: the rule that the settings break, as a sentence.
    pub fn new(config: &FullText) -> Result<Self, String> {
        if config.tokenizer == PRE_TOKENIZED {
            return Ok(Analysis::PreTokenized);
        }
        if !TOKENIZERS.contains(&config.tokenizer.as_str()) {
            return Err(format!("unknown tokenizer `{}`, expected one of {}", config.tokenizer, TOKENIZERS.join(", ")));
        }
        let language = config.language.as_deref().unwrap_or("english");
        let stemming = stemming_language(language).ok_or_else(|| format!("unknown language `{language}`"))?;
        let stopwords = stopword_language(language);
        if config.remove_stopwords && stopwords.is_none() {
            return Err(format!("remove_stopwords is not available for language `{language}`"));
        }
        let options = AnalysisOptions {
            tokenizer: TokenizerOptions::UAX29Word(alyze::uax29::word::Options::default()),
            maximum_token_length: config.max_token_length.map(|length| length as usize),
            case_sensitive: config.case_sensitive,
            stopword_removal: stopwords.filter(|_| config.remove_stopwords).map(StopwordRemoval::ForLanguage),
            stemming: config.stemming.then_some(stemming),
            ascii_folding: config.ascii_folding,
        };
        if !options.valid() {
            return Err("stemming and remove_stopwords need case_sensitive to be false".to_owned());
        }
        Ok(Analysis::Words(options))
    }

    /// Calls `emit` with each token of a string or an array of strings and its position. Positions go on counting
    /// from one element of an array to the next, and a token that a filter drops still takes one.
    pub fn each_token(&self, value: &Value, mut emit: impl FnMut(&str, u32)) {
        match (self, value) {
            (Analysis::PreTokenized, Value::Array(elements)) => {
                for (position, token) in (0..).zip(elements.iter().filter_map(as_str)) {
                    emit(token, position);
                }
            }
            (Analysis::PreTokenized, Value::Str(token)) => emit(token, 0),
            (Analysis::Words(options), Value::Str(text)) => {
                each_word(options, std::iter::once(&**text), |token, position, _| emit(token, position));
            }
            (Analysis::Words(options), Value::Array(elements)) => {
                each_word(options, elements.iter().filter_map(as_str), |token, position, _| emit(token, position));
            }
            _ => {}
        }
    }

    /// The tokens of a query: one string, or for pre-tokenized attributes the strings themselves.
    #[must_use]
    pub fn query_tokens(&self, query: &Value) -> Vec<QueryToken> {
        let mut tokens = Vec::new();
        self.each_token(query, |text, position| tokens.push(QueryToken { text: text.to_owned(), position }));
        tokens
    }

    /// The tokens of one string with their places in it. A pre-tokenized string is one token.
    #[must_use]
    pub fn spanned_tokens(&self, text: &str) -> Vec<SpannedToken> {
        let mut tokens = Vec::new();
        match self {
            Analysis::PreTokenized => {
                tokens.push(SpannedToken { text: text.to_owned(), position: 0, bytes: 0..text.len() });
            }
            Analysis::Words(options) => each_word(options, std::iter::once(text), |token, position, bytes| {
                tokens.push(SpannedToken { text: token.to_owned(), position, bytes });
            }),
        }
        tokens
    }
}

fn as_str(value: &Value) -> Option<&str> {
    match value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

fn each_word<'text>(
    options: &AnalysisOptions,
    inputs: impl Iterator<Item = &'text str>,
    mut emit: impl FnMut(&str, u32, Range<usize>),
) {
    let key = options.stemming.map_or_else(String::new, |language| format!("{language:?}"));
    BUFFERS.with_borrow_mut(|buffers| {
        let place = buffers.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            buffers.push((key, ReusableBuffer::new()));
            buffers.len() - 1
        });
        Analyzer::new(*options).analyze_inputs(inputs, &mut buffers[place].1, |token| {
            emit(token.text, u32::try_from(token.position).unwrap_or(u32::MAX), token.byte_range);
            true
        });
    });
}

#[must_use]
pub fn stemming_language(name: &str) -> Option<StemmingLanguage> {
    Some(match name {
        "arabic" => StemmingLanguage::Arabic,
        "danish" => StemmingLanguage::Danish,
        "dutch" => StemmingLanguage::Dutch,
        "english" => StemmingLanguage::English,
        "finnish" => StemmingLanguage::Finnish,
        "french" => StemmingLanguage::French,
        "german" => StemmingLanguage::German,
        "greek" => StemmingLanguage::Greek,
        "hungarian" => StemmingLanguage::Hungarian,
        "italian" => StemmingLanguage::Italian,
        "norwegian" => StemmingLanguage::Norwegian,
        "portuguese" => StemmingLanguage::Portuguese,
        "romanian" => StemmingLanguage::Romanian,
        "russian" => StemmingLanguage::Russian,
        "spanish" => StemmingLanguage::Spanish,
        "swedish" => StemmingLanguage::Swedish,
        "tamil" => StemmingLanguage::Tamil,
        "turkish" => StemmingLanguage::Turkish,
        _ => return None,
    })
}

/// The languages that have a stopword list; the others have none upstream either.
#[must_use]
pub fn stopword_language(name: &str) -> Option<LanguageWithStopwords> {
    Some(match name {
        "danish" => LanguageWithStopwords::Danish,
        "dutch" => LanguageWithStopwords::Dutch,
        "english" => LanguageWithStopwords::English,
        "finnish" => LanguageWithStopwords::Finnish,
        "french" => LanguageWithStopwords::French,
        "german" => LanguageWithStopwords::German,
        "hungarian" => LanguageWithStopwords::Hungarian,
        "italian" => LanguageWithStopwords::Italian,
        "norwegian" => LanguageWithStopwords::Norwegian,
        "portuguese" => LanguageWithStopwords::Portuguese,
        "russian" => LanguageWithStopwords::Russian,
        "spanish" => LanguageWithStopwords::Spanish,
        "swedish" => LanguageWithStopwords::Swedish,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Analysis, PRE_TOKENIZED};
    use crate::schema::FullText;
    use crate::value::Value;

    fn texts(config: &FullText, text: &str) -> Vec<String> {
        let analysis = Analysis::new(config).expect("valid settings");
        analysis.query_tokens(&Value::Str(text.into())).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_are_lowercased_and_punctuation_is_dropped() {
        assert_eq!(texts(&FullText::default(), "Hello, _ example.com won't!"), ["hello", "example.com", "won't"]);
    }

    #[test]
    fn stopwords_go_before_stems_and_keep_their_positions() {
        let config = FullText { stemming: true, remove_stopwords: true, ..FullText::default() };
        let analysis = Analysis::new(&config).expect("valid settings");
        let tokens = analysis.query_tokens(&Value::Str("the fox jumping".into()));
        let places: Vec<_> = tokens.iter().map(|token| (token.text.as_str(), token.position)).collect();
        assert_eq!(places, [("fox", 1), ("jump", 2)]);
    }

    #[test]
    fn folding_case_and_length_options_hold() {
        let folded = FullText { ascii_folding: true, ..FullText::default() };
        assert_eq!(texts(&folded, "Crème BRÛLÉE"), ["creme", "brulee"]);
        let sensitive = FullText { case_sensitive: true, ..FullText::default() };
        assert_eq!(texts(&sensitive, "Crème"), ["Crème"]);
        let short = FullText { max_token_length: Some(3), ..FullText::default() };
        assert_eq!(texts(&short, "one three two"), ["one", "two"]);
    }

    #[test]
    fn pre_tokenized_elements_are_taken_as_they_are() {
        let config = FullText { tokenizer: PRE_TOKENIZED.to_owned(), ..FullText::default() };
        let analysis = Analysis::new(&config).expect("valid settings");
        let query = Value::Array(vec![Value::Str("The Lazy".into()), Value::Str("dog".into())].into());
        let tokens: Vec<_> = analysis.query_tokens(&query).into_iter().map(|token| token.text).collect();
        assert_eq!(tokens, ["The Lazy", "dog"]);
    }

    #[test]
    fn impossible_settings_name_the_rule() {
        let both = FullText { case_sensitive: true, stemming: true, ..FullText::default() };
        assert!(Analysis::new(&both).expect_err("refused").contains("case_sensitive"));
        let tamil = FullText { language: Some("tamil".to_owned()), remove_stopwords: true, ..FullText::default() };
        assert!(Analysis::new(&tamil).expect_err("refused").contains("remove_stopwords is not available"));
        let unknown = FullText { tokenizer: "word_v9".to_owned(), ..FullText::default() };
        assert!(Analysis::new(&unknown).expect_err("refused").contains("unknown tokenizer `word_v9`"));
    }
}
