//! Receipts as an agent reads them.

use drain_protocol::text::quoted;

use super::{fence, word};
use crate::api::{KeptAnswer, ReceiptDetails, ReceiptView};

/// One line.
pub fn receipt_line(view: &ReceiptView) -> String {
    let money = match &view.charged {
        Some(charged) => format!("charged {charged} USDC of at most {}", view.bound),
        None => format!("at most {} USDC, reserved", view.bound),
    };
    let named = view.request_id.as_deref().map(|id| format!(", requestId {}", quoted(id, 100))).unwrap_or_default();
    format!(
        "{} {} {}: {money}, {} of {}{named}",
        view.receipt,
        view.at,
        view.outcome,
        quoted(&view.model, 80),
        quoted(&view.provider, 80)
    )
}

/// The newest ones.
pub fn receipts(views: &[ReceiptView]) -> String {
    match views {
        [] => "No receipts: nothing was paid for yet.".into(),
        views => views.iter().map(receipt_line).collect::<Vec<_>>().join("\n"),
    }
}

/// One receipt, all that is on record of it.
pub fn receipt(view: &ReceiptView) -> String {
    let mut out = receipt_line(view);
    match &view.payee {
        None => out.push_str(&format!("\nvoucher {} USDC, nonce {}", view.voucher_amount, view.nonce)),
        Some(payee) => out.push_str(&format!("\npaid by {} to {payee}", view.protocol)),
    }
    if let Some(transaction) = &view.transaction {
        out.push_str(&format!(", transaction {transaction} by its payee's word"));
    }
    if let Some(channel) = &view.channel {
        out.push_str(&format!(", channel {channel}"));
    }
    if !view.disputed.is_zero() {
        out.push_str(&format!("\nThe provider asks {} USDC more than is explained; it is not paid.", view.disputed));
    }
    if let Some(hash) = &view.answer_sha256 {
        out.push_str(&format!("\nanswer SHA-256 {hash}"));
    }
    if let Some(note) = &view.note {
        out.push_str(&format!("\nNote: {}", word(note, 300)));
    }
    out
}

/// What is said where the answer would stand.
pub fn without_answer(view: &ReceiptView) -> &'static str {
    match view.outcome.as_str() {
        "answered" => "The answer is not kept any more.",
        "unknown" => "No answer is known yet.",
        _ => "No answer came.",
    }
}

/// One receipt with its whole answer.
pub fn receipt_with_answer(details: &ReceiptDetails) -> String {
    let mut out = receipt(&details.receipt);
    out.push('\n');
    match &details.answer {
        Some(answer) => out.push_str(&whole(answer)),
        None => out.push_str(without_answer(&details.receipt)),
    }
    out
}

fn whole(answer: &KeptAnswer) -> String {
    fence("provider answer", &answer.text(), usize::MAX)
}
