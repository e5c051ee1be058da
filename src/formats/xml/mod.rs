//! Converts XML documents to records: each child of the root element becomes one JSON object, and every later step
//! works as for JSON. Pure: bytes in, NDJSON or an error out. The compactor and the views that show records share
//! it.
//!
//! Names follow Spark's XML reader: an element is a field with its local name, an attribute is a field with `_`
//! before its name, and text together with attributes or elements is `_VALUE`. Repeated names become an array. An
//! untrusted document costs no more than its length: nothing is fetched, and depth, attributes, elements per record
//! and entity expansion are bounded.
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
use record::XmlRecord;
use write::RecordWriter;

/// The maximum nesting depth of elements: as JSON, with an array around each, they stay within the depth limit of
/// JSON.
pub const DEPTH_MAX: usize = 62;
/// The maximum number of elements of one record.
const ELEMENTS_MAX: usize = 100_000;
/// The maximum number of attributes of one element.
const ATTRIBUTES_MAX: usize = 256;

/// Why the records of a document cannot be told apart. Offsets are in bytes of the document as UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    #[error("unknown encoding {0:?}")]
    UnknownEncoding(String),
    #[error("the document is in UTF-16 but does not declare it")]
    Undeclared,
    #[error("the document is not valid {0}, which is its declared or default encoding")]
    Encoding(&'static str),
    #[error("invalid XML document: {message}, at byte {at}")]
    Syntax { message: String, at: u64 },
    #[error("the document ends within <{0}>")]
    Unclosed(String),
    #[error("the document has no root element")]
    NoRoot,
    #[error("the document has no elements that are records")]
    NoRecords,
    #[error("text outside of the records at byte {0}")]
    Text(u64),
    #[error("elements are nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    #[error("a record has more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    #[error("the element <{0}> has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes(String),
    #[error("the entity {0:?} is external or a parameter entity; neither is supported")]
    ExternalEntity(String),
    #[error("the entity {0:?} is not declared")]
    UnknownEntity(String),
    #[error("the entity {0:?} contains markup, which is not supported")]
    MarkupEntity(String),
    #[error("the entity {0:?} refers to itself, or entities expand to more than {max} bytes", max = entity::EXPANSION_MAX)]
    Expansion(String),
    #[error("the document type declaration is invalid")]
    Doctype,
}

/// What is known of a document besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct XmlOptions<'a> {
    /// The request's content type: its `charset` takes precedence over the document's own declaration.
    pub content_type: Option<&'a str>,
    /// The local name of the elements that are records, at any depth. `None`: the children of the root.
    pub row_tag: Option<&'a str>,
}

/// Returns the records as NDJSON. `known` determines how a field's text is written; text of other fields becomes a
/// string.
///
/// # Errors
/// For a document that is not well-formed: it fails as a whole.
pub fn transcribe(body: &[u8], about: XmlOptions<'_>, known: &Known) -> Result<Vec<u8>, XmlError> {
    let text = encoding::decode(body, about.content_type)?;
    let mut writer = RecordWriter::new(known, text.len());
    walk(&text, about.row_tag, &mut writer)?;
    if writer.learned_late() {
        // A field that was single in an earlier record is repeated in a later one: all records get an array.
        writer.again();
        walk(&text, about.row_tag, &mut writer)?;
    }
    if writer.records() == 0 { Err(XmlError::NoRecords) } else { Ok(writer.into_lines()) }
}

/// Passes every record of a document to the writer.
fn walk(text: &str, row_tag: Option<&str>, writer: &mut RecordWriter<'_>) -> Result<(), XmlError> {
    let mut walk = Walk {
        reader: Reader::from_str(text),
        entities: Entities::default(),
        record: XmlRecord::default(),
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
    /// The current record, if it has an element.
    record: XmlRecord,
    /// The open elements around records.
    open: Vec<String>,
    /// A buffer for the expansion of an entity.
    expanded: String,
    has_root: bool,
    row_tag: Option<&'r str>,
}

impl<'a> Walk<'a, '_> {
    fn run(&mut self, writer: &mut RecordWriter<'_>) -> Result<(), XmlError> {
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
                        return Err(self.syntax("the document type follows the root element"));
                    }
                    let doctype = doctype.decode().map_err(|error| self.syntax(&error.to_string()))?;
                    self.entities = Entities::declared(&doctype)?;
                }
                // Processing instructions are for other applications.
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => return self.finish(),
            }
        }
    }

    fn start(
        &mut self,
        start: &BytesStart<'a>,
        writer: &mut RecordWriter<'_>,
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

    /// The reader has checked that names match.
    fn end(&mut self, writer: &mut RecordWriter<'_>) {
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

    /// The reader accepts elements that are still open at the end.
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

/// White space as XML defines it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A name without its namespace prefix.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}
