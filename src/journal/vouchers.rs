//! Vouchers: the decision and its record are one transaction (M1-M4).

use std::sync::Arc;

use drain_protocol::{ChannelId, Domain, Usdc, Voucher};

use super::audit::{self, Entry, Kind, Who};
use super::db::{Db, params};
use super::freeze::{refuse_frozen, refuse_frozen_by};
use super::members;
use super::row::column;
use super::usage::{self, Payer};
use super::{
    ApprovalId, ChannelRecord, IntentId, Journal, JournalError, Receipt, approvals, channel, records, repeats, row,
};
use crate::api::ChannelState;
use crate::clock::Moment;
use crate::policy::approvals::ApprovalKind;
use crate::policy::budgets::{NewVoucher, Signed, may_sign};
use crate::policy::repeat::RequestKey;
use crate::policy::{Books, Limits};

/// A request that wants to be paid.
#[derive(Clone, Debug)]
pub struct VoucherIntent {
    /// Which channel.
    pub intent: IntentId,
    /// The most that it can cost.
    pub bound: Usdc,
    /// The operator's limits of today (M3, M5).
    pub limits: Arc<Limits>,
    /// Who asks.
    pub agent: String,
    /// A person's yes that the first try of this very call has used.
    pub approval: Option<ApprovalId>,
    /// For the record.
    pub model: String,
    /// The caller's own name for the request.
    pub key: Option<RequestKey>,
    /// Now.
    pub moment: Moment,
}

/// Leave to sign exactly one voucher. Only the journal makes one, after its record is durable (M1); the signer takes
/// nothing else.
#[derive(Debug)]
pub struct Authorized {
    domain: Domain,
    voucher: Voucher,
    deposit: Usdc,
    bound: Usdc,
    receipt: Receipt,
    books: Books,
    spent_today: Usdc,
    approval: Option<ApprovalId>,
}

impl Authorized {
    /// The domain to sign in.
    pub const fn domain(&self) -> Domain {
        self.domain
    }
    /// What to sign.
    pub const fn voucher(&self) -> Voucher {
        self.voucher
    }
    /// The channel's deposit, which the signer checks against once more.
    pub const fn deposit(&self) -> Usdc {
        self.deposit
    }
    /// What the request can cost.
    pub const fn bound(&self) -> Usdc {
        self.bound
    }
    /// Its name.
    pub const fn receipt(&self) -> Receipt {
        self.receipt
    }
    /// The channel's books with this voucher in them.
    pub const fn books(&self) -> Books {
        self.books
    }
    /// The person's yes that this voucher uses.
    pub const fn approval(&self) -> Option<ApprovalId> {
        self.approval
    }
    /// Charged since midnight UTC, without this request; of an agent of the fleet what it was charged itself.
    pub const fn spent_today(&self) -> Usdc {
        self.spent_today
    }
}

impl Journal {
    /// Decides on a voucher and records it, in one durable transaction. Nothing is signed without its answer (M1-M4).
    pub async fn authorize(&self, intent: VoucherIntent) -> Result<Authorized, JournalError> {
        let who = self.who.clone();
        let decided = self.writer.run(move |db| {
            let wanted =
                Entry { intent: Some(intent.intent), bound: Some(intent.bound), ..Entry::refused(Kind::Voucher) };
            audit::decided(db, &who, wanted, |db| authorize(db, &who, &intent))
        });
        super::decided(decided.await.flatten()).map_err(|error| self.who.told(error))
    }

    /// Leave to sign a voucher of amount zero, which authorises nothing and makes a provider tell its books
    /// (design section 4, exempt in M2).
    pub async fn authorize_probe(&self, intent: IntentId, at: u64) -> Result<Authorized, JournalError> {
        let who = self.who.clone();
        let decided = self.writer.run(move |db| {
            let wanted = Entry { intent: Some(intent), ..Entry::refused(Kind::Probe) };
            audit::decided(db, &who, wanted, |db| authorize_probe(db, &who, intent, at))
        });
        decided.await.flatten().map_err(|error| self.who.told(error))
    }

    /// Charged since midnight UTC of `at`; of an agent of the fleet what it was charged itself.
    pub async fn spent_today(&self, at: u64) -> Result<Usdc, JournalError> {
        let who = self.who.clone();
        self.writer.run(move |db| spent_today(db, &who, at)).await
    }
}

fn authorize(db: &Db<'_>, who: &Who, request: &VoucherIntent) -> Result<Authorized, JournalError> {
    refuse_frozen_by(db, &request.limits, request.moment.at)?;
    if let Some(key) = &request.key {
        repeats::refuse(db, &request.agent, key, request.moment.at)?;
    }
    let record = channel::load(db, request.intent)?;
    let channel_id = signable(&record)?;
    record.check_parties(&request.limits.parties)?;
    let mut books = record.books;
    books.cap = books.cap.min(request.limits.per_channel);
    let next = books.next_voucher(request.bound).map_err(JournalError::NoVoucher)?;
    books.record(next, request.bound);
    let provider = record.provider_key();
    let standing = records::load(db, &provider)?;
    records::check(&standing, &record.provider_id)?;
    let payer = Payer { provider: &provider, agent: &request.agent, newcomer: !standing.has_history() };
    let counted_at = charge_budgets(db, request, payer, next.growth)?;
    let receipt = Receipt { intent: request.intent, nonce: next.nonce };
    let approval = persons_yes(db, request, &record, receipt)?;
    if let Some(agent) = who.member() {
        members::signs(db, request.intent, agent, next.growth)?;
    }
    let rule = match approval {
        Some(_) => "approval",
        // An earlier voucher signed for it already.
        None if next.growth.is_zero() => "signed_before",
        None => "limits",
    };
    let decision = audit::write(
        db,
        who,
        &Entry {
            rule: Some(rule.into()),
            provider: Some(&record.provider_id),
            intent: Some(request.intent),
            nonce: Some(next.nonce),
            approval,
            amount: Some(next.amount),
            growth: Some(next.growth),
            bound: Some(request.bound),
            ..Entry::allowed(Kind::Voucher)
        },
    )?;
    db.prepare_cached(
        "INSERT INTO vouchers (intent, nonce, amount, bound, growth, model, state, created_at, agent, newcomer, counted_at, audit, request_key, request_body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'in_flight', ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        request.intent.0,
        next.nonce.as_i64(),
        next.amount.as_i64(),
        request.bound.as_i64(),
        next.growth.as_i64(),
        request.model,
        column(request.moment.at)?,
        request.agent,
        payer.newcomer,
        column(counted_at)?,
        decision,
        request.key.as_ref().map(|key| key.id.as_str()),
        request.key.as_ref().map(|key| key.body.to_string())
    ])?;
    db.prepare_cached("UPDATE channels SET signed = ?2, nonce = ?3, used_at = ?4 WHERE intent = ?1")?
        .execute(params![request.intent.0, books.signed.as_i64(), books.nonce.as_i64(), column(counted_at)?])?;
    // The caller's word is for this voucher: the channel's own cap stays what it was.
    books.cap = record.books.cap;
    Ok(Authorized {
        domain: record.deployment.domain,
        voucher: Voucher { channel_id, amount: next.amount, nonce: next.nonce },
        deposit: books.deposit,
        bound: request.bound,
        receipt,
        books,
        spent_today: spent_today(db, who, request.moment.at)?,
        approval,
    })
}

/// Uses the yes of a person, where the operator asks for one (M5).
fn persons_yes(
    db: &Db<'_>,
    request: &VoucherIntent,
    record: &ChannelRecord,
    receipt: Receipt,
) -> Result<Option<ApprovalId>, JournalError> {
    if !request.limits.approve.needs_person(ApprovalKind::Request, request.bound) {
        return Ok(None);
    }
    let wanted = record.request_subject(&request.agent, request.bound);
    let now = approvals::now(db, request.moment)?;
    match request.approval {
        Some(used) if approvals::still_covers(db, used, &wanted, now)? => Ok(Some(used)),
        _ => approvals::spend(db, &wanted, now, &receipt.to_string()).map(Some),
    }
}

/// Asks every budget, and charges them with what is newly signed (M3, M4). Gives the time at which it was counted.
fn charge_budgets(db: &Db<'_>, request: &VoucherIntent, payer: Payer<'_>, growth: Usdc) -> Result<u64, JournalError> {
    let now = usage::known_now(db, request.moment)?;
    let signed = if growth.is_zero() { Signed::default() } else { usage::signed(db, payer, now)? };
    let voucher = NewVoucher { bound: request.bound, growth, newcomer: payer.newcomer };
    if let Err(over) = may_sign(&request.limits, &signed, voucher) {
        return Err(JournalError::OverLimit(usage::with_time(db, &request.limits, payer, over, now)?));
    }
    if !growth.is_zero() {
        usage::charge(db, payer, growth, now)?;
    }
    Ok(now)
}

fn authorize_probe(db: &Db<'_>, who: &Who, intent: IntentId, at: u64) -> Result<Authorized, JournalError> {
    refuse_frozen(db)?;
    let record = channel::load(db, intent)?;
    let channel_id = signable(&record)?;
    let mut books = record.books;
    let nonce = books.nonce.next().ok_or(JournalError::NoVoucher(crate::policy::books::NoVoucher::NoncesUsedUp))?;
    books.nonce = nonce;
    let decision = audit::write(
        db,
        who,
        &Entry {
            rule: Some("authorises_nothing".into()),
            provider: Some(&record.provider_id),
            intent: Some(intent),
            nonce: Some(nonce),
            amount: Some(Usdc::ZERO),
            growth: Some(Usdc::ZERO),
            bound: Some(Usdc::ZERO),
            ..Entry::allowed(Kind::Probe)
        },
    )?;
    db.prepare_cached("INSERT INTO vouchers (intent, nonce, amount, bound, growth, model, state, created_at, audit) VALUES (?1, ?2, 0, 0, 0, '', 'probe', ?3, ?4)")?
        .execute(params![intent.0, nonce.as_i64(), column(at)?, decision])?;
    db.prepare_cached("UPDATE channels SET nonce = ?2 WHERE intent = ?1")?
        .execute(params![intent.0, nonce.as_i64()])?;
    Ok(Authorized {
        domain: record.deployment.domain,
        voucher: Voucher { channel_id, amount: Usdc::ZERO, nonce },
        deposit: books.deposit,
        bound: Usdc::ZERO,
        receipt: Receipt { intent, nonce },
        books,
        spent_today: spent_today(db, who, at)?,
        approval: None,
    })
}

/// Only an open channel signs.
fn signable(record: &ChannelRecord) -> Result<ChannelId, JournalError> {
    match (record.state, record.channel_id) {
        (ChannelState::Open, Some(id)) => Ok(id),
        (ChannelState::Opening, _) => Err(JournalError::NotOpen("still being opened")),
        (ChannelState::Closing, _) => Err(JournalError::NotOpen("being closed")),
        (ChannelState::Failed, _) => Err(JournalError::NotOpen("never opened")),
        _ => Err(JournalError::NotOpen("closed")),
    }
}

/// What the caller may know of: an agent of the fleet its own part.
pub(super) fn spent_today(db: &Db<'_>, who: &Who, at: u64) -> Result<Usdc, JournalError> {
    if let Some(agent) = who.member() {
        return members::spent_today(db, agent, at);
    }
    let mut statement = db.prepare_cached("SELECT charged FROM spent_by_day WHERE day = ?1")?;
    let mut rows = statement.query([row::day(at)?])?;
    rows.next()?.as_ref().map_or(Ok(Usdc::ZERO), |r| row::usdc(r, "charged"))
}
