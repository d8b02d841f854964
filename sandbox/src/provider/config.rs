//! What a simulated provider sells, for how much, and who it is.

use std::time::Duration;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::Generation;

use crate::provider::faults::{Faults, Usage};

/// One model or service with its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What a request names in `model`.
    pub id: String,
    /// Base units per 1000 input tokens; for flat services the price of one request; for [`Kind::PerItem`] of one item.
    pub input: u64,
    /// Base units per 1000 output tokens; 0 means a flat price (protocol.md section 5.2).
    pub output: u64,
}

impl Model {
    /// A model with prices in base units per 1000 tokens.
    pub fn new(id: impl Into<String>, input: u64, output: u64) -> Self {
        Self { id: id.into(), input, output }
    }
}

/// What kind of work the provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text for text, priced by token, can stream.
    Llm,
    /// A forecast as JSON for a city's name, one price per request.
    Forecast,
    /// A small PNG as a data URL for a prompt, one price per request.
    Image,
    /// Word counts of the texts in a JSON list, priced per text.
    PerItem,
}

impl Kind {
    /// The marketplace category.
    pub const fn category(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Forecast => "data",
            Self::Image => "image",
            Self::PerItem => "other",
        }
    }
}

/// Where the answers of a [`Kind::Llm`] provider come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// A small function of the last user message, with honest token counts.
    Sandbox,
    /// Always the same text and the same usage: for benchmarks.
    Fixed {
        /// The answer.
        text: String,
        /// The usage that is reported and billed.
        usage: Usage,
    },
}

/// Claims channels that are about to expire, as provider templates do (protocol.md section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoClaim {
    /// How often to look. Templates: ten minutes.
    pub interval: Duration,
    /// Claim when block time is within this of the expiry. Templates: one hour.
    pub buffer: Duration,
}

/// Everything that is fixed for the life of a provider. What may change at run time is in [`Faults`].
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Shown in `/v1/pricing` and in the directory.
    pub name: String,
    /// The wallet: signs closes and claims.
    pub key: PrivateKeySigner,
    /// Chain of the contract.
    pub chain_id: u64,
    /// The channel contract.
    pub contract: Address,
    /// V1 has no `/v1/close-channel`.
    pub generation: Generation,
    /// The node for `getChannel` and claims.
    pub rpc_url: String,
    /// What it does.
    pub kind: Kind,
    /// What it sells.
    pub models: Vec<Model>,
    /// `/v1/docs`; `None` for the text that fits the kind.
    pub docs: Option<String>,
    /// Send the payment discovery headers on the 402 without a voucher (protocol.md section 5.6).
    pub discovery: bool,
    /// Ask the chain at every validation, as templates do. Off: once per channel, for benchmarks.
    pub validate_on_chain: bool,
    /// Where the answers come from.
    pub answers: Answers,
    /// Keep every voucher seen in the request log. Off: only count.
    pub record: bool,
    /// A claim without force leaves smaller amounts (templates: 1 USDC).
    pub claim_threshold: u64,
    /// Off by default.
    pub auto_claim: Option<AutoClaim>,
    /// The initial faults: none.
    pub faults: Faults,
}

impl ProviderConfig {
    /// A faithful LLM provider on the live generation, with one model of each of two price levels.
    pub fn new(
        name: impl Into<String>,
        key: PrivateKeySigner,
        chain_id: u64,
        contract: Address,
        rpc_url: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            key,
            chain_id,
            contract,
            generation: Generation::V2,
            rpc_url: rpc_url.into(),
            kind: Kind::Llm,
            models: vec![Model::new("sim-small", 225, 900), Model::new("sim-large", 3_750, 15_000)],
            docs: None,
            discovery: true,
            validate_on_chain: true,
            answers: Answers::Sandbox,
            record: true,
            claim_threshold: 1_000_000,
            auto_claim: None,
            faults: Faults::default(),
        }
    }

    /// The same provider doing other work.
    pub fn with_kind(mut self, kind: Kind, models: Vec<Model>) -> Self {
        self.kind = kind;
        self.models = models;
        self
    }

    /// The documentation that agents read.
    pub(crate) fn docs_text(&self) -> String {
        self.docs.clone().unwrap_or_else(|| default_docs(self))
    }
}

fn default_docs(config: &ProviderConfig) -> String {
    let name = &config.name;
    let first = config.models.first().map_or("sim", |model| model.id.as_str());
    let (input, example, answer, price) = match config.kind {
        Kind::Llm => (
            "Messages in OpenAI chat format. `max_tokens` and `stream` are respected.",
            "Summarise: the quick brown fox jumps over the lazy dog.",
            "A short text about your last message. \"write N words\" gives N words. This is a sandbox function, not an AI.",
            "Per 1000 input and output tokens, see /v1/pricing.",
        ),
        Kind::Forecast => (
            "The last user message is the name of a city, or JSON {\"city\": \"..\", \"days\": 1..7}.",
            "Lisbon",
            "JSON {\"city\", \"days\": [{\"day\", \"high_c\", \"low_c\", \"sky\"}]}. Invented from the name, always the same.",
            "A flat price per request.",
        ),
        Kind::Image => (
            "The last user message is a prompt, or JSON {\"prompt\": \"..\", \"size\": 16..512}.",
            "{\"prompt\": \"a lighthouse\", \"size\": 64}",
            "JSON {\"images\": [\"data:image/png;base64,..\"]}. A pattern made from the prompt, always the same.",
            "A flat price per image, whatever its size.",
        ),
        Kind::PerItem => (
            "The last user message is JSON {\"items\": [\"text\", ..]} with 1 to 100 texts.",
            "{\"items\": [\"one two\", \"three\"]}",
            "JSON {\"results\": [{\"words\": 2, \"characters\": 7}, ..]}.",
            "Per item: the price in /v1/pricing is for ONE item, a request costs price x items.",
        ),
    };
    let models: String =
        config.models.iter().map(|model| format!("- `{}`: {}\n", model.id, pricing_line(model))).collect();
    format!(
        "# {name}: Agent Instructions\n\nA provider of the DRAIN sandbox. It takes play money only.\n\n\
         ## How to use via DRAIN\n\n1. Open a payment channel to this provider.\n2. Call drain_chat with the channel, a model \
         and messages.\n\n## Models\n\n{models}\n## Input\n\n{input}\n\nExample message: `{example}` (model `{first}`)\n\n\
         ## Response\n\n{answer}\n\n## Pricing\n\n{price}\n"
    )
}

fn pricing_line(model: &Model) -> String {
    if model.output == 0 {
        format!("{} USDC", decimal(model.input))
    } else {
        format!("{} / {} USDC per 1000 tokens in / out", decimal(model.input), decimal(model.output))
    }
}

/// Base units as `/v1/pricing` writes them: at most six decimals, no trailing zeros, "0" for zero.
pub(crate) fn decimal(units: u64) -> String {
    let text = format!("{}.{:06}", units / 1_000_000, units % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
