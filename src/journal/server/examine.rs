//! What an operator should know of the server that holds a journal.

use std::time::{Duration, Instant};

use super::super::JournalError;
use super::super::db::{Db, params};
use super::Server;

/// A server as it answered once.
#[derive(Clone, Debug)]
pub struct Examined {
    /// PostgreSQL's version.
    pub version: String,
    /// What one question took, there and back.
    pub answer: Duration,
    /// Why a commit could be lost there; nothing is signed then (M1).
    pub may_lose: Option<String>,
    /// Sessions of everybody, and how many it allows.
    pub sessions: (i64, i64),
    /// The account may change the audit record.
    pub rewrites_audit: bool,
    /// Where the replica that has the wallet is reached.
    pub holder: Option<String>,
}

/// Looks at the server, and at the schema of one wallet there. Changes nothing. Blocks.
///
/// # Errors
/// Where it cannot be reached, or the wallet has no schema there that this account may read.
pub fn examine(server: &Server, schema: &str) -> Result<Examined, JournalError> {
    let session = server.session(schema)?;
    let db = Db::Postgres(&session);
    let begun = Instant::now();
    let may_lose = db.query_row("SELECT may_lose()", params![], |row| row.get(0))?;
    let answer = begun.elapsed();
    let found = db.query_row(
        "SELECT current_setting('server_version') AS version, \
         (SELECT CAST(SUM(numbackends) AS BIGINT) FROM pg_stat_database) AS used, \
         CAST(current_setting('max_connections') AS BIGINT) AS most, has_table_privilege('audit', 'UPDATE') AS rewrites, \
         (SELECT address FROM identity WHERE leased_until > clock_timestamp()) AS address",
        params![],
        |row| {
            Ok(Examined {
                version: row.get("version")?,
                answer,
                may_lose,
                sessions: (row.get("used")?, row.get("most")?),
                rewrites_audit: row.get("rewrites")?,
                holder: row.get("address")?,
            })
        },
    );
    Ok(found?)
}
