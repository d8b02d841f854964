//! Everything that a person sees of a wallet at once: where its money is, what it may still do, who is paid and who asks.

use drain_protocol::Usdc;
use serde::{Deserialize, Serialize};

use super::{ApprovalView, ChannelView, ProviderStanding, ReceiptView};
use crate::metrics::state::Cap;

/// One wallet, as its operator sees it. Read from the record; amounts are USDC, times Unix seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The account.
    pub address: String,
    /// Why nothing is paid, if it is not.
    pub frozen: Option<FrozenNow>,
    /// Sums over channels that are not over.
    pub money: MoneyNow,
    /// Limits, and what counts against them.
    pub caps: Vec<Cap>,
    /// What was spent, over time.
    pub spend: Spend,
    /// Channels, those at their end too.
    pub channels: Vec<ChannelNow>,
    /// Providers with a channel or a record.
    pub providers: Vec<ProviderNow>,
    /// Questions that wait for a person.
    pub approvals: Vec<ApprovalView>,
    /// The last receipts, newest first.
    pub receipts: Vec<ReceiptView>,
    /// The key.
    pub signer: SignerNow,
    /// The chain.
    pub chain: ChainNow,
}

/// A freeze that stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenNow {
    /// Since when; not known of one by configuration.
    pub since: Option<u64>,
    /// Why (it may hold a provider's name: untrusted).
    pub reason: String,
}

/// Where the money in channels is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct MoneyNow {
    /// What was put in.
    pub deposited: Usdc,
    /// The most that vouchers let providers take.
    pub signed: Usdc,
    /// What requests cost.
    pub charged: Usdc,
    /// What providers claim beyond.
    pub disputed: Usdc,
    /// What expired channels hold beyond what was signed.
    pub reclaimable: Usdc,
    /// Charged since midnight UTC.
    pub spent_today: Usdc,
}

/// What was charged, by the time at which it was authorized.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spend {
    /// The last 24 hours, the oldest first.
    pub hours: Vec<SpendAt>,
    /// The last 30 days (UTC), the oldest first.
    pub days: Vec<SpendAt>,
}

/// What was charged in an hour or a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendAt {
    /// Its beginning.
    pub at: u64,
    /// How much.
    pub charged: Usdc,
}

/// A channel and whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelNow {
    /// The channel.
    #[serde(flatten)]
    pub channel: ChannelView,
    /// Agents of the fleet that use it.
    pub agents: Vec<String>,
}

/// A provider that was paid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProviderNow {
    /// Its id in the directory (untrusted).
    pub id: String,
    /// Its name (untrusted).
    pub name: String,
    /// Its category.
    pub category: String,
    /// The directory's word, where the directory is known.
    pub online: Option<bool>,
    /// The directory's word.
    pub latency_ms: Option<u64>,
    /// What it did with our vouchers.
    pub standing: Option<ProviderStanding>,
    /// Charged on its channels that are not over.
    pub spent: Usdc,
}

/// How the wallet's key signs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignerNow {
    /// Which kind.
    pub backend: String,
    /// A person does something for each signature.
    pub interactive: bool,
}

/// How the chain is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChainNow {
    /// Its number.
    pub chain_id: u64,
    /// Time of the newest block that was seen; none before one was.
    pub block_at: Option<u64>,
    /// Endpoints, in the operator's order.
    pub endpoints: Vec<EndpointNow>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointNow {
    /// Scheme and host, nothing else of its URL (M12).
    pub host: String,
    /// False while it is put aside.
    pub healthy: bool,
}
