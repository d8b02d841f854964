//! The rows of the wallet's transactions: signed, with the hash, and at their end. They belong to the call that the
//! transaction was planned for, whenever its end is known.

use super::super::db::{Db, params};
use super::{Entry, Kind, Who, provider_of, write};
use crate::journal::{IntentId, JournalError, TxId, TxKind, row};
use crate::policy::Sees;

/// Whose call a transaction belongs to.
pub(in crate::journal) fn who_sent(db: &Db<'_>, id: TxId) -> Result<Who, JournalError> {
    let mut statement = db.prepare_cached("SELECT request, agent, tool FROM transactions WHERE id = ?1")?;
    let mut rows = statement.query([id.0])?;
    let Some(r) = &rows.next()? else { return Ok(Who::default()) };
    let (agent, tool): (String, String) = (r.get("agent")?, r.get("tool")?);
    // Planned by a version that did not know.
    let tool = if tool.is_empty() { Who::default().tool } else { tool.into() };
    Ok(Who { request: row::optional_parsed(r, "request")?, agent, tool, sees: Sees::All })
}

/// Its signed bytes are stored: from here on it may land.
pub(in crate::journal) fn signed(db: &Db<'_>, id: TxId) -> Result<(), JournalError> {
    let rule = Some("limits".into());
    record(db, id, |kind, target| Entry { rule, ..Entry::allowed(kind) }.told(format!("signed, to {target}")))
}

/// It is at its end.
pub(in crate::journal) fn ended(db: &Db<'_>, id: TxId, how: &str) -> Result<(), JournalError> {
    record(db, id, |kind, _| Entry::recorded(kind).told(how.to_owned()))
}

fn record(db: &Db<'_>, id: TxId, entry: impl FnOnce(Kind, String) -> Entry<'static>) -> Result<(), JournalError> {
    record_for(db, &who_sent(db, id)?, id, entry)
}

fn record_for(
    db: &Db<'_>,
    who: &Who,
    id: TxId,
    entry: impl FnOnce(Kind, String) -> Entry<'static>,
) -> Result<(), JournalError> {
    let mut statement =
        db.prepare_cached("SELECT kind, intent, target, amount, hash FROM transactions WHERE id = ?1")?;
    let mut rows = statement.query(params![id.0])?;
    let Some(r) = &rows.next()? else { return Ok(()) };
    let kind: TxKind = row::parsed(r, "kind")?;
    let intent = r.get::<_, Option<i64>>("intent")?.map(IntentId);
    let provider = intent.map_or(Ok(None), |intent| provider_of(db, intent))?;
    let entry = Entry {
        intent,
        tx: Some(id),
        provider: provider.as_deref(),
        amount: row::optional_usdc(r, "amount")?,
        hash: row::optional_parsed(r, "hash")?,
        ..entry(Kind::Transaction(kind), r.get("target")?)
    };
    write(db, who, &entry).map(drop)
}

/// The chain took back what was final.
pub(in crate::journal) fn taken_back(db: &Db<'_>, who: &Who, id: TxId) -> Result<(), JournalError> {
    let about = |kind: Kind, _| {
        Entry::recorded(Kind::Reorg).told(format!("the {kind} was final and is gone; it is followed again"))
    };
    record_for(db, who, id, about)
}
