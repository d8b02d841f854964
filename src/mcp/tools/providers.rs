//! `drain_providers`: who sells what, from the directory.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, MAX_PROVIDERS, ModelSummary, ProviderPage, ProviderQuery, ProviderSummary};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// How many are shown when nobody says.
const DEFAULT_LIMIT: u64 = 25;
const UNTRUSTED: &[&str] = &["providers"];

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_providers",
    title: "List providers",
    about: "Find providers by model, category or text of a model id; filters combine. Free. Compact by default; \
            prices in USDC.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[
        Param::optional("onlineOnly", Kind::Flag, "Only those that are online"),
        Param::optional("model", Kind::Text, "Model id or part of its name"),
        Param::optional("category", Kind::Text, "Such as llm, image, search"),
        Param::optional("protocol", Kind::OneOf(&["drain", "mpp"]), "mpp listings are shown but not payable here"),
        Param::optional("limit", Kind::Count, "Default 25"),
        Param::optional("format", Kind::OneOf(&["compact", "full"]), "full adds descriptions and all models"),
    ],
    output: schema::output_schema::<Listing>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

#[derive(Serialize, JsonSchema)]
struct Listing<'a> {
    providers: Vec<Line<'a>>,
    /// How many match the filters.
    matched: usize,
    /// Age of the catalogue.
    age_seconds: u64,
    /// True when the directory does not answer and this is an older copy.
    stale: bool,
}

#[derive(Serialize, JsonSchema)]
struct Line<'a> {
    id: &'a str,
    name: &'a str,
    category: &'a str,
    payable: bool,
    online: Option<bool>,
    /// Of 100, from our own requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u8>,
    /// Not paid until a person lifts it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    set_aside: bool,
    /// With format full, all; else the first few.
    models: &'a [ModelSummary],
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wallet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<u64>,
}

impl<'a> Line<'a> {
    fn new(provider: &'a ProviderSummary, full: bool) -> Self {
        let models = if full { provider.models.len() } else { provider.models.len().min(3) };
        Self {
            id: &provider.id,
            name: &provider.name,
            category: &provider.category,
            payable: provider.payable,
            online: provider.online,
            score: provider.standing.as_ref().and_then(|standing| standing.score),
            set_aside: provider.standing.as_ref().is_some_and(|standing| standing.set_aside.is_some()),
            models: provider.models.get(..models).unwrap_or_default(),
            protocol: full.then_some(provider.protocol.as_str()),
            description: full.then_some(provider.description.as_str()),
            wallet: full.then_some(provider.wallet.as_str()),
            api_url: full.then_some(provider.api_url.as_str()),
            min_duration: provider.min_duration.filter(|_| full),
            max_duration: provider.max_duration.filter(|_| full),
        }
    }
}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let full = args.one_of("format", &["compact", "full"])? == Some("full");
    let limit = args.count("limit", u64::from(MAX_PROVIDERS))?.unwrap_or(DEFAULT_LIMIT);
    let query = ProviderQuery {
        online_only: args.flag("onlineOnly")?,
        model: args.text("model")?,
        category: args.text("category")?,
        protocol: args.one_of("protocol", &["drain", "mpp"])?.map(str::to_owned),
        limit: usize::try_from(limit).ok(),
    };
    let page = runtime.providers(query.clone()).await?;
    show(&page, &query, full)
}

/// The page as an answer.
pub fn show(page: &ProviderPage, query: &ProviderQuery, full: bool) -> Result<Answer, Failure> {
    let listing = Listing {
        providers: page.providers.iter().map(|provider| Line::new(provider, full)).collect(),
        matched: page.matched,
        age_seconds: page.age_seconds,
        stale: page.stale,
    };
    Answer::new(&listing, UNTRUSTED, render::providers(page, query, full))
}
