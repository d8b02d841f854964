//! What something costs and what may be spent, as text.

use drain_protocol::text::quoted;

use super::{bullets, span, utc, word};
use crate::api::{BudgetLine, BudgetView, DemandView, Opening, Payment, Quote};

/// What a request would cost.
pub fn quote(quote: &Quote) -> String {
    let name = quoted(&quote.provider_name, 60);
    let mut out = format!(
        "{} at {name}: {}. This request costs at most {} USDC. Nothing was spent.",
        quoted(&quote.model, 80),
        word(&quote.price, 80),
        quote.at_most
    );
    if let Some(channel) = &quote.channel {
        let id = channel.channel_id.as_deref().unwrap_or("(not mined yet)");
        let until = utc(channel.expires_at);
        out.push_str(&format!("\nPaid from channel {id}: {} USDC left until {until}.", channel.available));
    }
    if let Some(opens) = &quote.opens {
        out.push_str(&format!("\n{}", opening(opens)));
    }
    if let Some(left) = quote.caps_leave {
        out.push_str(&format!("\nThe caps leave {left} USDC for this provider now."));
    }
    if quote.asks_person {
        out.push_str("\nA person is asked before this request is paid.");
    }
    bullets(&mut out, "Note", &quote.notes);
    match (&quote.refused, &quote.opens) {
        (Some(why), _) => out.push_str(&format!("\nIt would be refused now: {}.", word(why, 300))),
        (None, Some(opens)) if !opens.allowed => {
            let deposit = opens.deposit;
            out.push_str(&format!(
                "\nNext: drain_chat with provider and maxDeposit \"{deposit}\", or drain_open_channel."
            ));
        }
        (None, _) => out.push_str("\nNext: drain_chat with the same arguments."),
    }
    out
}

fn opening(opens: &Opening) -> String {
    let mut out = format!(
        "No open channel pays: one of {} USDC for {} would be opened ({}); what is not used comes back.",
        opens.deposit,
        span(opens.duration),
        opens.generation
    );
    if !opens.session_fee.is_zero() {
        out.push_str(&format!(" Session fee {} USDC.", opens.session_fee));
    }
    if let Some(gas) = &opens.gas {
        out.push_str(&format!(" Gas about {gas} POL."));
    }
    if opens.asks_person {
        out.push_str(" A person is asked before.");
    }
    out
}

/// What a request without a channel asks for.
pub fn demand(status: u16, view: &DemandView) -> String {
    let host = quoted(&view.host, 100);
    let (Some(price), Some(payee)) = (view.price, &view.payee) else {
        return match &view.refused {
            Some(why) => format!("HTTP {status}: {}. Nothing was paid, and it would not be.", word(why, 500)),
            None => format!("HTTP {status}: it asks for no payment. Nothing was paid."),
        };
    };
    let token = view.token.as_deref().unwrap_or_default();
    let chain = view.chain_id.unwrap_or_default();
    let mut out = format!(
        "{host} asks for {price} USDC by {}, to {payee}, with the token {token} on chain {chain}. Nothing was paid.",
        view.protocol
    );
    if let Some(worst) = &view.worst_case {
        out.push_str(&format!("\nAt worst: {worst}."));
    }
    if let Some(left) = view.caps_leave {
        out.push_str(&format!("\nThe caps leave {left} USDC now."));
    }
    if view.asks_person {
        out.push_str("\nA person is asked before it is paid.");
    }
    match &view.refused {
        Some(why) => out.push_str(&format!("\nIt would be refused now: {}.", word(why, 300))),
        None => out.push_str("\nNext: pay_request with these arguments."),
    }
    out
}

/// The line that ends each answer to a request without a channel.
pub fn payment_line(payment: Option<&Payment>) -> String {
    let Some(payment) = payment else { return "Nothing was paid: none was asked for.".into() };
    let Payment { amount, payee, protocol, spent_today, receipt, .. } = payment;
    match payment.state.as_str() {
        "paid" => {
            format!("Paid {amount} USDC to {payee} by {protocol}, spent today {spent_today} USDC, receipt {receipt}.")
        }
        _ => format!(
            "Reserved {amount} USDC for {payee} by {protocol} until the chain tells, spent today {spent_today} USDC, receipt {receipt}."
        ),
    }
}

/// What may be spent.
pub fn budget(view: &BudgetView) -> String {
    let mut out = format!("{}: spent today {} USDC.", quoted(&view.agent, 60), view.spent_today);
    if let Some(why) = &view.frozen {
        out.push_str(&format!(" FROZEN, nothing is paid or opened: {}.", word(why, 300)));
    }
    for line in &view.limits {
        out.push_str(&format!("\n{}", budget_line(line)));
    }
    for (what, above) in [("request", view.person_above_request), ("deposit", view.person_above_deposit)] {
        if let Some(amount) = above {
            out.push_str(&format!("\nA person is asked before a {what} above {amount} USDC."));
        }
    }
    match view.auto_open {
        Some(amount) => out.push_str(&format!("\ndrain_chat with a provider may lock {amount} USDC by itself.")),
        None => out.push_str("\ndrain_chat with a provider opens a channel with maxDeposit only."),
    }
    out.push_str("\nOnly a person changes a limit, in the configuration.");
    out
}

fn budget_line(line: &BudgetLine) -> String {
    let mut out = format!("{}: at most {} {}", line.name, line.limit, line.meaning);
    if let (Some(used), Some(left)) = (&line.used, &line.left) {
        out.push_str(&format!("; used {used}, left {left}"));
    }
    if let Some(seconds) = line.frees_in {
        out.push_str(&format!(", more in {}", span(seconds)));
    }
    out
}
