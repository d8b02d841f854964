//! A frozen wallet promises nothing more (M11): no voucher, no approval, no opening. What brings money back goes on.
//!
//! The check runs inside of the transactions that authorize, so that nothing slips through beside it.

use drain_protocol::{Nonce, Usdc};

use super::audit::{self, Entry, Kind, Who};
use super::channels::mark_recovered;
use super::db::{Db, params};
use super::row::{self, column};
use super::{IntentId, Journal, JournalError, TxKind, channel};
use crate::error::{Code, Failure};
use crate::policy::Limits;

/// Who froze the wallet. Each stands by itself; a person lifts all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeSource {
    /// A claim took more than this journal ever signed: somebody else has the key (M11).
    Claim,
    /// The operator, by `drain-mcp wallet freeze`.
    Operator,
    /// The operator, by `DRAIN_FREEZE`. Nothing is recorded.
    Configuration,
}

/// The rows of those that are recorded, the gravest first.
const CLAIM: &str = "frozen_by_claim";
const OPERATOR: &str = "frozen_by_operator";

impl FreezeSource {
    /// Its name in the record; in the configuration it is the variable's.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Claim => CLAIM,
            Self::Operator => OPERATOR,
            Self::Configuration => "DRAIN_FREEZE",
        }
    }
}

/// A freeze that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Who froze.
    pub source: FreezeSource,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when.
    pub at: u64,
}

impl Frozen {
    /// The same, without what it tells of others' channels.
    pub(super) fn for_an_agent(self) -> Self {
        let reason = match self.source {
            FreezeSource::Claim => "more was claimed than this wallet signed".into(),
            FreezeSource::Operator | FreezeSource::Configuration => "its operator froze it".into(),
        };
        Self { reason, ..self }
    }
}

impl From<Frozen> for Failure {
    fn from(frozen: Frozen) -> Self {
        let next = match frozen.source {
            FreezeSource::Claim => {
                "Tell the operator at once: somebody else may have the key. A person closes all channels (drain-mcp refund), \
                 moves what is left to a new wallet (drain-mcp wallet send) and uses that. Only a person lifts the freeze: \
                 drain-mcp wallet unfreeze, on a terminal."
            }
            FreezeSource::Operator => {
                "The operator froze the wallet. Closing channels goes on. Only a person lifts the freeze: \
                 drain-mcp wallet unfreeze, on a terminal."
            }
            FreezeSource::Configuration => {
                "Closing channels goes on. Only a person unsets DRAIN_FREEZE, in the configuration."
            }
        };
        Self::unspent(Code::WalletFrozen, format!("The wallet is frozen: {}", frozen.reason), next)
    }
}

/// Refuses while a freeze stands. For the transactions that authorize.
pub(super) fn refuse_frozen(db: &Db<'_>) -> Result<(), JournalError> {
    frozen(db)?.map_or(Ok(()), |frozen| Err(JournalError::Frozen(frozen)))
}

/// The same, and while the configuration freezes.
pub(super) fn refuse_frozen_by(db: &Db<'_>, limits: &Limits, at: u64) -> Result<(), JournalError> {
    refuse_frozen(db)?;
    if limits.frozen {
        let reason = "DRAIN_FREEZE is on".into();
        return Err(JournalError::Frozen(Frozen { source: FreezeSource::Configuration, reason, at }));
    }
    Ok(())
}

/// Whether a transaction only makes sense for a wallet that goes on paying. What a person sends is theirs to decide.
pub(super) const fn is_frozen_with_wallet(kind: TxKind) -> bool {
    matches!(kind, TxKind::Approve | TxKind::Open | TxKind::SessionFee)
}

/// The gravest freeze that stands.
fn frozen(db: &Db<'_>) -> Result<Option<Frozen>, JournalError> {
    for (name, source) in [(CLAIM, FreezeSource::Claim), (OPERATOR, FreezeSource::Operator)] {
        let mut statement = db.prepare_cached("SELECT value, at FROM flags WHERE name = ?1")?;
        let mut rows = statement.query([name])?;
        if let Some(row) = &rows.next()? {
            let at = row::unsigned(row, "at")?;
            return Ok(Some(Frozen { source, reason: row.get("value")?, at }));
        }
    }
    Ok(None)
}

fn freeze(db: &Db<'_>, who: &Who, source: FreezeSource, reason: &str, at: u64) -> Result<bool, JournalError> {
    let name = source.name();
    let rows = db
        .prepare_cached("INSERT INTO flags (name, value, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![name, reason, column(at)?])?;
    if rows == 1 {
        let entry = Entry { rule: Some(name.into()), ..Entry::recorded(Kind::Freeze) };
        audit::write(db, who, &entry.told(reason))?;
    }
    Ok(rows == 1)
}

/// A copy took the place of a journal that could not be read: what stood in that one may be a freeze or a used limit.
pub(super) fn because_nobody_knows(db: &Db<'_>, unread: &[String]) -> Result<(), JournalError> {
    let reason = format!("a copy was put in place of a journal of which could not be read: {}", unread.join(", "));
    let at: i64 = db.query_row("SELECT unixepoch()", params![], |row| row.get(0))?;
    freeze(db, &Who::default(), FreezeSource::Operator, &reason, u64::try_from(at).unwrap_or_default())?;
    Ok(())
}

/// Money went by a signature that was not to be (M11).
pub(super) fn because_of_a_claim(db: &Db<'_>, who: &Who, reason: &str, at: u64) -> Result<(), JournalError> {
    freeze(db, who, FreezeSource::Claim, reason, at).map(drop)
}

impl Journal {
    /// The operator freezes the wallet. The first reason stays. True when the operator had not frozen it before.
    pub async fn freeze(&self, reason: String, at: u64) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer.run(move |db| freeze(db, &who, FreezeSource::Operator, &reason, at)).await
    }

    /// A claim took `taken` with a voucher of our key. Where that is more than was signed here, the wallet is frozen, and
    /// the channel's history is incomplete from now on: it is judged once. False where it is nothing new.
    pub async fn key_was_used_elsewhere(
        &self,
        intent: IntentId,
        taken: Usdc,
        reason: String,
        nonce_floor: Nonce,
        at: u64,
    ) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let record = channel::load(db, intent)?;
                if record.recovered || taken <= record.books.signed {
                    return Ok(false);
                }
                mark_recovered(db, intent, nonce_floor)?;
                let entry = Entry {
                    rule: Some("m11".into()),
                    provider: Some(&record.provider_id),
                    intent: Some(intent),
                    channel: record.channel_id,
                    amount: Some(taken),
                    disputed: Some(taken.saturating_sub(record.books.signed)),
                    ..Entry::recorded(Kind::Alarm)
                };
                audit::write(db, &who, &entry.told(reason.as_str()))?;
                freeze(db, &who, FreezeSource::Claim, &reason, at)?;
                Ok(true)
            })
            .await
    }

    /// A person lifts every freeze. True when one stood.
    pub async fn unfreeze(&self) -> Result<bool, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let lifted =
                    db.prepare_cached("DELETE FROM flags WHERE name IN (?1, ?2)")?.execute([CLAIM, OPERATOR])? > 0;
                if lifted {
                    let entry = Entry { rule: Some("person".into()), ..Entry::allowed(Kind::Unfreeze) };
                    audit::write(db, &who, &entry)?;
                }
                Ok(lifted)
            })
            .await
    }

    /// The freeze that stands, if one does.
    pub async fn frozen(&self) -> Result<Option<Frozen>, JournalError> {
        self.writer.run(frozen).await
    }
}
