//! What the runtime takes and gives: the same types for MCP tools, the command line and the tests.
//!
//! Amounts are [`Usdc`] and serialise as decimal strings; times are Unix seconds of the chain's clock.

use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, B256, ChannelId, Generation, U256, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::policy::repeat::{IdempotencyKey, sha256};

mod budget;
mod command;
mod imported;
mod market;
mod openings;
mod overview;
mod payment;
mod progress;
mod quote;
mod receipts;

pub use budget::{BudgetLine, BudgetView};
pub use command::{Command, Effect, Reply};
pub use imported::{Import, Imported, LeftBehind};
pub use market::{
    ContractChoice, Feedback, Job, MAX_PROVIDERS, ModelSummary, Offer, OfferedModel, ProviderDetails, ProviderPage,
    ProviderQuery, ProviderStanding, ProviderSummary, Sort,
};
pub use openings::{OpeningsFound, Recovery, unknown, unknown_told};
pub use overview::{
    ChainNow, ChannelNow, EndpointNow, FrozenNow, MoneyNow, Overview, ProviderNow, SignerNow, Spend, SpendAt,
};
pub use payment::{Body, DemandView, Payment, PaymentCall, PaymentReply, Target};
pub use progress::{Parts, Progress, Question, Said};
pub use quote::{Opening, Quote, QuoteCall, QuoteInput};
pub use receipts::{KeptAnswer, MAX_RECEIPTS, ReceiptDetails, ReceiptQuery, ReceiptView};

/// Addresses are spelled as everywhere else, with their checksum.
fn checksummed<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// What the wallet holds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WalletView {
    /// The account that pays.
    #[serde(serialize_with = "checksummed")]
    #[schemars(with = "String")]
    pub address: Address,
    /// The chain.
    pub chain_id: u64,
    /// Native USDC.
    #[schemars(with = "String")]
    pub usdc: Usdc,
    /// Gas money, in POL.
    pub pol: String,
    /// What the V2 contract may take from the wallet.
    pub allowance: String,
    /// Locked in open channels.
    #[schemars(with = "String")]
    pub locked: Usdc,
    /// Spent since midnight UTC (charged).
    #[schemars(with = "String")]
    pub spent_today: Usdc,
    /// How its key signs: which kind, and whether a person presses for each signature.
    pub signer: String,
    /// What to do about it: bridged USDC, missing gas, too much money, no money.
    pub advice: Vec<String>,
}

/// A wish for a channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenRequest {
    /// A provider's id, or a wallet that exactly one listing has.
    pub provider: String,
    /// The deposit.
    pub amount: Usdc,
    /// How long; the default is 24 h within the provider's limits.
    pub duration: Option<ChannelDuration>,
    /// Lowers the channel's cap; never raises it (M3, M5).
    pub cap: Option<Usdc>,
}

/// A channel was opened, or the pending one was found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The channel.
    pub channel: ChannelView,
    /// True when an earlier open of the same provider was still on its way and this is that one.
    pub resumed: bool,
    /// True when nothing was opened and nothing locked: agents of this wallet share this channel.
    #[serde(default)]
    pub shared: bool,
    /// Which contract, and why.
    pub contract: ContractChoice,
    /// The V1 session fee that was paid, zero on V2.
    #[schemars(with = "String")]
    pub session_fee: Usdc,
    /// The transactions, in order.
    pub transactions: Vec<String>,
    /// The provider's instructions for agents (untrusted, bounded).
    pub docs: Option<String>,
    /// For example: a short V2 channel may be claimed first.
    pub warnings: Vec<String>,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// Its opening is not final yet.
    Opening,
    /// It pays.
    Open,
    /// A close is on its way; it signs nothing.
    Closing,
    /// Expired with money inside: `close` gets it back.
    Expired,
    /// Over.
    Closed,
    /// Its opening failed for good.
    Failed,
}

/// One channel with its accounting (design section 4).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChannelView {
    /// The on-chain id; none before the opening is mined.
    pub channel_id: Option<String>,
    /// Our own id of the opening.
    pub intent: String,
    /// Where it stands.
    pub state: ChannelState,
    /// The provider's id in the directory.
    pub provider_id: String,
    /// The provider's name (untrusted).
    pub provider_name: String,
    /// The provider's category.
    pub category: String,
    /// V1 or V2.
    #[schemars(with = "String")]
    pub generation: Generation,
    /// What the contract holds for it.
    #[schemars(with = "String")]
    pub deposit: Usdc,
    /// The most that vouchers of this channel may reach.
    #[schemars(with = "String")]
    pub cap: Usdc,
    /// Highest voucher ever signed: what the provider can take.
    #[schemars(with = "String")]
    pub signed: Usdc,
    /// What was accepted as owed.
    #[schemars(with = "String")]
    pub charged: Usdc,
    /// Reserved for requests whose outcome is unknown.
    #[schemars(with = "String")]
    pub in_flight: Usdc,
    /// What the provider says beyond what price, usage and bound explain.
    #[schemars(with = "String")]
    pub disputed: Usdc,
    /// Already taken by the provider on chain.
    #[schemars(with = "String")]
    pub claimed: Usdc,
    /// What further requests can use.
    #[schemars(with = "String")]
    pub available: Usdc,
    /// Requests paid.
    pub requests: u64,
    /// Unix seconds of block time; zero before the opening is mined.
    pub expires_at: u64,
    /// Seconds until then by the chain's clock, as far as known; negative after.
    pub expires_in: i64,
    /// Our record of this channel may be incomplete (design section 4).
    pub recovered: bool,
    /// What came back at the end.
    #[schemars(with = "Option<String>")]
    pub refunded: Option<Usdc>,
    /// What to do next with it.
    pub next: String,
    /// What is odd: the chain or the marketplace says otherwise.
    pub notes: Vec<String>,
}

/// What pays for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayFrom {
    /// This channel.
    Channel(ChannelId),
    /// An open channel to this provider, or a new one.
    Provider(ProviderWish),
    /// A provider that a person allowed by name, chosen by the model: `model`, or `provider/model`.
    Allowed {
        /// So many channels to it at most, where requests overlap; beyond that they wait for each other.
        at_once: u32,
    },
}

/// A provider in place of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderWish {
    /// A provider's id, or a wallet that exactly one listing has.
    pub provider: String,
    /// What may be locked in a new channel, where none that is open pays for the request. Without it only what a person
    /// allowed ([`crate::policy::Limits::auto_open`]); never raises a limit.
    pub max_deposit: Option<Usdc>,
    /// For how long; the default is that of an opening.
    pub duration: Option<ChannelDuration>,
}

/// A paid request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChatCall {
    /// What pays.
    pub from: PayFrom,
    /// Which model.
    pub model: String,
    /// The conversation.
    pub messages: Vec<drain_protocol::chat::Message>,
    /// The longest answer; the runtime sends a default without it.
    pub max_tokens: Option<u32>,
    /// Passed on.
    pub temperature: Option<serde_json::Number>,
    /// The most that this request may cost; never raises a limit.
    pub max_cost: Option<Usdc>,
    /// The caller's own name for this request: the same request under it again is answered as the first one, and not paid
    /// a second time.
    #[serde(default)]
    pub request_id: Option<IdempotencyKey>,
}

impl ChatCall {
    /// SHA-256 of what is asked: who is paid, the conversation, and its limits. What may be locked for it is no part of it.
    pub fn body_hash(&self) -> Result<B256, Failure> {
        let whom = match &self.from {
            PayFrom::Channel(id) => ("channel", id.to_string()),
            PayFrom::Provider(wish) => ("provider", wish.provider.trim().to_owned()),
            // Who that is may be another one the next time: the same request all the same.
            PayFrom::Allowed { .. } => ("allowed", String::new()),
        };
        let asked = (whom, &self.model, &self.messages, self.max_tokens, &self.temperature, self.max_cost);
        let bytes = serde_json::to_vec(&asked).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(sha256(bytes))
    }
}

/// What came back for a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ChatReply {
    /// A paid answer.
    Paid(Box<Paid>),
    /// Nothing was paid: the provider's instructions must be read first (non-LLM providers, once).
    ReadFirst {
        /// The instructions (untrusted, bounded).
        docs: String,
    },
}

/// A paid answer and what it cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Paid {
    /// The answer's text (untrusted).
    pub content: String,
    /// The provider's JSON, as it came.
    pub raw: serde_json::Value,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// What this request cost.
    pub cost: Usdc,
    /// Provider's total beyond what is explained, if any.
    pub disputed: Usdc,
    /// The receipt.
    pub receipt: String,
    /// The max_tokens that was sent, where the caller gave none or a larger one.
    pub max_tokens_sent: Option<u32>,
    /// Spent since midnight UTC, this request included.
    pub spent_today: Usdc,
    /// The channel after it.
    pub channel: ChannelView,
    /// What a reader should know: the provider claimed more, the answer was cut.
    pub notes: Vec<String>,
}

/// What became of one channel when everything that can come back was asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefundReport {
    /// The channel, as it was before.
    pub channel: ChannelView,
    /// It is closed now.
    pub closed: Option<Closed>,
    /// Nothing can be done before this Unix second of block time.
    pub waits_until: Option<u64>,
    /// Why it is not closed.
    pub failure: Option<RefundFailure>,
}

/// Why a channel was not closed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefundFailure {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// A transaction may still land.
    pub pending: bool,
    /// What to do next.
    pub next: String,
}

/// A question to a person.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalView {
    /// Its name: what a person types.
    pub id: String,
    /// `request` or `deposit`.
    pub kind: String,
    /// In one sentence (it holds a provider's name: untrusted).
    pub what: String,
    /// Who asks.
    pub agent: String,
    /// The provider.
    pub provider_id: String,
    /// How much at most.
    #[schemars(with = "String")]
    pub amount: Usdc,
    /// `waiting`, `approved`, `denied`, `used` or `expired`.
    pub state: String,
    /// Seconds until it expires.
    pub expires_in: u64,
}

/// A channel was closed, or left by one of the agents that share it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Closed {
    /// The channel at its end.
    pub channel: ChannelView,
    /// True when others use the channel and so only this agent left it: nothing was closed, paid or sent back.
    #[serde(default)]
    pub left: bool,
    /// What the provider got in all, its fee included.
    #[schemars(with = "String")]
    pub paid: Usdc,
    /// The protocol fee within that.
    #[schemars(with = "String")]
    pub protocol_fee: Usdc,
    /// What came back to the wallet.
    #[schemars(with = "String")]
    pub refund: Usdc,
    /// The transaction; empty where the channel was only left.
    pub transaction: String,
}

/// An allowance was set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Approved {
    /// The contract that may take USDC.
    #[serde(serialize_with = "checksummed")]
    #[schemars(with = "String")]
    pub spender: Address,
    /// How much.
    #[schemars(with = "String")]
    pub allowance: Usdc,
    /// The transaction; none when the allowance was already so.
    pub transaction: Option<String>,
}

/// What a person sends from the wallet (terminal only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendAmount {
    /// USDC; `None` is all of it.
    Usdc(Option<Usdc>),
    /// POL in wei; `None` is all but the gas.
    Native(Option<U256>),
}

/// What went back to the treasury.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Swept {
    /// The treasury.
    pub to: Address,
    /// USDC.
    pub usdc: Usdc,
    /// POL, as a decimal number.
    pub pol: String,
    /// Hashes, in order; none where nothing was above the marks.
    pub transactions: Vec<String>,
}
