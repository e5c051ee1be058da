//! Paths into a body: `foo1.foo2[1][2].xyz`.

use crate::formats::json::{JsonKind, Parser};

/// A path into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a>(Vec<Step<'a>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// Splits a text at `.` and `[`; `N]` is an index, and empty parts are ignored.
    pub fn parse(text: &'a str) -> Self {
        let parts = text.split(['.', '[']).filter(|part| !part.is_empty());
        Self(parts.map(Step::parse).collect())
    }

    /// Whether it denotes the whole document.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The source text at this path. `json` must be valid. The last value of a repeated key wins.
    pub fn find<'j>(&self, json: &'j str) -> Option<&'j str> {
        let mut found = json.trim_matches([' ', '\t', '\r', '\n']);
        for step in &self.0 {
            found = step.find(found)?;
        }
        Some(found)
    }
}

impl<'a> Step<'a> {
    fn parse(part: &'a str) -> Self {
        let number = part.strip_suffix(']').filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|number| number.parse().ok()).map_or(Self::Key(part), Self::Index)
    }

    fn find<'j>(&self, json: &'j str) -> Option<&'j str> {
        let mut parser = Parser::document(json.as_bytes());
        match (self, parser.kind().ok()?) {
            (Self::Key(wanted), JsonKind::Object) => {
                let mut found = None;
                let mut next = parser.first_key().ok()?;
                while let Some(key) = next {
                    let is_wanted = *key.text() == *wanted.as_bytes();
                    let start = parser.at();
                    parser.skip_value().ok()?;
                    if is_wanted {
                        found = json.get(start..parser.at());
                    }
                    next = parser.next_key().ok()?;
                }
                found
            }
            (Self::Index(wanted), JsonKind::Array) => {
                let mut more = parser.first_element();
                for _ in 0..*wanted {
                    if !more {
                        return None;
                    }
                    parser.skip_value().ok()?;
                    more = parser.next_element().ok()?;
                }
                let start = parser.at();
                if more {
                    parser.skip_value().ok()?;
                }
                json.get(start..parser.at()).filter(|_| more)
            }
            _ => None,
        }
    }
}
