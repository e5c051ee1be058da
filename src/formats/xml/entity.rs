//! Entities: the five predefined ones, character references, and text that a document declares itself. Nothing is
//! fetched, and their expansion is bounded, in bytes and in steps.

use super::XmlError;
use std::collections::HashMap;

/// The limit on the expansion of all entities of a document; each reference counts one more.
pub(super) const EXPANSION_MAX: usize = 64 * 1024;
/// The maximum nesting depth of entities.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Entities {
    declared: HashMap<String, String>,
    /// Bytes and steps used so far.
    expanded: usize,
}

impl Entities {
    /// The entities of a document type, which is the text between `<!DOCTYPE` and its `>`.
    pub(super) fn declared(doctype: &str) -> Result<Self, XmlError> {
        let mut declared = HashMap::new();
        let mut rest = doctype;
        while let Some((_, behind)) = rest.split_once("<!ENTITY") {
            let (name, behind) = word(behind).ok_or(XmlError::Doctype)?;
            if name == "%" {
                let (name, _) = word(behind).ok_or(XmlError::Doctype)?;
                return Err(XmlError::ExternalEntity(name.to_owned()));
            }
            let behind = behind.trim_start();
            let quote = behind.chars().next().ok_or(XmlError::Doctype)?;
            if !matches!(quote, '"' | '\'') {
                return Err(XmlError::ExternalEntity(name.to_owned()));
            }
            let (value, behind) =
                behind.get(1..).and_then(|value| value.split_once(quote)).ok_or(XmlError::Doctype)?;
            // The first declaration wins.
            declared.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            rest = behind;
        }
        Ok(Self { declared, expanded: 0 })
    }

    /// Appends the expansion of `&name;`.
    pub(super) fn expand(&mut self, name: &str, text: &mut String) -> Result<(), XmlError> {
        self.expand_within(name, text, 0)
    }

    /// Appends the value of an attribute.
    pub(super) fn unescape(&mut self, raw: &str, text: &mut String) -> Result<(), XmlError> {
        self.unescape_within(raw, text, 0)
    }

    fn unescape_within(&mut self, raw: &str, text: &mut String, depth: usize) -> Result<(), XmlError> {
        let mut rest = raw;
        while let Some((before, behind)) = rest.split_once('&') {
            push(before, text, depth);
            let (name, behind) =
                behind.split_once(';').ok_or_else(|| XmlError::UnknownEntity(head(behind).to_owned()))?;
            self.expand_within(name, text, depth)?;
            rest = behind;
        }
        push(rest, text, depth);
        Ok(())
    }

    fn expand_within(&mut self, name: &str, text: &mut String, depth: usize) -> Result<(), XmlError> {
        let unknown = || XmlError::UnknownEntity(head(name).to_owned());
        if let Some(number) = name.strip_prefix('#') {
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            let character = code.ok().and_then(char::from_u32).filter(|c| is_character(*c));
            text.push(character.ok_or_else(unknown)?);
            return Ok(());
        }
        let character = match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let value = self.declared.get(name).cloned().ok_or_else(unknown)?;
                let expansion = || XmlError::Expansion(head(name).to_owned());
                self.expanded = self.expanded.saturating_add(value.len()).saturating_add(1);
                if self.expanded > EXPANSION_MAX || depth >= DEPTH_MAX {
                    return Err(expansion());
                }
                if value.contains('<') {
                    return Err(XmlError::MarkupEntity(head(name).to_owned()));
                }
                return self.unescape_within(&value, text, depth.saturating_add(1));
            }
        };
        text.push(character);
        Ok(())
    }
}

/// In an attribute, white space becomes spaces.
fn push(piece: &str, text: &mut String, depth: usize) {
    if depth == 0 && piece.bytes().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')) {
        text.push_str(&piece.replace("\r\n", " ").replace(['\t', '\n', '\r'], " "));
    } else {
        text.push_str(piece);
    }
}

/// The part of a name that is worth showing.
fn head(name: &str) -> &str {
    let end = name.char_indices().nth(40).map_or(name.len(), |(at, _)| at);
    name.get(..end).unwrap_or(name)
}

/// The next word and the text after it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| c.is_ascii_whitespace())?;
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest))
}

/// Whether XML 1.0 allows it.
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
