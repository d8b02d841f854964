//! What becomes of a journal whose history may be incomplete: an older copy, a file that was made anew, a server that went on
//! from another timeline.

use alloy::primitives::B128;

use super::JournalError;
use super::audit::{self, Entry, Kind, Who};
use super::db::{Db, params};
use super::mark::Identity;
use crate::clock::Clock;

/// Which journal it is.
pub(super) fn identity(db: &Db<'_>) -> Result<Identity, JournalError> {
    let (id, commits): (String, i64) =
        db.query_row("SELECT id, commits FROM identity", params![], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let commits = u64::try_from(commits).map_err(|_| JournalError::Corrupt(format!("identity.commits = {commits}")))?;
    Ok(Identity { id, commits })
}

/// Every channel that is not over is recovered, its numbers go on from the clock, and its books are read from the provider
/// before it pays. A person's yes may have been used since (M5): none counts. `limits` says what became of the rest. From here
/// on it is another journal than the one it was a copy of. In a transaction of the caller's; gives what a person should know.
pub(super) fn distrust(db: &Db<'_>, why: &str, limits: &str) -> Result<String, JournalError> {
    let floor = Clock::default().nonce_floor();
    let marked = db.execute(
        "UPDATE channels SET recovered = 1, books_known = 0, nonce = MAX(nonce, ?1) WHERE state != 'closed'",
        [floor.as_i64()],
    )?;
    db.execute(
        "UPDATE approvals SET state = 'used', used_by = 'an older copy was put in place' WHERE state = 'approved'",
        params![],
    )?;
    db.execute("DELETE FROM flags WHERE name = 'all_found'", params![])?;
    let notice = format!(
        "The journal {why} {marked} channels of it may have a history that it does not hold: they are recovered channels, whose whole \
         deposit counts as exposed. Channels that it does not know at all are found by drain-mcp channels recover. \
         {limits} No yes of a person in it counts any more."
    );
    db.execute("UPDATE identity SET id = ?1, notice = ?2", params![format!("{:x}", B128::random()), notice])?;
    audit::write(db, &Who::default(), &Entry::recorded(Kind::Copy).told(notice.as_str()))?;
    Ok(notice)
}
