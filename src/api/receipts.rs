//! Receipts: one for each request that a voucher or a payment without a channel was signed for.

use drain_protocol::{ChannelId, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChannelView, Paid};

/// The most receipts that one answer holds.
pub const MAX_RECEIPTS: u32 = 1_000;

/// Which receipts; what is not said does not count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReceiptQuery {
    /// Not before this Unix second of the machine's clock.
    pub since: u64,
    /// Of this channel.
    pub channel: Option<ChannelId>,
    /// Of this provider, by its id.
    pub provider: Option<String>,
    /// The newest so many, [`MAX_RECEIPTS`] at most.
    pub limit: u32,
    /// Older than this receipt.
    pub before: Option<String>,
}

/// A receipt. Amounts are USDC; times are RFC 3339, by the machine's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptView {
    /// Its name.
    pub receipt: String,
    /// When the voucher was authorized.
    pub at: String,
    /// When it was booked.
    pub settled_at: Option<String>,
    /// `answered`, `charged` (without an answer), `not_charged`, or `unknown` while nothing tells.
    pub outcome: String,
    /// Whose request.
    pub agent: String,
    /// The provider's id in the directory (untrusted).
    pub provider: String,
    /// How it was paid: `drain` by a channel's voucher, else `mpp`, `mpp_tempo`, `x402v1` or `x402v2` by a payment of its own.
    pub protocol: String,
    /// Whom a payment without a channel pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payee: Option<String>,
    /// Who was asked for such a payment: host, and port where it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The nonce of its signed transfer (EIP-3009), by which the chain tells whether it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_nonce: Option<String>,
    /// Without a channel: on which chain.
    #[serde(skip)]
    pub chain_id: Option<u64>,
    /// The transaction that took such a payment, by its payee's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The channel's id on chain; none of a payment without one.
    pub channel: Option<String>,
    /// The model that was asked; of a payment without a channel method and path.
    pub model: String,
    /// The most that the request can cost.
    #[schemars(with = "String")]
    pub bound: Usdc,
    /// What was booked.
    #[schemars(with = "Option<String>")]
    pub charged: Option<Usdc>,
    /// What the provider claimed beyond; not accepted.
    #[schemars(with = "String")]
    pub disputed: Usdc,
    /// The voucher's amount: all that was signed on the channel; or the payment's.
    #[schemars(with = "String")]
    pub voucher_amount: Usdc,
    /// The voucher's number, or the payment's.
    pub nonce: u64,
    /// The caller's own name for the request.
    pub request_id: Option<String>,
    /// SHA-256 of the answer's text, or of its JSON where it has no text.
    pub answer_sha256: Option<String>,
    /// Why nothing was charged, or how the cost became known (untrusted).
    pub note: Option<String>,
}

/// A receipt with the answer that was paid for, while that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptDetails {
    /// The receipt.
    pub receipt: ReceiptView,
    /// The answer; `None` where none came or its text is kept no more.
    pub answer: Option<KeptAnswer>,
}

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The text (untrusted).
    pub content: String,
    /// The provider's JSON, as it came.
    pub raw: serde_json::Value,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// The max_tokens that was sent.
    pub max_tokens_sent: Option<u32>,
    /// What it cost.
    pub cost: Usdc,
    /// What the provider claimed beyond.
    pub disputed: Usdc,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl KeptAnswer {
    /// As a call is answered.
    pub fn paid(self, receipt: String, spent_today: Usdc, channel: ChannelView) -> Paid {
        let Self { content, raw, finish_reason, max_tokens_sent, cost, disputed, notes } = self;
        Paid { content, raw, finish_reason, cost, disputed, receipt, max_tokens_sent, spent_today, channel, notes }
    }

    /// What counts as the answer: its text, or the JSON of one without.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        if self.content.is_empty() && !self.raw.is_null() {
            self.raw.to_string().into()
        } else {
            self.content.as_str().into()
        }
    }
}
