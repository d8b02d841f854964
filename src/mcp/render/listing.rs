//! The directory as text: many providers as a table, one with all that is known of it.
//!
//! The table is what a model chooses from, so it is small: a short id, no description, one number for what a request costs.
//! The same rows are the structured content, since many clients show a model only that.

use drain_protocol::Usdc;
use serde_json::json;

use super::views::channel;
use super::{bullets, docs, fence, span, word};
use crate::api::{
    ChannelState, Job, ProviderDetails, ProviderPage, ProviderQuery, ProviderStanding, ProviderSummary, Sort,
};

/// Longest listing that is shown.
const MAX_LISTING: usize = 40_000;
/// Models of one provider that are shown.
const MAX_MODELS: usize = 40;

/// A page of the directory as a table.
#[derive(Debug)]
pub struct Table {
    /// What the columns hold.
    pub columns: &'static [&'static str],
    /// One provider each; what is empty at the end of a row is left out. Cleaned and bounded (M13).
    pub rows: Vec<Vec<String>>,
    /// What the columns mean.
    pub about: String,
}

impl Table {
    /// The page, for the question that it answers.
    pub fn of(page: &ProviderPage, query: &ProviderQuery) -> Self {
        let for_a_model = query.is_for_a_model();
        let Job { input_tokens, output_tokens } = query.job.unwrap_or(Job::USUAL);
        Self {
            columns: match for_a_model {
                true => &["id", "name", "category", "cost", "model", "notes"],
                false => &["id", "name", "category", "cost", "notes"],
            },
            rows: page.providers.iter().map(|provider| row(provider, query)).collect(),
            about: format!(
                "id: as given, @ and an id's end is enough. cost: at most, listed, USDC a request (LLM: {input_tokens} tokens in, \
                 {output_tokens} out) with the cheapest model. notes: ours is our record, the rest the directory's word."
            ),
        }
    }
}

/// How it is paid where that is not by channels.
fn other_than_channels(provider: &ProviderSummary) -> Option<String> {
    match (provider.payable, provider.protocol.as_str()) {
        (true, "drain") => None,
        (true, _) => Some(format!("paid per request with {}, no channel", provider.tool)),
        (false, protocol) => Some(format!("NOT PAYABLE HERE ({})", word(protocol, 20))),
    }
}

fn row(provider: &ProviderSummary, query: &ProviderQuery) -> Vec<String> {
    let offer = provider.offer.as_ref();
    let mut notes = Vec::new();
    notes.extend(other_than_channels(provider));
    if provider.online == Some(false) {
        notes.push("OFFLINE".into());
    }
    if let Some(standing) = &provider.standing {
        notes.push(score(standing));
    }
    match query.sort {
        Sort::Latency => notes.extend(provider.latency_ms.map(|ms| format!("{ms} ms"))),
        Sort::Quality => notes.extend(provider.quality.map(|quality| format!("quality {quality}"))),
        Sort::Default | Sort::Price | Sort::Record => {}
    }
    let mut row = vec![
        word(&provider.short_id, 200),
        word(&provider.name, 24),
        word(&provider.category, 16),
        offer.and_then(|offer| offer.cost).map_or_else(|| "?".into(), brief),
    ];
    if query.is_for_a_model() {
        row.push(offer.map_or_else(String::new, |offer| word(&offer.model, 60)));
    }
    if !notes.is_empty() {
        row.push(notes.join(", "));
    }
    row
}

/// An amount without zeros at its end.
fn brief(amount: Usdc) -> String {
    let text = amount.to_string();
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A page of the directory.
pub fn providers(page: &ProviderPage, query: &ProviderQuery, full: bool) -> String {
    let age = span(page.age_seconds);
    let mut out = format!("{} matching, {} shown; directory {age} old.", page.matched, page.providers.len());
    if page.stale {
        out.push_str(" The directory does not answer: this is an older copy.");
    }
    if page.providers.is_empty() {
        out.push_str(match page.matched {
            0 => " Loosen the filters (model, category, maxPrice, onlineOnly) or ask for all.",
            _ => " There is no such page; begin with page 1.",
        });
        return out;
    }
    let lines: Vec<String> = if full {
        page.providers.iter().map(listing).collect()
    } else {
        let table = Table::of(page, query);
        out.push_str(&format!("\n{}\n{}", table.about, table.columns.join("|")));
        // A name must not look like two columns.
        let line = |row: &Vec<String>| row.iter().map(|cell| cell.replace('|', "/")).collect::<Vec<_>>().join("|");
        table.rows.iter().map(line).collect()
    };
    out.push_str(&format!("\n{}", fence("provider directory", &lines.join("\n"), MAX_LISTING)));
    if let Some(next) = page.next_page {
        out.push_str(&format!("\nMore: the same call with page {next}, or narrower filters."));
    }
    out.push_str("\nNext: drain_quote or drain_provider_info with an id.");
    out
}

/// All of one listing.
fn listing(provider: &ProviderSummary) -> String {
    let id = word(&provider.id, 200);
    let mut out = format!("{id} | {} | {}", word(&provider.name, 60), word(&provider.category, 30));
    out.push_str(match provider.online {
        Some(true) => " | online",
        Some(false) => " | OFFLINE",
        None => " | health unknown",
    });
    if let Some(ms) = provider.latency_ms {
        out.push_str(&format!(" | {ms} ms"));
    }
    if let Some(quality) = provider.quality {
        out.push_str(&format!(" | quality {quality}"));
    }
    if let Some(standing) = &provider.standing {
        out.push_str(&format!(" | {}", score(standing)));
    }
    if let Some(how) = other_than_channels(provider) {
        out.push_str(&format!(" | {how}"));
    }
    out.push_str(&format!("\n  {}", word(&provider.description, 300)));
    out.push_str(&format!("\n  {}", durations(provider)));
    for model in provider.models.iter().take(MAX_MODELS) {
        out.push_str(&format!("\n  {}: {}", word(&model.id, 80), word(&model.price, 80)));
    }
    if provider.models.len() > MAX_MODELS {
        out.push_str(&format!("\n  and {} more models", provider.models.len() - MAX_MODELS));
    }
    out
}

fn score(standing: &ProviderStanding) -> String {
    match (&standing.set_aside, standing.score) {
        (Some(_), _) => "ours SET ASIDE".into(),
        (None, Some(score)) => format!("ours {score}"),
        (None, None) => "ours new".into(),
    }
}

/// What our own requests say of a provider, in one line.
fn standing_line(standing: &ProviderStanding) -> String {
    let ProviderStanding { answered, failed, refused, offences, disputed, .. } = standing;
    let mut out = format!(
        "Our record: {}; {answered} answered, {failed} failed, {refused} refused, {offences} offences, {disputed} USDC disputed.",
        score(standing)
    );
    if let Some(reason) = &standing.set_aside {
        out.push_str(&format!(" Set aside, since {}: only a person lifts that.", word(reason, 200)));
    }
    out
}

fn durations(provider: &ProviderSummary) -> String {
    match (provider.min_duration, provider.max_duration) {
        (None, None) => "any duration".into(),
        (Some(min), None) => format!("channels of {} or longer", span(min)),
        (None, Some(max)) => format!("channels of at most {}", span(max)),
        (Some(min), Some(max)) => format!("channels of {} to {}", span(min), span(max)),
    }
}

/// One provider with its instructions.
pub fn provider(details: &ProviderDetails) -> String {
    let listed = &details.listing;
    let mut out = fence("provider directory", &listing(listed), MAX_LISTING);
    if let Some(choice) = &details.contract {
        let reason = word(&choice.reason, 200);
        out.push_str(&format!("\nContract {} at {}: {reason}", choice.generation, choice.contract));
    }
    if let Some(standing) = &listed.standing {
        out.push_str(&format!("\n{}", standing_line(standing)));
    }
    bullets(&mut out, "Warning", &details.warnings);
    for view in &details.channels {
        out.push_str(&format!("\nYour channel: {}", channel(view)));
    }
    match &details.docs {
        Some(text) => out.push_str(&format!("\n{}", docs(text))),
        None => out.push_str("\nThe provider has no docs."),
    }
    out.push_str("\nNext: ");
    if listed.standing.as_ref().is_some_and(|standing| standing.set_aside.is_some()) {
        out.push_str("choose another provider; this one is set aside.");
    } else if !listed.payable {
        out.push_str("choose another provider; drain-mcp cannot pay this one.");
    } else if listed.protocol == "mpp" {
        out.push_str(&format!("drain_quote with request, or {}; no channel is needed.", listed.tool));
    } else if details.channels.iter().any(|view| view.state == ChannelState::Open) {
        out.push_str("drain_chat on the open channel.");
    } else {
        let call = json!({ "provider": word(&listed.id, 80), "amount": "1", "duration": "4h" });
        out.push_str(&format!("drain_open_channel {call}"));
    }
    out
}
