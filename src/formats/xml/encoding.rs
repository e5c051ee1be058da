//! Decodes a document's bytes, by a byte order mark, the request's charset, or the document's own declaration.

use super::XmlError;
use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};
use std::borrow::Cow;

/// The document's declaration is searched for in this many bytes.
const DECLARATION_BYTES_MAX: usize = 512;

pub(super) fn decode<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<Cow<'a, str>, XmlError> {
    let (encoding, text) = match Encoding::for_bom(body) {
        // The body begins with the mark.
        Some((encoding, mark)) => (encoding, body.get(mark..).unwrap_or(&[])),
        None => (without_mark(body, content_type)?, body),
    };
    let decoded = encoding.decode_without_bom_handling_and_without_replacement(text);
    decoded.ok_or_else(|| XmlError::Encoding(encoding.name()))
}

fn without_mark(body: &[u8], content_type: Option<&str>) -> Result<&'static Encoding, XmlError> {
    // The form of the first character of a document, `<`.
    let wide = match body {
        [b'<', 0, ..] => Some(UTF_16LE),
        [0, b'<', ..] => Some(UTF_16BE),
        _ => None,
    };
    let head = body.get(..DECLARATION_BYTES_MAX).unwrap_or(body);
    let own = || match wide {
        Some(encoding) => declaration(&encoding.decode_without_bom_handling(head).0),
        None => declaration(&String::from_utf8_lossy(head)),
    };
    let declared = content_type.and_then(charset).map(str::to_owned).or_else(own);
    let Some(label) = declared else {
        return if wide.is_some() { Err(XmlError::Undeclared) } else { Ok(UTF_8) };
    };
    let encoding = Encoding::for_label(label.as_bytes()).filter(|encoding| *encoding != REPLACEMENT);
    let Some(encoding) = encoding else { return Err(XmlError::UnknownEncoding(label)) };
    match wide {
        // Plain `UTF-16` leaves the byte order to the document.
        Some(wide) if is_wide(encoding) => Ok(wide),
        None if !is_wide(encoding) => Ok(encoding),
        // The declared encoding contradicts the bytes.
        _ => Err(XmlError::Encoding(encoding.name())),
    }
}

fn is_wide(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

/// The `charset` of a content type.
fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

/// The encoding in a document's declaration.
fn declaration(head: &str) -> Option<String> {
    let (declaration, _) = head.strip_prefix("<?xml")?.split_once("?>")?;
    let (_, rest) = declaration.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let (label, _) = rest.strip_prefix(quote)?.split_once(quote)?;
    Some(label.to_owned())
}
