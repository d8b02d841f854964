//! The runtime's views as text.

use drain_protocol::text::quoted;
use serde_json::json;

use super::{bullets, docs, fence, span, utc, word};
use crate::api::{
    Approved, ChannelState, ChannelView, Closed, MAX_PROVIDERS, Opened, ProviderDetails, ProviderPage, ProviderQuery,
    ProviderStanding, ProviderSummary, WalletView,
};

/// Longest listing that is shown.
const MAX_LISTING: usize = 30_000;
/// Models of one provider that are shown.
const MAX_MODELS: usize = 40;

/// What the wallet holds.
pub fn wallet(view: &WalletView) -> String {
    let mut out = format!(
        "Wallet {} on chain {}: {} USDC, {} POL for gas. Locked in channels {} USDC, allowance {} USDC, spent today {} USDC. Signer: {}.",
        view.address, view.chain_id, view.usdc, view.pol, view.locked, view.allowance, view.spent_today, view.signer
    );
    bullets(&mut out, "Advice", &view.advice);
    out
}

/// A page of the directory.
pub fn providers(page: &ProviderPage, query: &ProviderQuery, full: bool) -> String {
    let age = span(page.age_seconds);
    let mut out = format!("{} matching, {} shown; directory {age} old.", page.matched, page.providers.len());
    if page.stale {
        out.push_str(" The directory does not answer: this is an older copy.");
    }
    if page.providers.is_empty() {
        out.push_str(" Loosen the filters (model, category, onlineOnly) or ask for all.");
        return out;
    }
    let lines: Vec<String> = page.providers.iter().map(|p| listing(p, query.model.as_deref(), full)).collect();
    out.push_str("\nid | name | category | prices in USDC\n");
    out.push_str(&fence("provider directory", &lines.join("\n"), MAX_LISTING));
    if page.matched > page.providers.len() {
        let larger = if page.providers.len() < MAX_PROVIDERS as usize { "a larger limit or " } else { "" };
        out.push_str(&format!("\nMore with {larger}narrower filters."));
    }
    out.push_str("\nNext: drain_provider_info with an id.");
    out
}

fn listing(provider: &ProviderSummary, model: Option<&str>, full: bool) -> String {
    let id = word(&provider.id, 80);
    let mut out = format!("{id} | {} | {}", word(&provider.name, 60), word(&provider.category, 30));
    if provider.online == Some(false) {
        out.push_str(" | OFFLINE");
    }
    if let Some(standing) = &provider.standing {
        out.push_str(&format!(" | {}", score(standing)));
    }
    if !provider.payable {
        out.push_str(&format!(" | NOT PAYABLE HERE ({})", word(&provider.protocol, 20)));
    }
    if full {
        out.push_str(&format!("\n  {}", word(&provider.description, 300)));
        out.push_str(&format!("\n  {}", durations(provider)));
        for model in provider.models.iter().take(MAX_MODELS) {
            out.push_str(&format!("\n  {}: {}", word(&model.id, 80), word(&model.price, 80)));
        }
        if provider.models.len() > MAX_MODELS {
            out.push_str(&format!("\n  and {} more models", provider.models.len() - MAX_MODELS));
        }
        return out;
    }
    let wanted = model.map(str::to_lowercase);
    let fits = |id: &str| wanted.as_deref().is_some_and(|wanted| id.to_lowercase().contains(wanted));
    let example = provider.models.iter().find(|m| fits(&m.id)).or(provider.models.first());
    if let Some(example) = example {
        out.push_str(&format!(" | {}: {}", word(&example.id, 60), word(&example.price, 80)));
        if provider.models.len() > 1 {
            out.push_str(&format!(" (+{} models)", provider.models.len() - 1));
        }
    }
    out
}

fn score(standing: &ProviderStanding) -> String {
    match (&standing.set_aside, standing.score) {
        (Some(_), _) => "SET ASIDE".into(),
        (None, Some(score)) => format!("score {score}"),
        (None, None) => "new".into(),
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
    let mut out = fence("provider directory", &listing(listed, None, true), MAX_LISTING);
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
    } else if details.channels.iter().any(|view| view.state == ChannelState::Open) {
        out.push_str("drain_chat on the open channel.");
    } else {
        let call = json!({ "provider": word(&listed.id, 80), "amount": "1", "duration": "4h" });
        out.push_str(&format!("drain_open_channel {call}"));
    }
    out
}

/// Where one channel stands, and its next step.
pub fn channel(view: &ChannelView) -> String {
    let mut out = standing(view);
    if !view.next.is_empty() {
        out.push_str(&format!(". Next: {}", word(&view.next, 300)));
    }
    out
}

fn standing(view: &ChannelView) -> String {
    let id = view.channel_id.as_deref().unwrap_or("(id not known yet)");
    let mut out = format!(
        "{id} {} at {} {}: deposit {} USDC, left {}, charged {}, signed {}",
        state(view.state),
        ident(&view.provider_id),
        quoted(&view.provider_name, 60),
        view.deposit,
        view.available,
        view.charged,
        view.signed
    );
    for (amount, name) in [(view.in_flight, "in flight"), (view.disputed, "disputed"), (view.claimed, "claimed")] {
        if !amount.is_zero() {
            out.push_str(&format!(", {name} {amount}"));
        }
    }
    if let Some(refunded) = view.refunded {
        out.push_str(&format!(", refunded {refunded}"));
    }
    if view.expires_at != 0 {
        let when = match u64::try_from(view.expires_in) {
            Ok(left) => format!("in {}", span(left)),
            Err(_) => format!("{} ago", span(view.expires_in.unsigned_abs())),
        };
        out.push_str(&format!("; until {} ({when})", utc(view.expires_at)));
    }
    if view.recovered {
        out.push_str("; found again, our record may be incomplete");
    }
    for note in &view.notes {
        out.push_str(&format!(". Note: {}", word(note, 300).trim_end_matches('.')));
    }
    out
}

const fn state(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Opening => "opening",
        ChannelState::Open => "open",
        ChannelState::Closing => "closing",
        ChannelState::Expired => "EXPIRED, money inside",
        ChannelState::Closed => "closed",
        ChannelState::Failed => "failed to open",
    }
}

/// All channels.
pub fn channels(views: &[ChannelView]) -> String {
    if views.is_empty() {
        return "No channels. Next: drain_providers, then drain_open_channel.".into();
    }
    let lines: Vec<String> = views.iter().map(channel).collect();
    format!("Channels ({}):\n{}", views.len(), lines.join("\n"))
}

/// A new channel, its provider's instructions, and what to call next with `model`, one of the provider's.
pub fn opened(opened: &Opened, model: Option<&str>) -> String {
    let found = match (opened.shared, opened.resumed) {
        (true, _) => "Shared, nothing was opened and nothing locked; other agents of this wallet pay with it too",
        (false, true) => "An earlier opening was found",
        (false, false) => "Opened",
    };
    let mut out = format!("{found}: {}", standing(&opened.channel));
    let reason = word(&opened.contract.reason, 200);
    out.push_str(&format!("\nContract {} at {}: {reason}", opened.contract.generation, opened.contract.contract));
    if !opened.session_fee.is_zero() {
        out.push_str(&format!("\nSession fee paid: {} USDC", opened.session_fee));
    }
    if !opened.transactions.is_empty() {
        out.push_str(&format!("\nTransactions: {}", opened.transactions.join(" ")));
    }
    bullets(&mut out, "Warning", &opened.warnings);
    if let Some(text) = &opened.docs {
        out.push_str(&format!("\n{}", docs(text)));
    }
    match &opened.channel.channel_id {
        Some(id) => {
            let llm = opened.channel.category.eq_ignore_ascii_case("llm");
            let content = if llm { "your question" } else { "what the docs ask for; JSON as a string" };
            let call = json!({
                "channelId": id,
                "model": model.filter(|id| is_plain(id)).unwrap_or("a model of the provider"),
                "messages": [{ "role": "user", "content": content }],
            });
            out.push_str(&format!("\nNext: drain_chat {call}; when done drain_cooperative_close."));
        }
        None => out.push_str("\nNext: drain_channels tells when it is open; opening again never pays twice."),
    }
    out
}

/// An identifier of others: in quotation marks where it could say more.
fn ident(id: &str) -> String {
    if is_plain(id) { id.to_owned() } else { quoted(id, 80) }
}

/// An identifier that says nothing else: it may stand in a sentence of ours.
fn is_plain(id: &str) -> bool {
    id.len() <= 80 && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/@+".contains(c))
}

/// A channel's end.
pub fn closed(closed: &Closed) -> String {
    if closed.left {
        return format!(
            "Left {}: other agents of this wallet use it, so it stays open and nothing was paid or sent back. You cannot pay with it any more. Next: {}",
            closed.channel.channel_id.as_deref().unwrap_or("the channel"),
            word(&closed.channel.next, 300)
        );
    }
    format!(
        "Closed {}: deposit {} USDC, provider got {} USDC (protocol fee {} of it), {} USDC came back. Transaction {}.",
        closed.channel.channel_id.as_deref().unwrap_or("the channel"),
        closed.channel.deposit,
        closed.paid,
        closed.protocol_fee,
        closed.refund,
        closed.transaction
    )
}

/// An allowance.
pub fn approved(approved: &Approved) -> String {
    let how = match &approved.transaction {
        Some(hash) => format!("Transaction {hash}."),
        None => "It was so already; no transaction was needed.".into(),
    };
    format!("Contract {} may take up to {} USDC from the wallet. {how}", approved.spender, approved.allowance)
}
