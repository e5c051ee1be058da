//! OAuth clients (API keys, in the terms of other contracts): who may request tokens, and with which secrets.

use super::{Catalog, CatalogError};
use crate::clock::Micros;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// An OAuth client.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: i64,
    /// Its id in the protocol and for users.
    pub client_id: String,
    pub name: String,
    /// Newest first. Empty: all were revoked.
    pub secrets: Vec<ClientSecret>,
    /// Roles, separated by blanks, as the client gave them.
    pub roles: String,
    pub project: Option<String>,
    pub created_at: Micros,
}

/// The stored part of a client's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSecret {
    /// Its id: tokens name the secret with which they were requested.
    pub sid: String,
    /// SHA-256.
    pub hash: [u8; 32],
    pub created_at: Micros,
    /// When it and its tokens become invalid; `None` for the secret in use.
    pub retires_at: Option<Micros>,
}

/// The stored part of a token that was issued to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientToken {
    pub jti: String,
    /// The secret with which it was requested.
    pub sid: String,
    /// The name of the requester.
    pub made_by: String,
    pub created_at: Micros,
    pub expires_at: Micros,
}

const COLUMNS: &str = "id, client_id, name, roles, project, created_at";

impl Catalog {
    /// All clients, oldest first.
    pub fn clients(&self) -> Result<Vec<Client>, CatalogError> {
        self.read(|db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM clients ORDER BY id"))?;
            let clients: Vec<Client> = statement.query_map([], client_of)?.collect::<Result<_, _>>()?;
            clients.into_iter().map(|client| with_secrets(db, client)).collect()
        })
    }

    /// Creates a client with its first secret and sets `id` and `created_at`. `None` if its id or name is taken.
    pub fn add_client(&self, client: &Client, secret: &ClientSecret) -> Result<Option<Client>, CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            let sql = "INSERT INTO clients (client_id, name, roles, project, created_at)
                       VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
            let Client { client_id, name, roles, project, .. } = client;
            if db.execute(sql, params![client_id, name, roles, project, now])? == 0 {
                return Ok(None);
            }
            let id = db.last_insert_rowid();
            add_secret(db, id, secret)?;
            with_secrets(db, Client { id, created_at: now, ..client.clone() }).map(Some)
        })
    }

    /// Finds a client by its user-visible id or by its name.
    pub fn client(&self, id_or_name: &str) -> Result<Option<Client>, CatalogError> {
        self.read(|db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM clients WHERE client_id = ?1 OR name = ?1 ORDER BY client_id <> ?1"
            );
            let found = db.query_row(&sql, [id_or_name], client_of).optional()?;
            found.map(|client| with_secrets(db, client)).transpose()
        })
    }

    /// Puts a new secret into use. The previous one stays valid until `retires_at`, if that is in the future; older
    /// ones are deleted.
    pub fn rotate_client_secret(
        &self,
        client: i64,
        secret: &ClientSecret,
        retires_at: Micros,
    ) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            db.execute("DELETE FROM client_secrets WHERE client = ?1 AND retires_at IS NOT NULL", [client])?;
            let sql = "UPDATE client_secrets SET retires_at = ?2 WHERE client = ?1";
            db.execute(sql, params![client, retires_at])?;
            db.execute("DELETE FROM client_secrets WHERE client = ?1 AND retires_at <= ?2", [client, now])?;
            add_secret(db, client, secret)
        })
    }

    /// Deletes the retired secrets of a client, or all.
    pub fn revoke_client_secrets(&self, client: i64, all: bool) -> Result<(), CatalogError> {
        let sql = "DELETE FROM client_secrets WHERE client = ?1 AND (?2 OR retires_at IS NOT NULL)";
        self.transaction(|db| db.execute(sql, params![client, all]).map(drop))
    }

    /// Records a token that was issued to a client, and deletes expired ones.
    pub fn add_client_token(&self, client: i64, token: &ClientToken) -> Result<(), CatalogError> {
        let now = self.clock.now();
        self.transaction(|db| {
            db.execute("DELETE FROM client_tokens WHERE expires_at <= ?1", [now])?;
            let sql = "INSERT INTO client_tokens (jti, client, sid, made_by, created_at, expires_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let ClientToken { jti, sid, made_by, created_at, expires_at } = token;
            db.execute(sql, params![jti, client, sid, made_by, created_at, expires_at]).map(drop)
        })
    }

    /// The unexpired tokens that were issued to a client, newest first.
    pub fn client_tokens(&self, client: i64) -> Result<Vec<ClientToken>, CatalogError> {
        let now = self.clock.now();
        self.read(|db| {
            let sql = "SELECT jti, sid, made_by, created_at, expires_at FROM client_tokens
                       WHERE client = ?1 AND expires_at > ?2 ORDER BY created_at DESC, jti";
            let token = |row: &Row<'_>| {
                Ok(ClientToken {
                    jti: row.get(0)?,
                    sid: row.get(1)?,
                    made_by: row.get(2)?,
                    created_at: row.get(3)?,
                    expires_at: row.get(4)?,
                })
            };
            db.prepare(sql)?.query_map([client, now], token)?.collect()
        })
    }

    pub fn delete_client(&self, id: i64) -> Result<(), CatalogError> {
        self.transaction(|db| db.execute("DELETE FROM clients WHERE id = ?1", [id]).map(drop))
    }
}

fn add_secret(db: &Connection, client: i64, secret: &ClientSecret) -> rusqlite::Result<()> {
    let sql = "INSERT INTO client_secrets (sid, client, hash, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![secret.sid, client, secret.hash, secret.created_at]).map(drop)
}

fn with_secrets(db: &Connection, client: Client) -> rusqlite::Result<Client> {
    let sql =
        "SELECT sid, hash, created_at, retires_at FROM client_secrets WHERE client = ?1 ORDER BY id DESC";
    let secret = |row: &Row<'_>| {
        Ok(ClientSecret {
            sid: row.get(0)?,
            hash: row.get(1)?,
            created_at: row.get(2)?,
            retires_at: row.get(3)?,
        })
    };
    let secrets = db.prepare_cached(sql)?.query_map([client.id], secret)?.collect::<Result<_, _>>()?;
    Ok(Client { secrets, ..client })
}

fn client_of(row: &Row<'_>) -> rusqlite::Result<Client> {
    Ok(Client {
        id: row.get(0)?,
        client_id: row.get(1)?,
        name: row.get(2)?,
        secrets: Vec::new(),
        roles: row.get(3)?,
        project: row.get(4)?,
        created_at: row.get(5)?,
    })
}
