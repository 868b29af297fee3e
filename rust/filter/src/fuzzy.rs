//! Substrings within a few edits of a pattern.

/// Longest pattern that fits the machine word of the bit-parallel form.
const WORD_CHARS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Fuzzy {
    pattern: Vec<char>,
    /// Each letter of the pattern with the bits of its places; only for patterns that fit a word.
    places: Vec<(char, u64)>,
    edits_max: usize,
    case_sensitive: bool,
}

impl Fuzzy {
    #[must_use]
    pub fn new(pattern: &str, edits_max: usize, case_sensitive: bool) -> Self {
        let pattern: Vec<char> = letters(pattern, case_sensitive).collect();
        let mut places: Vec<(char, u64)> = Vec::new();
        for (at, letter) in pattern.iter().take(WORD_CHARS_MAX).enumerate() {
            match places.iter_mut().find(|(known, _)| known == letter) {
                Some((_, bits)) => *bits |= 1 << at,
                None => places.push((*letter, 1 << at)),
            }
        }
        Self { pattern, places, edits_max, case_sensitive }
    }

    /// Whether some substring of the text is within the allowed edits of the pattern.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.pattern.len() <= self.edits_max {
            return true;
        }
        let letters = letters(text, self.case_sensitive);
        if self.pattern.len() <= WORD_CHARS_MAX {
            self.matches_by_bits(letters)
        } else {
            self.matches_by_table(letters)
        }
    }

    /// Source: G. Myers, "A fast bit-vector algorithm for approximate string matching", J. ACM 46(3), 1999.
    fn matches_by_bits(&self, letters: impl Iterator<Item = char>) -> bool {
        let last = 1_u64 << (self.pattern.len() - 1);
        let (mut raised, mut lowered) = (u64::MAX, 0_u64);
        let mut edits = self.pattern.len();
        for letter in letters {
            let here = self.places.iter().find(|(known, _)| *known == letter).map_or(0, |(_, bits)| *bits);
            let diagonal = (((here & raised).wrapping_add(raised)) ^ raised) | here | lowered;
            let up = lowered | !(diagonal | raised);
            let down = raised & diagonal;
            edits += usize::from(up & last != 0);
            edits -= usize::from(down & last != 0);
            if edits <= self.edits_max {
                return true;
            }
            let (up, down) = (up << 1, down << 1);
            raised = down | !(here | lowered | up);
            lowered = up & (here | lowered);
        }
        false
    }

    /// One column of Sellers' table at a time.
    fn matches_by_table(&self, letters: impl Iterator<Item = char>) -> bool {
        let mut column: Vec<usize> = (0..=self.pattern.len()).collect();
        for letter in letters {
            let mut diagonal = 0;
            for (at, expected) in self.pattern.iter().enumerate() {
                let replaced = diagonal + usize::from(*expected != letter);
                diagonal = column[at + 1];
                column[at + 1] = replaced.min(diagonal + 1).min(column[at] + 1);
            }
            if column[self.pattern.len()] <= self.edits_max {
                return true;
            }
        }
        false
    }
}

fn letters(text: &str, case_sensitive: bool) -> impl Iterator<Item = char> + '_ {
    let folded = (!case_sensitive).then(|| text.chars().flat_map(char::to_lowercase));
    let plain = case_sensitive.then(|| text.chars());
    folded.into_iter().flatten().chain(plain.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_agree_with_the_table() {
        let mut state = 12_345_usize;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut found = 0;
        for _ in 0..3000 {
            let mut word = |length: usize| (0..length).map(|_| ['a', 'b', 'é'][next(3)]).collect::<String>();
            let (pattern, text) = (word(7), word(20));
            for edits in 0..3 {
                let fuzzy = Fuzzy::new(&pattern, edits, true);
                let by_bits = fuzzy.matches_by_bits(text.chars());
                assert_eq!(by_bits, fuzzy.matches_by_table(text.chars()), "{pattern} {text} {edits}");
                found += usize::from(by_bits);
            }
        }
        assert!(found > 100 && found < 8900, "{found}");
    }

    #[test]
    fn case_and_length() {
        assert!(Fuzzy::new("brasil", 1, false).matches("In BRAZIL"));
        assert!(!Fuzzy::new("brasil", 1, true).matches("In BRAZIL"));
        let long = "abcdefgh".repeat(9);
        assert!(Fuzzy::new(&long, 2, true).matches(&format!("x{}", long.replacen('d', "", 2))));
        assert!(!Fuzzy::new(&long, 1, true).matches(&long.replacen('d', "", 2)));
    }
}
