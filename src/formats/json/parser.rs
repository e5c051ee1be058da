//! The grammar of RFC 8259, applied strictly: a cursor over bytes that are known to be UTF-8.
//!
//! Stricter than the RFC in one respect, as everything that stores text must be: an escaped lone surrogate is an
//! error.

use std::borrow::Cow;
use wide::u8x16;

/// The maximum nesting depth of objects and arrays, including the record itself. Deeper records are quarantined.
pub const DEPTH_MAX: u32 = 128;

/// Why bytes are not a valid JSON record. Users read this text in a quarantine table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Syntax {
    #[error("expected a JSON object")]
    ExpectedObject,
    #[error("expected a value")]
    ExpectedValue,
    #[error("expected a key in double quotes")]
    ExpectedKey,
    #[error("expected ':' after a key")]
    ExpectedColon,
    #[error("expected ',' or '}}'")]
    ExpectedCommaOrBrace,
    #[error("expected ',' or ']'")]
    ExpectedCommaOrBracket,
    #[error("unterminated string")]
    UnterminatedString,
    #[error("unescaped control character in a string")]
    ControlCharacter,
    #[error("invalid escape in a string")]
    BadEscape,
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    #[error("invalid number")]
    BadNumber,
    #[error("nesting deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("trailing characters after the record")]
    TrailingCharacters,
    #[error("invalid UTF-8")]
    InvalidUtf8,
}

/// The kind of a value, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    String,
    Number,
    True,
    False,
    Null,
    Object,
    Array,
}

/// The content of a string between its quotes, as source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Str<'a> {
    pub raw: &'a [u8],
    /// Whether `raw` contains escapes.
    pub escaped: bool,
}

/// The source text of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a> {
    pub raw: &'a [u8],
    /// It has neither a fraction nor an exponent.
    pub integer: bool,
}

#[derive(Debug, Clone)]
pub struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// In a JSON document a line feed is white space; in NDJSON it ends the record.
    line_feed_is_space: bool,
}

impl<'a> Parser<'a> {
    /// Parses one record of NDJSON, up to its line feed.
    pub fn line(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, line_feed_is_space: false }
    }

    /// Parses a JSON document.
    pub fn document(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, line_feed_is_space: true }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn set_at(&mut self, at: usize) {
        self.at = at;
        self.depth = 0;
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes that are not read yet. `at` never passes the end, so the default is never taken.
    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, by: usize) {
        self.at += by;
    }

    /// The next byte; 0, which is never valid JSON, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Enters one level. After an error the parser must not be used.
    #[inline(always)]
    pub fn enter(&mut self) -> Result<(), Syntax> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Syntax::TooDeep) } else { Ok(()) }
    }

    #[inline(always)]
    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        if self.peek() <= b' ' {
            self.skip_space_slowly();
        }
    }

    #[inline(never)]
    fn skip_space_slowly(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r') || (self.peek() == b'\n' && self.line_feed_is_space)
        {
            self.at += 1;
        }
    }

    /// The kind of the next value. Does not advance.
    #[inline(always)]
    pub fn kind(&self) -> Result<JsonKind, Syntax> {
        match self.peek() {
            b'"' => Ok(JsonKind::String),
            b'-' | b'0'..=b'9' => Ok(JsonKind::Number),
            b'{' => Ok(JsonKind::Object),
            b'[' => Ok(JsonKind::Array),
            b't' if self.rest().starts_with(b"true") => Ok(JsonKind::True),
            b'f' if self.rest().starts_with(b"false") => Ok(JsonKind::False),
            b'n' if self.rest().starts_with(b"null") => Ok(JsonKind::Null),
            _ => Err(Syntax::ExpectedValue),
        }
    }

    /// Skips a literal that [`Parser::kind`] has recognized.
    #[inline(always)]
    pub fn literal(&mut self, kind: JsonKind) {
        self.at += if kind == JsonKind::False { 5 } else { 4 };
    }

    /// Parses a string, from its opening quote.
    #[inline(always)]
    pub fn string(&mut self) -> Result<Str<'a>, Syntax> {
        self.at += 1;
        self.string_body()
    }

    /// Parses a string, from after its opening quote.
    #[inline(always)]
    pub(super) fn string_body(&mut self) -> Result<Str<'a>, Syntax> {
        let start = self.at;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = match stop_in(self.bytes, at) {
                Some(stop) => stop,
                None => return Err(Syntax::UnterminatedString),
            };
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    // Both lie in the string that has just been read.
                    let raw = self.bytes.get(start..at).unwrap_or(&[]);
                    return Ok(Str { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at = escape(self.bytes, at)?;
                }
                // The end of the line ends the record, and with it the string.
                Some(b'\n') => return Err(Syntax::UnterminatedString),
                _ => return Err(Syntax::ControlCharacter),
            }
        }
    }

    /// Parses a number, from its first byte.
    #[inline(always)]
    pub fn number(&mut self) -> Result<Number<'a>, Syntax> {
        let start = self.at;
        let integer = match short_number(self.rest()) {
            Some((len, integer)) => {
                self.at += len;
                integer
            }
            None => self.long_number()?,
        };
        Ok(Number { raw: self.since(start), integer })
    }

    #[inline(never)]
    fn long_number(&mut self) -> Result<bool, Syntax> {
        let mut integer = true;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        // `01` and `1x` end with the valid number; the rest is not a separator.
        if self.peek().is_ascii_digit() { Err(Syntax::BadNumber) } else { Ok(integer) }
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(Syntax::BadNumber) } else { Ok(()) }
    }

    /// Skips any value and returns its source text.
    #[inline(always)]
    pub fn skip_value(&mut self) -> Result<&'a [u8], Syntax> {
        let start = self.at;
        match self.peek() {
            b'"' => drop(self.string()?),
            b'-' | b'0'..=b'9' => drop(self.number()?),
            _ => self.skip_other()?,
        }
        Ok(self.since(start))
    }

    /// The source text from `start`, where the cursor has been, up to the cursor: within the bytes.
    #[inline(always)]
    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or(&[])
    }

    /// Skips an object, an array or a literal. The stack has one bit per level: 1 for an object.
    #[inline(never)]
    fn skip_other(&mut self) -> Result<(), Syntax> {
        let mut stack: u128 = 0;
        let base = self.depth;
        loop {
            match self.peek() {
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => drop(self.number()?),
                b'{' => {
                    self.enter()?;
                    stack = (stack << 1) | 1;
                    self.at += 1;
                    if self.key()?.is_some() {
                        continue;
                    }
                    stack >>= 1;
                    self.leave();
                }
                b'[' => {
                    self.enter()?;
                    stack <<= 1;
                    if self.first_element() {
                        continue;
                    }
                    stack >>= 1;
                    self.leave();
                }
                _ => {
                    let literal = self.kind()?;
                    self.literal(literal);
                }
            }
            // After a value: go to the next one, or leave every container that ends here.
            loop {
                if self.depth == base {
                    return Ok(());
                }
                let more = if stack & 1 == 1 { self.next_key()?.is_some() } else { self.next_element()? };
                if more {
                    break;
                }
                stack >>= 1;
                self.leave();
            }
        }
    }

    /// From the `{`: the first key and its colon, or `None` after the `}`.
    pub fn first_key(&mut self) -> Result<Option<Str<'a>>, Syntax> {
        self.at += 1;
        self.key()
    }

    /// After the `{`: the first key and its colon, or `None` after the `}`.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Result<Option<Str<'a>>, Syntax> {
        self.skip_space();
        match self.peek() {
            b'"' => self.key_and_colon().map(Some),
            b'}' => {
                self.at += 1;
                Ok(None)
            }
            _ => Err(Syntax::ExpectedKey),
        }
    }

    /// After a value in an object: the next key and its colon, or `None` after the `}`.
    #[inline(always)]
    pub fn next_key(&mut self) -> Result<Option<Str<'a>>, Syntax> {
        self.skip_space();
        match self.peek() {
            b',' => {
                self.at += 1;
                self.skip_space();
                if self.peek() == b'"' { self.key_and_colon().map(Some) } else { Err(Syntax::ExpectedKey) }
            }
            b'}' => {
                self.at += 1;
                Ok(None)
            }
            _ => Err(Syntax::ExpectedCommaOrBrace),
        }
    }

    #[inline(always)]
    fn key_and_colon(&mut self) -> Result<Str<'a>, Syntax> {
        let key = self.string()?;
        self.skip_space();
        if self.peek() != b':' {
            return Err(Syntax::ExpectedColon);
        }
        self.at += 1;
        self.skip_space();
        Ok(key)
    }

    /// From the `[`: whether a first element follows; if so, the parser is at it.
    pub fn first_element(&mut self) -> bool {
        self.at += 1;
        self.skip_space();
        let empty = self.peek() == b']';
        self.at += usize::from(empty);
        !empty
    }

    /// After an element: whether another one follows.
    #[inline(always)]
    pub fn next_element(&mut self) -> Result<bool, Syntax> {
        self.skip_space();
        match self.peek() {
            b',' => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            b']' => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Syntax::ExpectedCommaOrBracket),
        }
    }
}

impl<'a> Str<'a> {
    /// The text with its escapes resolved.
    pub fn text(&self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

/// The offset of the next quote, backslash or control character at or after `at`.
#[inline(always)]
fn stop_in(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let chunk = u8x16::new(*chunk);
        let quote = chunk.simd_eq(u8x16::splat(b'"'));
        let backslash = chunk.simd_eq(u8x16::splat(b'\\'));
        let control = chunk.min(u8x16::splat(0x1f)).simd_eq(chunk);
        let stops = (quote | backslash | control).to_bitmask();
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize);
        }
        at += 16;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|stop| at + stop)
}

/// Checks the escape at `at` and returns the offset after it.
#[cold]
fn escape(bytes: &[u8], at: usize) -> Result<usize, Syntax> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let unit = hex4(bytes, at + 2).ok_or(Syntax::BadEscape)?;
            match unit {
                0xD800..=0xDBFF => {
                    let low =
                        (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex4(bytes, at + 8)).flatten();
                    match low {
                        Some(0xDC00..=0xDFFF) => Ok(at + 12),
                        _ => Err(Syntax::LoneSurrogate),
                    }
                }
                0xDC00..=0xDFFF => Err(Syntax::LoneSurrogate),
                _ => Ok(at + 6),
            }
        }
        Some(_) => Err(Syntax::BadEscape),
        None => Err(Syntax::UnterminatedString),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// Resolves the escapes of a string that [`escape`] has checked.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        let (character, len) = match rest.get(at + 1) {
            Some(b'u') => unescape_unicode(rest, at),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(other) => (char::from(*other), 2),
            None => break,
        };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        // An escape is whole, as was checked.
        rest = rest.get(at + len..).unwrap_or(&[]);
    }
    text.extend_from_slice(rest);
    text
}

fn unescape_unicode(raw: &[u8], at: usize) -> (char, usize) {
    let unit = hex4(raw, at + 2).unwrap_or(0xFFFD);
    if (0xD800..0xDC00).contains(&unit) {
        let low = hex4(raw, at + 8).unwrap_or(0xDC00);
        let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// The length of a typical number, and whether it is an integer, from a branch-free look at 16 bytes. `None`: use
/// the slow path.
#[inline(always)]
fn short_number(rest: &[u8]) -> Option<(usize, bool)> {
    let chunk = rest.first_chunk::<16>()?;
    let digits = u8x16::new(*chunk) - u8x16::splat(b'0');
    let digits = digits.min(u8x16::splat(9)).simd_eq(digits).to_bitmask();
    let sign = u32::from(chunk[0] == b'-');
    let whole = (digits >> sign).trailing_ones();
    let leading_zero = whole > 1 && chunk[(sign & 1) as usize] == b'0';
    let end = sign + whole;
    if whole == 0 || end >= 15 || leading_zero {
        return None;
    }
    match chunk[(end & 15) as usize] {
        b'.' => {
            let fraction = (digits >> (end + 1)).trailing_ones();
            let end = end + 1 + fraction;
            let simple = fraction > 0 && end < 16 && !matches!(chunk[(end & 15) as usize], b'e' | b'E');
            simple.then_some((end as usize, false))
        }
        b'e' | b'E' => None,
        _ => Some((end as usize, true)),
    }
}
