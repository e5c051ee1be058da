//! The walk over an object's fields, fast when objects look alike.
//!
//! Records of one stream have the same keys in the same order, separated in the same way. So what stood between
//! one value and the next (`,"city":`) is remembered, and usually one comparison of 16 or 32 bytes takes the place
//! of reading a comma, a string and a colon.

use super::parser::{Parser, Str, Syntax};
use wide::u8x16;

/// What is remembered between two values is at most this long.
const GLUE_BYTES_MAX: usize = 32;
const NONE: u32 = u32::MAX;

/// What to do with the fields of an object.
pub trait Fields<'a> {
    /// The slot of a key, or `None` if it has none. Slots are small numbers of the implementer's choice.
    fn slot(&mut self, key: Str<'a>) -> Option<usize>;

    /// Takes the field's value, at whose first byte the parser stands.
    fn value(&mut self, field: Field<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax>;
}

/// Which field a value belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    Slot(usize),
    /// A key without a slot.
    Other(Str<'a>),
}

/// What objects looked like so far.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// By slot.
    nodes: Vec<Node>,
    first: Option<u32>,
}

#[derive(Debug, Clone)]
struct Node {
    glue: [u8; GLUE_BYTES_MAX],
    /// 0: not seen yet, or too long to remember.
    glue_bytes: u8,
    /// The slot that came after this one the last time.
    next: u32,
}

impl Node {
    const UNSEEN: Self = Self { glue: [0; GLUE_BYTES_MAX], glue_bytes: 0, next: NONE };

    #[inline(always)]
    fn matches(&self, rest: &[u8]) -> bool {
        let len = usize::from(self.glue_bytes);
        let (Some(rest), true) = (rest.first_chunk::<GLUE_BYTES_MAX>(), len > 0) else {
            // At the end of a body, or never seen: the plain way.
            return false;
        };
        let equal = |from: usize| {
            let mut ours = [0; 16];
            let mut theirs = [0; 16];
            ours.copy_from_slice(&self.glue[from..from + 16]);
            theirs.copy_from_slice(&rest[from..from + 16]);
            u8x16::new(ours).simd_eq(u8x16::new(theirs)).to_bitmask().trailing_ones() as usize
        };
        let low = equal(0);
        low >= len || (low == 16 && 16 + equal(16) >= len)
    }
}

impl Shape {
    /// Parses an object, from its `{` to behind its `}`.
    #[inline(always)]
    pub fn object<'a, F: Fields<'a>>(
        &mut self,
        parser: &mut Parser<'a>,
        fields: &mut F,
    ) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        parser.enter()?;
        let mut previous: Option<u32> = None;
        let mut expected = self.first.unwrap_or(NONE);
        loop {
            let node = self.nodes.get(expected as usize);
            let field = if let Some(node) = node.filter(|node| node.matches(parser.rest())) {
                parser.advance(usize::from(node.glue_bytes));
                previous = Some(expected);
                Field::Slot(expected as usize)
            } else {
                let from = parser.at();
                let key = if previous.is_none() && parser.peek() == b'{' {
                    parser.advance(1);
                    parser.key()?
                } else {
                    parser.next_key()?
                };
                let Some(key) = key else { break };
                match fields.slot(key) {
                    Some(slot) => {
                        previous = self.learn(previous, slot, &parser.bytes()[from..parser.at()]);
                        Field::Slot(slot)
                    }
                    None => Field::Other(key),
                }
            };
            fields.value(field, parser)?;
            if parser.peek() == b'}' {
                parser.advance(1);
                break;
            }
            expected = previous.and_then(|slot| self.nodes.get(slot as usize)).map_or(NONE, |node| node.next);
        }
        parser.leave();
        Ok(())
    }

    /// Remembers that `slot`, introduced by `glue`, came after `previous`.
    #[cold]
    fn learn(&mut self, previous: Option<u32>, slot: usize, glue: &[u8]) -> Option<u32> {
        let index = u32::try_from(slot).ok()?;
        if self.nodes.len() <= slot {
            self.nodes.resize(slot + 1, Node::UNSEEN);
        }
        let node = &mut self.nodes[slot];
        if glue.len() <= GLUE_BYTES_MAX {
            node.glue[..glue.len()].copy_from_slice(glue);
            node.glue_bytes = u8::try_from(glue.len()).unwrap_or(0);
        } else {
            node.glue_bytes = 0;
        }
        match previous {
            None => self.first = Some(index),
            Some(previous) => self.nodes[previous as usize].next = index,
        }
        Some(index)
    }
}
