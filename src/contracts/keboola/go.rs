//! Durations, sizes and quoted text in the formats of Go, which the vendor's services are written in.

use std::fmt::{self, Write};

/// A span of time, in nanoseconds, as Go's `time.Duration` reads and writes it: `5m0s`, `1h30m0s`, `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub u64);

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

impl GoDuration {
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    pub const fn as_seconds(self) -> u64 {
        self.0.div_ceil(SECOND)
    }

    /// Parses numbers with units: `2h30m`, `1.5h`, `300ms`. `None` if the text is invalid, negative or too long a time.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total = 0_u64;
        while !rest.is_empty() {
            let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
            let (number, behind) = rest.split_at_checked(end)?;
            let end = behind.find(|letter: char| letter.is_ascii_digit() || letter == '.');
            let (unit, next) = behind.split_at_checked(end.unwrap_or(behind.len()))?;
            let unit: u64 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => SECOND,
                "m" => MINUTE,
                "h" => HOUR,
                _ => return None,
            };
            total = total.checked_add(times(number, unit)?)?;
            rest = next;
        }
        (i64::try_from(total).is_ok()).then_some(Self(total))
    }
}

/// A number with a fraction, times a unit.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        scale = scale.checked_div(10)?;
        total = total.checked_add(scale.checked_mul(u64::from(digit.checked_sub(b'0')?))?)?;
    }
    Some(total)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0;
        let with_fraction = |value: u64, unit: u64, name: &str| {
            let (whole, fraction) = (value.checked_div(unit), value.checked_rem(unit));
            let width = usize::try_from(unit.checked_ilog10().unwrap_or(0)).unwrap_or(0);
            let fraction = format!("{:0width$}", fraction.unwrap_or(0));
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{}{point}{fraction}{name}", whole.unwrap_or(0))
        };
        let text = match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => with_fraction(nanos, 1_000, "µs"),
            1_000_000..SECOND => with_fraction(nanos, 1_000_000, "ms"),
            SECOND..MINUTE => with_fraction(nanos, SECOND, "s"),
            MINUTE..HOUR => format!("{}m{}", nanos / MINUTE, with_fraction(nanos % MINUTE, SECOND, "s")),
            _ => {
                let (hours, rest) = (nanos / HOUR, nanos % HOUR);
                format!("{hours}h{}m{}", rest / MINUTE, with_fraction(rest % MINUTE, SECOND, "s"))
            }
        };
        f.pad(&text)
    }
}

/// A number of bytes: `456B`, `5MB`. Each unit is 1024 times the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoSize(pub u64);

const UNITS: [(&str, u32); 4] = [("GB", 30), ("MB", 20), ("KB", 10), ("B", 0)];

impl GoSize {
    /// Parses a whole number with a unit, `5MB` or `5 MB`. `None` if the text is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(end)?;
        let unit = if unit == " kB" || unit == "kB" { "KB" } else { unit.trim_start_matches(' ') };
        let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        number.checked_mul(1_u64.checked_shl(*shift)?).map(Self)
    }
}

/// A number of bytes as the vendor shows it to people: `50.0 MB`.
#[derive(Debug, Clone, Copy)]
pub struct Amount(pub u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shift) in UNITS {
            let tenths = (u128::from(self.0) * 10) >> shift;
            if shift > 0 && self.0 >> shift > 0 {
                return write!(f, "{}.{} {name}", tenths / 10, tenths % 10);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl fmt::Display for GoSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, shift) in UNITS {
            let unit = 1_u64.checked_shl(shift).unwrap_or(1);
            if self.0 > 0 && self.0.checked_rem(unit) == Some(0) {
                return f.pad(&format!("{}{name}", self.0 >> shift));
            }
        }
        f.pad("0B")
    }
}

/// Text as Go's `strconv.Quote` writes it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if letter.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", u32::from(letter))),
            _ if letter.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(letter))),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of strings as the vendor's messages write it: `["id","ip"]`.
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(quote).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, written) in [
            ("5m", "5m0s"),
            ("2h30m", "2h30m0s"),
            ("30s", "30s"),
            ("1.5h", "1h30m0s"),
            ("24h", "24h0m0s"),
            ("90s", "1m30s"),
            ("1500ms", "1.5s"),
            ("300ms", "300ms"),
            (".5s", "500ms"),
            ("1us", "1µs"),
            ("0", "0s"),
            ("+1m", "1m0s"),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap().to_string(), written, "{text}");
        }
        for text in ["", "5", "m", "1d", "-5m", "5 m", "5m ", "1..5s", ".s", "9999999999h", "1m5", "５m"] {
            assert_eq!(GoDuration::parse(text), None, "{text}");
        }
        assert_eq!(GoDuration::parse("90s").map(GoDuration::as_seconds), Some(90));
    }

    #[test]
    fn sizes() {
        for (text, bytes, written) in [
            ("456B", 456, "456B"),
            ("5MB", 5 << 20, "5MB"),
            ("5 MB", 5 << 20, "5MB"),
            ("2KB", 2048, "2KB"),
            ("2kB", 2048, "2KB"),
            ("1024B", 1024, "1KB"),
            ("1536B", 1536, "1536B"),
            ("1GB", 1 << 30, "1GB"),
            ("0B", 0, "0B"),
        ] {
            let size = GoSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written), "{text}");
        }
        for text in ["", "MB", "5", "5mb", "5.5MB", "-1MB", "5TB", "99999999999999999999B", "99999999999GB"] {
            assert_eq!(GoSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (50 << 20, "50.0 MB"), (3 << 29, "1.5 GB")];
        for (bytes, written) in cases {
            assert_eq!(Amount(bytes).to_string(), written);
        }
    }

    #[test]
    fn text_is_quoted() {
        assert_eq!(quote("a\"b\\\n\u{1}ž\u{85}"), r#""a\"b\\\n\x01ž\u0085""#);
        assert_eq!(list(["id", "ip"]), r#"["id","ip"]"#);
        assert_eq!(list([]), "[]");
    }
}
