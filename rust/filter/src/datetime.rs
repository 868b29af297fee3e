//! Datetimes as milliseconds since the epoch, UTC.

use hevlayer_doc::value::parse_datetime as parse_any;

const DAY_MS: i64 = 86_400_000;

/// Reads an ISO 8601 date, or date and time; without a zone it is UTC. Finer digits than milliseconds are cut off.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    parse_plain(text.as_bytes()).or_else(|| parse_any(text))
}

/// `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, the form in which the upstream answers; None for every other.
fn parse_plain(text: &[u8]) -> Option<i64> {
    if text.len() < 20 || text[text.len() - 1] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    if [text[4], text[7], text[10], text[13], text[16]] != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let month_days = match month {
        2 => 28 + i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = &text[19..text.len() - 1];
    let mut ms = 0;
    if let Some((dot, digits)) = fraction.split_first() {
        if *dot != b'.' || digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for place in 0..3 {
            ms = ms * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
    }
    Some(days_from_civil(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::format_datetime as format;

    #[test]
    fn the_short_way_agrees_with_the_long_one() {
        let mut moment = -62_000_000_000_000_i64;
        while moment < 250_000_000_000_000 {
            let text = format(moment);
            assert_eq!(parse_plain(text.as_bytes()), Some(moment), "{text}");
            assert_eq!(parse_any(&text), Some(moment), "{text}");
            moment += 7_919_123_457;
        }
        for text in ["2024-02-29T23:59:59Z", "1969-12-31T23:59:59.999Z", "2024-01-01T00:00:00.5Z"] {
            assert_eq!(parse_plain(text.as_bytes()), parse_any(text), "{text}");
            assert!(parse_any(text).is_some());
        }
    }

    #[test]
    fn other_texts_are_no_datetimes() {
        for text in
            ["", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T24:00:01Z", "2024-01-01T00:00:00.Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("2024-03-02"), Some(1_709_337_600_000));
        assert_eq!(parse("2024-03-02 01:02:03.5+01:00"), parse("2024-03-02T00:02:03.500Z"));
    }
}
