//! XML documents as records: each child of the root element becomes one JSON object, and everything after that is as if
//! JSON had come. Pure: bytes in, NDJSON or the reason why not out. The compactor and those who show records share it.
//!
//! As Spark's XML reader names them: an element is a field of its local name, an attribute one with `_` before its name,
//! and text beside attributes or elements is `_VALUE`. What comes more than once is an array. A document whose author is
//! not to be trusted costs no more than its length: nothing is fetched, and depth, attributes, elements of a record and
//! what entities expand to are bounded.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod encoding;
mod entity;
mod fields;
mod known;
mod record;
#[cfg(test)]
mod tests;
mod write;

pub use known::{Known, Scalar};

use entity::Entities;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use record::Record;
use write::Writer;

/// Elements within one another: as JSON, with an array around each, they are still less deep than JSON may be.
pub const DEPTH_MAX: usize = 62;
/// Elements of one record.
const ELEMENTS_MAX: usize = 100_000;
/// Attributes of one element.
const ATTRIBUTES_MAX: usize = 256;

/// Why a document has no records that could be told apart. Offsets are of bytes, in the document as UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    #[error("the encoding {0:?} is not known")]
    UnknownEncoding(String),
    #[error("the document is in UTF-16 and does not say so")]
    Undeclared,
    #[error("the document is not in {0}, as it says or has to be without a declaration")]
    Encoding(&'static str),
    #[error("no XML document: {message}, at byte {at}")]
    Syntax { message: String, at: u64 },
    #[error("the document ends within <{0}>")]
    Unclosed(String),
    #[error("the document has no root element")]
    NoRoot,
    #[error("the root element has no elements, which would be the records")]
    NoRecords,
    #[error("text outside of the records, at byte {0}")]
    Text(u64),
    #[error("elements are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("a record has more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    #[error("the element <{0}> has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes(String),
    #[error("the entity {0:?} is external or a parameter entity; neither is taken")]
    ExternalEntity(String),
    #[error("the entity {0:?} is not declared")]
    UnknownEntity(String),
    #[error("the entity {0:?} holds markup, which is not taken")]
    MarkupEntity(String),
    #[error("the entity {0:?} is within itself, or entities expand to more than {max} bytes", max = entity::EXPANSION_MAX)]
    Expansion(String),
    #[error("the declaration of the document type cannot be read")]
    Doctype,
}

/// What is known of a document besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// Of the request: its `charset` goes before the document's own declaration.
    pub content_type: Option<&'a str>,
    /// The local name of the elements that are records, wherever they are. `None`: the children of the root.
    pub row_tag: Option<&'a str>,
}

/// Records as NDJSON. What `known` says of a field decides how its text is written; what it does not know is a string.
///
/// # Errors
/// For a document that is not well-formed, as a whole.
pub fn transcribe(body: &[u8], about: About<'_>, known: &Known) -> Result<Vec<u8>, XmlError> {
    let text = encoding::decode(body, about.content_type)?;
    let mut writer = Writer::new(known, text.len());
    walk(&text, about.row_tag, &mut writer)?;
    if writer.learned_late() {
        // A field that came once in an earlier record came twice in a later one: all of them get an array.
        writer.again();
        walk(&text, about.row_tag, &mut writer)?;
    }
    if writer.records() == 0 { Err(XmlError::NoRecords) } else { Ok(writer.into_lines()) }
}

/// Hands every record of a document to the writer.
fn walk(text: &str, row_tag: Option<&str>, writer: &mut Writer<'_>) -> Result<(), XmlError> {
    let mut walk = Walk {
        reader: Reader::from_str(text),
        entities: Entities::default(),
        record: Record::default(),
        open: Vec::new(),
        expanded: String::new(),
        has_root: false,
        row_tag,
    };
    walk.run(writer)
}

struct Walk<'a, 'r> {
    reader: Reader<&'a [u8]>,
    entities: Entities,
    /// The record under way, if it has an element.
    record: Record,
    /// Elements around records that are open.
    open: Vec<String>,
    /// What an entity stands for, while it becomes text.
    expanded: String,
    has_root: bool,
    row_tag: Option<&'r str>,
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, writer: &mut Writer<'_>) -> Result<(), XmlError> {
        loop {
            let event = self.reader.read_event().map_err(|error| self.syntax(&error.to_string()))?;
            match event {
                Event::Start(start) => self.start(&start, writer, false)?,
                Event::Empty(start) => self.start(&start, writer, true)?,
                Event::End(_) => self.end(writer),
                Event::Text(text) => {
                    let text = text.xml10_content().map_err(|error| self.syntax(&error.to_string()))?;
                    self.text(&text, false)?;
                }
                Event::CData(text) => {
                    let text = text.xml10_content().map_err(|error| self.syntax(&error.to_string()))?;
                    self.text(&text, true)?;
                }
                Event::GeneralRef(name) => {
                    let name = name.decode().map_err(|error| self.syntax(&error.to_string()))?;
                    let mut text = std::mem::take(&mut self.expanded);
                    self.entities.expand(&name, &mut text)?;
                    self.text(&text, true)?;
                    text.clear();
                    self.expanded = text;
                }
                Event::DocType(doctype) => {
                    if self.has_root {
                        return Err(self.syntax("a document type behind the root element"));
                    }
                    let doctype = doctype.decode().map_err(|error| self.syntax(&error.to_string()))?;
                    self.entities = Entities::declared(&doctype)?;
                }
                // A processing instruction is for who wrote the document.
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => return self.finish(),
            }
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'a>,
        writer: &mut Writer<'_>,
        is_empty: bool,
    ) -> Result<(), XmlError> {
        let name = std::str::from_utf8(start.name().into_inner()).map_err(|_| XmlError::Encoding("UTF-8"))?;
        if name.is_empty() {
            return Err(self.syntax("an element without a name"));
        }
        if self.record.is_empty() && self.open.is_empty() && std::mem::replace(&mut self.has_root, true) {
            return Err(self.syntax("a second root element"));
        }
        if self.open.len().saturating_add(self.record.depth()) >= DEPTH_MAX {
            return Err(XmlError::TooDeep);
        }
        let is_record = match self.row_tag {
            None => self.open.len() == 1,
            Some(tag) => local(name) == tag,
        };
        if self.record.is_empty() && !is_record {
            if !is_empty {
                self.open.push(name.to_owned());
            }
            return Ok(());
        }
        if self.record.elements() >= ELEMENTS_MAX {
            return Err(XmlError::TooManyElements);
        }
        self.record.open(name);
        self.attributes(name, start)?;
        if is_empty {
            self.end(writer);
        }
        Ok(())
    }

    fn attributes(&mut self, element: &str, start: &BytesStart<'a>) -> Result<(), XmlError> {
        for (at, attribute) in start.attributes().enumerate() {
            if at >= ATTRIBUTES_MAX {
                return Err(XmlError::TooManyAttributes(element.to_owned()));
            }
            let attribute = attribute.map_err(|error| self.syntax(&error.to_string()))?;
            let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| XmlError::Encoding("UTF-8"));
            let name = utf8(attribute.key.into_inner())?;
            if name == "xmlns" || name.starts_with("xmlns:") {
                continue;
            }
            self.entities.unescape(utf8(&attribute.value)?, self.record.attribute(name))?;
        }
        Ok(())
    }

    /// The reader has seen that names match.
    fn end(&mut self, writer: &mut Writer<'_>) {
        if self.record.close() {
            writer.record(&self.record);
            self.record.clear();
        } else if self.record.is_empty() {
            self.open.pop();
        }
    }

    fn text(&mut self, text: &str, is_kept: bool) -> Result<(), XmlError> {
        if !self.record.is_empty() {
            self.record.text(text, is_kept);
        } else if (self.row_tag.is_none() || self.open.is_empty()) && !text.bytes().all(is_space) {
            return Err(XmlError::Text(self.reader.buffer_position()));
        }
        Ok(())
    }

    /// The reader does not mind elements that are open at the end.
    fn finish(&self) -> Result<(), XmlError> {
        if let Some(name) = self.record.open_name() {
            return Err(XmlError::Unclosed(name.to_owned()));
        }
        match self.open.last() {
            Some(name) => Err(XmlError::Unclosed(name.clone())),
            None if !self.has_root => Err(XmlError::NoRoot),
            None => Ok(()),
        }
    }

    fn syntax(&self, message: &str) -> XmlError {
        XmlError::Syntax { message: message.to_owned(), at: self.reader.error_position() }
    }
}

/// White space as XML has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A name without the prefix of its namespace.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}
