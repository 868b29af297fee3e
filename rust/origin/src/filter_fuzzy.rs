//! Approximate substring search by edit distance.

/// Patterns up to this many characters fit the bit-parallel algorithm's machine word.
const WORD_CHARS_MAX: usize = 64;

/// A pattern and how many edits its best place in a text may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Fuzzy {
    pattern: Vec<char>,
    /// For each distinct character, the places in the pattern where it stands.
    masks: Vec<(char, u64)>,
    edits_max: usize,
    case_sensitive: bool,
}

impl Fuzzy {
    #[must_use]
    pub fn new(pattern: &str, edits_max: usize, case_sensitive: bool) -> Self {
        let pattern: Vec<char> =
            if case_sensitive { pattern.chars().collect() } else { pattern.to_lowercase().chars().collect() };
        let mut masks: Vec<(char, u64)> = Vec::new();
        for (place, letter) in pattern.iter().take(WORD_CHARS_MAX).enumerate() {
            match masks.iter_mut().find(|(known, _)| known == letter) {
                Some((_, mask)) => *mask |= 1 << place,
                None => masks.push((*letter, 1 << place)),
            }
        }
        Self { pattern, masks, edits_max, case_sensitive }
    }

    /// Whether some substring of the text is within the allowed edits of the pattern.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.pattern.len() <= self.edits_max {
            return true;
        }
        let letters = text.chars();
        match (self.pattern.len() <= WORD_CHARS_MAX, self.case_sensitive) {
            (true, true) => self.matches_in_words(letters),
            (true, false) => self.matches_in_words(letters.flat_map(char::to_lowercase)),
            (false, true) => self.matches_in_table(letters),
            (false, false) => self.matches_in_table(letters.flat_map(char::to_lowercase)),
        }
    }

    /// Source: G. Myers, "A fast bit-vector algorithm for approximate string matching", J. ACM 46(3), 1999.
    fn matches_in_words(&self, letters: impl Iterator<Item = char>) -> bool {
        let last = 1_u64 << (self.pattern.len() - 1);
        let (mut plus, mut minus) = (u64::MAX, 0_u64);
        let mut edits = self.pattern.len();
        for letter in letters {
            let equal = self.masks.iter().find(|(known, _)| *known == letter).map_or(0, |(_, mask)| *mask);
            let vertical = equal | minus;
            let horizontal = (((equal & plus).wrapping_add(plus)) ^ plus) | equal;
            let mut up = minus | !(horizontal | plus);
            let mut down = plus & horizontal;
            if up & last != 0 {
                edits += 1;
            } else if down & last != 0 {
                edits -= 1;
            }
            if edits <= self.edits_max {
                return true;
            }
            up <<= 1;
            down <<= 1;
            plus = down | !(vertical | up);
            minus = up & vertical;
        }
        false
    }

    /// Sellers' table, one column at a time; also what the bit-parallel form is checked against.
    fn matches_in_table(&self, letters: impl Iterator<Item = char>) -> bool {
        let mut column: Vec<usize> = (0..=self.pattern.len()).collect();
        for letter in letters {
            let mut diagonal = 0;
            for (place, expected) in self.pattern.iter().enumerate() {
                let substituted = diagonal + usize::from(*expected != letter);
                diagonal = column[place + 1];
                column[place + 1] = substituted.min(diagonal + 1).min(column[place] + 1);
            }
            if column[self.pattern.len()] <= self.edits_max {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Fuzzy;
    use crate::query_testing::Rng;

    #[test]
    fn a_misspelt_word_is_found_inside_a_text() {
        assert!(Fuzzy::new("walrus", 1, true).matches("a walrs sleeps"));
        assert!(!Fuzzy::new("walrus", 1, true).matches("a wals sleeps"));
        assert!(Fuzzy::new("walrus", 2, true).matches("a wals sleeps"));
        assert!(!Fuzzy::new("walrus", 0, true).matches("WALRUS"));
        assert!(Fuzzy::new("walrus", 0, false).matches("WALRUS"));
    }

    #[test]
    fn the_word_form_agrees_with_the_table() {
        let mut rng = Rng::new(23);
        let word = |rng: &mut Rng, length: u64| {
            (0..=rng.below(length)).map(|_| *rng.pick(&['a', 'b', 'c', 'é'])).collect::<String>()
        };
        for _ in 0..3000 {
            let (pattern, text) = (word(&mut rng, 9), word(&mut rng, 20));
            for edits in 0..3 {
                let fuzzy = Fuzzy::new(&pattern, edits, true);
                if fuzzy.pattern.len() > edits {
                    let (fast, slow) = (fuzzy.matches(&text), fuzzy.matches_in_table(text.chars()));
                    assert_eq!(fast, slow, "{pattern} in {text} with {edits}");
                }
            }
        }
    }

    #[test]
    fn patterns_longer_than_a_word_work() {
        let long = "abcdefghij".repeat(8);
        assert!(Fuzzy::new(&long, 1, true).matches(&format!("xx{}yy", long.replacen('e', "", 1))));
        assert!(!Fuzzy::new(&long, 1, true).matches(&long[..70]));
    }
}
