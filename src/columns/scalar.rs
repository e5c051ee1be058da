//! Numbers and times from their source text, exactly or not at all.

/// An integer without loss: `5`, `-7`, also `5.0`. `None` if it is none or does not fit 64 bits.
pub(crate) fn int64(raw: &[u8]) -> Option<i64> {
    let (negative, digits) = match raw.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, raw),
    };
    let mut value: i64 = 0;
    for (at, byte) in digits.iter().enumerate() {
        if *byte == b'.' {
            let fraction = &digits[at + 1..];
            return (!fraction.is_empty() && fraction.iter().all(|digit| *digit == b'0')).then_some(value);
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        let digit = i64::from(digit);
        // Below 18 digits nothing can overflow.
        value = if at < 18 {
            let shifted = value * 10;
            if negative { shifted - digit } else { shifted + digit }
        } else {
            let shifted = value.checked_mul(10)?;
            if negative { shifted.checked_sub(digit)? } else { shifted.checked_add(digit)? }
        };
    }
    Some(value)
}

/// A number as the nearest double. `None` if it overflows, or if it is an integer that a double would change.
pub(crate) fn float64(raw: &[u8], integer: bool) -> Option<f64> {
    let value: f64 = fast_float2::parse(raw).ok()?;
    if !value.is_finite() {
        return None;
    }
    // 15 digits always fit.
    if integer && raw.len() > 15 && !is_exact(raw, value) {
        return None;
    }
    Some(value)
}

fn is_exact(raw: &[u8], value: f64) -> bool {
    let exact = std::str::from_utf8(raw).ok().and_then(|text| text.parse::<i128>().ok());
    exact.is_some_and(|exact| format!("{value:.0}").parse() == Ok(exact))
}

/// `2020-04-05T00:05:38.123456Z`, with a space for the `T`, any number of digits behind the point that microseconds
/// can hold, and `Z`, `+02:00`, `+0200`, `+02` or nothing (then UTC) at the end.
pub(crate) fn timestamp(text: &[u8]) -> Option<i64> {
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
    let (micros, zone) = fraction(rest)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset_seconds(zone)?;
    Some(seconds * 1_000_000 + micros)
}

/// Days since the epoch of `2020-04-05`, in the years 1 to 9999.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let text: &[u8; 10] = text.try_into().ok()?;
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(text[0], text[1])? * 100 + two(text[2], text[3])?;
    let (month, day) = (two(text[5], text[6])?, two(text[8], text[9])?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    // Days from the civil calendar, after Howard Hinnant's algorithm, with March as the first month.
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

/// Microseconds of `.123`, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else { return Some((0, rest)) };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = rest.split_at(len);
    let (micros, beyond) = digits.split_at(len.min(6));
    if len == 0 || beyond.iter().any(|digit| *digit != b'0') {
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

    #[test]
    fn integers_are_exact_or_refused() {
        let check =
            |text: &str, expected: Option<i64>| assert_eq!(int64(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("-0", Some(0));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        check("9223372036854775808", None);
        check("-9223372036854775809", None);
        check("18446744073709551616", None);
        check("5.0", Some(5));
        check("-5.000", Some(-5));
        check("5.5", None);
        check("1e3", None);
    }

    #[test]
    fn doubles_are_finite_and_do_not_change_integers() {
        let check = |text: &str, expected: Option<f64>| {
            let integer = !text.contains(['.', 'e', 'E']);
            assert_eq!(float64(text.as_bytes(), integer), expected, "{text}");
        };
        check("1.5", Some(1.5));
        check("-2e10", Some(-2e10));
        check("1e999", None);
        check("9007199254740992", Some(9_007_199_254_740_992.0));
        check("9007199254740993", None);
        check("1e-999", Some(0.0));
    }

    #[test]
    fn timestamps_of_the_usual_forms() {
        let check =
            |text: &str, expected: Option<i64>| assert_eq!(timestamp(text.as_bytes()), expected, "{text}");
        let base = 1_586_045_138_000_000;
        check("2020-04-05 00:05:38", Some(base));
        check("2020-04-05T00:05:38Z", Some(base));
        check("2020-04-05T00:05:38.5Z", Some(base + 500_000));
        check("2020-04-05T00:05:38.123456", Some(base + 123_456));
        check("2020-04-05T00:05:38.123456000Z", Some(base + 123_456));
        check("2020-04-05T02:05:38+02:00", Some(base));
        check("2020-04-04T16:05:38-0800", Some(base));
        check("2020-04-05T02:05:38+02", Some(base));
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
            "1586045138",
        ] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn dates_agree_with_a_calendar_library(days in -719_162_i32..=2_932_896) {
            let day = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            prop_assert_eq!(date(day.to_string().as_bytes()), Some(days));
        }

        #[test]
        fn int64_agrees_with_the_standard_library(value: i64) {
            prop_assert_eq!(int64(value.to_string().as_bytes()), Some(value));
        }
    }
}
