//! What becomes of a payment: its server tells something, and the chain has the last word. Each is booked once.

use drain_protocol::demand::Protocol;
use drain_protocol::{Address, B256, Usdc};

use super::super::audit::{self, Entry, Kind, Who};
use super::super::db::{Db, params};
use super::super::row::{self, column};
use super::super::usage::{self, Payer};
use super::super::writer::When;
use super::super::{Journal, JournalError, PaymentId, freeze, members, records, settling};
use super::{key_of, pins};
use crate::policy::score::Event;

/// How a payment ended, as far as its server told.
#[derive(Clone, Debug)]
pub enum PaymentEnd {
    /// The server says that it has taken the money.
    Taken {
        /// By which transaction, by its word.
        transaction: Option<B256>,
        /// SHA-256 of what was bought; none where the server failed all the same.
        answer: Option<B256>,
    },
    /// The signature is out, and the server did not say that the money was taken. The chain will.
    Unknown {
        /// SHA-256 of what was bought, where something came.
        answer: Option<B256>,
        /// What is known, for the record.
        note: String,
    },
    /// The signature never left.
    Unsent {
        /// Why, for the record.
        note: String,
    },
}

/// A payment of which the chain has not said yet what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPayment {
    /// Which.
    pub id: PaymentId,
    /// On which chain.
    pub chain_id: u64,
    /// The token's contract.
    pub token: Address,
    /// The transfer's nonce.
    pub nonce: B256,
    /// From then on it can never be taken, in Unix seconds of block time.
    pub valid_before: u64,
    /// The transaction that was signed, where it is one of Tempo's and whole; else the one that its server names, if it does.
    pub transaction: Option<B256>,
    /// What it pays, without gas.
    pub value: Usdc,
    /// Over Tempo: its server pays the gas, and nobody knew the transaction's hash before.
    pub sponsored: bool,
    /// It never left, by what its process knew.
    pub unsent: bool,
}

impl OpenPayment {
    /// That it was not taken, where a block of this time is past its end.
    pub const fn never_at(&self, timestamp: u64) -> Option<OnChain> {
        if timestamp < self.valid_before {
            return None;
        }
        Some(OnChain::NeverTaken { transaction: self.transaction })
    }
}

/// What was booked for a payment by the chain's word alone. Over Tempo that is each one: what its gas costs nobody knows before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// Whose request it was.
    pub agent: String,
    /// The payee's record.
    pub provider: String,
    /// How much.
    pub amount: Usdc,
}

/// What the chain says of a payment, at a block that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChain {
    /// The transfer was sent: the money is the payee's.
    Taken {
        /// What it cost, gas included.
        cost: Usdc,
    },
    /// The transaction was sent and did nothing: its gas is gone, and the payee has nothing.
    Reverted {
        /// What the gas cost.
        cost: Usdc,
    },
    /// It was not, and its time is over: it never can be.
    NeverTaken {
        /// The transaction that was asked for. Over Tempo one that was recorded since is another one, of which nothing was said.
        transaction: Option<B256>,
    },
}

impl Journal {
    /// Records what a payment's server told. Rides in the next commit: losing it leaves the reservation, and the chain tells.
    pub fn payment_ended_later(&self, id: PaymentId, end: PaymentEnd, at: u64) -> Result<(), JournalError> {
        let who = self.who.clone();
        self.writer.submit(When::Later, move |db| ended(db, &who, id, &end, at)).map(drop)
    }

    /// Records the transaction that was signed, before anybody has it: by its hash the chain can be asked what became of it.
    pub async fn payment_signed(&self, id: PaymentId, hash: B256) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("UPDATE payments SET tx_hash = ?2 WHERE id = ?1")?
                    .execute(params![id.0, format!("{hash:#x}")])
                    .map(drop)
                    .map_err(Into::into)
            })
            .await
    }

    /// Payments of which the chain has not said yet what became of them, the oldest behind `after` first.
    pub async fn open_payments(&self, after: Option<PaymentId>, most: u32) -> Result<Vec<OpenPayment>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT id, chain_id, token, transfer_nonce, valid_before, tx_hash, amount, gas, protocol, state = 'not_charged' AS unsent FROM payments WHERE confirmed = 0 AND id > ?2 ORDER BY id LIMIT ?1",
                )?;
                let mut rows = statement.query(params![most, after.map_or(0, |id| id.0)])?;
                let mut found = Vec::new();
                while let Some(r) = &rows.next()? {
                    found.push(OpenPayment {
                        id: PaymentId(r.get("id")?),
                        chain_id: row::unsigned(r, "chain_id")?,
                        token: row::parsed(r, "token")?,
                        nonce: row::parsed(r, "transfer_nonce")?,
                        valid_before: row::unsigned(r, "valid_before")?,
                        transaction: r.get::<_, Option<String>>("tx_hash")?.and_then(|hash| hash.parse().ok()),
                        sponsored: r.get::<_, String>("protocol")? == Protocol::MppTempo.as_str()
                            && row::usdc(r, "gas")?.is_zero(),
                        value: row::usdc(r, "amount")?.saturating_sub(row::usdc(r, "gas")?),
                        unsent: r.get("unsent")?,
                    });
                }
                Ok(found)
            })
            .await
    }

    /// Records what the chain says of a payment; gives what was booked for it by that.
    pub async fn payment_on_chain(
        &self,
        id: PaymentId,
        said: OnChain,
        at: u64,
    ) -> Result<Option<Booked>, JournalError> {
        let who = self.who.clone();
        self.writer.run(move |db| on_chain(db, &who, id, said, at)).await
    }
}

/// A payment as it stands.
struct Standing {
    amount: Usdc,
    cost: Option<Usdc>,
    state: String,
    provider: String,
    provider_id: String,
    agent: String,
    newcomer: bool,
    counted_at: u64,
    settled_at: Option<u64>,
    decided: i64,
    answered: bool,
    confirmed: bool,
    over_tempo: bool,
    transaction: Option<B256>,
}

impl Standing {
    fn booked(&self, amount: Usdc) -> Booked {
        Booked { agent: self.agent.clone(), provider: self.provider.clone(), amount }
    }
}

fn standing(db: &Db<'_>, id: PaymentId) -> Result<Standing, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT amount, cost, state, payee, host, provider_id, agent, newcomer, counted_at, settled_at, audit, answer_hash, confirmed, protocol, tx_hash \
         FROM payments WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.0])?;
    let Some(r) = &rows.next()? else { return Err(JournalError::Unknown(format!("payment {id}"))) };
    let (payee, host): (String, String) = (r.get("payee")?, r.get("host")?);
    Ok(Standing {
        amount: row::usdc(r, "amount")?,
        cost: row::optional_usdc(r, "cost")?,
        state: r.get("state")?,
        provider: key_of(&payee, &host),
        provider_id: r.get("provider_id")?,
        agent: r.get("agent")?,
        newcomer: r.get("newcomer")?,
        counted_at: row::unsigned(r, "counted_at")?,
        settled_at: r.get::<_, Option<i64>>("settled_at")?.and_then(|at| u64::try_from(at).ok()),
        decided: r.get("audit")?,
        answered: r.get::<_, Option<String>>("answer_hash")?.is_some(),
        confirmed: r.get("confirmed")?,
        over_tempo: r.get::<_, String>("protocol")? == Protocol::MppTempo.as_str(),
        transaction: r.get::<_, Option<String>>("tx_hash")?.and_then(|hash| hash.parse().ok()),
    })
}

fn ended(db: &Db<'_>, who: &Who, id: PaymentId, end: &PaymentEnd, at: u64) -> Result<(), JournalError> {
    let before = standing(db, id)?;
    let (answer, transaction, note) = match end {
        PaymentEnd::Taken { transaction, answer } => (*answer, *transaction, None),
        PaymentEnd::Unknown { answer, note } => (*answer, None, Some(note)),
        PaymentEnd::Unsent { note } => (None, None, Some(note)),
    };
    // The chain's word may be quicker than the server's.
    db.prepare_cached(
        "UPDATE payments SET answer_hash = COALESCE(?2, answer_hash), tx_hash = COALESCE(tx_hash, ?3), note = COALESCE(?4, note) WHERE id = ?1",
    )?
    .execute(params![
        id.0,
        answer.map(|hash| hash.to_string()),
        transaction.map(|hash| format!("{hash:#x}")),
        note
    ])?;
    if before.state != "in_flight" {
        return Ok(());
    }
    match end {
        // The payee's record waits for the chain's word: a claim is no history.
        PaymentEnd::Taken { answer, .. } => book(db, who, id, &before, before.amount, outcome(answer.is_some()), at),
        PaymentEnd::Unknown { note, .. } => {
            let entry = Entry { decided: Some(before.decided), ..Entry::recorded(Kind::Unknown) };
            told(db, who, &before, entry, format!("{id}: {note}"))
        }
        PaymentEnd::Unsent { note } => {
            give_back(db, who, id, &before, &format!("never sent ({note})"), at)?;
            pins::forget_unpaid(db, id)
        }
    }
}

fn on_chain(db: &Db<'_>, who: &Who, id: PaymentId, said: OnChain, at: u64) -> Result<Option<Booked>, JournalError> {
    let before = standing(db, id)?;
    if before.confirmed {
        return Ok(None);
    }
    let mut booked = None;
    let cost = match said {
        OnChain::Taken { cost } | OnChain::Reverted { cost } => Some(cost.min(before.amount)),
        OnChain::NeverTaken { transaction } if before.over_tempo && transaction != before.transaction => {
            return Ok(None);
        }
        OnChain::NeverTaken { .. } => None,
    };
    match (cost, before.state.as_str()) {
        (Some(cost), "in_flight" | "not_charged") => {
            if before.state == "not_charged" {
                taken_unsent(db, who, id, &before, at)?;
            }
            let reverted = matches!(said, OnChain::Reverted { .. });
            let told = if reverted { "its transaction failed on the chain" } else { outcome(before.answered) };
            book(db, who, id, &before, cost, told, at)?;
            booked = Some(before.booked(cost));
        }
        (Some(cost), "settled") => {
            correct(db, who, id, &before, cost)?;
            booked = before.over_tempo.then(|| before.booked(cost));
        }
        (None, "in_flight" | "settled") => {
            give_back(db, who, id, &before, "its time is over and it was never taken", at)?;
        }
        _ => {}
    }
    if let Some(cost) = cost {
        free(db, id, &before, cost)?;
    }
    if let OnChain::Taken { cost } = said {
        let event = if before.answered { Event::Answered } else { Event::Failed };
        let events = [event, Event::Booked { charged: cost.min(before.amount), disputed: Usdc::ZERO }];
        records::count_of(db, &before.provider, &events, at)?;
    }
    db.prepare_cached("UPDATE payments SET confirmed = 1 WHERE id = ?1")?.execute([id.0])?;
    Ok(booked)
}

/// Never sent, and yet taken: budgets count it again, and the wallet is frozen as for any signature that is not ours (M11).
fn taken_unsent(db: &Db<'_>, who: &Who, id: PaymentId, before: &Standing, at: u64) -> Result<(), JournalError> {
    let payer = Payer { provider: &before.provider, agent: &before.agent, newcomer: before.newcomer };
    usage::add(db, payer, before.counted_at, before.amount.as_i64())?;
    db.prepare_cached("UPDATE payments SET growth = amount WHERE id = ?1")?.execute([id.0])?;
    let reason =
        format!("payment {id} never left this process and was taken all the same: somebody else may have the key");
    let entry = Entry {
        rule: Some("m11".into()),
        decided: Some(before.decided),
        amount: Some(before.amount),
        ..Entry::recorded(Kind::Alarm)
    };
    told(db, who, before, entry, reason.clone())?;
    freeze::because_of_a_claim(db, who, &reason, at)
}

const fn outcome(answered: bool) -> &'static str {
    if answered { "paid and answered" } else { "paid, and no answer came" }
}

/// The money is gone: it is spent.
fn book(
    db: &Db<'_>,
    who: &Who,
    id: PaymentId,
    before: &Standing,
    cost: Usdc,
    outcome: &str,
    at: u64,
) -> Result<(), JournalError> {
    db.prepare_cached("UPDATE payments SET state = 'settled', cost = ?2, settled_at = ?3 WHERE id = ?1")?
        .execute(params![id.0, cost.as_i64(), column(at)?])?;
    let entry = Entry { decided: Some(before.decided), charged: Some(cost), ..Entry::recorded(Kind::Settlement) };
    told(db, who, before, entry, format!("{id}: {outcome}"))?;
    spent(db, &before.agent, cost.as_i64(), at)
}

/// It was booked with the most that it could cost, and cost less: gas is known at the end only.
fn correct(db: &Db<'_>, who: &Who, id: PaymentId, before: &Standing, cost: Usdc) -> Result<(), JournalError> {
    let (Some(booked), Some(then)) = (before.cost, before.settled_at) else { return Ok(()) };
    let less = booked.saturating_sub(cost);
    if less.is_zero() {
        return Ok(());
    }
    db.prepare_cached("UPDATE payments SET cost = ?2 WHERE id = ?1")?.execute(params![id.0, cost.as_i64()])?;
    let entry = Entry { decided: Some(before.decided), refunded: Some(less), ..Entry::recorded(Kind::Settlement) };
    told(db, who, before, entry, format!("{id}: it cost less, {cost} USDC"))?;
    spent(db, &before.agent, -less.as_i64(), then)
}

/// Budgets have again what was set aside for it and not used.
fn free(db: &Db<'_>, id: PaymentId, before: &Standing, cost: Usdc) -> Result<(), JournalError> {
    let less = before.amount.saturating_sub(cost);
    if less.is_zero() {
        return Ok(());
    }
    let payer = Payer { provider: &before.provider, agent: &before.agent, newcomer: before.newcomer };
    usage::add(db, payer, before.counted_at, -less.as_i64())?;
    db.prepare_cached("UPDATE payments SET growth = ?2 WHERE id = ?1")?
        .execute(params![id.0, cost.as_i64()])
        .map(drop)?;
    Ok(())
}

/// The money can never be taken: budgets have it again, and what was booked is taken back.
fn give_back(db: &Db<'_>, who: &Who, id: PaymentId, before: &Standing, why: &str, at: u64) -> Result<(), JournalError> {
    let payer = Payer { provider: &before.provider, agent: &before.agent, newcomer: before.newcomer };
    usage::add(db, payer, before.counted_at, -before.amount.as_i64())?;
    if let (Some(booked), Some(then)) = (before.cost.filter(|cost| !cost.is_zero()), before.settled_at) {
        spent(db, &before.agent, -booked.as_i64(), then)?;
    }
    db.prepare_cached("UPDATE payments SET state = 'not_charged', cost = 0, growth = 0, settled_at = ?2, note = COALESCE(note, ?3) WHERE id = ?1")?
        .execute(params![id.0, column(at)?, why])?;
    let refunded = before.cost.filter(|cost| !cost.is_zero());
    let entry = Entry { decided: Some(before.decided), refunded, ..Entry::recorded(Kind::Settlement) };
    told(db, who, before, entry, format!("{id}: {why}"))
}

/// Adds to what was booked on the day of `at`, or takes from it.
fn spent(db: &Db<'_>, agent: &str, units: i64, at: u64) -> Result<(), JournalError> {
    members::spent(db, agent, units, at)?;
    settling::spent_on(db, units, at)
}

fn told(db: &Db<'_>, who: &Who, of: &Standing, entry: Entry<'_>, outcome: String) -> Result<(), JournalError> {
    audit::write(db, who, &Entry { provider: Some(&of.provider_id), ..entry }.told(outcome)).map(drop)
}
