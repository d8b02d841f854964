//! What a request would cost, before anything is spent.

use drain_protocol::chat::Message;
use drain_protocol::{Generation, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChannelView, PayFrom};

/// A request whose cost is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuoteCall {
    /// What would pay.
    pub from: PayFrom,
    /// Which model.
    pub model: String,
    /// What would be sent.
    pub input: QuoteInput,
    /// The longest answer.
    pub max_tokens: Option<u32>,
    /// The most that it may cost.
    pub max_cost: Option<Usdc>,
}

/// How much would be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuoteInput {
    /// This conversation.
    Messages(Vec<Message>),
    /// One of about so many tokens.
    Tokens(u32),
}

/// What a request would cost and what would pay for it. Nothing was signed, opened or pinned.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// The provider's id.
    pub provider_id: String,
    /// Its name (untrusted).
    pub provider_name: String,
    /// The model (the caller's word).
    pub model: String,
    /// Its price, in USDC.
    pub price: String,
    /// The most that the request can cost.
    #[schemars(with = "String")]
    pub at_most: Usdc,
    /// The open channel that would pay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelView>,
    /// What would be opened, where no open channel pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<Opening>,
    /// What the caps leave for this provider now; not told where others use them too.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps_leave: Option<Usdc>,
    /// A person would be asked before the request is paid.
    pub asks_person: bool,
    /// Why the request would be refused now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What the caller should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A channel that would be opened.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// The deposit; what is not used of it comes back.
    #[schemars(with = "String")]
    pub deposit: Usdc,
    /// For how long, in seconds.
    pub duration: u64,
    /// V1 or V2.
    #[schemars(with = "String")]
    pub generation: Generation,
    /// Paid to the marketplace for opening on V1; zero on V2.
    #[schemars(with = "String")]
    pub session_fee: Usdc,
    /// Gas of the opening in POL, about; none where the chain does not say.
    pub gas: Option<String>,
    /// The call, or a person in the configuration, has said that it may be opened.
    pub allowed: bool,
    /// A person would be asked before the deposit is locked.
    pub asks_person: bool,
}
