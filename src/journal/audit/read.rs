//! Reading the audit record, beside the runtime that writes it.

use drain_protocol::Usdc;
use serde::Serialize;

use super::super::db::{Row, params};
use super::super::location::Reader;
use crate::error::{Code, Failure};
use crate::journal::row::{column, optional_usdc, unsigned};
use crate::journal::{JournalError, Location, schema};
use crate::policy::RequestId;

/// Which rows; what is not said does not count.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before this Unix second of the machine's clock.
    pub since: u64,
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this kind, as rows show it.
    pub kind: Option<String>,
    /// Of this call.
    pub request: Option<RequestId>,
    /// The newest so many.
    pub most: u32,
}

/// A row, as it is shown. Amounts are USDC; texts of others were cleaned when they were written (M13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Its number.
    pub seq: u64,
    /// When, in RFC 3339, by the machine's clock.
    pub at: String,
    /// What it is about.
    pub kind: String,
    /// `allowed`, `refused` or `recorded`.
    pub decision: String,
    /// What allowed or refused it.
    pub rule: Option<String>,
    /// Who asked.
    pub agent: String,
    /// By which tool or command, or which part of the runtime.
    pub tool: String,
    /// By which call; none where the runtime acted by itself.
    pub request: Option<String>,
    /// The provider's id.
    pub provider: Option<String>,
    /// Our name of the channel.
    pub intent: Option<String>,
    /// The voucher's number.
    pub nonce: Option<u64>,
    /// The channel's id on chain.
    pub channel: Option<String>,
    /// Our name of the transaction.
    pub tx: Option<String>,
    /// Its hash.
    pub hash: Option<String>,
    /// The question that a person answered.
    pub approval: Option<String>,
    /// The voucher's amount, or what is moved.
    pub amount: Option<Usdc>,
    /// By how much that raised what is signed.
    pub growth: Option<Usdc>,
    /// The most that the request can cost.
    pub bound: Option<Usdc>,
    /// What was left of the limit that refused.
    pub left: Option<Usdc>,
    /// What was booked, or the provider has taken.
    pub charged: Option<Usdc>,
    /// What the provider claimed beyond.
    pub disputed: Option<Usdc>,
    /// What came back.
    pub refunded: Option<Usdc>,
    /// What came of it.
    pub outcome: Option<String>,
    /// The number of the decision's row that this is the outcome of.
    pub decided: Option<u64>,
    /// How often the same was refused again within the minute.
    pub repeated: u64,
}

/// The rows of a wallet's journal, oldest first.
///
/// # Errors
/// Where there is no journal, one without a record, or one that cannot be read.
pub fn read(location: &Location, filter: &Filter) -> Result<Vec<AuditRow>, Failure> {
    let reader = location.reader()?;
    if let Reader::File(file) = &reader
        && schema::version(file)? < schema::AUDITED
    {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            format!("the journal {} is of a version that kept no audit record", location.name().display()),
            "It is kept from the next time on that drain-mcp has the wallet.",
        ));
    }
    let db = reader.db();
    let rows = || -> Result<Vec<AuditRow>, JournalError> {
        let mut statement = db.prepare_cached(
            "SELECT a.*, COALESCE(r.times, 0) AS repeated FROM audit a LEFT JOIN audit_repeats r USING (seq) \
             WHERE a.at >= ?1 AND (CAST(?2 AS TEXT) IS NULL OR a.agent = ?2) AND (CAST(?3 AS TEXT) IS NULL OR a.kind = ?3) AND (CAST(?4 AS TEXT) IS NULL OR a.request = ?4) \
             ORDER BY seq DESC LIMIT ?5",
        )?;
        let mut rows = statement.query(params![
            column(filter.since)?,
            filter.agent,
            filter.kind,
            filter.request.map(|id| id.to_string()),
            filter.most
        ])?;
        let mut found = Vec::new();
        while let Some(r) = &rows.next()? {
            found.push(shown(r)?);
        }
        found.reverse();
        Ok(found)
    };
    Ok(rows().map_err(|error| error.at(&location.name()))?)
}

fn shown(r: &Row<'_>) -> Result<AuditRow, JournalError> {
    let named = |letter: char, column: &str| -> Result<Option<String>, JournalError> {
        Ok(r.get::<_, Option<i64>>(column)?.map(|number| format!("{letter}{number}")))
    };
    let number = |column: &str| match r.get::<_, Option<i64>>(column)? {
        Some(_) => unsigned(r, column).map(Some),
        None => Ok(None),
    };
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unsigned(r, "at")?));
    Ok(AuditRow {
        seq: unsigned(r, "seq")?,
        at: at.map_or_else(String::new, |at| humantime::format_rfc3339_seconds(at).to_string()),
        kind: r.get("kind")?,
        decision: r.get("decision")?,
        rule: r.get("rule")?,
        agent: r.get("agent")?,
        tool: r.get("tool")?,
        request: r.get("request")?,
        provider: r.get("provider")?,
        intent: named('c', "intent")?,
        nonce: number("nonce")?,
        channel: r.get("channel")?,
        tx: named('t', "tx")?,
        hash: r.get("hash")?,
        approval: r.get("approval")?,
        amount: optional_usdc(r, "amount")?,
        growth: optional_usdc(r, "growth")?,
        bound: optional_usdc(r, "bound")?,
        left: optional_usdc(r, "left")?,
        charged: optional_usdc(r, "charged")?,
        disputed: optional_usdc(r, "disputed")?,
        refunded: optional_usdc(r, "refunded")?,
        outcome: r.get("outcome")?,
        decided: number("decided")?,
        repeated: unsigned(r, "repeated")?,
    })
}
