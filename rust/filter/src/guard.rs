//! Bounds on a filter's text, checked in one pass without recursion, before anything is built from it.

use crate::error::FilterError;

/// Most bytes of a filter.
pub const FILTER_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of arrays and objects: two levels for each `And`, `Or` or `Not`, and room for a leaf.
pub const JSON_DEPTH_MAX: usize = 2 * crate::parse::FILTER_DEPTH_MAX + 6;
/// Most values in a filter, those in `In` lists included.
pub const FILTER_VALUES_MAX: usize = 65_536;
/// Longest pointer that an error carries, in levels.
const POINTER_LEVELS_MAX: usize = 16;

/// Checks length, nesting and the number of values of a JSON text, which need not be valid.
///
/// # Errors
/// Names the place at which a bound was passed.
pub fn check(text: &[u8]) -> Result<(), FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError::invalid("", format!("a filter is at most {FILTER_BYTES_MAX} bytes long")));
    }
    let mut path: Vec<usize> = Vec::with_capacity(JSON_DEPTH_MAX);
    let mut values = 1_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at = string_end(text, at),
            b'[' | b'{' => {
                if path.len() == JSON_DEPTH_MAX {
                    let levels = crate::parse::FILTER_DEPTH_MAX;
                    return Err(FilterError::invalid(
                        &pointer(&path),
                        format!("filters are nested deeper than {levels} levels"),
                    ));
                }
                path.push(0);
                values += 1;
            }
            b']' | b'}' => {
                path.pop();
            }
            b',' => {
                values += 1;
                if let Some(index) = path.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
        if values > FILTER_VALUES_MAX {
            return Err(FilterError::invalid(
                &pointer(&path),
                format!("a filter has at most {FILTER_VALUES_MAX} values"),
            ));
        }
        at += 1;
    }
    Ok(())
}

/// The place of the closing quote, or the end of the text.
fn string_end(text: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() && text[at] != b'"' {
        at += 1 + usize::from(text[at] == b'\\');
    }
    at
}

fn pointer(path: &[usize]) -> String {
    let mut text: String = path.iter().take(POINTER_LEVELS_MAX).map(|index| format!("/{index}")).collect();
    if path.len() > POINTER_LEVELS_MAX {
        text.push_str("/…");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_ordinary_filters_and_brackets_in_strings() {
        for text in [r#"["a","Eq",1]"#, r#"["And",[["a","Eq","[[[\"[["],["b","In",[1,2]]]]"#, "", "]]]", "\"\\"] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn names_the_place_of_deep_nesting() {
        let deep = "[\"Not\",".repeat(10_000);
        let error = check(deep.as_bytes()).expect_err("too deep");
        assert!(error.pointer.starts_with("/1/1/1/1/") && error.pointer.ends_with("/…"), "{}", error.pointer);
        assert!(error.message.contains("nested deeper than 48 levels"));
        assert!(check("[".repeat(5_000_000).as_bytes()).is_err());
    }

    #[test]
    fn names_the_place_of_long_lists() {
        let list = format!(r#"["And",[["a","In",[{}1]]]]"#, "1,".repeat(100_000));
        let error = check(list.as_bytes()).expect_err("too long");
        assert!(error.pointer.starts_with("/1/0/2/"), "{}", error.pointer);
        let long = format!(r#"["a","Eq","{}"]"#, "x".repeat(FILTER_BYTES_MAX));
        assert_eq!(check(long.as_bytes()).map_err(|error| error.pointer), Err(String::new()));
    }
}
