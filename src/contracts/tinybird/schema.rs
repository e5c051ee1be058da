//! Tinybird's schema notation: ``a Int16 `json:$.a`, ts DateTime64(3) `json:$.ts` DEFAULT now() CODEC(ZSTD(1))``.
//!
//! Declarations are kept verbatim and returned verbatim: the type with the column, the rest with the stream.

#[cfg(test)]
mod tests;

use super::types;
use crate::schema::{Column, ColumnType, RECEIPT_TIME};
use serde_json::Value;

/// The longest schema, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The longest column name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A column, and the clauses after its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declaration {
    pub(super) column: Column,
    pub(super) clauses: String,
}

/// The clauses after a column's type, verbatim.
#[derive(Debug, Clone, Default, PartialEq)]
struct Clauses<'a> {
    /// `$.a.b`
    json_path: Option<&'a str>,
    /// The value after DEFAULT.
    default: Option<&'a str>,
    /// `CODEC(…)`
    codec: Option<&'a str>,
}

/// Parses a whole schema. Does not check whether its columns form a valid table.
pub(super) fn parse(text: &str, columns_max: usize) -> Result<Vec<Declaration>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a schema has at most {TEXT_BYTES_MAX} bytes"));
    }
    let text = without_comments(text);
    let parts = split(&text, ',');
    if parts.len() > columns_max {
        return Err(format!("a schema has at most {columns_max} columns"));
    }
    parts.into_iter().map(|part| declaration(part.trim())).collect()
}

fn declaration(text: &str) -> Result<Declaration, String> {
    if text.is_empty() {
        return Err("a column needs a name and a type, but one column is empty".to_owned());
    }
    let (name, rest) = name(text)?;
    let of = |error: String| format!("column '{name}': {error}");
    let mut words = words(rest);
    let kind = words.next().ok_or_else(|| of("it has no type".to_owned()))?;
    let meaning = types::meaning(kind).map_err(of)?;
    let clauses = clauses(words).map_err(of)?;
    let path = clauses.json_path.map(json_path).transpose().map_err(of)?;
    let default = clauses.default.map(|text| default(text, &meaning.kind)).transpose().map_err(of)?;
    let column = Column {
        nullable: meaning.nullable,
        default: default.flatten(),
        // The field with the column's own name is the default.
        path: path.filter(|path| path.len() != 1 || path.first() != Some(&name)),
        declared: Some(kind.to_owned()),
        epoch_digits: meaning.epoch_digits,
        ..Column::new(name, meaning.kind)
    };
    let clauses = rest.strip_prefix(kind).expect("a trimmed text begins with its first word");
    Ok(Declaration { column, clauses: clauses.split_whitespace().collect::<Vec<_>>().join(" ") })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    split(text, ' ').into_iter().map(str::trim).filter(|word| !word.is_empty())
}

/// Splits off the name of a column, in backticks or plain.
fn name(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('`') {
        Some(quoted) => {
            quoted.split_once('`').ok_or_else(|| format!("'{text}': a backtick is not closed"))?
        }
        None => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let quoted = text.starts_with('`');
    let fits = if quoted { !name.chars().any(char::is_control) } else { name.bytes().all(plain) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !fits {
        return Err(format!("'{name}' is not a valid column name"));
    }
    Ok((name.to_owned(), rest.trim()))
}

impl Clauses<'_> {
    /// Returns whether the column still matches its declaration.
    fn is_of(&self, column: &Column) -> bool {
        let path = self.json_path.map_or_else(|| Ok(vec![column.name.clone()]), json_path);
        let value = self.default.map(|text| default(text, &column.kind)).transpose();
        path.as_deref() == Ok(column.keys()) && value.map(Option::flatten).as_ref() == Ok(&column.default)
    }
}

/// Path, default and codec, in any order.
fn clauses<'a>(words: impl Iterator<Item = &'a str>) -> Result<Clauses<'a>, String> {
    let mut clauses = Clauses::default();
    let mut words = words.peekable();
    let once = |known: Option<&str>, what: &str| match known {
        None => Ok(()),
        Some(_) => Err(format!("{what} is given twice")),
    };
    while let Some(word) = words.next() {
        if let Some(path) = word.strip_prefix("`json:").and_then(|path| path.strip_suffix('`')) {
            once(clauses.json_path, "the JSON path")?;
            clauses.json_path = Some(path);
        } else if word.eq_ignore_ascii_case("DEFAULT") {
            once(clauses.default, "DEFAULT")?;
            clauses.default = Some(words.next_if(|next| !is_clause(next)).ok_or("DEFAULT has no value")?);
            if let Some(next) = words.peek().filter(|next| !is_clause(next)) {
                return Err(format!("unexpected '{next}' after the value of DEFAULT"));
            }
        } else if starts_with_word(word, "CODEC") && word.ends_with(')') {
            once(clauses.codec, "CODEC")?;
            clauses.codec = Some(word);
        } else {
            return Err(format!(
                "'{word}' is not supported; a column can have a type, a JSON path, DEFAULT and CODEC(…)"
            ));
        }
    }
    Ok(clauses)
}

fn is_clause(word: &&str) -> bool {
    word.starts_with('`') || starts_with_word(word, "CODEC") || starts_with_word(word, "DEFAULT")
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let (head, tail) = text.split_at_checked(word.len()).unwrap_or(("", ""));
    head.eq_ignore_ascii_case(word) && !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The keys from the record down. Lists are taken whole, so `[:]` is only valid at the end.
pub(super) fn json_path(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("JSON path '{text}' is invalid; expected $.a.b, or $.a[:] for a list");
    let mut rest = text.strip_prefix('$').ok_or_else(wrong)?;
    rest = rest.strip_suffix("[:]").unwrap_or(rest);
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let dotted = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(quoted) = dotted.strip_prefix("['").or_else(|| dotted.strip_prefix("[\"")) {
            let (key, after) = quoted.split_once(['\'', '"']).ok_or_else(wrong)?;
            keys.push(key.to_owned());
            rest = after.strip_prefix(']').ok_or_else(wrong)?;
            continue;
        }
        if dotted.len() == rest.len() {
            return Err(wrong());
        }
        let end = dotted.find(['.', '[']).unwrap_or(dotted.len());
        let (key, after) = dotted.split_at(end);
        if key.is_empty() {
            return Err(wrong());
        }
        if after.starts_with("[:]") {
            return Err(format!("JSON path '{text}': [:] is only valid at the end, a list is taken whole"));
        }
        keys.push(key.to_owned());
        rest = after;
    }
    if keys.is_empty() { Err(wrong()) } else { Ok(keys) }
}

/// The path of a field in the contract's notation.
pub(super) fn path_text(path: &[String]) -> String {
    let plain = |key: &&String| {
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    path.iter().fold("$".to_owned(), |text, key| match Some(key).filter(plain) {
        Some(key) => format!("{text}.{key}"),
        None => format!("{text}.['{key}']"),
    })
}

/// The value of DEFAULT: a literal, or the time of receipt. `None` is null.
fn default(text: &str, kind: &ColumnType) -> Result<Option<Value>, String> {
    let text = inner_literal(text);
    if let Some(text) = string_literal(text) {
        let is_text = matches!(kind, ColumnType::String | ColumnType::FixedString(_) | ColumnType::Uuid);
        let parsed = if is_text { None } else { serde_json::from_str(&text).ok() };
        return Ok(Some(parsed.unwrap_or(Value::String(text))));
    }
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "null" => return Ok(None),
        "true" => return Ok(Some(Value::Bool(true))),
        "false" => return Ok(Some(Value::Bool(false))),
        "map()" if matches!(kind, ColumnType::Map(_)) => {
            return Ok(Some(Value::Object(serde_json::Map::new())));
        }
        "array()" if matches!(kind, ColumnType::List(_)) => return Ok(Some(Value::Array(Vec::new()))),
        _ => {}
    }
    let function = lower.split_once('(').map_or(&*lower, |(function, _)| function);
    let of_time = matches!(function, "now" | "now64" | "today") && text.ends_with(')');
    if of_time && matches!(kind, ColumnType::Timestamp | ColumnType::Date) {
        return Ok(Some(Value::String(RECEIPT_TIME.to_owned())));
    }
    // Lists in this notation differ from JSON only in their quotes.
    let json = if text.starts_with('[') { text.replace('\'', "\"") } else { text.to_owned() };
    match serde_json::from_str(&json) {
        Ok(value @ (Value::Number(_) | Value::Array(_))) => Ok(Some(value)),
        _ => Err(format!("DEFAULT {text} is not supported: use a literal, or now() or today() for a time")),
    }
}

/// `toDate('2020-01-01')`, `CAST(1, 'UInt8')`: the column's own type converts a literal.
fn inner_literal(text: &str) -> &str {
    let text = text.trim();
    let Some((name, arguments)) = text.split_once('(').filter(|(name, _)| !name.is_empty()) else {
        return text;
    };
    let lower = name.trim().to_ascii_lowercase();
    if !(lower.starts_with("to") || lower == "cast") || lower == "today" {
        return text;
    }
    let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
    split(arguments, ',').first().map_or(text, |first| first.trim())
}

/// The text of `'it''s'`, with its escapes resolved.
fn string_literal(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut value = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                '0' => value.push('\0'),
                other => value.push(other),
            },
            // A quote inside the text is doubled.
            '\'' if characters.next() != Some('\'') => return None,
            other => value.push(other),
        }
    }
    Some(value)
}

/// Splits at `separator` (a space stands for any white space) outside brackets and quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    // `start` and the ends of parts are between characters, where `char_indices` found them.
    let (mut start, mut depth) = (0, 0_u32);
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if let Some(open) = quote {
            if escaped {
                escaped = false;
            } else if character == '\\' && open == '\'' {
                escaped = true;
            } else if character == open {
                quote = None;
            }
            continue;
        }
        match character {
            '\'' | '`' => quote = Some(character),
            '(' | '[' | '{' => depth = depth.saturating_add(1),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (character == separator || separator == ' ' && character.is_whitespace()) {
            parts.push(text.get(start..at).unwrap_or(""));
            start = at.saturating_add(character.len_utf8());
        }
    }
    parts.push(text.get(start..).unwrap_or(""));
    parts
}

/// Removes comments: `--` outside quotes, up to the end of the line.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quote = None;
        let mut end = line.len();
        for (at, character) in line.char_indices() {
            match quote {
                Some(open) if character == open => quote = None,
                None if matches!(character, '\'' | '`') => quote = Some(character),
                None if character == '-' && line.get(at..).is_some_and(|rest| rest.starts_with("--")) => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        kept.push_str(line.get(..end).unwrap_or(line));
        kept.push('\n');
    }
    kept
}

/// A column to show, verbatim if it was declared in this contract's notation.
pub(super) struct Shown {
    pub(super) kind: String,
    pub(super) nullable: bool,
    pub(super) json_path: Option<String>,
    /// Includes the word DEFAULT.
    pub(super) default: Option<String>,
    pub(super) codec: Option<String>,
}

impl Shown {
    /// `text` holds the clauses of its declaration.
    pub(super) fn from_column(column: &Column, text: Option<&str>) -> Self {
        // Another contract may have declared it in a similar notation, or it was changed since.
        let declared = column.declared.as_deref().filter(|kind| {
            types::meaning(kind)
                .is_ok_and(|meaning| meaning.kind == column.kind && meaning.nullable == column.nullable)
        });
        let (kind, nullable) = match declared {
            Some(kind) => (types::without_nullable(kind), types::without_nullable(kind) != kind),
            None => ("", column.nullable && !matches!(column.kind, ColumnType::List(_) | ColumnType::Map(_))),
        };
        let kind = match kind {
            "" => types::name(&column.kind, column.epoch_digits),
            kind => kind.to_owned(),
        };
        let said = text.filter(|_| declared.is_some()).and_then(|text| clauses(words(text)).ok());
        let said = said.filter(|said| said.is_of(column));
        let Some(said) = said else {
            return Self {
                kind,
                nullable,
                json_path: Some(path_text(column.keys())),
                default: column.default.as_ref().map(default_text),
                codec: None,
            };
        };
        Self {
            kind,
            nullable,
            json_path: said.json_path.map(str::to_owned),
            default: said.default.map(|text| format!("DEFAULT {text}")),
            codec: said.codec.map(str::to_owned),
        }
    }

    /// The declaration after the column's name, as in a schema.
    pub(super) fn declaration(&self) -> String {
        let kind = if self.nullable { format!("Nullable({})", self.kind) } else { self.kind.clone() };
        let path = self.json_path.as_ref().map(|path| format!("`json:{path}`"));
        let parts = [Some(kind), path, self.default.clone(), self.codec.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

fn default_text(default: &Value) -> String {
    match default {
        Value::String(text) if text == RECEIPT_TIME => "DEFAULT now()".to_owned(),
        Value::String(text) => format!("DEFAULT '{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        other => format!("DEFAULT {other}"),
    }
}
