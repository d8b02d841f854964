//! A wallet's schema on a server, over time, and what the account that works with it may do.

use rusqlite::params;
use serde::Serialize;

use super::super::JournalError;
use super::super::db::{Db, DbError, Optional, Session};
use super::super::schema::KNOWN;
use super::Server;

/// Each step runs once, in order, in its own transaction, and says from which version on a drain-mcp can work with it. Never
/// edit a step that was released.
const STEPS: &[(i64, &str)] =
    &[(12, include_str!("migrations/0012_initial.sql")), (13, include_str!("migrations/0013_payments.sql"))];

/// What a least-privileged account may do: it adds to the audit record and changes nothing of it, and no table is emptied.
const RIGHTS: &str = "
    GRANT USAGE ON SCHEMA {schema} TO {role};
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO {role};
    GRANT DELETE ON {schema}.provider_pins, {schema}.payee_pins, {schema}.fee_wallet_pin, {schema}.flags, {schema}.usage, {schema}.channels, {schema}.answers TO {role};
    REVOKE UPDATE ON {schema}.audit, {schema}.identities FROM {role};
    REVOKE INSERT ON {schema}.identity, {schema}.window_clock FROM {role};
    REVOKE INSERT, UPDATE ON {schema}.schema_version FROM {role};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};";

/// A schema that was made or brought up to date.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// Its name.
    pub schema: String,
    /// Its version before; none where it was made.
    pub before: Option<i64>,
    /// Its version now.
    pub version: i64,
    /// The account that may work with it, beside its owner.
    pub granted: Option<String>,
}

/// Makes a wallet's schema, or brings it up to date, as its owner; lets `role` work with it. Replicas of this version and of
/// those that the step allows go on meanwhile.
///
/// # Errors
/// Where the server cannot be reached, or the account may not.
pub fn prepare(server: &Server, schema: &str, role: Option<&str>) -> Result<Made, JournalError> {
    let session = server.session(schema)?;
    let before = version(&session)?.map(|(version, _)| version);
    migrate(&session, schema)?;
    if let Some(role) = role {
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        let rights = RIGHTS.replace("{schema}", schema).replace("{role}", &quoted);
        session.run(&format!("BEGIN; {rights} COMMIT"))?;
    }
    Ok(Made { schema: schema.into(), before, version: KNOWN, granted: role.map(Into::into) })
}

/// That the schema is one that this version works with; it is made where there is none, and brought up to date, where the
/// account may.
pub(super) fn ready(session: &Session, schema: &str) -> Result<(), JournalError> {
    let path = || schema.into();
    match version(session)? {
        Some((found, oldest)) if found > KNOWN && oldest > KNOWN => {
            Err(JournalError::Newer { path: path(), found, known: KNOWN })
        }
        Some((KNOWN.., _)) => Ok(()),
        older => match migrate(session, schema) {
            Err(JournalError::Server(reason)) => Err(match older {
                Some((found, _)) => JournalError::Older { path: path(), found, known: KNOWN },
                None => {
                    JournalError::Server(format!("there is no journal {schema} yet, and it cannot be made: {reason}"))
                }
            }),
            made => made,
        },
    }
}

/// The schema's version and the oldest that works with it; none where there is no schema.
fn version(session: &Session) -> Result<Option<(i64, i64)>, JournalError> {
    let db = Db::Postgres(session);
    let there: bool = db.query_row("SELECT to_regclass('schema_version') IS NOT NULL", params![], |row| row.get(0))?;
    if !there {
        return Ok(None);
    }
    let found =
        db.query_row("SELECT version, oldest FROM schema_version", params![], |row| Ok((row.get(0)?, row.get(1)?)));
    found.optional().map_err(DbError::into)
}

fn migrate(session: &Session, schema: &str) -> Result<(), JournalError> {
    for (to, step) in STEPS {
        // Two replicas that start at once take turns; the lock ends with the transaction.
        session.run(&format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtext('drain-mcp {schema}')); CREATE SCHEMA IF NOT EXISTS {schema}"
        ))?;
        let found = version(session)?;
        let done = match found {
            Some((version, _)) if version >= *to => session.run("COMMIT"),
            _ => session.run(&format!("{step}; COMMIT")),
        };
        if let Err(error) = done {
            let _ = session.run("ROLLBACK");
            return Err(error.into());
        }
    }
    Ok(())
}
