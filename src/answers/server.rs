//! Kept answers in the journal's schema on a server.

use super::AnswerId;
use super::store::{column, oldest, read};
use crate::api::KeptAnswer;
use crate::config::Keep;
use crate::journal::server::{AnswersTable, Server};
use crate::policy::repeat::sha256;

pub(super) struct ServerStore {
    table: AnswersTable,
    keep: Keep,
}

impl ServerStore {
    pub(super) const fn new(server: Server, schema: String, keep: Keep) -> Self {
        Self { table: AnswersTable::new(server, schema), keep }
    }

    pub(super) fn keep(&self, id: &AnswerId, body: &str, now: u64) -> Result<(), String> {
        if body.len() as u64 > self.keep.bytes {
            return Err(format!("it is larger than DRAIN_ANSWERS_MAX_BYTES ({})", self.keep.bytes));
        }
        self.table.keep(id, &sha256(body).to_string(), body, column(now)).map_err(|e| e.to_string())
    }

    pub(super) fn find(&self, id: &AnswerId, now: u64) -> Result<Option<KeptAnswer>, String> {
        if self.keep.time.is_zero() {
            return Ok(None);
        }
        let found = self.table.find(id, oldest(self.keep, now)).map_err(|e| e.to_string())?;
        found.map(|(hash, body)| read(&hash, &body)).transpose()
    }

    pub(super) fn forget_old(&self, now: u64) {
        let oldest = if self.keep.time.is_zero() { i64::MAX } else { oldest(self.keep, now) };
        if let Err(error) = self.table.forget(oldest, column(self.keep.bytes)) {
            tracing::warn!(%error, "old answers could not be deleted");
        }
    }
}
