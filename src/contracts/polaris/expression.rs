//! The expressions of a job's mappings. The contract defines columns with SQL; only expressions that say *where a value
//! is and how its time is written* are supported. Everything else would be computed and is refused: a column that
//! silently holds something else than the client asked for would be worse than no job.
//!
//! ```text
//! "field"   field                            the field, unchanged
//! TIME_PARSE("field")                        ISO 8601 text
//! MILLIS_TO_TIMESTAMP("field")               milliseconds since the epoch
//! MILLIS_TO_TIMESTAMP("field" * 1000)        seconds since the epoch
//! CAST("field" AS type)                      the field, if the column has that type
//! JSON_VALUE("field", '$.a.b' [RETURNING type])   a value inside the field
//! ```

/// The source of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnSource {
    /// The keys from the event down.
    pub(super) path: Vec<String>,
    pub(super) reading: Conversion,
}

/// How to read a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conversion {
    AsItIs,
    /// A time as text.
    Iso,
    /// A time as a number, in units of 10^-n seconds.
    Epoch(u8),
    /// A value of this SQL type, in lower case.
    Cast(String),
}

/// Why an expression is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the expression {0:?} is not supported: {1}. Supported are \"field\", TIME_PARSE(\"field\"), \
     MILLIS_TO_TIMESTAMP(\"field\"), MILLIS_TO_TIMESTAMP(\"field\" * 1000), CAST(\"field\" AS type) and \
     JSON_VALUE(\"field\", '$.path')"
)]
pub(super) struct Unsupported(String, &'static str);

#[derive(Debug, Clone, PartialEq, Eq)]
enum ExpressionToken {
    /// A name without quotes: a function, a keyword or a field.
    Word(String),
    /// A name in double quotes: a field.
    Name(String),
    /// Text in single quotes.
    Text(String),
    Number(String),
    Sign(char),
}

impl ColumnSource {
    pub(super) fn parse(expression: &str) -> Result<Self, Unsupported> {
        let wrong = |why| Unsupported(expression.to_owned(), why);
        let tokens = tokens(expression).map_err(wrong)?;
        source(&tokens).map_err(wrong)
    }

    /// The name of the top-level field.
    pub(super) fn field(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }
}

fn source(tokens: &[ExpressionToken]) -> Result<ColumnSource, &'static str> {
    use ExpressionToken::{Name, Number, Sign, Text, Word};
    let plain = |field: &String, reading| Ok(ColumnSource { path: vec![field.clone()], reading });
    match tokens {
        [] => Err("it is empty"),
        [Name(field) | Word(field)] => plain(field, Conversion::AsItIs),
        [Word(function), Sign('('), Name(field) | Word(field), rest @ .., Sign(')')] => {
            match (function.to_ascii_uppercase().as_str(), rest) {
                ("TIME_PARSE", []) => plain(field, Conversion::Iso),
                ("TIME_PARSE", _) => Err("TIME_PARSE only takes the field, whose text must be ISO 8601"),
                ("MILLIS_TO_TIMESTAMP", []) => plain(field, Conversion::Epoch(3)),
                ("MILLIS_TO_TIMESTAMP", [Sign('*'), Number(factor)]) if factor == "1000" => {
                    plain(field, Conversion::Epoch(0))
                }
                ("CAST", [Word(keyword), Word(sql_type)]) if keyword.eq_ignore_ascii_case("as") => {
                    plain(field, Conversion::Cast(sql_type.to_ascii_lowercase()))
                }
                ("JSON_VALUE", [Sign(','), Text(path), returning @ ..]) => {
                    let reading = match returning {
                        [] => Conversion::AsItIs,
                        [Word(keyword), Word(sql_type)] if keyword.eq_ignore_ascii_case("returning") => {
                            Conversion::Cast(sql_type.to_ascii_lowercase())
                        }
                        _ => return Err("after the path, JSON_VALUE only takes RETURNING and a type"),
                    };
                    let mut keys = vec![field.clone()];
                    keys.extend(json_path(path)?);
                    Ok(ColumnSource { path: keys, reading })
                }
                (
                    "SUM" | "COUNT" | "MIN" | "MAX" | "AVG" | "EARLIEST" | "LATEST" | "EARLIEST_BY"
                    | "LATEST_BY",
                    _,
                ) => Err("events are stored as received, not aggregated"),
                _ => Err("the function is not supported"),
            }
        }
        _ => Err("values are read from a field, not computed"),
    }
}

/// The keys of `$.a.b` or `$['a']["b"]`.
fn json_path(path: &str) -> Result<Vec<String>, &'static str> {
    const WRONG: &str = "a path must look like $.a.b, with keys only";
    let mut rest = path.trim().strip_prefix('$').ok_or(WRONG)?;
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (key, behind) = if let Some(behind) = rest.strip_prefix('.') {
            behind.split_at(behind.find(['.', '[']).unwrap_or(behind.len()))
        } else {
            let quoted = rest.strip_prefix('[').ok_or(WRONG)?;
            let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(WRONG)?;
            let (key, behind) = quoted.get(1..).and_then(|text| text.split_once(quote)).ok_or(WRONG)?;
            (key, behind.strip_prefix(']').ok_or(WRONG)?)
        };
        if key.is_empty() || key == "*" {
            return Err(WRONG);
        }
        keys.push(key.to_owned());
        rest = behind;
    }
    if keys.is_empty() { Err(WRONG) } else { Ok(keys) }
}

fn tokens(text: &str) -> Result<Vec<ExpressionToken>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, behind) = match first {
            '"' | '\'' => {
                let (name, behind) = quoted(rest, first)?;
                (if first == '"' { ExpressionToken::Name(name) } else { ExpressionToken::Text(name) }, behind)
            }
            c if c.is_ascii_digit() => {
                let (number, behind) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
                (ExpressionToken::Number(number.to_owned()), behind)
            }
            c if c.is_alphabetic() || c == '_' => {
                let (word, behind) = split_while(rest, |c| c.is_alphanumeric() || c == '_');
                (ExpressionToken::Word(word.to_owned()), behind)
            }
            c => (ExpressionToken::Sign(c), rest.strip_prefix(c).unwrap_or("")),
        };
        tokens.push(token);
        rest = behind.trim_start();
    }
    Ok(tokens)
}

fn split_while(text: &str, of_it: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of_it(c)).unwrap_or(text.len()))
}

/// A name or text in quotes, where a doubled quote stands for one.
fn quoted(text: &str, quote: char) -> Result<(String, &str), &'static str> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            name.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            name.push(quote);
        } else if name.is_empty() {
            return Err("the quotes are empty");
        } else {
            // What follows the closing quote, which is one byte.
            return Ok((name, text.get(at.saturating_add(1)..).unwrap_or("")));
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_values_stand_is_understood() {
        let check = |text: &str, path: &[&str], reading: Conversion| {
            let path = path.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(ColumnSource::parse(text), Ok(ColumnSource { path, reading }), "{text}");
        };
        check("\"unitsSold\"", &["unitsSold"], Conversion::AsItIs);
        check(" unitsSold ", &["unitsSold"], Conversion::AsItIs);
        check("\"a \"\"quoted\"\" name\"", &["a \"quoted\" name"], Conversion::AsItIs);
        check("TIME_PARSE(\"__time\")", &["__time"], Conversion::Iso);
        check("time_parse( ts )", &["ts"], Conversion::Iso);
        check("MILLIS_TO_TIMESTAMP(\"at\")", &["at"], Conversion::Epoch(3));
        check("MILLIS_TO_TIMESTAMP(\"at\" * 1000)", &["at"], Conversion::Epoch(0));
        check("CAST(\"n\" AS BIGINT)", &["n"], Conversion::Cast("bigint".to_owned()));
        check("JSON_VALUE(\"o\", '$.a.b')", &["o", "a", "b"], Conversion::AsItIs);
        check("JSON_VALUE(\"o\", '$[''a b''].c')", &["o", "a b", "c"], Conversion::AsItIs);
        check("JSON_VALUE(o, '$.a' RETURNING DOUBLE)", &["o", "a"], Conversion::Cast("double".to_owned()));
    }

    #[test]
    fn what_would_be_computed_is_refused() {
        for text in [
            "",
            "\"",
            "\"\"",
            "\"a\" + 1",
            "\"a\" || \"b\"",
            "'text'",
            "42",
            "SUM(\"n\")",
            "COUNT(*)",
            "UPPER(\"a\")",
            "TIME_PARSE(\"t\", 'yyyy')",
            "TIME_PARSE(UPPER(\"t\"))",
            "TIME_PARSE(\"t\"",
            "MILLIS_TO_TIMESTAMP(\"t\" * 60)",
            "JSON_VALUE(\"o\", '$')",
            "JSON_VALUE(\"o\", '$.a[0]')",
            "JSON_VALUE(\"o\", '$.*')",
            "JSON_VALUE(\"o\", 'a.b')",
            "JSON_VALUE(\"o\", \"a\")",
            "CASE WHEN \"a\" THEN 1 END",
        ] {
            let refused = ColumnSource::parse(text).unwrap_err().to_string();
            assert!(refused.contains("is not supported: "), "{refused}");
        }
    }
}
