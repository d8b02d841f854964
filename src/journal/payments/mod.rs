//! Payments of single requests, without a channel: the decision and its record are one transaction (M1, M3-M5), and the
//! chain says what became of each (`ending.rs`).

mod ending;
mod pins;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use ending::{Booked as BookedPayment, OnChain, OpenPayment, PaymentEnd};

use std::sync::Arc;

use drain_protocol::demand::Protocol;
use drain_protocol::{Address, B256, PaymentOrder, Usdc};

use super::audit::{self, Entry, Kind, Who};
use super::channel::host_of;
use super::db::{Db, Optional, params};
use super::freeze::refuse_frozen_by;
use super::row::{address, column};
use super::usage::{self, Payer};
use super::{ApprovalId, Journal, JournalError, PaymentId, approvals, provider_key, records, repeats, vouchers};
use crate::clock::Moment;
use crate::policy::Limits;
use crate::policy::approvals::{ApprovalKind, Subject};
use crate::policy::budgets::{NewVoucher, Signed, may_pay, may_sign};
use crate::policy::limits::Party;
use crate::policy::repeat::{RequestKey, sha256};
use crate::policy::score::ProviderRecord;

/// A request that wants to be paid by a transfer of its own.
#[derive(Clone, Debug)]
pub struct PaymentIntent {
    /// By which protocol.
    pub protocol: Protocol,
    /// What is to be signed.
    pub order: PaymentOrder,
    /// Who is asked: host, and port where it is not the usual one.
    pub host: String,
    /// The listing's id where the directory lists it, else the host.
    pub provider_id: String,
    /// The listing's category; empty without one.
    pub category: String,
    /// Method and path, for the record.
    pub what: String,
    /// SHA-256 of what is sent.
    pub request: B256,
    /// Nobody but a model named the host: a person must say yes whatever the amount (M5).
    pub ask_person: bool,
    /// The operator's limits of today (M3, M5).
    pub limits: Arc<Limits>,
    /// Who asks.
    pub agent: String,
    /// The caller's own name for the request.
    pub key: Option<RequestKey>,
    /// Now.
    pub moment: Moment,
}

/// Whom a payment goes to, and who asks for it.
#[derive(Clone, Debug)]
pub struct Payee {
    /// Who is asked, as in [`PaymentIntent`].
    pub host: String,
    /// As in [`PaymentIntent`].
    pub provider_id: String,
    /// As in [`PaymentIntent`].
    pub category: String,
    /// Who is paid.
    pub wallet: Address,
    /// On which chain.
    pub chain_id: u64,
}

impl Payee {
    /// The key of its record: wallet and host, as of every provider.
    pub fn key(&self) -> String {
        key_of(&address(self.wallet), &self.host)
    }
}

/// Leave to sign exactly one transfer. Only the journal makes one, after its record is durable (M1); the signer takes
/// nothing else.
#[derive(Debug)]
pub struct AuthorizedPayment {
    id: PaymentId,
    order: PaymentOrder,
    now: u64,
    spent_today: Usdc,
}

impl PaymentIntent {
    /// Exactly what a person says yes or no to.
    pub fn subject(&self) -> Subject {
        Subject {
            kind: ApprovalKind::Request,
            agent: self.agent.clone(),
            provider_id: self.provider_id.clone(),
            provider_name: format!("{}, {}", self.provider_id, self.what),
            wallet: self.order.transfer().to,
            host: self.host.clone(),
            chain_id: self.order.chain_id(),
            contract: self.order.token(),
            amount: self.order.asked_for(),
            duration: 0,
            // Who pays the gas is part of the price.
            prices: match &self.order {
                PaymentOrder::Tempo(order) if order.sponsored => {
                    sha256([self.request.as_slice(), b"sponsored"].concat())
                }
                _ => self.request,
            },
        }
    }

    /// Whom it pays.
    pub fn payee(&self) -> Payee {
        Payee {
            host: self.host.clone(),
            provider_id: self.provider_id.clone(),
            category: self.category.clone(),
            wallet: self.order.transfer().to,
            chain_id: self.order.chain_id(),
        }
    }

    fn needs_person(&self) -> bool {
        self.ask_person || self.limits.approve.needs_person(ApprovalKind::Request, self.order.asked_for())
    }
}

/// As a channel's provider is known by, so that one that is paid both ways has one record.
pub(crate) fn key_of(payee: &str, host: &str) -> String {
    provider_key(payee, &url_of(host))
}

fn url_of(host: &str) -> String {
    format!("https://{host}")
}

impl AuthorizedPayment {
    /// Its name.
    pub const fn id(&self) -> PaymentId {
        self.id
    }
    /// What to sign.
    pub const fn order(&self) -> &PaymentOrder {
        &self.order
    }
    /// The time by which it was decided.
    pub const fn now(&self) -> u64 {
        self.now
    }
    /// Charged since midnight UTC, without this one.
    pub const fn spent_today(&self) -> Usdc {
        self.spent_today
    }
}

impl Journal {
    /// Decides on a payment and records it, in one durable transaction. Nothing is signed without its answer (M1-M5). `now`
    /// is the chain's time, by which the transfer is valid.
    pub async fn authorize_payment(&self, intent: PaymentIntent, now: u64) -> Result<AuthorizedPayment, JournalError> {
        let who = self.who.clone();
        let decided = self.writer.run(move |db| {
            let provider = intent.provider_id.clone();
            let wanted = Entry {
                provider: Some(&provider),
                amount: Some(intent.order.at_most()),
                ..Entry::refused(Kind::Payment)
            };
            audit::decided(db, &who, wanted, |db| authorize(db, &who, &intent, now))
        });
        super::decided(decided.await.flatten()).map_err(|error| self.who.told(error))
    }

    /// What stands against a payee, whatever is asked for: by the rule that decides when it is paid. Changes nothing.
    pub async fn payee_refused(
        &self,
        payee: Payee,
        limits: Arc<Limits>,
        now: u64,
    ) -> Result<Option<JournalError>, JournalError> {
        match self.writer.run(move |db| judge(db, &limits, &payee, now).map(drop)).await {
            Ok(()) => Ok(None),
            Err(
                refused @ (JournalError::NotAllowed(_)
                | JournalError::PayeeChanged { .. }
                | JournalError::SetAside { .. }),
            ) => Ok(Some(self.who.told(refused))),
            Err(error) => Err(error),
        }
    }
}

/// The operator's lists, whom the host was paid to before (M14), and the payee's record, which this gives.
fn judge(db: &Db<'_>, limits: &Limits, payee: &Payee, now: u64) -> Result<ProviderRecord, JournalError> {
    let host = host_of(&url_of(&payee.host));
    let party = Party { id: &payee.provider_id, wallet: payee.wallet, host: &host, category: &payee.category };
    limits.parties.check(party).map_err(JournalError::NotAllowed)?;
    pins::check(db, payee, now)?;
    let record = records::load(db, &payee.key())?;
    records::check(&record, &payee.provider_id)?;
    Ok(record)
}

fn authorize(db: &Db<'_>, who: &Who, intent: &PaymentIntent, now: u64) -> Result<AuthorizedPayment, JournalError> {
    let PaymentIntent { order, limits, .. } = intent;
    let (transfer, amount) = (order.transfer(), order.at_most());
    refuse_frozen_by(db, limits, intent.moment.at)?;
    if let Some(key) = &intent.key {
        repeats::refuse(db, &intent.agent, key, intent.moment.at)?;
    }
    let payee = intent.payee();
    let standing = judge(db, limits, &payee, intent.moment.at)?;
    may_pay(limits, amount).map_err(JournalError::OverLimit)?;
    refuse_used(db, intent)?;
    pins::pin(db, &payee, intent.moment.at)?;
    let provider = payee.key();
    let payer = Payer { provider: &provider, agent: &intent.agent, newcomer: !standing.has_history() };
    let counted_at = charge_budgets(db, intent, payer)?;
    let id = PaymentId(
        db.prepare_cached("SELECT COALESCE(MAX(id), 0) + 1 FROM payments")?.query_row(params![], |r| r.get(0))?,
    );
    let approval = persons_yes(db, intent, id)?;
    let decision = audit::write(
        db,
        who,
        &Entry {
            rule: Some(if approval.is_some() { "approval" } else { "limits" }.into()),
            provider: Some(&intent.provider_id),
            approval,
            amount: Some(amount),
            growth: Some(amount),
            bound: Some(amount),
            ..Entry::allowed(Kind::Payment)
        }
        .told(format!("{id}: {} to {} at {}", intent.protocol, transfer.to, intent.host)),
    )?;
    db.prepare_cached(
        "INSERT INTO payments (id, protocol, chain_id, wallet, token, payee, host, provider_id, what, amount, growth, gas, valid_before, \
         transfer_nonce, state, created_at, agent, newcomer, counted_at, audit, request_key, request_body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?20, ?11, ?12, 'in_flight', ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
    )?
    .execute(params![
        id.0,
        intent.protocol.as_str(),
        column(order.chain_id())?,
        address(transfer.from),
        address(order.token()),
        address(transfer.to),
        intent.host,
        intent.provider_id,
        intent.what,
        amount.as_i64(),
        column(transfer.valid_before)?,
        format!("{:#x}", transfer.nonce),
        column(intent.moment.at)?,
        intent.agent,
        payer.newcomer,
        column(counted_at)?,
        decision,
        intent.key.as_ref().map(|key| key.id.as_str()),
        intent.key.as_ref().map(|key| key.body.to_string()),
        amount.saturating_sub(transfer.value).as_i64()
    ])?;
    let spent_today = vouchers::spent_today(db, who, intent.moment.at)?;
    Ok(AuthorizedPayment { id, order: *order, now, spent_today })
}

/// A challenge that was signed for before would be one payment for two requests.
fn refuse_used(db: &Db<'_>, intent: &PaymentIntent) -> Result<(), JournalError> {
    let used: Option<i64> = db
        .prepare_cached("SELECT id FROM payments WHERE transfer_nonce = ?1")?
        .query_row([format!("{:#x}", intent.order.transfer().nonce)], |r| r.get(0))
        .optional()?;
    used.map_or(Ok(()), |id| Err(JournalError::ChallengeUsed { host: intent.host.clone(), receipt: PaymentId(id) }))
}

/// Asks every budget, and charges them with all of it (M3, M4). Gives the time at which it was counted.
fn charge_budgets(db: &Db<'_>, intent: &PaymentIntent, payer: Payer<'_>) -> Result<u64, JournalError> {
    let now = usage::known_now(db, intent.moment)?;
    let signed: Signed = usage::signed(db, payer, now)?;
    let amount = intent.order.at_most();
    let wanted = NewVoucher { bound: amount, growth: amount, newcomer: payer.newcomer };
    if let Err(over) = may_sign(&intent.limits, &signed, wanted) {
        return Err(JournalError::OverLimit(usage::with_time(db, &intent.limits, payer, over, now)?));
    }
    usage::charge(db, payer, amount, now)?;
    Ok(now)
}

/// Uses the yes of a person, where one is needed (M5).
fn persons_yes(db: &Db<'_>, intent: &PaymentIntent, id: PaymentId) -> Result<Option<ApprovalId>, JournalError> {
    if !intent.needs_person() {
        return Ok(None);
    }
    let now = approvals::now(db, intent.moment)?;
    approvals::spend(db, &intent.subject(), now, &id.to_string()).map(Some)
}
