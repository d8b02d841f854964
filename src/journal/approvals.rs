//! What a person was asked and answered. A yes is used once, in the transaction that records what it allowed (M5).

use std::fmt;
use std::str::FromStr;

use super::audit::{self, Entry, Kind};
use super::db::{Db, Row, params};
use super::row::address;
use super::row::{self, column};
use super::{Journal, JournalError, usage};
use crate::clock::Moment;
use crate::policy::approvals::{ApprovalKind, Subject, Verdict, Via};

/// Questions that may wait at once: more would only bury a person.
const MOST_WAITING: u32 = 100;

/// A question to a person. Shown as `a3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId(i64);

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

impl FromStr for ApprovalId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix('a').and_then(|n| n.parse().ok()).filter(|n| *n > 0).map(Self).ok_or(())
    }
}

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody answered yet.
    Waiting,
    /// Yes; not used yet.
    Approved,
    /// No.
    Denied,
    /// Yes, and paid.
    Used,
    /// Its time ran out.
    Expired,
}

impl ApprovalState {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }
}

/// A question as recorded.
#[derive(Clone, Debug)]
pub struct Approval {
    /// Its name.
    pub id: ApprovalId,
    /// What it is about.
    pub subject: Subject,
    /// Where it stands.
    pub state: ApprovalState,
    /// Seconds until it expires; zero when it has.
    pub expires_in: u64,
    /// Seconds since it was asked.
    pub waited: u64,
}

const COLUMNS: &str = "id, kind, agent, provider_id, provider_name, wallet, host, chain_id, contract, amount, duration, prices, state, expires_at, asked_at";

fn record(r: &Row<'_>, now: u64) -> Result<Approval, JournalError> {
    let kind = match r.get::<_, String>("kind")?.as_str() {
        "request" => ApprovalKind::Request,
        "deposit" => ApprovalKind::Deposit,
        other => return Err(JournalError::Corrupt(format!("approvals.kind = {other}"))),
    };
    let expires_at = row::unsigned(r, "expires_at")?;
    let state = match r.get::<_, String>("state")?.as_str() {
        "used" => ApprovalState::Used,
        _ if now >= expires_at => ApprovalState::Expired,
        "waiting" => ApprovalState::Waiting,
        "approved" => ApprovalState::Approved,
        "denied" => ApprovalState::Denied,
        other => return Err(JournalError::Corrupt(format!("approvals.state = {other}"))),
    };
    Ok(Approval {
        id: ApprovalId(r.get("id")?),
        subject: Subject {
            kind,
            agent: r.get("agent")?,
            provider_id: r.get("provider_id")?,
            provider_name: r.get("provider_name")?,
            wallet: row::parsed(r, "wallet")?,
            host: r.get("host")?,
            chain_id: row::unsigned(r, "chain_id")?,
            contract: row::parsed(r, "contract")?,
            amount: row::usdc(r, "amount")?,
            duration: row::unsigned(r, "duration")?,
            prices: row::parsed(r, "prices")?,
        },
        state,
        expires_in: expires_at.saturating_sub(now),
        waited: now.saturating_sub(row::unsigned(r, "asked_at")?),
    })
}

/// The time by which a yes expires: that of windows, and while those stand still also the machine's. An old yes must not
/// live on for as long as no endpoint answers.
pub(super) fn now(db: &Db<'_>, moment: Moment) -> Result<u64, JournalError> {
    let windows = usage::now(db, moment)?;
    Ok(if moment.windows.is_some() { windows } else { windows.max(moment.at) })
}

/// Everything that has not expired and is not used, oldest first.
fn alive(db: &Db<'_>, now: u64) -> Result<Vec<Approval>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM approvals WHERE expires_at > ?1 AND state != 'used' ORDER BY id"
    ))?;
    let mut rows = statement.query([column(now)?])?;
    let mut found = Vec::new();
    while let Some(row) = &rows.next()? {
        found.push(record(row, now)?);
    }
    Ok(found)
}

/// Uses a yes that covers `wanted`, once. Without one: [`JournalError::NeedsPerson`].
pub(super) fn spend(db: &Db<'_>, wanted: &Subject, now: u64, used_by: &str) -> Result<ApprovalId, JournalError> {
    let granted = |approval: &Approval| approval.state == ApprovalState::Approved && approval.subject.covers(wanted);
    let Some(yes) = alive(db, now)?.into_iter().find(granted) else { return Err(JournalError::NeedsPerson) };
    db.prepare_cached("UPDATE approvals SET state = 'used', used_by = ?2 WHERE id = ?1")?
        .execute(params![yes.id.0, used_by])?;
    Ok(yes.id)
}

/// Whether a yes that this very call has used already covers `wanted` too: its second try (M15).
pub(super) fn still_covers(db: &Db<'_>, id: ApprovalId, wanted: &Subject, now: u64) -> Result<bool, JournalError> {
    Ok(load(db, id, now)?.is_some_and(|used| used.state == ApprovalState::Used && used.subject.covers(wanted)))
}

fn load(db: &Db<'_>, id: ApprovalId, now: u64) -> Result<Option<Approval>, JournalError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM approvals WHERE id = ?1"))?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.as_ref().map(|row| record(row, now)).transpose()
}

impl Journal {
    /// Asks a person; what was asked already, or answered, is that question.
    pub async fn ask_person(&self, subject: Subject, valid: u64, moment: Moment) -> Result<Approval, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let now = now(db, moment)?;
                let alive = alive(db, now)?;
                if let Some(asked) = alive.iter().find(|asked| asked.subject.covers(&subject)) {
                    return Ok(asked.clone());
                }
                if alive.iter().filter(|asked| asked.state == ApprovalState::Waiting).count() >= MOST_WAITING as usize {
                    return Err(JournalError::TooManyQuestions(MOST_WAITING));
                }
                let kind = match subject.kind {
                    ApprovalKind::Request => "request",
                    ApprovalKind::Deposit => "deposit",
                };
                let id = db.prepare_cached(
                    "INSERT INTO approvals (kind, agent, provider_id, provider_name, wallet, host, chain_id, contract, amount, duration, prices, state, \
                     asked_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'waiting', ?12, ?13) RETURNING id",
                )?
                .query_row(params![
                    kind,
                    subject.agent,
                    subject.provider_id,
                    subject.provider_name,
                    address(subject.wallet),
                    subject.host,
                    column(subject.chain_id)?,
                    address(subject.contract),
                    subject.amount.as_i64(),
                    column(subject.duration)?,
                    format!("{:#x}", subject.prices),
                    column(now)?,
                    column(now.saturating_add(valid))?,
                ], |r| r.get(0))?;
                let id = ApprovalId(id);
                let entry = Entry {
                    provider: Some(&subject.provider_id),
                    approval: Some(id),
                    amount: Some(subject.amount),
                    ..Entry::recorded(Kind::Question)
                };
                audit::write(db, &who, &entry.told(format!("a person is asked: {kind}")))?;
                load(db, id, now)?.ok_or_else(|| JournalError::Unknown(format!("approval {id}")))
            })
            .await
    }

    /// A question, as it stands.
    pub async fn approval(&self, id: ApprovalId, moment: Moment) -> Result<Option<Approval>, JournalError> {
        self.writer.run(move |db| load(db, id, now(db, moment)?)).await
    }

    /// Questions that a person may answer, or has answered and are not used yet.
    pub async fn approvals(&self, moment: Moment) -> Result<Vec<Approval>, JournalError> {
        self.writer.run(move |db| alive(db, now(db, moment)?)).await
    }

    /// Records a person's answer. Only a waiting question takes one.
    pub async fn decide(
        &self,
        id: ApprovalId,
        verdict: Verdict,
        via: Via,
        moment: Moment,
    ) -> Result<Approval, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let now = now(db, moment)?;
                let state = match verdict {
                    Verdict::Approve => "approved",
                    Verdict::Deny => "denied",
                };
                let changed = db
                    .prepare_cached("UPDATE approvals SET state = ?2, decided_at = ?3, decided_via = ?4 WHERE id = ?1 AND state = 'waiting' AND expires_at > ?3")?
                    .execute(params![id.0, state, column(now)?, via.as_str()])?;
                let found = load(db, id, now)?;
                match found {
                    Some(approval) if changed == 1 => {
                        let entry = match verdict {
                            Verdict::Approve => Entry::allowed(Kind::Answer),
                            Verdict::Deny => Entry::refused(Kind::Answer),
                        };
                        let entry = Entry {
                            rule: Some("person".into()),
                            provider: Some(&approval.subject.provider_id),
                            approval: Some(id),
                            amount: Some(approval.subject.amount),
                            ..entry
                        };
                        audit::write(db, &who, &entry.told(format!("by {}", via.as_str())))?;
                        Ok(approval)
                    }
                    Some(approval) => Err(JournalError::Answered(id, approval.state)),
                    None => Err(JournalError::Unknown(format!("approval {id}"))),
                }
            })
            .await
    }
}
