//! Paid answers on the server, so that one whose caller has gone is found through every replica. Who lost the journal may still
//! keep one here: it holds no money.

use super::super::JournalError;
use super::super::db::{Db, DbError, Optional, params};
use super::{Kept, Server};
use crate::answers::AnswerId;

/// A crash of the server may take the last answers: a call does not wait for a second sync.
const SETTINGS: &str = "SET synchronous_commit TO off";

/// The table `answers` of a wallet's schema.
pub struct AnswersTable(Kept);

impl AnswersTable {
    /// In this schema.
    pub const fn new(server: Server, schema: String) -> Self {
        Self(Kept::new(server, schema, SETTINGS))
    }

    /// Keeps an answer; the first one of a receipt stays.
    pub fn keep(&self, id: &AnswerId, hash: &str, body: &str, now: i64) -> Result<(), JournalError> {
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        self.with(|db| {
            db.execute(
                "INSERT INTO answers (receipt, channel, agent, at, bytes, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![id.receipt, id.channel, id.agent, now, size, hash, body],
            )
        })
        .map(drop)
    }

    /// Hash and body of an answer that is not older than this.
    pub fn find(&self, id: &AnswerId, oldest: i64) -> Result<Option<(String, String)>, JournalError> {
        self.with(|db| {
            db.query_row(
                "SELECT hash, body FROM answers WHERE receipt = ?1 AND channel = ?2 AND agent = ?3 AND at >= ?4",
                params![id.receipt, id.channel, id.agent, oldest],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
        })
    }

    /// Deletes what is older than this, and the oldest beyond so many bytes.
    pub fn forget(&self, oldest: i64, bytes: i64) -> Result<(), JournalError> {
        self.with(|db| {
            db.execute("DELETE FROM answers WHERE at < ?1", [oldest])?;
            db.execute(
                "DELETE FROM answers WHERE (receipt, channel) IN (SELECT receipt, channel FROM \
                 (SELECT receipt, channel, CAST(SUM(bytes) OVER (ORDER BY at DESC, receipt, channel) AS BIGINT) AS newer FROM answers) kept WHERE newer > ?1)",
                [bytes],
            )
        })
        .map(drop)
    }

    fn with<T>(&self, work: impl Fn(&Db<'_>) -> Result<T, DbError>) -> Result<T, JournalError> {
        self.0.with(|session| Ok(work(&Db::Postgres(session))?))
    }
}
