//! Fields without a column, collected so that an operator can decide whether they get one.

use super::infer::Inferred;
use crate::clock::Micros;
use crate::formats::json::Parser;
use crate::schema::{ColumnType, system};

/// The maximum number of distinct fields tracked between two takes; further ones are rescued without a proposal.
const FIELDS_MAX: usize = 1000;
/// The maximum number of distinct example values per field.
pub const EXAMPLES_MAX: usize = 5;
const EXAMPLE_CHARS_MAX: usize = 200;

/// A field that arrived without having a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Keys from the record down.
    pub path: Vec<String>,
    /// The narrowest type that holds every value received.
    pub kind: ColumnType,
    /// Number of values received, not counting nulls.
    pub count: u64,
    /// When the first and the last of them were received.
    pub first_at: Micros,
    pub last_at: Micros,
    /// Source texts of the first distinct values.
    pub examples: Vec<String>,
}

impl Proposal {
    /// Merges a later proposal of the same field into this one.
    pub fn and(self, later: Self) -> Self {
        let kind = Inferred::from_type(&self.kind).or(Inferred::from_type(&later.kind)).into_type(usize::MAX);
        let mut examples = self.examples;
        for example in later.examples {
            add_example(&mut examples, example);
        }
        Self {
            path: self.path,
            kind: kind.unwrap_or(ColumnType::Json),
            count: self.count + later.count,
            first_at: self.first_at.min(later.first_at),
            last_at: self.last_at.max(later.last_at),
            examples,
        }
    }
}

fn add_example(examples: &mut Vec<String>, example: String) {
    if examples.len() < EXAMPLES_MAX && !examples.contains(&example) {
        examples.push(example);
    }
}

/// Everything received since the last take.
#[derive(Debug, Default)]
pub(super) struct Proposals(hashbrown::HashMap<Vec<Vec<u8>>, ProposedField>);

#[derive(Debug)]
struct ProposedField {
    inferred: Inferred,
    count: u64,
    first_at: Micros,
    last_at: Micros,
    examples: Vec<String>,
}

impl Proposals {
    /// Adds a value; the keys of its path are source text.
    #[cold]
    pub(super) fn add(&mut self, path: &[Vec<u8>], raw: &[u8], received_at: Micros) {
        // A column cannot have that name.
        if let [name] = path
            && std::str::from_utf8(name).is_ok_and(system::is_reserved)
        {
            return;
        }
        let value = Inferred::value(&mut Parser::document(raw), 0).unwrap_or(Inferred::Json);
        let example: String = String::from_utf8_lossy(raw).chars().take(EXAMPLE_CHARS_MAX).collect();
        if let Some(known) = self.0.get_mut(path) {
            known.inferred = std::mem::replace(&mut known.inferred, Inferred::Nothing).or(value);
            known.count += 1;
            known.first_at = known.first_at.min(received_at);
            known.last_at = known.last_at.max(received_at);
            add_example(&mut known.examples, example);
        } else if self.0.len() < FIELDS_MAX {
            let (first_at, last_at, examples) = (received_at, received_at, vec![example]);
            self.0.insert(
                path.to_vec(),
                ProposedField { inferred: value, count: 1, first_at, last_at, examples },
            );
        }
    }

    pub(super) fn take(&mut self) -> Vec<Proposal> {
        let proposal = |(path, field): (Vec<Vec<u8>>, ProposedField)| Proposal {
            path: path.iter().map(|key| unquote(key)).collect(),
            // Empty lists and objects alone determine no type.
            kind: field.inferred.into_type(usize::MAX).unwrap_or(ColumnType::Json),
            count: field.count,
            first_at: field.first_at,
            last_at: field.last_at,
            examples: field.examples,
        };
        self.0.drain().map(proposal).collect()
    }
}

/// Decodes the source text of a key.
fn unquote(key: &[u8]) -> String {
    let quoted = [b"\"", key, b"\""].concat();
    let text = serde_json::from_slice(&quoted);
    text.unwrap_or_else(|_| String::from_utf8_lossy(key).into_owned())
}
