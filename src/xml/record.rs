//! One record as a tree, in one list of elements.

use super::is_space;

#[derive(Debug, Default)]
pub(super) struct Record {
    elements: Vec<Element>,
    /// Those that are open, from the record down.
    open: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Element {
    /// With its prefix.
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<usize>,
    text: String,
    /// Where the text behind the last child begins.
    mark: usize,
    /// It has text that counts although it may be white space.
    is_kept: bool,
}

impl Element {
    /// Its text: as it is, if there is nothing beside it; otherwise its pieces without the white space around them.
    pub(super) fn text(&self) -> Option<&str> {
        if !self.children.is_empty() {
            let text = self.text.trim_end();
            return (!text.is_empty()).then_some(text);
        }
        (self.is_kept || !self.text.bytes().all(is_space)).then_some(&self.text)
    }

    fn end_piece(&mut self) {
        let piece = self.text.get(self.mark..).unwrap_or_default().trim().to_owned();
        self.text.truncate(self.mark);
        if !piece.is_empty() {
            self.text.push_str(&piece);
            self.text.push(' ');
            self.mark = self.text.len();
        }
    }
}

impl Record {
    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    pub(super) fn elements(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn root(&self) -> Option<&Element> {
        self.elements.first()
    }

    pub(super) fn element(&self, at: usize) -> Option<&Element> {
        self.elements.get(at)
    }

    /// The innermost open element.
    pub(super) fn open_name(&self) -> Option<&str> {
        Some(&self.elements.get(*self.open.last()?)?.name)
    }

    fn last(&mut self) -> Option<&mut Element> {
        let last = *self.open.last()?;
        self.elements.get_mut(last)
    }

    pub(super) fn open(&mut self, name: String) {
        let at = self.elements.len();
        if let Some(parent) = self.last() {
            parent.end_piece();
            parent.children.push(at);
        }
        self.elements.push(Element { name, ..Element::default() });
        self.open.push(at);
    }

    pub(super) fn attribute(&mut self, name: String, value: String) {
        if let Some(element) = self.last() {
            element.attributes.push((name, value));
        }
    }

    pub(super) fn text(&mut self, text: &str, is_kept: bool) {
        if let Some(element) = self.last() {
            element.text.push_str(text);
            element.is_kept |= is_kept && !text.is_empty();
        }
    }

    /// Closes the innermost element. Whether that was the record itself.
    pub(super) fn close(&mut self) -> bool {
        if let Some(element) = self.last()
            && !element.children.is_empty()
        {
            element.end_piece();
        }
        self.open.pop().is_some() && self.open.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.elements.clear();
    }
}
