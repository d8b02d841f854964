//! `drain-mcp providers`: the directory, or one provider with its docs.

use clap::builder::PossibleValuesParser;
use drain_protocol::Usdc;
use drain_protocol::text::shell_word;
use serde::Serialize;
use serde_json::json;
use strum::VariantNames;

use super::exit::Exit;
use super::output::{short, table, theirs};
use super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::session::{Needs, Session};
use crate::api::{
    Job, MAX_PROVIDERS, ProviderDetails, ProviderPage, ProviderQuery, ProviderStanding, ProviderSummary, Sort,
};
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp providers`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp providers --online
  drain-mcp providers --model gpt-4o --limit 5
  drain-mcp providers --model llama --sort price --input-tokens 20000 --output-tokens 2000 --max-price 0.05
  drain-mcp providers --category image --json | jq '.providers[].id'
  drain-mcp providers --trust sim-llm      accept its new URL and wallet, or lift that it is set aside
  drain-mcp providers sim-llm              prices, contract and docs of one provider")]
pub struct Args {
    /// A provider's id: show that one, with its docs
    pub provider: Option<String>,
    /// Only those that are online
    #[arg(long)]
    pub online: bool,
    /// Only those with this model: its id, or a part of its id or name
    #[arg(long)]
    pub model: Option<String>,
    /// Only those of this category
    #[arg(long)]
    pub category: Option<String>,
    /// Those paid by this protocol; mpp ones are paid request by request, without a channel
    #[arg(long, default_value = "drain", value_parser = ["drain", "mpp"])]
    pub protocol: String,
    /// What works first, or: the price of the described request, the directory's latency or quality, our own record
    #[arg(long, default_value = "default", value_parser = PossibleValuesParser::new(Sort::VARIANTS))]
    pub sort: String,
    /// Describe a request: tokens that it sends [default: 1000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub input_tokens: Option<u32>,
    /// Describe a request: tokens that are answered [default: 500]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub output_tokens: Option<u32>,
    /// Only those where that request costs at most so much, by the directory's prices
    #[arg(long, value_name = "USDC")]
    pub max_price: Option<Usdc>,
    /// Only those that the directory found to answer within so many milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub max_latency: Option<u64>,
    /// Only those of at least this quality, by the directory's measure
    #[arg(long, value_name = "1-100", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub min_quality: Option<u8>,
    /// Only those with at least this score of our own
    #[arg(long, value_name = "1-100", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub min_score: Option<u8>,
    /// At most so many on a page
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PROVIDERS)))]
    pub limit: Option<u32>,
    /// Which page
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub page: Option<u32>,
    /// Accept the URL and wallet that the directory lists for this provider now, and pay it again if it was set aside
    /// (asks on the terminal)
    #[arg(long, value_name = "PROVIDER", conflicts_with = "provider")]
    pub trust: Option<String>,
    /// Accept the fee wallet that the marketplace names now (asks on the terminal)
    #[arg(long, conflicts_with_all = ["provider", "trust"])]
    pub trust_fee_wallet: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    One(Box<ProviderDetails>),
    Page(ProviderPage),
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    if args.trust.is_some() || args.trust_fee_wallet {
        return trust(args.trust, session).await;
    }
    let answer = session
        .run(Needs::Nothing, async |runtime, _| match &args.provider {
            Some(id) => runtime.provider(id).await.map(|found| Answer::One(Box::new(found))),
            None => runtime.providers(query(args)).await.map(Answer::Page),
        })
        .await?;
    session.output.answer(&answer, || match &answer {
        Answer::One(details) => one(details),
        Answer::Page(found) => page(found),
    })?;
    Ok(Exit::Ok)
}

fn query(args: Args) -> ProviderQuery {
    let count = |number: Option<u32>| number.and_then(|number| usize::try_from(number).ok());
    ProviderQuery {
        online_only: args.online,
        model: args.model,
        category: args.category,
        protocol: Some(args.protocol),
        limit: count(args.limit),
        page: count(args.page),
        sort: args.sort.parse().unwrap_or_default(),
        job: Job::described(args.input_tokens, args.output_tokens),
        max_price: args.max_price,
        max_latency_ms: args.max_latency,
        min_quality: args.min_quality,
        min_score: args.min_score,
    }
}

/// A person's word that a change of what was pinned is right (M14); `None` is the fee wallet.
async fn trust(provider: Option<String>, session: &mut Session) -> Result<Exit, Failure> {
    need_terminal(&Tty, "Accepting a change")?;
    let what = provider.as_deref().unwrap_or("the marketplace's fee wallet");
    Tty.show(&format!("Who is paid under a new address may be somebody else. Ask the provider on another way before you accept {what}."))
        .map_err(terminal_failed)?;
    if Tty.line("Type yes to accept: ").map_err(terminal_failed)? != "yes" {
        return Err(Failure::unspent(Code::Cancelled, "Not confirmed; nothing was changed.", "Run the command again."));
    }
    let forgotten = session
        .run(Needs::Wallet, async |runtime, _| match &provider {
            Some(id) => runtime.trust_provider(id).await,
            None => runtime.trust_fee_wallet().await,
        })
        .await?;
    session.output.answer(&json!({ "accepted": forgotten }), || match forgotten {
        true => "Accepted: what the next open finds is remembered from then on.".into(),
        false => "Nothing was remembered of it, so there was nothing to accept.".into(),
    })?;
    Ok(Exit::Ok)
}

fn page(page: &ProviderPage) -> String {
    let rows: Vec<[String; 7]> = page.providers.iter().map(row).collect();
    let mut text = table(["ID", "NAME", "CATEGORY", "ONLINE", "OUR SCORE", "COST", "MODELS"], &rows);
    text += &format!("\n\n{} of {} matching", page.providers.len(), page.matched);
    if let Some(next) = page.next_page {
        text += &format!("; more with --page {next}");
    }
    if page.stale {
        text += &format!("; the directory does not answer, this copy is {} s old", page.age_seconds);
    }
    if let Some(first) = page.providers.first() {
        text += &format!("\nNext: drain-mcp providers {}", shell_word(&first.id));
    }
    text
}

fn row(provider: &ProviderSummary) -> [String; 7] {
    let online = match provider.online {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    let models: Vec<String> = provider.models.iter().take(3).map(|m| format!("{} ({})", m.id, m.price)).collect();
    let more = match provider.models.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    let payable = if provider.payable { "" } else { " [not payable here]" };
    [
        short(&provider.id, 40),
        short(&format!("{}{payable}", provider.name), 40),
        short(&provider.category, 14),
        online.into(),
        provider.standing.as_ref().map_or_else(|| "-".into(), score),
        provider.offer.as_ref().and_then(|offer| offer.cost).map_or_else(|| "?".into(), |cost| cost.to_string()),
        short(&format!("{}{more}", models.join(", ")), 120),
    ]
}

/// From our own requests.
fn score(standing: &ProviderStanding) -> String {
    match (&standing.set_aside, standing.score) {
        (Some(_), _) => "set aside".into(),
        (None, Some(score)) => score.to_string(),
        (None, None) => "new".into(),
    }
}

fn one(details: &ProviderDetails) -> String {
    let p = &details.listing;
    let mut lines = vec![
        format!("{} ({})", p.name, p.id),
        format!("  {}", short(&p.description, 300)),
        format!(
            "  category {}, protocol {}, payable here: {}",
            p.category,
            p.protocol,
            if p.payable { "yes" } else { "no" }
        ),
        format!("  reached at {}, paid to {}", p.api_url, p.wallet),
    ];
    if let Some(standing) = &p.standing {
        let ProviderStanding { answered, failed, refused, offences, disputed, set_aside, .. } = standing;
        lines.push(format!(
            "  score {}: {answered} answered, {failed} failed, {refused} refused, {offences} offences, {disputed} USDC disputed",
            score(standing)
        ));
        if let Some(reason) = set_aside {
            lines.push(format!("  set aside: {reason}; drain-mcp providers --trust {} lifts it", shell_word(&p.id)));
        }
    }
    if let Some(choice) = &details.contract {
        lines.push(format!("  contract {} {}: {}", choice.generation, choice.contract, choice.reason));
    }
    lines.push(String::new());
    lines.extend(p.models.iter().map(|model| format!("  {}  {}", model.id, model.price)));
    lines.extend(details.warnings.iter().map(|warning| format!("\nwarning: {warning}")));
    if let Some(docs) = &details.docs {
        lines.push(format!("\n{}", theirs("the provider's docs", docs)));
    }
    for channel in &details.channels {
        lines.push(format!("\n{}", super::channels::line(channel)));
    }
    if p.protocol == "drain" {
        lines.push(format!("\nNext: drain-mcp open {} 0.50", shell_word(&p.id)));
    }
    lines.join("\n")
}
