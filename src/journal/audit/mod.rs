//! The audit record: every decision about money, written in the transaction that takes it. Rows are only ever added, which
//! triggers keep; each voucher names its row.
//!
//! A row is about 150 bytes, and a paid request makes two. What costs nothing does not fill the disk: a refusal that the
//! same agent meets again within a minute, of the same kind and by the same rule, is counted beside its first row.

mod entry;
mod read;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
pub(super) mod transactions;

use std::borrow::Cow;

use super::db::{Db, Optional, params};
use drain_protocol::Usdc;
use drain_protocol::text::one_line;

pub use entry::Kind;
pub(super) use entry::{Decision, Entry};
pub use read::{AuditRow, Filter, read};

use super::writer::When;
use super::{IntentId, Journal, JournalError, Receipt};
use crate::error::{Code, Failure};
use crate::policy::books::NoVoucher;
use crate::policy::budgets::Quantity;
use crate::policy::{Caller, RequestId, Sees};

/// Longest text of others in a row.
const TEXT: usize = 200;
/// Longest name of others.
const NAME: usize = 80;
/// Refusals of one kind within so many seconds are one row.
const REPEATED_WITHIN: i64 = 60;

/// For whom a journal's method is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The call; `None` where the runtime acts by itself.
    pub request: Option<RequestId>,
    pub agent: String,
    pub tool: Cow<'static, str>,
    pub sees: Sees,
}

impl Who {
    /// The name by which an agent of the fleet knows its channels; `None` for everybody else.
    pub fn member(&self) -> Option<&str> {
        matches!(self.sees, Sees::Own { .. }).then_some(self.agent.as_str())
    }

    /// An answer as this caller is given it: what others of the wallet did is not an agent's to know.
    pub fn told(&self, error: JournalError) -> JournalError {
        match (self.sees, error) {
            (Sees::All, error) => error,
            (Sees::Own { .. }, JournalError::OverLimit(over)) => JournalError::OverLimit(over.for_an_agent()),
            (Sees::Own { .. }, JournalError::Frozen(frozen)) => JournalError::Frozen(frozen.for_an_agent()),
            (Sees::Own { .. }, JournalError::SetAside { provider_id, .. }) => {
                JournalError::SetAside { provider_id, reason: "its record with this wallet is bad".into() }
            }
            (Sees::Own { .. }, error) => error,
        }
    }
}

impl Default for Who {
    fn default() -> Self {
        Self { request: None, agent: String::new(), tool: "runtime".into(), sees: Sees::All }
    }
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        let Caller { agent, asked, sees, .. } = caller;
        Self { request: Some(asked.request), agent: agent.clone(), tool: asked.tool.clone(), sees: *sees }
    }
}

/// Adds a row; its number is the answer.
pub(super) fn write(db: &Db<'_>, who: &Who, entry: &Entry<'_>) -> Result<i64, JournalError> {
    let money = |amount: Option<Usdc>| amount.map(Usdc::as_i64);
    let row = db
        .prepare_cached(
        "INSERT INTO audit (seq, at, request, agent, tool, kind, decision, rule, provider, intent, nonce, tx, approval, channel, hash, \
         amount, growth, bound, \"left\", charged, disputed, refunded, outcome, decided) \
         VALUES ((SELECT COALESCE(MAX(seq), 0) + 1 FROM audit), unixepoch(), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22) \
         RETURNING seq",
    )?
    .query_row(params![
        who.request.map(|id| id.to_string()),
        who.agent,
        who.tool,
        entry.kind.to_string(),
        entry.decision.to_string(),
        entry.rule,
        entry.provider.map(|id| one_line(id, NAME)),
        entry.intent.map(|intent| intent.0),
        entry.nonce.map(|nonce| nonce.as_i64()),
        entry.tx.map(|tx| tx.0),
        entry.approval.map(|id| id.to_string()),
        entry.channel.map(|id| id.to_string()),
        entry.hash.map(|hash| format!("{hash:#x}")),
        money(entry.amount),
        money(entry.growth),
        money(entry.bound),
        money(entry.left),
        money(entry.charged),
        money(entry.disputed),
        money(entry.refunded),
        entry.outcome.as_deref().map(|text| one_line(text, TEXT)),
        entry.decided,
    ], |r| r.get(0))?;
    Ok(row)
}

/// Adds a refusal, or counts it beside the one of the last minute that is like it.
fn write_refusal(db: &Db<'_>, who: &Who, entry: &Entry<'_>) -> Result<(), JournalError> {
    let before: Option<i64> = db
        .prepare_cached(
            "SELECT seq FROM audit WHERE decision = 'refused' AND agent = ?1 AND kind = ?2 AND rule IS NOT DISTINCT FROM ?3 \
             AND at > unixepoch() - ?4 AND at <= unixepoch() ORDER BY at DESC, seq DESC LIMIT 1",
        )?
        .query_row(params![who.agent, entry.kind.to_string(), entry.rule, REPEATED_WITHIN], |r| r.get(0))
        .optional()?;
    match before {
        None => write(db, who, entry).map(drop),
        Some(seq) => {
            db.prepare_cached(
                "INSERT INTO audit_repeats (seq, times, last_at) VALUES (?1, 1, unixepoch()) \
                 ON CONFLICT (seq) DO UPDATE SET times = audit_repeats.times + 1, last_at = excluded.last_at",
            )?
            .execute([seq])?;
            Ok(())
        }
    }
}

/// Takes a decision. One that a rule refuses leaves nothing behind but its row, which is kept: the refusal comes back
/// inside of what was done. What the disk or the file refuses is no decision.
pub(super) fn decided<T>(
    db: &Db<'_>,
    who: &Who,
    wanted: Entry<'_>,
    decide: impl FnOnce(&Db<'_>) -> Result<T, JournalError>,
) -> Result<Result<T, JournalError>, JournalError> {
    db.control("SAVEPOINT decision")?;
    let result = decide(db);
    let refusal = result.as_ref().err().map(|error| (refusal(error), error.to_string()));
    let kept = match refusal {
        None => Ok(result),
        Some((None, _)) => return result.map(Ok),
        Some((Some(Refusal { rule, left }), why)) => {
            db.control("ROLLBACK TO decision")?;
            let provider = match wanted.intent.filter(|_| wanted.provider.is_none()) {
                Some(intent) => provider_of(db, intent)?,
                None => wanted.provider.map(str::to_owned),
            };
            let entry = Entry {
                decision: Decision::Refused,
                rule: Some(rule.into()),
                provider: provider.as_deref(),
                left,
                ..wanted
            };
            write_refusal(db, who, &entry.told(why))?;
            Ok(result)
        }
    };
    db.control("RELEASE decision")?;
    kept
}

/// The provider of a channel, where there is one.
pub(super) fn provider_of(db: &Db<'_>, intent: IntentId) -> Result<Option<String>, JournalError> {
    let mut statement = db.prepare_cached("SELECT provider_id FROM channels WHERE intent = ?1")?;
    Ok(statement.query_row([intent.0], |r| r.get(0)).optional()?)
}

/// The rule that refused, and what it left.
struct Refusal {
    rule: &'static str,
    left: Option<Usdc>,
}

/// `None` for what is no rule's word, but trouble.
fn refusal(error: &JournalError) -> Option<Refusal> {
    let by = |rule| Some(Refusal { rule, left: None });
    match error {
        JournalError::OverLimit(over) => {
            let left = match over.left {
                Some(Quantity::Usdc(left)) => Some(left),
                Some(Quantity::Gas(_) | Quantity::Count(_)) | None => None,
            };
            Some(Refusal { rule: over.rule.variable(), left })
        }
        JournalError::NoVoucher(NoVoucher::Exhausted { available, .. }) => {
            Some(Refusal { rule: "exhausted", left: Some(*available) })
        }
        JournalError::NoVoucher(_) => by("exhausted"),
        JournalError::NotOpen(_) => by("not_open"),
        JournalError::NotAllowed(why) => by(why.variable()),
        JournalError::SetAside { .. } => by("set_aside"),
        JournalError::PayeeChanged { .. } => by("payee"),
        JournalError::ChallengeUsed { .. } => by("challenge"),
        JournalError::NeedsPerson => by("approval"),
        JournalError::Repeated(_) | JournalError::OtherRequest(_) => by("request_id"),
        JournalError::TooManyQuestions(_) => by("questions"),
        JournalError::Frozen(frozen) => by(frozen.source.name()),
        _ => None,
    }
}

/// The row of a voucher's decision.
pub(super) fn of_voucher(db: &Db<'_>, receipt: Receipt) -> Result<Option<i64>, JournalError> {
    let row = db
        .prepare_cached("SELECT audit FROM vouchers WHERE intent = ?1 AND nonce = ?2")?
        .query_row(params![receipt.intent.0, receipt.nonce.as_i64()], |r| r.get(0))
        .optional()?;
    Ok(row.flatten())
}

/// What was refused before the journal was asked, by a rule of the operator's or by what a provider has become.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What was wanted.
    pub kind: Kind,
    /// Of which provider.
    pub provider: Option<String>,
    /// Of which channel.
    pub intent: Option<IntentId>,
    /// How much was asked for.
    pub amount: Option<Usdc>,
}

/// Whether a failure is a rule's word, and not trouble.
const fn is_a_rules(code: Code) -> bool {
    matches!(
        code,
        Code::LimitReached
            | Code::NotAllowed
            | Code::NotPayable
            | Code::ProviderChanged
            | Code::ProviderMismatch
            | Code::UrlRefused
            | Code::DurationRefused
    )
}

impl Journal {
    /// The same journal, for this caller: what is recorded by it names the caller and the call.
    pub fn asked(&self, caller: &Caller) -> Self {
        Self { writer: self.writer.clone(), view: self.view.clone(), who: std::sync::Arc::new(caller.into()) }
    }

    /// Records and counts a refusal that did not need the journal's word, where it is a rule's. Rides in the next commit.
    pub fn refused_later(&self, wanted: Wanted, failure: &Failure) {
        if !is_a_rules(failure.code) {
            return;
        }
        let (who, rule, why) = (self.who.clone(), failure.code.as_str(), failure.message.clone());
        crate::metrics::decided("refused", rule);
        let recorded = self.writer.submit(When::Later, move |db| {
            let Wanted { kind, provider, intent, amount } = wanted;
            let entry = Entry {
                rule: Some(rule.into()),
                provider: provider.as_deref(),
                intent,
                amount,
                ..Entry::refused(kind)
            };
            write_refusal(db, &who, &entry.told(why))
        });
        if let Err(error) = recorded {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}
