//! What becomes of a voucher: its outcome is booked once, for the channel, its provider's record and whoever asked.

use drain_protocol::{B256, Usdc};

use super::audit::{self, Entry, Kind, Who};
use super::db::{Db, params};
use super::members::{self, Booked};
use super::row::{self, column};
use super::writer::When;
use super::{IntentId, Journal, JournalError, Receipt, records};
use crate::policy::score::Event;

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Booked.
    Settled {
        /// With a usable answer; else the voucher was taken and none came.
        answered: bool,
        /// Booked for it.
        charged: Usdc,
        /// Claimed beyond.
        disputed: Usdc,
        /// SHA-256 of what came.
        answer: Option<B256>,
    },
    /// The provider says that it did no work.
    Refused {
        /// Why, for the record.
        note: String,
    },
    /// The voucher never left.
    Unsent {
        /// Why, for the record.
        note: String,
    },
}

impl Journal {
    /// Books the end of a request. Rides in the next commit: losing it leaves the larger reservation.
    pub fn settle_later(&self, receipt: Receipt, outcome: Outcome, at: u64) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer.submit(When::Later, move |db| settle(db, &who, receipt, &outcome, at)).map(drop)
    }

    /// An answer came, and what it costs is told later. Rides in the next commit.
    pub fn answered_later(&self, receipt: Receipt, answer: B256) -> Result<(), JournalError> {
        let note = move |db: &Db<'_>| {
            db.prepare_cached("UPDATE vouchers SET answer_hash = ?3 WHERE intent = ?1 AND nonce = ?2")?
                .execute(params![receipt.intent.0, receipt.nonce.as_i64(), answer.to_string()])?;
            Ok(())
        };
        self.writer.submit(When::Later, note).map(drop)
    }

    /// Books the end of all requests of a channel whose outcome was unknown: together they cost `cost`.
    pub async fn resolve_unknown(
        &self,
        intent: IntentId,
        cost: Usdc,
        note: &'static str,
        at: u64,
    ) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer.run(move |db| resolve_unknown(db, &who, intent, cost, note, at)).await
    }

    /// The same, riding in the next commit.
    pub fn resolve_unknown_later(
        &self,
        intent: IntentId,
        cost: Usdc,
        note: &'static str,
        at: u64,
    ) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer.submit(When::Later, move |db| resolve_unknown(db, &who, intent, cost, note, at)).map(drop)
    }
}

fn settle(db: &Db<'_>, who: &Who, receipt: Receipt, outcome: &Outcome, at: u64) -> Result<(), JournalError> {
    let (state, charged, disputed, note, answer) = match outcome {
        Outcome::Settled { charged, disputed, answer, .. } => ("settled", *charged, *disputed, None, *answer),
        Outcome::Refused { note } | Outcome::Unsent { note } => {
            ("not_charged", Usdc::ZERO, Usdc::ZERO, Some(note), None)
        }
    };
    // Only a request in flight is settled: the same outcome twice books once.
    let changed = db
        .prepare_cached("UPDATE vouchers SET state = ?3, cost = ?4, disputed = ?5, note = ?6, settled_at = ?7, answer_hash = ?8 WHERE intent = ?1 AND nonce = ?2 AND state = 'in_flight'")?
        .execute(params![receipt.intent.0, receipt.nonce.as_i64(), state, charged.as_i64(), disputed.as_i64(), note, column(at)?, answer.map(|hash| hash.to_string())])?;
    if changed == 0 {
        return Ok(());
    }
    let told = match outcome {
        Outcome::Settled { answered: true, .. } => "answered".into(),
        Outcome::Settled { answered: false, .. } => "no usable answer".into(),
        Outcome::Refused { note } => format!("not charged: the provider refused ({note})").into(),
        Outcome::Unsent { note } => format!("not charged: never sent ({note})").into(),
    };
    let entry = Entry { charged: Some(charged), disputed: Some(disputed), outcome: Some(told), ..came_of(receipt) };
    outcome_of(db, who, receipt, entry)?;
    let event = match outcome {
        Outcome::Settled { answered: true, .. } => Some(Event::Answered),
        Outcome::Settled { answered: false, .. } => Some(Event::Failed),
        Outcome::Refused { .. } => Some(Event::Refused),
        Outcome::Unsent { .. } => None,
    };
    if let Some(event) = event {
        records::count(db, receipt.intent, &[event, Event::Booked { charged, disputed }], at)?;
    }
    let answered = i64::from(event == Some(Event::Answered));
    // What is disputed is a provider's word: its sum has an end, so that the column always holds it.
    db.prepare_cached(
        "UPDATE channels SET charged = charged + ?2, disputed = MIN(disputed, CAST(?5 AS BIGINT) - ?3) + ?3, requests = requests + ?4 \
         WHERE intent = ?1",
    )?
    .execute(params![receipt.intent.0, charged.as_i64(), disputed.as_i64(), answered, Usdc::MAX.as_i64()])?;
    members::booked(db, receipt, Booked { charged, disputed, answered: answered == 1 }, at)?;
    spent_on(db, charged.as_i64(), at)
}

/// The row about what became of a voucher, or of several of which this is the first.
fn came_of(receipt: Receipt) -> Entry<'static> {
    Entry { intent: Some(receipt.intent), nonce: Some(receipt.nonce), ..Entry::recorded(Kind::Settlement) }
}

fn outcome_of(db: &Db<'_>, who: &Who, receipt: Receipt, entry: Entry<'_>) -> Result<(), JournalError> {
    let (provider, decided) = (audit::provider_of(db, receipt.intent)?, audit::of_voucher(db, receipt)?);
    audit::write(db, who, &Entry { provider: provider.as_deref(), decided, ..entry }).map(drop)
}

/// The first of a channel's requests whose outcome is unknown.
fn first_unknown(db: &Db<'_>, intent: IntentId) -> Result<Option<Receipt>, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT MIN(nonce) AS nonce FROM vouchers INDEXED BY vouchers_in_flight WHERE intent = ?1 AND state = 'in_flight' HAVING MIN(nonce) IS NOT NULL",
    )?;
    let mut rows = statement.query([intent.0])?;
    rows.next()?.as_ref().map(|r| Ok(Receipt { intent, nonce: row::nonce(r, "nonce")? })).transpose()
}

fn resolve_unknown(
    db: &Db<'_>,
    who: &Who,
    intent: IntentId,
    cost: Usdc,
    note: &str,
    at: u64,
) -> Result<(), JournalError> {
    let Some(oldest) = first_unknown(db, intent)? else { return Ok(()) };
    // The sum is known, its parts are not: the oldest carries it.
    let changed = db
        .prepare_cached(
            "UPDATE vouchers INDEXED BY vouchers_in_flight SET state = 'settled', cost = CASE WHEN nonce = ?5 THEN CAST(?2 AS BIGINT) ELSE 0 END, disputed = 0, note = ?3, settled_at = ?4 \
             WHERE intent = ?1 AND state = 'in_flight'",
        )?
        .execute(params![intent.0, cost.as_i64(), note, column(at)?, oldest.nonce.as_i64()])?;
    let told = match changed {
        1 => format!("what was unknown is known ({note})"),
        many => format!("what was unknown of {many} requests is known ({note})"),
    };
    outcome_of(db, who, oldest, Entry { charged: Some(cost), outcome: Some(told.into()), ..came_of(oldest) })?;
    db.prepare_cached("UPDATE channels SET charged = charged + ?2 WHERE intent = ?1")?
        .execute(params![intent.0, cost.as_i64()])?;
    records::count(db, intent, &[Event::Booked { charged: cost, disputed: Usdc::ZERO }], at)?;
    members::booked(db, oldest, Booked { charged: cost, disputed: Usdc::ZERO, answered: false }, at)?;
    spent_on(db, cost.as_i64(), at)
}

/// Adds to what was booked on a day, or takes from it; for nobody's agent.
pub(super) fn spent_on(db: &Db<'_>, units: i64, at: u64) -> Result<(), JournalError> {
    db.prepare_cached("INSERT INTO spent_by_day (day, charged) VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET charged = spent_by_day.charged + excluded.charged")?
        .execute(params![row::day(at)?, units])?;
    Ok(())
}
