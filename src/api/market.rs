//! Providers, as they are listed, shown and told about.

use drain_protocol::{Address, Generation, Usdc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChannelView, checksummed};
pub use crate::policy::ranking::{Job, Sort};

/// Providers on one page at most, whoever asks.
pub const MAX_PROVIDERS: u32 = 300;

/// Which providers to list. Filters combine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProviderQuery {
    /// Only those that are online.
    pub online_only: bool,
    /// A model's exact id, or a part of its id or name.
    pub model: Option<String>,
    /// The category, compared without case.
    pub category: Option<String>,
    /// `drain` (the default) or `mpp`.
    pub protocol: Option<String>,
    /// At most so many on a page.
    pub limit: Option<usize>,
    /// Which page, counted from 1.
    pub page: Option<usize>,
    /// In which order.
    pub sort: Sort,
    /// A request whose price is compared; without it [`Job::USUAL`].
    pub job: Option<Job>,
    /// Only those where that request costs at most so much.
    pub max_price: Option<Usdc>,
    /// Only those that the directory found to answer within so many milliseconds.
    pub max_latency_ms: Option<u64>,
    /// Only those of at least this quality, 0 to 100, by the directory's measure.
    pub min_quality: Option<u8>,
    /// Only those with at least this score of our own, 0 to 100: nobody who was not paid often enough has one.
    pub min_score: Option<u8>,
}

impl ProviderQuery {
    /// Whether it asks for a model, or for what a request costs: then the model that is meant is of interest.
    pub const fn is_for_a_model(&self) -> bool {
        self.model.is_some() || self.job.is_some() || self.max_price.is_some() || matches!(self.sort, Sort::Price)
    }
}

/// A model that a request may name without a provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfferedModel {
    /// The provider's id.
    pub provider_id: String,
    /// The model's id there.
    pub model: String,
    /// Its listed price.
    pub price: String,
}

/// A page of the directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProviderPage {
    /// The providers, at most the limit.
    pub providers: Vec<ProviderSummary>,
    /// How many matched.
    pub matched: usize,
    /// Which page this is, counted from 1.
    pub page: usize,
    /// The page after it, where there is one.
    pub next_page: Option<usize>,
    /// Age of the catalogue in seconds.
    pub age_seconds: u64,
    /// True when the directory did not answer and this is an older copy.
    pub stale: bool,
}

/// One line of the directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProviderSummary {
    /// The id to open a channel with.
    pub id: String,
    /// What stands for the id: itself, or `@` and its end.
    pub short_id: String,
    /// Its name (untrusted).
    pub name: String,
    /// Its category.
    pub category: String,
    /// `drain` or `mpp`.
    pub protocol: String,
    /// Whether drain-mcp can pay it.
    pub payable: bool,
    /// The tool that asks and pays it; empty where none does.
    #[serde(default)]
    pub tool: String,
    /// The directory's word on its health.
    pub online: Option<bool>,
    /// The directory's word: how long an answer takes, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The directory's measure of quality, 0 to 100.
    pub quality: Option<u8>,
    /// What the provider says of itself (untrusted).
    pub description: String,
    /// Its wallet.
    pub wallet: String,
    /// Where it is reached.
    pub api_url: String,
    /// Shortest channel that it accepts, in seconds.
    pub min_duration: Option<u64>,
    /// Longest channel that it accepts, in seconds.
    pub max_duration: Option<u64>,
    /// Its models and listed prices.
    pub models: Vec<ModelSummary>,
    /// The cheapest of its models that match, for the request that was described.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
    /// What it did with our vouchers; none where it was never paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<ProviderStanding>,
}

/// What a provider, by wallet and host, did so far with our vouchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderStanding {
    /// 0 to 100; none while too little is known.
    pub score: Option<u8>,
    /// Requests answered.
    pub answered: u64,
    /// Vouchers taken without a usable answer.
    pub failed: u64,
    /// Requests refused before the work.
    pub refused: u64,
    /// How often it asked for more than price, usage and bounds explain.
    pub offences: u64,
    /// What it claimed beyond them.
    #[schemars(with = "String")]
    pub disputed: Usdc,
    /// Why it is neither opened nor paid; a person lifts that.
    pub set_aside: Option<String>,
}

/// What a described request costs, by the directory's word. The provider's own prices count (drain_quote).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The model.
    pub model: String,
    /// At most; none where tokens do not decide it, or no price is listed.
    #[schemars(with = "Option<String>")]
    pub cost: Option<Usdc>,
}

/// A model and its price.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ModelSummary {
    /// The id to send.
    pub id: String,
    /// For people: `0.000225 in / 0.0009 out per 1k tokens`, `0.005 per request` or `unknown`.
    pub price: String,
}

/// A provider with its own word on prices and use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProviderDetails {
    /// The listing.
    pub listing: ProviderSummary,
    /// Its instructions for agents (untrusted, bounded).
    pub docs: Option<String>,
    /// Which contract generation it takes, and why we think so.
    pub contract: Option<ContractChoice>,
    /// Open channels to it.
    pub channels: Vec<ChannelView>,
    /// What is odd: a price that differs from the listing, a bad checksum, a provider that does not answer.
    pub warnings: Vec<String>,
}

/// Which contract was chosen for a provider, and on whose word (design section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContractChoice {
    /// V1 or V2.
    #[schemars(with = "String")]
    pub generation: Generation,
    /// Its address.
    #[serde(serialize_with = "checksummed")]
    #[schemars(with = "String")]
    pub contract: Address,
    /// Why.
    pub reason: String,
}

/// An agent's word on a provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feedback {
    /// The provider's id.
    pub provider_id: String,
    /// `success` or `failure`.
    pub outcome: String,
    /// quality, timeout, error, format or unavailable; with a failure only.
    pub reason: Option<String>,
    /// `drain` (default) or `mpp`.
    pub protocol: Option<String>,
}
