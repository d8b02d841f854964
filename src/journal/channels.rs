//! Channels: from the wish to open one to its end.

use std::sync::Arc;

use alloy::primitives::keccak256;
use drain_protocol::{Address, ChannelId, Deployment, Generation, Nonce, Usdc};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::freeze::refuse_frozen_by;
use super::row::{self, column};
use super::writer::When;
use super::{IntentId, Journal, JournalError, TxId, TxState, approvals, records, reorgs, transactions, usage};
use crate::api::ChannelState;
use crate::clock::Moment;
use crate::policy::approvals::{ApprovalKind, Subject};
use crate::policy::budgets::{Locked, may_open};
use crate::policy::limits::{Parties, Party};
use crate::policy::{Books, Limits};

/// A channel that is to be opened. Recorded before any transaction (M7).
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// Chain, contract, generation and token.
    pub deployment: Deployment,
    /// Who pays.
    pub consumer: Address,
    /// The directory's id.
    pub provider_id: String,
    /// Its name.
    pub provider_name: String,
    /// Its wallet.
    pub provider_wallet: Address,
    /// Where it is reached.
    pub api_url: String,
    /// Its category.
    pub category: String,
    /// Its own prices, pinned: the body of `/v1/pricing`.
    pub prices: String,
    /// The deposit.
    pub deposit: Usdc,
    /// The most that vouchers may reach (M3).
    pub cap: Usdc,
    /// In seconds.
    pub duration: u64,
    /// Whose channel it will be.
    pub agent: String,
    /// Now.
    pub at: u64,
}

impl NewChannel {
    /// What a person is asked about this deposit.
    pub fn subject(&self) -> Subject {
        Subject {
            kind: ApprovalKind::Deposit,
            agent: self.agent.clone(),
            provider_id: self.provider_id.clone(),
            provider_name: self.provider_name.clone(),
            wallet: self.provider_wallet,
            host: host_of(&self.api_url),
            chain_id: self.deployment.chain_id(),
            contract: self.deployment.contract(),
            amount: self.deposit,
            duration: self.duration,
            prices: keccak256(&self.prices),
        }
    }
}

/// What is known of a channel that another journal, or none, kept.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Taken on chain.
    pub claimed: Usdc,
    /// The least that was signed.
    pub signed: Usdc,
    /// New nonces start above it: from the clock in microseconds (design section 4).
    pub nonce_floor: Nonce,
}

/// A channel as recorded.
#[derive(Clone, Debug)]
pub struct ChannelRecord {
    /// Our id of it.
    pub intent: IntentId,
    /// Chain, contract, generation and token.
    pub deployment: Deployment,
    /// Who pays.
    pub consumer: Address,
    /// The directory's id.
    pub provider_id: String,
    /// Its name.
    pub provider_name: String,
    /// Its wallet.
    pub provider_wallet: Address,
    /// Where it is reached.
    pub api_url: String,
    /// Its category.
    pub category: String,
    /// Its prices, pinned.
    pub prices: String,
    /// In seconds.
    pub duration: u64,
    /// Where it stands. `Expired` is not recorded: it follows from the clock.
    pub state: ChannelState,
    /// None before the opening is mined.
    pub channel_id: Option<ChannelId>,
    /// Unix seconds of block time; zero before.
    pub expires_at: u64,
    /// The amounts.
    pub books: Books,
    /// Requests answered.
    pub requests: u64,
    /// The record may be incomplete (design section 4).
    pub recovered: bool,
    /// The provider's total was read, or never had to be: `charged` can be relied on.
    pub books_known: bool,
    /// How often the provider insisted on what nothing explains.
    pub offences: u64,
    /// What came back.
    pub refunded: Option<Usdc>,
    /// When it last paid.
    pub used_at: u64,
    /// What a person should know of it.
    pub note: Option<String>,
}

impl ChannelRecord {
    /// Whose record and budget this channel counts for: the provider's wallet and the host that it is reached at. The
    /// directory's id is not it: one provider may list itself a hundred times.
    pub fn provider_key(&self) -> String {
        provider_key(&address(self.provider_wallet), &self.api_url)
    }

    /// The host of the provider's URL; empty where none is known.
    pub fn host(&self) -> String {
        host_of(&self.api_url)
    }

    /// What a person is asked about a request over this channel.
    pub fn request_subject(&self, agent: &str, amount: Usdc) -> Subject {
        Subject {
            kind: ApprovalKind::Request,
            agent: agent.to_owned(),
            provider_id: self.provider_id.clone(),
            provider_name: self.provider_name.clone(),
            wallet: self.provider_wallet,
            host: self.host(),
            chain_id: self.deployment.chain_id(),
            contract: self.deployment.contract(),
            amount,
            duration: 0,
            prices: keccak256(&self.prices),
        }
    }

    /// Whether the operator's lists allow to pay this provider.
    pub fn check_parties(&self, parties: &Parties) -> Result<(), JournalError> {
        let (id, category, host) = (&self.provider_id, &self.category, self.host());
        let party = Party { id, wallet: self.provider_wallet, host: &host, category };
        parties.check(party).map_err(JournalError::NotAllowed)
    }
}

fn host_of(api_url: &str) -> String {
    let url = reqwest::Url::parse(api_url);
    url.ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// What a provider's record and budget are kept by: its wallet (lower-case text) and the host of its URL.
pub(crate) fn provider_key(wallet: &str, api_url: &str) -> String {
    format!("{wallet} {}", host_of(api_url))
}

/// The same of a channel's provider.
pub(super) fn provider_key_of(db: &Connection, intent: IntentId) -> Result<String, JournalError> {
    let (wallet, api_url): (String, String) = db
        .prepare_cached("SELECT provider_wallet, api_url FROM channels WHERE intent = ?1")?
        .query_row([intent.0], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(provider_key(&wallet, &api_url))
}

// INDEXED BY: by itself SQLite takes the primary key and reads every voucher that the channel ever had.
const COLUMNS: &str = "intent, chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, \
     api_url, category, prices, duration, state, channel_id, expires_at, deposit, cap, claimed, signed, charged, disputed, nonce, \
     requests, recovered, books_known, offences, refunded, used_at, note, \
     (SELECT COALESCE(SUM(bound), 0) FROM vouchers v INDEXED BY vouchers_in_flight \
      WHERE v.intent = channels.intent AND v.state = 'in_flight') AS in_flight";

const fn state_name(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Opening => "opening",
        // Expiry is read from the clock; the record stays open until a close is final.
        ChannelState::Open | ChannelState::Expired => "open",
        ChannelState::Closing => "closing",
        ChannelState::Closed => "closed",
        ChannelState::Failed => "failed",
    }
}

fn state_of(name: &str) -> Result<ChannelState, JournalError> {
    Ok(match name {
        "opening" => ChannelState::Opening,
        "open" => ChannelState::Open,
        "closing" => ChannelState::Closing,
        "closed" => ChannelState::Closed,
        "failed" => ChannelState::Failed,
        other => return Err(JournalError::Corrupt(format!("state = {other}"))),
    })
}

fn record(r: &Row<'_>) -> Result<ChannelRecord, JournalError> {
    let generation: Generation = row::parsed(r, "generation")?;
    Ok(ChannelRecord {
        intent: IntentId(r.get("intent")?),
        deployment: Deployment::new(
            row::unsigned(r, "chain_id")?,
            generation,
            row::parsed(r, "contract")?,
            row::parsed(r, "token")?,
        ),
        consumer: row::parsed(r, "consumer")?,
        provider_id: r.get("provider_id")?,
        provider_name: r.get("provider_name")?,
        provider_wallet: row::parsed(r, "provider_wallet")?,
        api_url: r.get("api_url")?,
        category: r.get("category")?,
        prices: r.get("prices")?,
        duration: row::unsigned(r, "duration")?,
        state: state_of(&r.get::<_, String>("state")?)?,
        channel_id: row::optional_parsed(r, "channel_id")?,
        expires_at: row::unsigned(r, "expires_at")?,
        books: Books {
            deposit: row::usdc(r, "deposit")?,
            cap: row::usdc(r, "cap")?,
            claimed: row::usdc(r, "claimed")?,
            signed: row::usdc(r, "signed")?,
            charged: row::usdc(r, "charged")?,
            disputed: row::usdc(r, "disputed")?,
            nonce: row::nonce(r, "nonce")?,
            in_flight: row::usdc(r, "in_flight")?,
        },
        requests: row::unsigned(r, "requests")?,
        recovered: r.get("recovered")?,
        books_known: r.get("books_known")?,
        offences: row::unsigned(r, "offences")?,
        refunded: row::optional_usdc(r, "refunded")?,
        used_at: row::unsigned(r, "used_at")?,
        note: r.get("note")?,
    })
}

pub(super) fn load(db: &Connection, intent: IntentId) -> Result<ChannelRecord, JournalError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM channels WHERE intent = ?1"))?;
    let mut rows = statement.query([intent.0])?;
    rows.next()?.map_or_else(|| Err(JournalError::Unknown(format!("channel {intent}"))), record)
}

/// Deposits that are, or may be, in the contracts, and what was begun to open within the hour before `now`.
fn locked(db: &Connection, chain_id: u64, consumer: Address, now: u64) -> Result<Locked, JournalError> {
    let mut statement = db.prepare_cached(
        "SELECT COALESCE(SUM(deposit) FILTER (WHERE state IN ('opening', 'open', 'closing')), 0) AS deposits, \
                COUNT(*) FILTER (WHERE state IN ('opening', 'open', 'closing')) AS channels, \
                COUNT(*) FILTER (WHERE created_at > ?3 AND recovered = 0) AS opened \
         FROM channels WHERE chain_id = ?1 AND consumer = ?2",
    )?;
    let mut rows =
        statement.query(params![column(chain_id)?, address(consumer), column(now.saturating_sub(3_600))?])?;
    let Some(r) = rows.next()? else { return Ok(Locked::default()) };
    Ok(Locked { deposits: row::usdc(r, "deposits")?, channels: r.get("channels")?, opened: r.get("opened")? })
}

pub(super) fn list(db: &Connection, ended: bool) -> Result<Vec<ChannelRecord>, JournalError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM channels WHERE ?1 OR state IN ('opening', 'open', 'closing') ORDER BY intent DESC LIMIT 100000"
    ))?;
    let mut rows = statement.query([ended])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        match record(row) {
            Ok(record) => records.push(record),
            // One damaged row must not take the others' money along.
            Err(error) => tracing::error!(%error, "a channel's record is left out"),
        }
    }
    Ok(records)
}

pub(super) fn address(address: Address) -> String {
    format!("{address:#x}")
}

fn set_state(db: &Connection, intent: IntentId, state: ChannelState) -> Result<(), JournalError> {
    let changed = db
        .prepare_cached("UPDATE channels SET state = ?2 WHERE intent = ?1")?
        .execute(params![intent.0, state_name(state)])?;
    if changed == 1 { Ok(()) } else { Err(JournalError::Unknown(format!("channel {intent}"))) }
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
        self.writer
            .run(move |db| {
                refuse_frozen_by(db, &limits, moment.at)?;
                let pending: Option<i64> = db
                    .prepare_cached("SELECT intent FROM channels WHERE state = 'opening' AND provider_id = ?1 AND chain_id = ?2 AND consumer = ?3")?
                    .query_row(params![new.provider_id, column(new.deployment.chain_id())?, address(new.consumer)], |r| r.get(0))
                    .optional()?;
                if let Some(pending) = pending {
                    return Ok((load(db, IntentId(pending))?, true));
                }
                let provider = provider_key(&address(new.provider_wallet), &new.api_url);
                records::check(&records::load(db, &provider)?, &new.provider_id)?;
                let now = usage::now(db, moment)?;
                let locked = locked(db, new.deployment.chain_id(), new.consumer, now)?;
                may_open(&limits, &locked, new.deposit).map_err(JournalError::OverLimit)?;
                let intent = insert(db, &new, ChannelState::Opening, None, 0)?;
                if limits.approve.needs_person(ApprovalKind::Deposit, new.deposit) {
                    approvals::spend(db, &new.subject(), now, &intent.to_string())?;
                }
                db.prepare_cached("UPDATE channels SET told = 0 WHERE intent = ?1")?.execute([intent.0])?;
                Ok((load(db, intent)?, false))
            })
            .await
    }

    /// An open channel to this provider that its opener was never given, because the call was cut off, and that never
    /// paid.
    pub async fn untold(
        &self,
        chain_id: u64,
        consumer: Address,
        provider_id: String,
    ) -> Result<Option<ChannelRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM channels WHERE told = 0 AND state = 'open' AND nonce = 0 \
                     AND provider_id = ?1 AND chain_id = ?2 AND consumer = ?3 ORDER BY intent LIMIT 1"
                ))?;
                let mut rows = statement.query(params![provider_id, column(chain_id)?, address(consumer)])?;
                rows.next()?.map(record).transpose()
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

    /// Records a channel that this journal did not open, as recovered: at least `signed` was promised, maybe the whole
    /// deposit. One that is known already is left as it is.
    pub async fn adopt(
        &self,
        new: NewChannel,
        channel_id: ChannelId,
        expires_at: u64,
        found: Found,
    ) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                let known: Option<i64> = db
                    .prepare_cached("SELECT intent FROM channels WHERE chain_id = ?1 AND contract = ?2 AND channel_id = ?3")?
                    .query_row(params![column(new.deployment.chain_id())?, address(new.deployment.contract()), channel_id.to_string()], |r| r.get(0))
                    .optional()?;
                if let Some(known) = known {
                    return load(db, IntentId(known));
                }
                let intent = insert(db, &new, ChannelState::Open, Some(channel_id), expires_at)?;
                db.prepare_cached("UPDATE channels SET recovered = 1, books_known = 0, claimed = ?2, signed = ?3, charged = ?3, nonce = ?4 WHERE intent = ?1")?
                    .execute(params![intent.0, found.claimed.as_i64(), found.signed.as_i64(), found.nonce_floor.as_i64()])?;
                load(db, intent)
            })
            .await
    }

    /// All channels whose record can be read, newest first; those at their end only when asked for.
    pub async fn channels(&self, ended: bool) -> Result<Vec<ChannelRecord>, JournalError> {
        self.writer.run(move |db| list(db, ended)).await
    }

    /// One channel.
    pub async fn channel(&self, intent: IntentId) -> Result<ChannelRecord, JournalError> {
        self.writer.run(move |db| load(db, intent)).await
    }

    /// One channel by its on-chain id, if it is known.
    pub async fn channel_by_id(
        &self,
        chain_id: u64,
        channel_id: ChannelId,
    ) -> Result<Option<ChannelRecord>, JournalError> {
        self.writer
            .run(move |db| {
                let mut statement = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM channels WHERE chain_id = ?1 AND channel_id = ?2"
                ))?;
                let mut rows = statement.query(params![column(chain_id)?, channel_id.to_string()])?;
                rows.next()?.map(record).transpose()
            })
            .await
    }

    /// What deposits of a wallet are locked, or on their way.
    pub async fn locked(&self, chain_id: u64, consumer: Address) -> Result<Usdc, JournalError> {
        self.writer.run(move |db| Ok(locked(db, chain_id, consumer, 0)?.deposits)).await
    }

    /// The opening is final on chain: from now on it pays, even if it was given up before. Ends its transaction too.
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
                db.prepare_cached("UPDATE channels SET state = 'open', channel_id = ?2, deposit = ?3, expires_at = ?4, note = NULL WHERE intent = ?1 AND state IN ('opening', 'failed')")?
                    .execute(params![intent.0, channel_id.to_string(), deposit.as_i64(), column(expires_at)?])?;
                transactions::finish(db, transaction, TxState::Final, None)?;
                load(db, intent)
            })
            .await
    }

    /// Moves a channel between opening, open, closing and failed. Its end on chain is [`Journal::closed`].
    pub async fn set_state(&self, intent: IntentId, state: ChannelState) -> Result<(), JournalError> {
        self.writer.run(move |db| set_state(db, intent, state)).await
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
        self.writer
            .run(move |db| {
                let before = load(db, intent)?;
                // An end that is told twice gives back once.
                if before.state != ChannelState::Closed {
                    let excess = before.books.signed.saturating_sub(claimed);
                    usage::give_back(db, intent, &before.provider_key(), excess, usage::now(db, moment)?)?;
                }
                db.prepare_cached(
                    "UPDATE channels SET state = 'closed', claimed = MAX(claimed, ?2), refunded = ?3, note = NULL WHERE intent = ?1",
                )?
                .execute(params![intent.0, claimed.as_i64(), refunded.as_i64()])?;
                if let Some(transaction) = transaction {
                    transactions::finish(db, transaction, TxState::Final, None)?;
                }
                load(db, intent)
            })
            .await
    }

    /// The history may be incomplete (`invalid_nonce` was seen): nonces go on from the clock.
    pub async fn mark_recovered(&self, intent: IntentId, nonce_floor: Nonce) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("UPDATE channels SET recovered = 1, nonce = MAX(nonce, ?2) WHERE intent = ?1")?
                    .execute(params![intent.0, nonce_floor.as_i64()])?;
                load(db, intent)
            })
            .await
    }

    /// The books of a recovered channel were read from its provider: `charged` is its total.
    pub async fn books_read(&self, intent: IntentId, charged: Usdc) -> Result<ChannelRecord, JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached(
                    "UPDATE channels SET charged = ?2, books_known = 1 WHERE intent = ?1 AND recovered = 1",
                )?
                .execute(params![intent.0, charged.as_i64()])?;
                load(db, intent)
            })
            .await
    }

    /// What the provider has taken on chain so far.
    pub async fn claimed(&self, intent: IntentId, claimed: Usdc) -> Result<(), JournalError> {
        self.writer
            .run(move |db| {
                db.prepare_cached("UPDATE channels SET claimed = MAX(claimed, ?2) WHERE intent = ?1")?
                    .execute(params![intent.0, claimed.as_i64()])?;
                Ok(())
            })
            .await
    }
}

fn insert(
    db: &Connection,
    new: &NewChannel,
    state: ChannelState,
    channel_id: Option<ChannelId>,
    expires_at: u64,
) -> Result<IntentId, JournalError> {
    db.prepare_cached(
        "INSERT INTO channels (chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, api_url, category, \
         prices, duration, state, channel_id, expires_at, deposit, cap, created_at, used_at, agent) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18, ?19)",
    )?
    .execute(params![
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
    ])?;
    Ok(IntentId(db.last_insert_rowid()))
}
