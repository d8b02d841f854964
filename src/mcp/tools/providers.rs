//! `drain_providers`: who sells what, from the directory.

use schemars::JsonSchema;
use serde::Serialize;
use strum::VariantNames;

use super::{Definition, Hints};
use crate::actors::Runtime;
use crate::api::{Effect, Job, MAX_PROVIDERS, ProviderPage, ProviderQuery, ProviderSummary, Sort};
use crate::error::Failure;
use crate::mcp::answer::Answer;
use crate::mcp::args::{Args, Kind, Param};
use crate::mcp::{render, schema};

/// How many are shown when nobody says: as a table, and with everything.
const IN_A_TABLE: u64 = 100;
const IN_FULL: u64 = 25;
/// No directory has more pages.
const MAX_PAGE: u64 = 10_000;
/// An hour: nobody waits longer.
const MAX_LATENCY_MS: u64 = 3_600_000;

/// The tool.
pub const TOOL: Definition = Definition {
    name: "drain_providers",
    title: "List providers",
    about: "Find and compare providers of a model or service. Free. A small table; filters combine. Costs are the \
            directory's word for the request that inputTokens and outputTokens describe: drain_quote asks the provider.",
    hints: Hints::READ,
    effect: Effect::Repeatable,
    params: &[
        Param::optional("onlineOnly", Kind::Flag, "Only those that are online"),
        Param::optional("model", Kind::Text, "Model id or part of its name"),
        Param::optional("category", Kind::Text, "Such as llm, image, search"),
        Param::optional("protocol", Kind::OneOf(&["drain", "mpp"]), "mpp is paid with mpp_chat"),
        Param::optional("sort", Kind::OneOf(Sort::VARIANTS), "default: what works first; record: our own experience"),
        Param::optional("inputTokens", Kind::Count, "Of your request; default 1000"),
        Param::optional("outputTokens", Kind::Count, "Default 500"),
        Param::optional("maxPrice", Kind::Text, "Most USDC for that request"),
        Param::optional("maxLatencyMs", Kind::Count, "Directory's word"),
        Param::optional("minQuality", Kind::Count, "1-100, directory's word"),
        Param::optional("minScore", Kind::Count, "1-100, our own record; leaves out whom we never paid"),
        Param::optional("limit", Kind::Count, "Default 100 (full: 25)"),
        Param::optional("page", Kind::Count, ""),
        Param::optional("format", Kind::OneOf(&["compact", "full"]), "full adds descriptions and all models"),
    ],
    output: schema::output_schema::<Listing>,
    run: |runtime, args, _| Box::pin(run(runtime, args)),
};

#[derive(Serialize, JsonSchema)]
struct Listing<'a> {
    /// What the rows hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<&'static [&'static str]>,
    /// One provider each; what is empty at the end is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// In place of the rows, with format full.
    #[serde(skip_serializing_if = "Option::is_none")]
    providers: Option<&'a [ProviderSummary]>,
    /// How many match the filters.
    matched: usize,
    /// Call again with this page for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page: Option<usize>,
    /// Age of the catalogue.
    age_seconds: u64,
    /// True when the directory does not answer and this is an older copy.
    stale: bool,
}

async fn run(runtime: Runtime, args: Args) -> Result<Answer, Failure> {
    let full = args.one_of("format", &["compact", "full"])? == Some("full");
    let limit = args.count("limit", u64::from(MAX_PROVIDERS))?.unwrap_or(if full { IN_FULL } else { IN_A_TABLE });
    let page = args.count("page", MAX_PAGE)?;
    let percent = |name: &str| -> Result<Option<u8>, Failure> {
        Ok(args.count(name, 100)?.and_then(|percent| u8::try_from(percent).ok()))
    };
    let query = ProviderQuery {
        online_only: args.flag("onlineOnly")?,
        model: args.text("model")?,
        category: args.text("category")?,
        protocol: args.one_of("protocol", &["drain", "mpp"])?.map(str::to_owned),
        limit: usize::try_from(limit).ok(),
        page: page.and_then(|page| usize::try_from(page).ok()),
        sort: args.one_of("sort", Sort::VARIANTS)?.and_then(|sort| sort.parse().ok()).unwrap_or_default(),
        job: Job::described(args.max_tokens("inputTokens")?, args.max_tokens("outputTokens")?),
        max_price: args.amount("maxPrice")?,
        max_latency_ms: args.count("maxLatencyMs", MAX_LATENCY_MS)?,
        min_quality: percent("minQuality")?,
        min_score: percent("minScore")?,
    };
    let page = runtime.providers(query.clone()).await?;
    show(&page, &query, full)
}

/// The page as an answer.
pub fn show(page: &ProviderPage, query: &ProviderQuery, full: bool) -> Result<Answer, Failure> {
    let (table, untrusted) = match full {
        true => (None, ["providers"]),
        false => (Some(render::Table::of(page, query)), ["rows"]),
    };
    let (columns, rows, about) = match table {
        Some(table) => (Some(table.columns), Some(table.rows), Some(table.about)),
        None => (None, None, None),
    };
    let listing = Listing {
        columns,
        rows,
        about,
        providers: full.then_some(page.providers.as_slice()),
        matched: page.matched,
        next_page: page.next_page,
        age_seconds: page.age_seconds,
        stale: page.stale,
    };
    Answer::new(&listing, &untrusted, render::providers(page, query, full))
}
