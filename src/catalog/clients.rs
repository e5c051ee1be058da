//! OAuth clients: who may ask for short-lived tokens.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{OptionalExtension, Row, params};

/// An OAuth client.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: i64,
    /// Its id as users and the protocol see it.
    pub client_id: String,
    pub name: String,
    /// SHA-256.
    pub secret_hash: [u8; 32],
    /// Roles, separated by blanks, in the words in which they were given.
    pub roles: String,
    pub project: Option<String>,
    pub created_at: Micros,
}

const COLUMNS: &str = "id, client_id, name, secret_hash, roles, project, created_at";

impl Catalog {
    /// All of them, the oldest first.
    pub fn clients(&self) -> Result<Vec<Client>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM clients ORDER BY id"))?;
            statement.query_map([], client_of)?.collect()
        })
    }

    /// Makes a client; its `id` and `created_at` are set here. `None` if its id or name is taken.
    pub fn add_client(&self, client: &Client) -> Result<Option<Client>, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "INSERT INTO clients (client_id, name, secret_hash, roles, project, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
            let Client { client_id, name, secret_hash, roles, project, .. } = client;
            let added = db.execute(sql, params![client_id, name, secret_hash, roles, project, now])?;
            let id = db.last_insert_rowid();
            Ok((added > 0).then(|| Client { id, created_at: now, ..client.clone() }))
        })
    }

    /// By its id as users see it, or by its name.
    pub fn client(&self, id_or_name: &str) -> Result<Option<Client>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM clients WHERE client_id = ?1 OR name = ?1 ORDER BY client_id <> ?1"
            );
            db.query_row(&sql, [id_or_name], client_of).optional()
        })
    }

    pub fn delete_client(&self, id: i64) -> Result<(), CatalogError> {
        self.transaction(|db| db.execute("DELETE FROM clients WHERE id = ?1", [id]).map(drop))
    }
}

fn client_of(row: &Row<'_>) -> rusqlite::Result<Client> {
    Ok(Client {
        id: row.get(0)?,
        client_id: row.get(1)?,
        name: row.get(2)?,
        secret_hash: row.get(3)?,
        roles: row.get(4)?,
        project: row.get(5)?,
        created_at: row.get(6)?,
    })
}
