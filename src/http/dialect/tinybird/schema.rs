//! A schema as Tinybird writes it: ``a Int16 `json:$.a`, ts DateTime64(3) `json:$.ts` DEFAULT now() CODEC(ZSTD(1))``.
//!
//! What was declared is kept in its own words, and given back in them.

use super::types;
use crate::schema::{Column, system};
use serde_json::Value;
use std::collections::HashSet;

/// Longest schema.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Longest name of a column.
const NAME_BYTES_MAX: usize = 255;

/// The parts of one column's declaration, as they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Declared<'a> {
    pub(super) kind: &'a str,
    /// `$.a.b`
    pub(super) json_path: Option<&'a str>,
    /// Behind the word DEFAULT.
    pub(super) default: Option<&'a str>,
    /// `CODEC(…)`
    pub(super) codec: Option<&'a str>,
}

/// Reads a whole schema.
pub(super) fn parse(text: &str, columns_max: usize) -> Result<Vec<Column>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a schema has at most {TEXT_BYTES_MAX} bytes"));
    }
    let text = without_comments(text);
    let mut columns: Vec<Column> = Vec::new();
    let mut names = HashSet::new();
    for part in split(&text, ',') {
        if columns.len() >= columns_max {
            return Err(format!("a schema has at most {columns_max} columns"));
        }
        let column = column(part.trim())?;
        if !names.insert(column.name.clone()) {
            return Err(format!("column '{}' is declared twice", column.name));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn column(text: &str) -> Result<Column, String> {
    if text.is_empty() {
        return Err("a column has a name and a type; there is an empty place".to_owned());
    }
    let (name, rest) = name(text)?;
    if system::is_reserved(&name) {
        return Err(format!("column '{name}': names that Forebay adds to every table cannot be declared"));
    }
    let of = |error: String| format!("column '{name}': {error}");
    let declared = declared(rest).map_err(of)?;
    let meaning = types::meaning(declared.kind).map_err(of)?;
    let path = declared.json_path.map(json_path).transpose().map_err(of)?;
    let default = declared.default.map(|text| default(text, &meaning.kind)).transpose().map_err(of)?;
    Ok(Column {
        nullable: meaning.nullable,
        default: default.flatten(),
        // The field of the column's own name is what is taken anyway.
        path: path.filter(|path| path.len() != 1 || path.first() != Some(&name)),
        declared: Some(rest.split_whitespace().collect::<Vec<_>>().join(" ")),
        epoch_digits: meaning.epoch_digits,
        ..Column::new(name, meaning.kind)
    })
}

/// The name at the start of a column, in backticks or plain, and what follows it.
fn name(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('`') {
        Some(quoted) => quoted.split_once('`').ok_or_else(|| format!("'{text}': a backtick is not closed"))?,
        None => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let quoted = text.starts_with('`');
    let fits = if quoted { !name.chars().any(char::is_control) } else { name.bytes().all(plain) };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !fits {
        return Err(format!("'{name}' cannot be the name of a column"));
    }
    Ok((name.to_owned(), rest.trim()))
}

/// What stands behind a column's name: type, path, default, codec, in any order after the type.
pub(super) fn declared(text: &str) -> Result<Declared<'_>, String> {
    let mut words = split(text, ' ').into_iter().filter(|word| !word.trim().is_empty());
    let mut declared = Declared { kind: words.next().ok_or("it has no type")?.trim(), ..Declared::default() };
    let mut words = words.peekable();
    let once = |known: Option<&str>, what: &str| match known {
        None => Ok(()),
        Some(_) => Err(format!("{what} is given twice")),
    };
    while let Some(word) = words.next() {
        let word = word.trim();
        if let Some(path) = word.strip_prefix("`json:").and_then(|path| path.strip_suffix('`')) {
            once(declared.json_path, "the JSON path")?;
            declared.json_path = Some(path);
        } else if starts_with_word(word, "DEFAULT") {
            once(declared.default, "DEFAULT")?;
            let value = words.next_if(|next| !is_clause(next));
            declared.default = Some(value.ok_or("DEFAULT has no value")?.trim());
            if let Some(next) = words.peek().filter(|next| !is_clause(next)) {
                return Err(format!("'{}' after the value of DEFAULT", next.trim()));
            }
        } else if starts_with_word(word, "CODEC") && word.ends_with(')') {
            once(declared.codec, "CODEC")?;
            declared.codec = Some(word);
        } else {
            return Err(format!("'{word}' is not supported; a column has a type, a JSON path, DEFAULT and CODEC(…)"));
        }
    }
    Ok(declared)
}

fn is_clause(word: &&str) -> bool {
    let word = word.trim();
    word.starts_with('`') || starts_with_word(word, "CODEC") || starts_with_word(word, "DEFAULT")
}

fn starts_with_word(text: &str, word: &str) -> bool {
    let (head, tail) = text.split_at_checked(word.len()).unwrap_or(("", ""));
    head.eq_ignore_ascii_case(word) && !tail.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Keys from the record down. Lists are taken whole, so `[:]` may stand at the end only.
pub(super) fn json_path(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("JSON path '{text}': it is like $.a.b, or $.a[:] for a list");
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
            return Err(format!("JSON path '{text}': [:] can stand at the end only, a list is taken whole"));
        }
        keys.push(key.to_owned());
        rest = after;
    }
    if keys.is_empty() { Err(wrong()) } else { Ok(keys) }
}

/// The path of a field, as the contract writes it.
pub(super) fn path_text(path: &[String]) -> String {
    let plain = |key: &&String| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    path.iter().fold("$".to_owned(), |text, key| match Some(key).filter(plain) {
        Some(key) => format!("{text}.{key}"),
        None => format!("{text}.['{key}']"),
    })
}

/// What DEFAULT stands for: a literal, or the time of receipt. `None` is null.
fn default(text: &str, kind: &ColumnType) -> Result<Option<Value>, String> {
    let text = inner_literal(text);
    if let Some(text) = string_literal(text) {
        let json = matches!(kind, ColumnType::Json | ColumnType::Map(_) | ColumnType::List(_) | ColumnType::Struct(_));
        let parsed = if json { serde_json::from_str(&text).ok() } else { None };
        return Ok(Some(parsed.unwrap_or(Value::String(text))));
    }
    let lower = text.to_ascii_lowercase();
    match (lower.as_str(), kind) {
        ("null", _) => return Ok(None),
        ("true", _) => return Ok(Some(Value::Bool(true))),
        ("false", _) => return Ok(Some(Value::Bool(false))),
        ("map()", ColumnType::Map(_)) => return Ok(Some(Value::Object(serde_json::Map::new()))),
        ("array()", ColumnType::List(_)) => return Ok(Some(Value::Array(Vec::new()))),
        _ => {}
    }
    let function = lower.split('(').next().unwrap_or_default();
    let of_time = matches!(function, "now" | "now64" | "today") && text.ends_with(')');
    if of_time && matches!(kind, ColumnType::Timestamp | ColumnType::Date) {
        return Ok(Some(Value::String(NOW.to_owned())));
    }
    // Lists in ClickHouse's notation differ from JSON in their quotes.
    let json = if text.starts_with('[') { text.replace('\'', "\"") } else { text.to_owned() };
    match serde_json::from_str(&json) {
        Ok(value @ (Value::Number(_) | Value::Array(_))) => Ok(Some(value)),
        _ => Err(format!("DEFAULT {text} is not supported: a literal is, and now() or today() for a time")),
    }
}

/// `toDate('2020-01-01')`, `CAST(1, 'UInt8')`: the column's own type converts a literal.
fn inner_literal(text: &str) -> &str {
    let text = text.trim();
    let Some((name, arguments)) = text.split_once('(').filter(|(name, _)| !name.is_empty()) else { return text };
    let lower = name.trim().to_ascii_lowercase();
    if !(lower.starts_with("to") || lower == "cast") || lower == "today" {
        return text;
    }
    let arguments = arguments.strip_suffix(')').unwrap_or(arguments);
    split(arguments, ',').first().map_or(text, |first| first.trim())
}

/// The text of `'it''s'`, with ClickHouse's escapes resolved.
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
            // A quote within is doubled.
            '\'' if characters.next() != Some('\'') => return None,
            other => value.push(other),
        }
    }
    Some(value)
}

/// Divides at `separator` (a space stands for all white space) where it is in no brackets and no quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
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
            parts.push(text.get(start..at).unwrap_or_default());
            start = at.saturating_add(character.len_utf8());
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// `--` starts a comment, up to the end of the line, where it is in no quotes.
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
        kept.push_str(line.get(..end).unwrap_or_default());
        kept.push('\n');
    }
    kept
}

/// One column, in the words in which it was declared if it was in this contract's.
pub(super) struct Shown {
    pub(super) kind: String,
    pub(super) nullable: bool,
    pub(super) json_path: Option<String>,
    /// With the word DEFAULT.
    pub(super) default: Option<String>,
    pub(super) codec: Option<String>,
}

impl Shown {
    pub(super) fn of(column: &Column) -> Self {
        let own = column.declared.as_deref().and_then(|text| {
            let declared = declared(text).ok()?;
            let meaning = types::meaning(declared.kind).ok()?;
            // Another contract may have declared it in words that look like these, or it was changed since.
            let same = meaning.kind == column.kind && meaning.nullable == column.nullable;
            same.then_some(declared)
        });
        match own {
            Some(declared) => Self {
                kind: types::without_nullable(declared.kind).to_owned(),
                nullable: types::without_nullable(declared.kind) != declared.kind,
                json_path: declared.json_path.map(str::to_owned),
                default: declared.default.map(|text| format!("DEFAULT {text}")),
                codec: declared.codec.map(str::to_owned),
            },
            None => {
                let own_name = std::slice::from_ref(&column.name);
                let kind = types::name(&column.kind, column.epoch_digits);
                Self {
                    nullable: column.nullable && !matches!(column.kind, ColumnType::List(_) | ColumnType::Map(_)),
                    kind,
                    json_path: Some(path_text(column.path.as_deref().unwrap_or(own_name))),
                    default: column.default.as_ref().map(default_text),
                    codec: None,
                }
            }
        }
    }

    /// As in a schema, behind the column's name.
    pub(super) fn declaration(&self) -> String {
        let kind = if self.nullable { format!("Nullable({})", self.kind) } else { self.kind.clone() };
        let path = self.json_path.as_ref().map(|path| format!("`json:{path}`"));
        let parts = [Some(kind), path, self.default.clone(), self.codec.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

fn default_text(default: &Value) -> String {
    match default {
        Value::String(text) if text == NOW => "DEFAULT now()".to_owned(),
        Value::String(text) => format!("DEFAULT '{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        other => format!("DEFAULT {other}"),
    }
}

/// ```a` Int16 `json:$.a`, …``
pub(super) fn text(columns: &[Column]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|column| format!("`{}` {}", column.name, Shown::of(column).declaration())).collect();
    columns.join(", ")
}
