//! `drain-mcp receipts`: what was paid for, and the answers that are kept.

use drain_protocol::ChannelId;
use serde_json::json;

use super::exit::Exit;
use super::output::theirs;
use super::rows::{csv, harmless, since};
use super::session::{Needs, Session};
use crate::actors::Runtime;
use crate::api::{MAX_RECEIPTS, ReceiptDetails, ReceiptQuery, ReceiptView};
use crate::error::Failure;

/// Receipts that are shown unless more are asked for.
const USUAL: u32 = 100;

/// Arguments of `drain-mcp receipts`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp receipts                           the newest 100, oldest first
  drain-mcp receipts c1-2                      one, with the answer that was paid for
  drain-mcp receipts --since 7d --provider sim-llm
  drain-mcp receipts --json | jq '.receipts[] | select(.outcome == \"unknown\")'
  drain-mcp receipts --since 2026-11-01 --limit 1000000 --csv     for a spreadsheet

Amounts are USDC. Answers are kept for DRAIN_KEEP_ANSWERS; of older ones the SHA-256 stays.")]
pub struct Args {
    /// One receipt, with its answer while that is kept
    #[arg(conflicts_with_all = ["since", "channel", "provider", "csv"])]
    pub receipt: Option<String>,
    /// Not older than this: 24h, 2026-11-01, or 2026-11-01T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<u64>,
    /// Of one channel
    #[arg(long)]
    pub channel: Option<ChannelId>,
    /// Of one provider, by its id
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// The newest so many
    #[arg(long, default_value_t = USUAL, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// As comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    if let Some(id) = args.receipt {
        let details = session.run(Needs::Wallet, async |runtime, _| runtime.receipt(&id).await).await?;
        session.output.answer(&details, || one(&details))?;
        return Ok(Exit::Ok);
    }
    let Args { since, channel, provider, limit, .. } = args;
    let query = ReceiptQuery { since: since.unwrap_or(0), channel, provider, limit, before: None };
    let receipts = session.run(Needs::Wallet, async |runtime, _| all(&runtime, query).await).await?;
    if args.csv {
        csv(receipts.into_iter().map(in_cells))?;
    } else {
        session.output.answer(&json!({ "receipts": receipts }), || match &*receipts {
            [] => "no such receipts".into(),
            receipts => receipts.iter().map(line).collect::<Vec<_>>().join("\n"),
        })?;
    }
    Ok(Exit::Ok)
}

/// Page by page, oldest first.
async fn all(runtime: &Runtime, mut query: ReceiptQuery) -> Result<Vec<ReceiptView>, Failure> {
    let most = query.limit;
    let mut found: Vec<ReceiptView> = Vec::new();
    loop {
        let so_far = u32::try_from(found.len()).unwrap_or(u32::MAX);
        query.limit = most.saturating_sub(so_far).min(MAX_RECEIPTS);
        let page = runtime.receipts(query.clone()).await?;
        let last_page = page.len() < usize::try_from(query.limit).unwrap_or(usize::MAX);
        found.extend(page);
        query.before = found.last().map(|view| view.receipt.clone());
        if last_page || found.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            found.reverse();
            return Ok(found);
        }
    }
}

fn in_cells(view: ReceiptView) -> ReceiptView {
    ReceiptView {
        provider: harmless(view.provider),
        model: harmless(view.model),
        request_id: view.request_id.map(harmless),
        note: view.note.map(harmless),
        ..view
    }
}

fn line(view: &ReceiptView) -> String {
    let mut parts = vec![format!("{} {} {}", view.at, view.receipt, view.outcome)];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name} {}", drain_protocol::text::one_line(&value, 300)));
        }
    };
    add("charged", view.charged.map(|amount| amount.to_string()));
    add("bound", Some(view.bound.to_string()));
    add("disputed", Some(view.disputed).filter(|amount| !amount.is_zero()).map(|amount| amount.to_string()));
    add("voucher", Some(format!("{} nonce {}", view.voucher_amount, view.nonce)));
    add("by", Some(view.protocol.clone()).filter(|protocol| protocol != "drain"));
    add("to", view.payee.clone());
    add("transaction", view.transaction.clone());
    add("provider", Some(view.provider.clone()));
    add("model", Some(view.model.clone()));
    add("for", Some(view.agent.clone()).filter(|agent| !agent.is_empty()));
    add("request", view.request_id.clone());
    add("answer", view.answer_sha256.clone());
    add("-", view.note.clone());
    parts.join("  ")
}

fn one(details: &ReceiptDetails) -> String {
    let answer = match &details.answer {
        Some(answer) => theirs("the provider's answer", &answer.text()),
        None => crate::mcp::render::without_answer(&details.receipt).into(),
    };
    format!("{}\n{answer}", line(&details.receipt))
}
