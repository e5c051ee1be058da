//! Tokens of OAuth clients that were revoked before they expired. Stored with the documents: they are few, and are kept
//! only until they would have expired.

use super::{Catalog, CatalogError, ObjectError, ObjectKey};
use crate::clock::Micros;
use serde_json::json;

const KIND: &str = "revoked";

/// Not the name of any contract.
const CATALOG_NAME: &str = "auth";

fn key(jti: &str) -> ObjectKey<'_> {
    ObjectKey { contract: CATALOG_NAME, project: "", kind: KIND, name: jti }
}

impl Catalog {
    /// All revoked tokens, with their expiry times.
    pub fn revoked(&self) -> Result<Vec<(Box<str>, Micros)>, CatalogError> {
        let objects = self.objects(CATALOG_NAME, "", KIND)?.into_iter();
        // A token whose end cannot be read stays revoked.
        Ok(objects
            .map(|object| (object.name.into(), object.document.as_i64().unwrap_or(Micros::MAX)))
            .collect())
    }

    /// Records a revoked token.
    pub fn add_revoked(&self, jti: &str, ends_at: Micros) -> Result<(), CatalogError> {
        match self.create_object(key(jti), &json!(ends_at)) {
            Ok(_) | Err(ObjectError::Exists | ObjectError::Missing | ObjectError::Stale(_)) => Ok(()),
            Err(ObjectError::Catalog(error)) => Err(error),
        }
    }

    pub fn forget_revoked(&self, jti: &str) -> Result<(), CatalogError> {
        self.delete_object(key(jti)).map(drop)
    }
}
