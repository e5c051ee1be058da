//! Documents of one type that a contract owns, such as its connections, jobs or receivers. The catalog stores them;
//! they are in memory only during a call.

use super::control::Control;
use crate::catalog::{CatalogError, Object, ObjectError, ObjectKey};
use crate::clock::Micros;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

/// The documents of one contract and kind. Every call may block on the catalog's disk.
pub struct Collection<T> {
    control: Arc<Control>,
    contract: &'static str,
    kind: Cow<'static, str>,
    documents: PhantomData<fn() -> T>,
}

/// A document with its metadata in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<T> {
    pub name: String,
    pub value: T,
    /// 1 for a new document, incremented by each change.
    pub version: u32,
    pub created_at: Micros,
    pub updated_at: Micros,
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// `contract` separates the documents of contracts, `kind` those of one contract. The catalog stores both, so they
    /// must never change.
    pub fn new(control: Arc<Control>, contract: &'static str, kind: impl Into<Cow<'static, str>>) -> Self {
        Self { control, contract, kind: kind.into(), documents: PhantomData }
    }

    fn key<'a>(&'a self, project: &'a str, name: &'a str) -> ObjectKey<'a> {
        ObjectKey { contract: self.contract, project, kind: &self.kind, name }
    }

    fn document(&self, object: Object) -> Result<Document<T>, CatalogError> {
        let Object { name, document, version, created_at, updated_at } = object;
        match serde_json::from_value(document) {
            Ok(value) => Ok(Document { name, value, version, created_at, updated_at }),
            Err(source) => Err(self.unreadable(name, source)),
        }
    }

    fn json(&self, name: &str, value: &T) -> Result<serde_json::Value, CatalogError> {
        serde_json::to_value(value).map_err(|source| self.unreadable(name.to_owned(), source))
    }

    fn unreadable(&self, name: String, source: serde_json::Error) -> CatalogError {
        CatalogError::Document { contract: self.contract, kind: self.kind.clone(), name, source }
    }

    pub fn get(&self, project: &str, name: &str) -> Result<Option<Document<T>>, CatalogError> {
        self.control
            .catalog()
            .object(self.key(project, name))?
            .map(|object| self.document(object))
            .transpose()
    }

    /// All documents of a project, ordered by name.
    pub fn all(&self, project: &str) -> Result<Vec<Document<T>>, CatalogError> {
        let found = self.control.catalog().objects(self.contract, project, &self.kind)?;
        found.into_iter().map(|object| self.document(object)).collect()
    }

    /// All documents of every project, each with its project.
    pub fn everywhere(&self) -> Result<Vec<(String, Document<T>)>, CatalogError> {
        let found = self.control.catalog().objects_everywhere(self.contract, &self.kind)?;
        found.into_iter().map(|(project, object)| Ok((project, self.document(object)?))).collect()
    }

    /// Like [`Self::everywhere`], but skips and logs documents that cannot be read, so that one corrupted document does
    /// not prevent a start.
    pub fn readable(&self) -> Result<Vec<(String, Document<T>)>, CatalogError> {
        let found = self.control.catalog().objects_everywhere(self.contract, &self.kind)?;
        let read = found.into_iter().filter_map(|(project, object)| match self.document(object) {
            Ok(document) => Some((project, document)),
            Err(error) => {
                tracing::error!(
                    project,
                    error = crate::error::chain(&error),
                    "skipped a document of the catalog that cannot be read"
                );
                None
            }
        });
        Ok(read.collect())
    }

    /// Creates a document, which must not exist yet.
    pub fn create(&self, project: &str, name: &str, value: &T) -> Result<Document<T>, ObjectError> {
        let json = self.json(name, value)?;
        Ok(self.document(self.control.catalog().create_object(self.key(project, name), &json)?)?)
    }

    /// Replaces a document. If `expected` is set, the document must have that version.
    pub fn replace(
        &self,
        project: &str,
        name: &str,
        expected: Option<u32>,
        value: &T,
    ) -> Result<Document<T>, ObjectError> {
        let json = self.json(name, value)?;
        Ok(self.document(self.control.catalog().replace_object(
            self.key(project, name),
            expected,
            &json,
        )?)?)
    }

    /// Deletes a document. Returns whether it existed.
    pub fn delete(&self, project: &str, name: &str) -> Result<bool, CatalogError> {
        self.control.catalog().delete_object(self.key(project, name))
    }

    /// Deletes all but the `count` newest documents of a project.
    pub fn keep_newest(&self, project: &str, count: u32) -> Result<(), CatalogError> {
        self.control.catalog().keep_newest_objects(self.contract, project, &self.kind, count)
    }

    /// Deletes the documents of a project that were created before a time.
    pub fn forget(&self, project: &str, created_before: Micros) -> Result<(), CatalogError> {
        self.control.catalog().forget_objects(self.contract, project, &self.kind, created_before)
    }
}
