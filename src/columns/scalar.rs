//! Parses numbers and other simple values from their source text: exactly or not at all.

/// An integer without loss: `5`, `-7`, also `5.0`. `None` if it is not an integer or does not fit 64 bits.
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
        // Fewer than 18 digits cannot overflow.
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

/// The nearest single. `None` if it overflows.
pub(crate) fn float32(raw: &[u8]) -> Option<f32> {
    fast_float2::parse(raw).ok().filter(|value: &f32| value.is_finite())
}

/// The nearest double of any number. `None` if it overflows.
pub(crate) fn nearest_float64(raw: &[u8]) -> Option<f64> {
    fast_float2::parse(raw).ok().filter(|value: &f64| value.is_finite())
}

/// An unsigned integer without loss, also `5.0`.
pub(crate) fn uint64(raw: &[u8]) -> Option<u64> {
    if let Some(value) = int64(raw) {
        return u64::try_from(value).ok();
    }
    let end = raw.iter().position(|byte| *byte == b'.').unwrap_or(raw.len());
    let (digits, fraction) = raw.split_at(end);
    // Without a point, there is nothing after it.
    let whole = fraction.get(1..).unwrap_or(&[]).iter().all(|digit| *digit == b'0');
    std::str::from_utf8(digits).ok().filter(|_| whole)?.parse().ok()
}

/// The exact digits of a number: its value is `digits` times ten to the power of minus `scale`.
pub(crate) fn decimal(raw: &[u8], precision: u8, scale: u8) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let valid = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !valid(whole) || !valid(fraction) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    // The value is `significant` times ten to the power of this.
    let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    let shift = usize::try_from(power.checked_add(i64::from(scale))?).ok()?;
    if shift.checked_add(significant.len())? > usize::from(precision) {
        return None;
    }
    Some(format!("{sign}{significant}{}", "0".repeat(shift)))
}

/// A UUID in its usual form: lowercase, with hyphens.
pub(crate) fn uuid(text: &[u8]) -> Option<String> {
    uuid::Uuid::try_parse_ascii(text).ok().map(|uuid| uuid.to_string())
}

/// Parses the boolean words that the contracts know, ignoring case.
pub(crate) fn bool(text: &[u8]) -> Option<bool> {
    const TRUE: [&str; 8] = ["true", "t", "yes", "y", "on", "enable", "enabled", "1"];
    const FALSE: [&str; 8] = ["false", "f", "no", "n", "off", "disable", "disabled", "0"];
    let is_in = |words: [&str; 8]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    if is_in(TRUE) { Some(true) } else { is_in(FALSE).then_some(false) }
}

/// JSON without the white space between its tokens. The input must be valid JSON.
pub(crate) fn compact(raw: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(raw.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in raw {
        if in_string || !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            compact.push(*byte);
        }
        in_string = match byte {
            b'"' if !escaped => !in_string,
            _ => in_string,
        };
        escaped = in_string && *byte == b'\\' && !escaped;
    }
    compact
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
    fn unsigned_integers_are_exact_or_refused() {
        let check =
            |text: &str, expected: Option<u64>| assert_eq!(uint64(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("-0", Some(0));
        check("-1", None);
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551615.00", Some(u64::MAX));
        check("18446744073709551616", None);
        check("18446744073709551615.5", None);
        check("1e3", None);
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let check = |text: &str, precision: u8, scale: u8, expected: Option<&str>| {
            assert_eq!(decimal(text.as_bytes(), precision, scale).as_deref(), expected, "{text}");
        };
        check("1.25", 5, 2, Some("125"));
        check("-1.5", 5, 2, Some("-150"));
        check("0", 5, 2, Some("0"));
        check("-0.000", 5, 2, Some("0"));
        check("1.250", 5, 2, Some("125"));
        check("1.255", 5, 2, None);
        check("999.99", 5, 2, Some("99999"));
        check("1000", 5, 2, None);
        check("1e2", 5, 2, Some("10000"));
        check("12.5e-1", 5, 2, Some("125"));
        check("1e999999999999999999999", 5, 2, None);
        check("1e9223372036854775807", 5, 2, None);
        check("1e-9223372036854775808", 5, 2, None);
        check("0e9223372036854775807", 5, 2, Some("0"));
        check(&"9".repeat(76), 76, 0, Some(&"9".repeat(76)));
        check(&"9".repeat(77), 76, 0, None);
        for bad in ["", "-", ".", "1.2.3", "+1", "0x10", " 1", "1 ", "NaN", "e5"] {
            check(bad, 38, 9, None);
        }
    }

    #[test]
    fn truths_have_many_words() {
        for text in ["true", "T", "YES", "y", "On", "enable", "Enabled", "1"] {
            assert_eq!(bool(text.as_bytes()), Some(true), "{text}");
        }
        for text in ["False", "f", "No", "n", "OFF", "disable", "Disabled", "0"] {
            assert_eq!(bool(text.as_bytes()), Some(false), "{text}");
        }
        assert_eq!((bool(b""), bool(b"2"), bool(b"maybe")), (None, None, None));
    }

    #[test]
    fn compact_json_keeps_its_strings() {
        let raw = "{ \"a b\" :\t[ 1 , \" \\\" \\\\\" ,\r\n true ] }";
        assert_eq!(compact(raw.as_bytes()), "{\"a b\":[1,\" \\\" \\\\\",true]}".as_bytes());
    }

    proptest! {
        #[test]
        fn int64_agrees_with_the_standard_library(value: i64) {
            prop_assert_eq!(int64(value.to_string().as_bytes()), Some(value));
        }
    }
}
