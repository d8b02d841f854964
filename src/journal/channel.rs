//! A channel as wanted and as recorded.

use alloy::primitives::keccak256;
use drain_protocol::{Address, ChannelId, Deployment, Generation, Usdc};

use super::db::{Db, Row};
use super::members::{Member, among};
use super::row::{self, address};
use super::{IntentId, JournalError};
use crate::api::ChannelState;
use crate::policy::Books;
use crate::policy::approvals::{ApprovalKind, Subject};
use crate::policy::limits::{Parties, Party};

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
    /// Other agents of the wallet that share may use it too.
    pub shared: bool,
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
    /// Agents of the fleet that use it or did; none where it is the operator's.
    pub members: Vec<Member>,
}

impl ChannelRecord {
    /// Whether an agent of the fleet sees and uses it.
    pub fn is_of(&self, agent: &str) -> bool {
        among(&self.members, agent)
    }

    /// Whether more than one agent has used it: then no one's part is the whole.
    pub fn is_shared(&self) -> bool {
        self.members.len() > 1
    }

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

/// The host of a URL, without its port; empty where it is no URL.
pub(super) fn host_of(api_url: &str) -> String {
    let url = reqwest::Url::parse(api_url);
    url.ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

/// What a provider's record and budget are kept by: its wallet (lower-case text) and the host of its URL.
pub(crate) fn provider_key(wallet: &str, api_url: &str) -> String {
    format!("{wallet} {}", host_of(api_url))
}

/// The same of a channel's provider.
pub(super) fn provider_key_of(db: &Db<'_>, intent: IntentId) -> Result<String, JournalError> {
    let (wallet, api_url): (String, String) = db
        .prepare_cached("SELECT provider_wallet, api_url FROM channels WHERE intent = ?1")?
        .query_row([intent.0], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(provider_key(&wallet, &api_url))
}

// INDEXED BY: by itself SQLite takes the primary key and reads every voucher that the channel ever had.
pub(super) const COLUMNS: &str = "intent, chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, \
     api_url, category, prices, duration, state, channel_id, expires_at, deposit, cap, claimed, signed, charged, disputed, nonce, \
     requests, recovered, books_known, offences, refunded, used_at, note, \
     (SELECT string_agg(CASE WHEN m.left_at IS NULL THEN '+' ELSE '-' END || m.agent, ' ') FROM channel_members m \
      WHERE m.intent = channels.intent) AS members, \
     (SELECT CAST(COALESCE(SUM(bound), 0) AS BIGINT) FROM vouchers v INDEXED BY vouchers_in_flight \
      WHERE v.intent = channels.intent AND v.state = 'in_flight') AS in_flight";

pub(super) const fn state_name(state: ChannelState) -> &'static str {
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

pub(super) fn record(r: &Row<'_>) -> Result<ChannelRecord, JournalError> {
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
        members: members(r)?,
    })
}

/// As `COLUMNS` tells them: `+` who uses the channel, `-` who has left. An agent's name has no blank (`agents/book.rs`).
fn members(r: &Row<'_>) -> Result<Vec<Member>, JournalError> {
    let text: Option<String> = r.get("members")?;
    let member = |text: &str| match text.split_at_checked(1) {
        Some((sign @ ("+" | "-"), agent)) => Ok(Member { agent: agent.into(), left: sign == "-" }),
        _ => Err(JournalError::Corrupt(format!("members: {text}"))),
    };
    text.unwrap_or_default().split_ascii_whitespace().map(member).collect()
}

pub(super) fn load(db: &Db<'_>, intent: IntentId) -> Result<ChannelRecord, JournalError> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM channels WHERE intent = ?1"))?;
    let mut rows = statement.query([intent.0])?;
    rows.next()?.as_ref().map_or_else(|| Err(JournalError::Unknown(format!("channel {intent}"))), record)
}
