//! The runtime's views as text.

use drain_protocol::text::quoted;
use serde_json::json;

use super::{bullets, docs, span, utc, word};
use crate::api::{Approved, ChannelState, ChannelView, Closed, Opened, WalletView};

/// What the wallet holds.
pub fn wallet(view: &WalletView) -> String {
    let mut out = format!(
        "Wallet {} on chain {}: {} USDC, {} POL for gas. Locked in channels {} USDC, allowance {} USDC, spent today {} USDC. Signer: {}.",
        view.address, view.chain_id, view.usdc, view.pol, view.locked, view.allowance, view.spent_today, view.signer
    );
    bullets(&mut out, "Advice", &view.advice);
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
