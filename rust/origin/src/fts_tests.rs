use super::{text_matches, TextIndex, TokenQuery, TokenRule, SLOT_GONE};
use crate::analyze::Analysis;
use crate::filter_bitmap::Bitmap;
use crate::query_testing::Rng;
use crate::schema::FullText;
use crate::value::Value;

const WORDS: [&str; 12] =
    ["fox", "foxes", "dog", "quick", "lazy", "brown", "jump", "jumping", "walrus", "tusk", "the", "and"];

fn text(words: &str) -> Value {
    Value::Str(words.into())
}

fn random_text(rng: &mut Rng) -> Value {
    if rng.below(8) == 0 {
        return Value::Null;
    }
    let count = rng.below(12);
    text(&(0..count).map(|_| *rng.pick(&WORDS)).collect::<Vec<_>>().join(" "))
}

fn index_of(values: &[Value]) -> TextIndex {
    let mut index = TextIndex::new(&FullText::default());
    for (slot, value) in (0..).zip(values) {
        index.insert(slot, value);
    }
    index
}

fn query(index: &TextIndex, words: &str, last_as_prefix: bool) -> TokenQuery {
    TokenQuery { tokens: index.analysis().query_tokens(&text(words)), last_as_prefix }
}

/// The formula, row by row, from the texts alone.
fn slow_bm25(values: &[Value], visible: &dyn Fn(usize) -> bool, wanted: &TokenQuery) -> Vec<f64> {
    let analysis = Analysis::new(&FullText::default()).expect("defaults are valid");
    let rows: Vec<Option<Vec<String>>> = values
        .iter()
        .enumerate()
        .map(|(slot, value)| {
            (visible(slot) && *value != Value::Null)
                .then(|| analysis.query_tokens(value).into_iter().map(|token| token.text).collect())
        })
        .collect();
    let present: Vec<&Vec<String>> = rows.iter().flatten().collect();
    let mean = (present.iter().map(|row| row.len()).sum::<usize>() as f64 / present.len().max(1) as f64).max(1.0);
    let (k1, b, k3) = (1.2, 0.75, 8.0);
    let (plain, prefix) = match (wanted.last_as_prefix, wanted.tokens.split_last()) {
        (true, Some((last, rest))) => (rest, Some(&last.text)),
        _ => (&wanted.tokens[..], None),
    };
    let score = |row: &Vec<String>| {
        let mut seen = Vec::new();
        let mut total = 0.0;
        for token in plain {
            if seen.contains(&&token.text) {
                continue;
            }
            seen.push(&token.text);
            let repeats = plain.iter().filter(|other| other.text == token.text).count() as f64;
            let count = row.iter().filter(|word| **word == token.text).count() as f64;
            let frequency = present.iter().filter(|other| other.contains(&token.text)).count() as f64;
            let idf = (1.0 + (present.len() as f64 - frequency + 0.5) / (frequency + 0.5)).ln();
            let length = row.len() as f64 / mean;
            total += idf * count * (k1 + 1.0) / (count + k1 * (1.0 - b + b * length)) * (k3 + 1.0) * repeats
                / (k3 + repeats);
        }
        total + f64::from(prefix.is_some_and(|prefix| row.iter().any(|word| word.starts_with(prefix.as_str()))))
    };
    rows.iter().map(|row| row.as_ref().map_or(0.0, score)).collect()
}

#[test]
fn bm25_agrees_with_its_slow_twin() {
    let mut rng = Rng::new(11);
    for round in 0..60 {
        let values: Vec<Value> = (0..40).map(|_| random_text(&mut rng)).collect();
        let index = index_of(&values);
        let words = (0..=rng.below(4)).map(|_| *rng.pick(&WORDS)).collect::<Vec<_>>().join(" ");
        let wanted = query(&index, &words, round % 3 == 0);
        let mut visible = Bitmap::empty(values.len());
        (0..40).filter(|_| rng.below(4) != 0).for_each(|slot| visible.set(slot));
        for bitmap in [None, Some(&visible)] {
            let sees = |slot: usize| bitmap.is_none_or(|bitmap| bitmap.get(u32::try_from(slot).expect("fits")));
            let expected = slow_bm25(&values, &sees, &wanted);
            let actual = index.bm25(&wanted, bitmap);
            for (slot, expected) in expected.iter().enumerate() {
                let actual = f64::from(actual.get(slot).copied().unwrap_or(0.0));
                if sees(slot) {
                    assert!((actual - expected).abs() < 1e-5, "{words}: slot {slot} {actual} {expected}");
                }
            }
        }
    }
}

#[test]
fn token_rules_agree_with_their_slow_twin() {
    let mut rng = Rng::new(13);
    for round in 0..120 {
        let values: Vec<Value> = (0..30).map(|_| random_text(&mut rng)).collect();
        let index = index_of(&values);
        let words = (0..rng.below(4)).map(|_| *rng.pick(&WORDS)).collect::<Vec<_>>().join(" ");
        let wanted = query(&index, &words, round % 4 == 0);
        for rule in [TokenRule::All, TokenRule::Any, TokenRule::Sequence] {
            let wanted =
                TokenQuery { last_as_prefix: wanted.last_as_prefix && rule != TokenRule::Sequence, ..wanted.clone() };
            let found = index.matching(&wanted, rule);
            for (slot, value) in (0..).zip(&values) {
                let expected = text_matches(index.analysis(), value, &wanted, rule);
                assert_eq!(found.get(slot), expected, "{rule:?} {words:?} {value:?}");
            }
        }
    }
}

#[test]
fn remap_is_a_fresh_index_over_what_is_kept() {
    let mut rng = Rng::new(17);
    let values: Vec<Value> = (0..200).map(|_| random_text(&mut rng)).collect();
    let mut map = vec![SLOT_GONE; values.len()];
    let mut kept = Vec::new();
    for (slot, value) in values.iter().enumerate() {
        if rng.below(3) != 0 {
            map[slot] = u32::try_from(kept.len()).expect("fits");
            kept.push(value.clone());
        }
    }
    let (remapped, fresh) = (index_of(&values).remap(&map), index_of(&kept));
    for word in WORDS {
        let wanted = query(&fresh, word, false);
        assert_eq!(remapped.bm25(&wanted, None), fresh.bm25(&wanted, None), "{word}");
        assert_eq!(remapped.matching(&wanted, TokenRule::All), fresh.matching(&wanted, TokenRule::All));
    }
    let gone = index_of(&values).remap(&vec![SLOT_GONE; values.len()]);
    assert!(gone.postings.is_empty() && gone.arena.is_empty());
}

#[test]
fn a_phrase_runs_over_array_elements_and_respects_dropped_words() {
    let config = FullText { remove_stopwords: true, ..FullText::default() };
    let mut index = TextIndex::new(&config);
    index.insert(0, &Value::Array(vec![text("quick brown"), text("fox")].into()));
    index.insert(2, &text("lord of the rings"));
    let phrase = |words: &str| {
        let tokens = index.analysis().query_tokens(&text(words));
        index.matching(&TokenQuery { tokens, last_as_prefix: false }, TokenRule::Sequence).iter().collect::<Vec<_>>()
    };
    assert_eq!(phrase("brown fox"), [0]);
    assert_eq!(phrase("lord of the rings"), [2]);
    assert_eq!(phrase("lord rings"), [0_u32; 0]);
}
