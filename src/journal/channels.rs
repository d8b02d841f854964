//! Channels: from the wish to open one to its end.

use std::sync::Arc;

use drain_protocol::{Address, ChannelId, Nonce, Usdc};

use super::audit::{self, Decision, Entry, Kind, Who};
use super::channel::{COLUMNS, ChannelRecord, NewChannel, load, provider_key, record, state_name};
use super::db::{Db, Optional, params};
use super::freeze::refuse_frozen_by;
use super::row::{self, address, column};
use super::writer::When;
use super::{IntentId, Journal, JournalError, TxId, TxState, approvals, members, records, reorgs, transactions, usage};
use crate::api::ChannelState;
use crate::clock::Moment;
use crate::policy::Limits;
use crate::policy::approvals::ApprovalKind;
use crate::policy::budgets::{Locked, may_open};

/// Deposits that are, or may be, in the contracts, and what was begun to open within the hour before `now`. Of a channel
/// whose close is not worth its gas the rest counts: more is not locked, and no more can be opened with it.
pub(super) fn locked(db: &Db<'_>, chain_id: u64, consumer: Address, now: u64) -> Result<Locked, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT CAST(COALESCE(SUM(deposit - COALESCE(taken_in_the_end, 0)) FILTER (WHERE state IN ('opening', 'open', 'closing')), 0) AS BIGINT) AS deposits, \
                COUNT(*) FILTER (WHERE state IN ('opening', 'open', 'closing') AND taken_in_the_end IS NULL) AS channels, \
                COUNT(*) FILTER (WHERE created_at > ?3) AS opened \
         FROM channels WHERE chain_id = ?1 AND consumer = ?2",
    )?;
    let mut rows =
        statement.query(params![column(chain_id)?, address(consumer), column(now.saturating_sub(3_600))?])?;
    let Some(r) = &rows.next()? else { return Ok(Locked::default()) };
    Ok(Locked { deposits: row::usdc(r, "deposits")?, channels: r.get("channels")?, opened: r.get("opened")? })
}

/// All that a member sees, or all there are.
pub(super) fn list(db: &Db<'_>, member: Option<&str>, ended: bool) -> Result<Vec<ChannelRecord>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM channels WHERE (?1 OR state IN ('opening', 'open', 'closing')) AND (CAST(?2 AS TEXT) IS NULL OR {}) \
         ORDER BY intent DESC LIMIT 100000",
        members::own(2)
    ))?;
    let mut rows = statement.query(params![ended, member])?;
    let mut records = Vec::new();
    while let Some(row) = &rows.next()? {
        match record(row) {
            Ok(record) => records.push(record),
            // One damaged row must not take the others' money along.
            Err(error) => tracing::error!(%error, "a channel's record is left out"),
        }
    }
    Ok(records)
}

/// The history may be incomplete: nonces go on from the clock.
pub(super) fn mark_recovered(db: &Db<'_>, intent: IntentId, nonce_floor: Nonce) -> Result<(), JournalError> {
    db.prepare_cached("UPDATE channels SET recovered = 1, nonce = MAX(nonce, ?2) WHERE intent = ?1")?
        .execute(params![intent.0, nonce_floor.as_i64()])?;
    Ok(())
}

/// The wish to open a channel, for the audit record.
fn audit_of(new: &NewChannel) -> Entry<'_> {
    Entry { provider: Some(&new.provider_id), amount: Some(new.deposit), ..Entry::refused(Kind::Opening) }
}

fn begin_open(
    db: &Db<'_>,
    who: &Who,
    new: &NewChannel,
    limits: &Limits,
    moment: Moment,
) -> Result<(ChannelRecord, bool), JournalError> {
    refuse_frozen_by(db, limits, moment.at)?;
    let pending: Option<i64> = db
        .prepare_cached(&format!(
            "SELECT intent FROM channels WHERE state = 'opening' AND provider_id = ?1 AND chain_id = ?2 AND consumer = ?3 AND {}",
            members::own(4)
        ))?
        .query_row(
            params![new.provider_id, column(new.deployment.chain_id())?, address(new.consumer), who.member()],
            |r| r.get(0),
        )
        .optional()?;
    if let Some(pending) = pending {
        return Ok((load(db, IntentId(pending))?, true));
    }
    let provider = provider_key(&address(new.provider_wallet), &new.api_url);
    records::check(&records::load(db, &provider)?, &new.provider_id)?;
    let now = usage::known_now(db, moment)?;
    // What is counted by time is counted by that of windows.
    let new = NewChannel { at: now, ..new.clone() };
    let locked = locked(db, new.deployment.chain_id(), new.consumer, now)?;
    may_open(limits, &locked, new.deposit).map_err(JournalError::OverLimit)?;
    let intent = insert(db, &new, ChannelState::Opening, None, 0)?;
    if let Some(agent) = who.member() {
        members::add(db, intent, agent, now)?;
    }
    let approval = if limits.approve.needs_person(ApprovalKind::Deposit, new.deposit) {
        Some(approvals::spend(db, &new.subject(), approvals::now(db, moment)?, &intent.to_string())?)
    } else {
        None
    };
    let rule = if approval.is_some() { "approval" } else { "limits" };
    let entry = Entry {
        decision: Decision::Allowed,
        rule: Some(rule.into()),
        intent: Some(intent),
        approval,
        ..audit_of(&new)
    };
    audit::write(db, who, &entry)?;
    db.prepare_cached("UPDATE channels SET told = 0 WHERE intent = ?1")?.execute([intent.0])?;
    Ok((load(db, intent)?, false))
}

impl Journal {
    /// Records the wish to open a channel, unless a limit on what may be locked or opened forbids it (M9). A pending
    /// opening of the same provider is returned instead, with `true`.
    pub async fn begin_open(
        &self,
        new: NewChannel,
        limits: Arc<Limits>,
        moment: Moment,
    ) -> Result<(ChannelRecord, bool), JournalError> {
        let who = self.who.clone();
        let begun = self.writer.run(move |db| {
            let wanted = audit_of(&new);
            audit::decided(db, &who, wanted, |db| begin_open(db, &who, &new, &limits, moment))
        });
        super::decided(begun.await.flatten()).map_err(|error| self.who.told(error))
    }

    /// An open channel of the caller's to this provider that its opener was never given, because the call was cut off, and
    /// that never paid.
    pub async fn untold(
        &self,
        chain_id: u64,
        consumer: Address,
        provider_id: String,
    ) -> Result<Option<ChannelRecord>, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM channels WHERE told = 0 AND state = 'open' AND nonce = 0 \
                     AND provider_id = ?1 AND chain_id = ?2 AND consumer = ?3 AND {} ORDER BY intent LIMIT 1",
                    members::own(4)
                ))?;
                let mut rows =
                    statement.query(params![provider_id, column(chain_id)?, address(consumer), who.member()])?;
                rows.next()?.as_ref().map(record).transpose()
            })
            .await
    }

    /// Its opener is given the channel now. Losing this record gives it once more to the same call.
    pub fn told_later(&self, intent: IntentId) -> Result<(), JournalError> {
        self.writer
            .submit(When::Later, move |db| {
                db.prepare_cached("UPDATE channels SET told = 1 WHERE intent = ?1")?.execute([intent.0])?;
                Ok(())
            })
            .map(drop)
    }

    /// All channels whose record can be read, newest first; those at their end only when asked for.
    pub async fn channels(&self, ended: bool) -> Result<Vec<ChannelRecord>, JournalError> {
        self.writer.run(move |db| list(db, None, ended)).await
    }

    /// One channel.
    pub async fn channel(&self, intent: IntentId) -> Result<ChannelRecord, JournalError> {
        self.writer.run(move |db| load(db, intent)).await
    }

    /// One channel by its on-chain id, if it is known. Of two with the same id (V1 and V2 may give it) the one that is not
    /// over, and the newest.
    pub async fn channel_by_id(
        &self,
        chain_id: u64,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, JournalError> {
        self.writer.run(move |db| members::by_id(db, chain_id, channel_id, None)).await
    }

    /// What deposits of a wallet are locked, or on their way.
    pub async fn locked(&self, chain_id: u64, consumer: Address) -> Result<Usdc, JournalError> {
        self.writer.run(move |db| Ok(locked(db, chain_id, consumer, 0)?.deposits)).await
    }

    /// The opening is final on chain: from now on it pays, even if it was given up before, unless a close of it may land
    /// (M6). Ends its transaction too.
    pub async fn opened(
        &self,
        intent: IntentId,
        transaction: TxId,
        channel_id: ChannelId,
        deposit: Usdc,
        expires_at: u64,
    ) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                reorgs::take_id(db, intent, channel_id)?;
                let state = if transactions::close_may_land(db, intent)? { ChannelState::Closing } else { ChannelState::Open };
                db.prepare_cached("UPDATE channels SET state = ?5, channel_id = ?2, deposit = ?3, expires_at = ?4, note = NULL WHERE intent = ?1 AND state IN ('opening', 'failed')")?
                    .execute(params![intent.0, channel_id.to_string(), deposit.as_i64(), column(expires_at)?, state_name(state)])?;
                transactions::finish(db, transaction, TxState::Final, None)?;
                let record = load(db, intent)?;
                let entry = Entry {
                    provider: Some(&record.provider_id),
                    intent: Some(intent),
                    tx: Some(transaction),
                    channel: Some(channel_id),
                    amount: Some(deposit),
                    ..Entry::recorded(Kind::Opened)
                };
                audit::write(db, &audit::transactions::who_sent(db, transaction)?, &entry)?;
                Ok(record)
            })
            .await
    }

    /// A close begins: from here on nothing is signed (M6). Only of a channel that is open; one whose opening the chain took
    /// back is followed, not closed.
    pub async fn begin_close(&self, intent: IntentId) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                let rows = db
                    .prepare_cached("UPDATE channels SET state = 'closing' WHERE intent = ?1 AND state = 'open'")?
                    .execute([intent.0])?;
                let record = load(db, intent)?;
                if rows == 1 { Ok(record) } else { Err(JournalError::NotOpen(state_name(record.state))) }
            })
            .await
    }

    /// An opening or a close that came to nothing: failed, or open again. Left as it is while a transaction of it may
    /// still land, and at any other state.
    pub async fn put_back(&self, intent: IntentId) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                if !transactions::may_land(db, intent)? {
                    db.prepare_cached(
                        "UPDATE channels SET state = CASE state WHEN 'opening' THEN 'failed' ELSE 'open' END \
                         WHERE intent = ?1 AND state IN ('opening', 'closing')",
                    )?
                    .execute([intent.0])?;
                }
                load(db, intent)
            })
            .await
    }

    /// The channel ended on chain, by `transaction` of ours or without one. What was signed and is not taken any more is
    /// given back to the budgets (design section 4).
    pub async fn closed(
        &self,
        intent: IntentId,
        transaction: Option<TxId>,
        claimed: Usdc,
        refunded: Usdc,
        moment: Moment,
    ) -> Result<ChannelRecord, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                let before = load(db, intent)?;
                // An end that is told twice gives back once.
                if before.state != ChannelState::Closed {
                    // What came back may be one node's word: it frees nothing that was seen taken.
                    let taken = claimed.max(before.books.claimed);
                    let excess = before.books.signed.saturating_sub(taken);
                    usage::give_back(db, intent, &before.provider_key(), excess, usage::now(db, moment)?)?;
                }
                db.prepare_cached(
                    "UPDATE channels SET state = 'closed', claimed = MAX(claimed, ?2), refunded = ?3, note = NULL WHERE intent = ?1",
                )?
                .execute(params![intent.0, claimed.as_i64(), refunded.as_i64()])?;
                if let Some(transaction) = transaction {
                    transactions::finish(db, transaction, TxState::Final, None)?;
                }
                let record = load(db, intent)?;
                if before.state != ChannelState::Closed {
                    let entry = Entry {
                        provider: Some(&record.provider_id),
                        intent: Some(intent),
                        tx: transaction,
                        channel: record.channel_id,
                        amount: Some(record.books.deposit),
                        charged: Some(record.books.claimed),
                        refunded: Some(refunded),
                        ..Entry::recorded(Kind::Closed)
                    };
                    match transaction {
                        Some(transaction) => audit::write(db, &audit::transactions::who_sent(db, transaction)?, &entry)?,
                        None => audit::write(db, &who, &entry.told("closed, and not by a transaction of this journal"))?,
                    };
                }
                Ok(record)
            })
            .await
    }

    /// The history may be incomplete (`invalid_nonce` was seen): nonces go on from the clock.
    pub async fn mark_recovered(&self, intent: IntentId, nonce_floor: Nonce) -> Result<ChannelRecord, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                mark_recovered(db, intent, nonce_floor)?;
                let provider = audit::provider_of(db, intent)?;
                let entry =
                    Entry { provider: provider.as_deref(), intent: Some(intent), ..Entry::recorded(Kind::Recovered) };
                audit::write(
                    db,
                    &who,
                    &entry.told("its provider numbers vouchers otherwise: the history may be incomplete"),
                )?;
                load(db, intent)
            })
            .await
    }

    /// The books of a recovered channel were read from its provider: `charged` is its total.
    pub async fn books_read(&self, intent: IntentId, charged: Usdc) -> Result<ChannelRecord, JournalError> {
        let who = self.who.clone();
        self.writer
            .run(move |db| {
                db.prepare_cached(
                    "UPDATE channels SET charged = ?2, books_known = 1 WHERE intent = ?1 AND recovered = 1",
                )?
                .execute(params![intent.0, charged.as_i64()])?;
                let record = load(db, intent)?;
                let entry = Entry {
                    provider: Some(&record.provider_id),
                    intent: Some(intent),
                    charged: Some(charged),
                    ..Entry::recorded(Kind::Recovered)
                };
                audit::write(db, &who, &entry.told("its provider's books were read"))?;
                Ok(record)
            })
            .await
    }

    /// What the provider has taken on chain so far, by an endpoint's word: never more than there is.
    pub async fn claimed(&self, intent: IntentId, claimed: Usdc) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("UPDATE channels SET claimed = MAX(claimed, MIN(?2, deposit)) WHERE intent = ?1")?
                    .execute(params![intent.0, claimed.as_i64()])?;
                Ok(())
            })
            .await
    }

    /// A channel that expired has so little left that its close costs more: `taken` is what its provider has, by the word of
    /// two endpoints at a final block. Only the rest counts as locked from now on, and it is no open channel any more.
    pub async fn not_worth_closing(&self, intent: IntentId, taken: Usdc) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached(
                    "UPDATE channels SET taken_in_the_end = MAX(COALESCE(taken_in_the_end, 0), MIN(?2, deposit)) WHERE intent = ?1",
                )?
                .execute(params![intent.0, taken.as_i64()])?;
                Ok(())
            })
            .await
    }
}

pub(super) fn insert(
    db: &Db<'_>,
    new: &NewChannel,
    state: ChannelState,
    channel_id: Option<ChannelId>,
    expires_at: u64,
) -> Result<IntentId, JournalError> {
    let intent = db.prepare_cached(
        "INSERT INTO channels (chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, api_url, category, \
         prices, duration, state, channel_id, expires_at, deposit, cap, created_at, used_at, agent, joinable) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18, ?19, ?20) RETURNING intent",
    )?
    .query_row(params![
        column(new.deployment.chain_id())?,
        address(new.deployment.contract()),
        new.deployment.generation.to_string(),
        address(new.deployment.usdc),
        address(new.consumer),
        new.provider_id,
        new.provider_name,
        address(new.provider_wallet),
        new.api_url,
        new.category,
        new.prices,
        column(new.duration)?,
        state_name(state),
        channel_id.map(|id| id.to_string()),
        column(expires_at)?,
        new.deposit.as_i64(),
        new.cap.as_i64(),
        column(new.at)?,
        new.agent,
        new.shared,
    ], |r| r.get(0))?;
    Ok(IntentId(intent))
}
