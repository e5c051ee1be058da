//! Parses times in every form of ISO 8601 that the contracts accept.
//!
//! Most events have one, so parsing is on the hot path: it is written by hand, and benchmarked against a calendar
//! library in `benches/parts/times.rs`.

/// The first and the last microsecond of the years 1 to 9999, since the epoch.
const MICROS_MIN: i64 = -62_135_596_800_000_000;
const MICROS_MAX: i64 = 253_402_300_799_999_999;

/// Microseconds since the epoch of `2020-04-05T00:05:38.123456Z`, without loss. Also accepts a space for the `T`,
/// any number of fractional digits that microseconds can hold, and `Z`, `+02:00`, `+0200`, `+02`, `-8:00` or
/// nothing (then UTC) at the end.
pub fn timestamp(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    if !matches!(head[10], b'T' | b' ' | b't') || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let days = i64::from(date(&head[..10])?);
    let (hour, minute, second) =
        (two(head[11], head[12])?, two(head[14], head[15])?, two(head[17], head[18])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = fraction(rest, Finer::Refuse)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
    within_years(seconds * 1_000_000 + micros)
}

/// Like [`timestamp`], for a column declared to hold times: also accepts a date alone, hours and minutes without
/// seconds, and up to nanoseconds, truncated to microseconds.
pub fn declared_timestamp(text: &[u8]) -> Option<i64> {
    if let Some(micros) = timestamp(text) {
        return Some(micros);
    }
    let (day, rest) = text.split_at_checked(10)?;
    let midnight = i64::from(date(day)?) * 86_400;
    let Some((b'T' | b' ' | b't', rest)) = rest.split_first() else {
        return rest.is_empty().then_some(midnight * 1_000_000);
    };
    let (clock, rest) = rest.split_first_chunk::<5>()?;
    let (hour, minute) = (two(clock[0], clock[1])?, two(clock[3], clock[4])?);
    if clock[2] != b':' {
        return None;
    }
    let (second, rest) = match rest {
        [b':', tens, ones, rest @ ..] => (two(*tens, *ones)?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = fraction(rest, Finer::Cut)?;
    let seconds = midnight + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
    within_years(seconds * 1_000_000 + micros)
}

/// Microseconds of an integer that counts units of 10^-`digits` seconds since the epoch.
pub fn epoch(count: i64, digits: u8) -> Option<i64> {
    let shift = i32::from(digits) - 6;
    let factor = 10_i64.checked_pow(shift.unsigned_abs())?;
    within_years(if shift <= 0 { count.checked_mul(factor)? } else { count.div_euclid(factor) })
}

fn within_years(micros: i64) -> Option<i64> {
    (MICROS_MIN..=MICROS_MAX).contains(&micros).then_some(micros)
}

/// Days since the epoch of `2020-04-05`, in the years 1 to 9999.
pub fn date(text: &[u8]) -> Option<i32> {
    let text: &[u8; 10] = text.try_into().ok()?;
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(text[0], text[1])? * 100 + two(text[2], text[3])?;
    let (month, day) = (two(text[5], text[6])?, two(text[8], text[9])?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    // Days from the civil calendar after Howard Hinnant's algorithm, with March as the first month.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let year_of_era = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// How to treat non-zero digits after the sixth.
#[derive(Clone, Copy, PartialEq)]
enum Finer {
    Refuse,
    Cut,
}

/// Parses the microseconds of `.123`; returns them and the rest.
fn fraction(rest: &[u8], finer: Finer) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', rest)) = rest.split_first() else { return Some((0, rest)) };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = rest.split_at(len);
    let (micros, beyond) = digits.split_at(len.min(6));
    let lost = match finer {
        Finer::Refuse => beyond.iter().any(|digit| *digit != b'0'),
        Finer::Cut => beyond.len() > 3,
    };
    if len == 0 || lost {
        return None;
    }
    let value = micros.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let missing = u32::try_from(6 - micros.len()).ok()?;
    Some((value * 10_i64.pow(missing), zone))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h, i] => (sign, two(h, i)?, 0),
        [sign, i, b':', m, n] => (sign, two(b'0', i)?, two(m, n)?),
        [sign, h, i, m, n] | [sign, h, i, b':', m, n] => (sign, two(h, i)?, two(m, n)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3_600 + minutes * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: i64 = 1_586_045_138_000_000;

    #[test]
    fn timestamps_of_the_usual_forms() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(timestamp(text.as_bytes()), expected, "{text}");
            if expected.is_some() {
                assert_eq!(declared_timestamp(text.as_bytes()), expected, "{text}");
            }
        };
        check("2020-04-05 00:05:38", Some(BASE));
        check("2020-04-05T00:05:38Z", Some(BASE));
        check("2020-04-05T00:05:38.5Z", Some(BASE + 500_000));
        check("2020-04-05T00:05:38,5Z", Some(BASE + 500_000));
        check("2020-04-05T00:05:38.123456", Some(BASE + 123_456));
        check("2020-04-05T00:05:38.123456000Z", Some(BASE + 123_456));
        check("2020-04-05T02:05:38+02:00", Some(BASE));
        check("2020-04-04T16:05:38-0800", Some(BASE));
        check("2020-04-04T16:05:38-8:00", Some(BASE));
        check("2020-04-05T02:05:38+02", Some(BASE));
        check("9999-12-31T23:59:59.999999Z", Some(MICROS_MAX));
        check("0001-01-01T00:00:00Z", Some(MICROS_MIN));
        for bad in [
            "2020-04-05",
            "2020-04-05T00:05",
            "2020-04-05T24:00:00",
            "2020-04-05T00:05:60",
            "2020-02-30T00:00:00",
            "2020-04-05T00:05:38.1234567Z",
            "2020-04-05T00:05:38.",
            "2020-04-05T00:05:38 Z",
            "2020-04-05T00:05:38+25:00",
            "0000-01-01T00:00:00",
            "9999-12-31T23:59:59-01:00",
            "10000-01-01T00:00:00Z",
            "1586045138",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn declared_timestamps_take_more_forms() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(declared_timestamp(text.as_bytes()), expected, "{text}");
        };
        check("2020-04-05", Some(BASE - 338_000_000));
        check("2020-04-05T00:05Z", Some(BASE - 38_000_000));
        check("2020-04-05 00:05", Some(BASE - 38_000_000));
        check("2020-04-04T16:05-8:00", Some(BASE - 38_000_000));
        check("2020-04-05T00:05:38.1234567Z", Some(BASE + 123_456));
        check("2020-04-05T00:05:38.123456789", Some(BASE + 123_456));
        for bad in [
            "",
            "2020",
            "2020-04",
            "2020-04-05T",
            "2020-04-05T00",
            "2020-04-05x",
            "2020-04-05T00:05:38.1234567890Z",
            "2020-04-05T00:05:38.12345678901Z",
            "20200405T000538Z",
            "soon",
            "2020-13-05",
            "+10000-01-01T00:00:00Z",
            "10000-01-01",
            "2020-04-05T00:05:38é",
            "é2020-04-05",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn integers_count_from_the_epoch() {
        assert_eq!(epoch(1_586_045_138, 0), Some(BASE));
        assert_eq!(epoch(1_586_045_138_000, 3), Some(BASE));
        assert_eq!(epoch(BASE, 6), Some(BASE));
        assert_eq!(epoch(-1, 9), Some(-1), "rounded down to its microsecond");
        assert_eq!(epoch(i64::MAX, 0), None);
        assert_eq!(epoch(253_402_300_800, 0), None, "the year 10000");
    }

    proptest! {
        #[test]
        fn dates_agree_with_a_calendar_library(days in -719_162_i32..=2_932_896) {
            let day = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            prop_assert_eq!(date(day.to_string().as_bytes()), Some(days));
        }

        #[test]
        fn timestamps_agree_with_a_calendar_library(micros in MICROS_MIN..=MICROS_MAX) {
            let at = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
            prop_assert_eq!(timestamp(at.as_bytes()), Some(micros));
        }

        #[test]
        fn any_text_is_a_time_or_none(text: Vec<u8>) {
            prop_assert!(timestamp(&text).is_none_or(|micros| declared_timestamp(&text) == Some(micros)));
        }
    }
}
