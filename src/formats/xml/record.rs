//! One record as a tree, stored in one list of elements. Records of a document look alike, so the memory of one is
//! reused for the next. It is bounded by the maximum number of elements of a record and by the length of the
//! document.

use super::{is_space, local};
use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct XmlRecord {
    elements: Reused<Element>,
    /// The attributes of all elements; those of one element are adjacent.
    attributes: Reused<Attribute>,
    /// The open elements, from the record down.
    open: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Element {
    /// With its prefix.
    pub(super) name: String,
    attributes: Range<usize>,
    children: Vec<usize>,
    text: String,
    /// Where the text after the last child begins.
    mark: usize,
    /// Its text counts even if it is white space.
    is_kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct Attribute {
    /// With its prefix.
    pub(super) name: String,
    /// Its field name: `_` and its local name.
    pub(super) key: String,
    pub(super) value: String,
}

impl Element {
    /// Has no attributes or elements, only text.
    pub(super) fn is_plain(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty()
    }

    /// The maximum number of its values as fields: its attributes, its elements and its text.
    pub(super) fn parts(&self) -> usize {
        self.attributes.len().saturating_add(self.children.len()).saturating_add(1)
    }

    /// Its text: verbatim if it has no child elements; otherwise its pieces without surrounding white space.
    pub(super) fn text(&self) -> Option<&str> {
        if !self.children.is_empty() {
            let text = self.text.trim_end();
            return (!text.is_empty()).then_some(text);
        }
        (self.is_kept || !self.text.bytes().all(is_space)).then_some(&self.text)
    }

    fn begin(&mut self, name: &str, attributes: usize) {
        self.name.clear();
        self.name.push_str(name);
        self.attributes = attributes..attributes;
        self.children.clear();
        self.text.clear();
        (self.mark, self.is_kept) = (0, false);
    }

    fn end_piece(&mut self) {
        // The mark is an earlier end of the text, which has only grown since.
        let piece = self.text.get(self.mark..).unwrap_or("");
        let blank = piece.len().saturating_sub(piece.trim_start().len());
        self.text.truncate(self.text.trim_end().len().max(self.mark));
        if self.text.len() > self.mark {
            self.text.drain(self.mark..self.mark.saturating_add(blank));
            self.text.push(' ');
            self.mark = self.text.len();
        }
    }
}

impl Attribute {
    /// `xsi:nil`, which does not become a field.
    pub(super) fn is_nil(&self) -> bool {
        self.name == "xsi:nil"
    }
}

impl XmlRecord {
    pub(super) fn is_empty(&self) -> bool {
        self.elements.used == 0
    }

    pub(super) fn elements(&self) -> usize {
        self.elements.used
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn root(&self) -> Option<&Element> {
        self.elements.used().first()
    }

    /// The attributes of an element of this record. They are within the list: they were added with the element.
    pub(super) fn attributes(&self, element: &Element) -> &[Attribute] {
        self.attributes.used().get(element.attributes.clone()).unwrap_or(&[])
    }

    pub(super) fn children<'r>(&'r self, element: &'r Element) -> impl Iterator<Item = &'r Element> {
        element.children.iter().filter_map(|at| self.elements.used().get(*at))
    }

    /// The innermost open element.
    pub(super) fn open_name(&self) -> Option<&str> {
        Some(&self.elements.used().get(*self.open.last()?)?.name)
    }

    fn last(&mut self) -> Option<&mut Element> {
        self.elements.list.get_mut(*self.open.last()?)
    }

    pub(super) fn open(&mut self, name: &str) {
        let at = self.elements.used;
        if let Some(parent) = self.last() {
            parent.end_piece();
            parent.children.push(at);
        }
        self.elements.add().begin(name, self.attributes.used);
        self.open.push(at);
    }

    /// Adds an attribute to the innermost open element. The caller writes its value to the returned string.
    pub(super) fn attribute(&mut self, name: &str) -> &mut String {
        let end = self.attributes.used.saturating_add(1);
        if let Some(element) = self.last() {
            element.attributes.end = end;
        }
        let Attribute { name: own, key, value } = self.attributes.add();
        for text in [&mut *own, &mut *key, &mut *value] {
            text.clear();
        }
        own.push_str(name);
        key.push('_');
        key.push_str(local(name));
        value
    }

    pub(super) fn text(&mut self, text: &str, is_kept: bool) {
        if let Some(element) = self.last() {
            element.text.push_str(text);
            element.is_kept |= is_kept && !text.is_empty();
        }
    }

    /// Closes the innermost element. Returns whether it was the record itself.
    pub(super) fn close(&mut self) -> bool {
        if let Some(element) = self.last()
            && !element.children.is_empty()
        {
            element.end_piece();
        }
        self.open.pop().is_some() && self.open.is_empty()
    }

    pub(super) fn clear(&mut self) {
        (self.elements.used, self.attributes.used) = (0, 0);
    }
}

/// A list that keeps its entries, with their memory, when it is emptied.
#[derive(Debug, Default)]
struct Reused<T> {
    list: Vec<T>,
    used: usize,
}

impl<T: Default> Reused<T> {
    /// The entries in use: never more than there are.
    fn used(&self) -> &[T] {
        self.list.get(..self.used).unwrap_or(&[])
    }

    /// Adds an entry in the state in which it was last used.
    fn add(&mut self) -> &mut T {
        let at = self.used;
        if at == self.list.len() {
            self.list.push(T::default());
        }
        self.used = at.saturating_add(1);
        self.list.get_mut(at).expect("the used entries are within the list")
    }
}
