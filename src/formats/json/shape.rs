//! The walk over an object's fields, fast when objects look alike.
//!
//! Records of one stream have the same keys in the same order, with the same separators. So the bytes between one
//! value and the next (`,"city":`) are remembered, and usually one comparison of 16 or 32 bytes replaces parsing a
//! comma, a string and a colon.

use super::parser::{Parser, Str, Syntax};
use wide::u8x16;

/// The maximum length of the remembered bytes between two values.
const GLUE_BYTES_MAX: usize = 32;
const NONE: u32 = u32::MAX;

/// What to do with the fields of an object.
pub trait FieldVisitor<'a> {
    /// The slot of a key, or `None` if it has none. Slots are small numbers chosen by the implementer.
    fn slot(&mut self, key: Str<'a>) -> Option<usize>;

    /// Takes the field's value; the parser is at its first byte.
    fn value(&mut self, field: FieldKey<'a>, parser: &mut Parser<'a>) -> Result<(), Syntax>;
}

/// The field that a value belongs to.
#[derive(Debug, Clone, Copy)]
pub enum FieldKey<'a> {
    Slot(usize),
    /// A key without a slot.
    Other(Str<'a>),
}

/// What the objects seen so far look like.
#[derive(Debug, Clone)]
pub struct Shape {
    /// By slot.
    nodes: Vec<ShapeNode>,
    /// The first slot of the previous object.
    first: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { nodes: Vec::new(), first: NONE }
    }
}

#[derive(Debug, Clone)]
struct ShapeNode {
    glue: [u8; GLUE_BYTES_MAX],
    /// 0: not seen yet, or not to be remembered.
    glue_bytes: u8,
    /// The slot that followed this one in the previous object.
    next: u32,
}

impl ShapeNode {
    const UNSEEN: Self = Self { glue: [0; GLUE_BYTES_MAX], glue_bytes: 0, next: NONE };

    /// Whether the bytes at the parser are this node's glue.
    #[inline(always)]
    fn matches(&self, rest: &[u8]) -> bool {
        let len = usize::from(self.glue_bytes);
        // At the end of a body, or never seen: the slow path.
        let Some(rest) = rest.first_chunk::<GLUE_BYTES_MAX>() else { return false };
        let low = equal_bytes(self.glue.first_chunk(), rest.first_chunk());
        // A node that was never seen has no glue, so nothing matches it.
        if len <= 16 {
            return low >= len && len > 0;
        }
        low == 16 && 16 + equal_bytes(self.glue.last_chunk(), rest.last_chunk()) >= len
    }
}

/// The number of leading bytes that are equal.
#[inline(always)]
fn equal_bytes(ours: Option<&[u8; 16]>, theirs: Option<&[u8; 16]>) -> usize {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return 0 };
    (!u8x16::new(*ours).simd_eq(u8x16::new(*theirs)).to_bitmask() | 1 << 16).trailing_zeros() as usize
}

impl Shape {
    /// Parses an object, from its `{` to after its `}`.
    #[inline(always)]
    pub fn object<'a, F: FieldVisitor<'a>>(
        &mut self,
        parser: &mut Parser<'a>,
        fields: &mut F,
    ) -> Result<(), Syntax> {
        if parser.peek() != b'{' {
            return Err(Syntax::ExpectedObject);
        }
        parser.enter()?;
        let mut previous = NONE;
        let mut expected = self.first;
        let start = parser.at();
        loop {
            // As long as the object looks like the previous one.
            while let Some(node) = self.nodes.get(expected as usize)
                && node.matches(parser.rest())
            {
                parser.advance(usize::from(node.glue_bytes));
                // There may be more white space than in the previous object.
                parser.skip_space();
                let next = node.next;
                fields.value(FieldKey::Slot(expected as usize), parser)?;
                if parser.peek() == b'}' {
                    parser.advance(1);
                    parser.leave();
                    return Ok(());
                }
                previous = expected;
                expected = next;
            }
            let first = parser.at() == start;
            if !self.step(parser, fields, first, &mut previous)? {
                parser.leave();
                return Ok(());
            }
            expected = self.nodes.get(previous as usize).map_or(NONE, |node| node.next);
        }
    }

    /// Parses one field on the slow path and remembers it. Returns whether there was one.
    #[inline(never)]
    fn step<'a, F: FieldVisitor<'a>>(
        &mut self,
        parser: &mut Parser<'a>,
        fields: &mut F,
        first: bool,
        previous: &mut u32,
    ) -> Result<bool, Syntax> {
        let from = parser.at();
        let key = if first { parser.first_key()? } else { parser.next_key()? };
        let Some(key) = key else { return Ok(false) };
        let field = match fields.slot(key) {
            Some(slot) => {
                self.learn(previous, slot, &parser.bytes()[from..parser.at()]);
                FieldKey::Slot(slot)
            }
            None => FieldKey::Other(key),
        };
        fields.value(field, parser)?;
        Ok(true)
    }

    /// Remembers that `slot`, introduced by `glue`, follows `previous`.
    fn learn(&mut self, previous: &mut u32, slot: usize, glue: &[u8]) {
        let Ok(index) = u32::try_from(slot) else { return };
        if self.nodes.len() <= slot {
            self.nodes.resize(slot + 1, ShapeNode::UNSEEN);
        }
        let node = &mut self.nodes[slot];
        // A line feed is white space in a document but ends the record in NDJSON, so it is checked each time.
        if glue.len() <= GLUE_BYTES_MAX && !glue.contains(&b'\n') {
            node.glue[..glue.len()].copy_from_slice(glue);
            node.glue_bytes = u8::try_from(glue.len()).unwrap_or(0);
        } else {
            node.glue_bytes = 0;
        }
        match self.nodes.get_mut(*previous as usize) {
            None => self.first = index,
            Some(previous) => previous.next = index,
        }
        *previous = index;
    }
}
