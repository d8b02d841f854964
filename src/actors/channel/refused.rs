//! A provider refused: what that means for the books, and whether one more try is right (M15, protocol.md section 6).

use std::time::Duration;

use drain_protocol::Usdc;
use drain_protocol::refusal::{Refusal, RefusalCode};
use drain_protocol::text::quoted;

use super::partial::began;
use super::pay::{Attempt, Sent, count_failure, not_charged};
use super::plan::Plan;
use super::{Desk, inquiry};
use crate::error::{Code, Failure, Money};
use crate::metrics;
use crate::policy::books::Correction;

/// A fresh channel may be unknown to the provider's RPC for some seconds.
const FRESH: u64 = 60;
const FRESH_WAIT: Duration = Duration::from_secs(2);

/// Books a refusal. `Ok` is the plan for one more try.
pub(super) async fn refused(
    desk: &mut Desk,
    plan: Plan,
    sent: Sent,
    refusal: Refusal,
    attempt: Attempt,
) -> Result<Plan, Failure> {
    if !before_work(&refusal) {
        count_failure(desk, sent);
        return Err(work_maybe_done(desk, &plan, sent, &refusal));
    }
    not_charged(desk, sent, refusal.code.as_str());
    let again = attempt == Attempt::First;
    match refusal.code {
        RefusalCode::InsufficientFunds => insufficient(desk, plan, sent, &refusal, again).await,
        RefusalCode::ChannelNotFound if again && fresh(desk) => {
            tokio::time::sleep(FRESH_WAIT).await;
            Ok(plan)
        }
        RefusalCode::InvalidNonce if again => {
            // Somebody else numbered vouchers of this channel: our record may be incomplete (design section 4).
            let floor = desk.services.clock.nonce_floor();
            desk.record = desk.purse.journal.mark_recovered(desk.record.intent, floor).await?;
            Ok(plan)
        }
        _ => Err(refused_before_work(desk, sent, &refusal)),
    }
}

/// Books a stream that its provider ended with a failure: what it bills for the beginning, if anything, is unknown.
pub(super) fn broken_off(desk: &Desk, plan: &Plan, sent: Sent, refusal: &Refusal, came: &str) -> Failure {
    count_failure(desk, sent);
    let failure = work_maybe_done(desk, plan, sent, refusal);
    Failure { message: failure.message + &began(Some(came)), ..failure }
}

/// Whether the refusal says that no work was done. An error inside of a stream comes with the status of its beginning.
pub(super) fn before_work(refusal: &Refusal) -> bool {
    match refusal.status {
        // A time ran out, or a caller went away: the word of whoever stands between, while the provider may be at work.
        408 | 425 | 499 => refusal.code.before_work(),
        400..500 => refusal.code.before_work() || matches!(refusal.code, RefusalCode::Other(_)),
        _ => false,
    }
}

fn fresh(desk: &Desk) -> bool {
    // Nobody knows when a channel that was found on chain was opened.
    if desk.record.duration == 0 {
        return false;
    }
    let opened = desk.record.expires_at.saturating_sub(desk.record.duration);
    desk.services.clock.block_time() < opened.saturating_add(FRESH)
}

/// The provider wants more cover. Its correction of the books is adopted as far as requests in flight explain it; more
/// for this request is granted up to what the plan allows.
async fn insufficient(
    desk: &mut Desk,
    mut plan: Plan,
    sent: Sent,
    refusal: &Refusal,
    again: bool,
) -> Result<Plan, Failure> {
    let at = desk.services.clock.now();
    let unknown = desk.record.books.in_flight;
    let corrected = refusal.total_charged(sent.amount).map(|total| desk.record.books.correct(total));
    match corrected {
        Some(Correction::Unexplained { excess }) => return Err(offence(desk, sent, excess).await),
        Some(Correction::Adopted(cost)) if !unknown.is_zero() => {
            inquiry::resolved(desk, metrics::Correction::Adopted, cost);
            inquiry::note_failure(desk.purse.journal.resolve_unknown(desk.record.intent, cost, "correction", at).await);
        }
        None if !unknown.is_zero() => {
            // This dialect never tells its books: what is unknown is booked whole.
            let cost = desk.record.books.book_unknown_at_bound();
            inquiry::resolved(desk, metrics::Correction::AtBound, cost);
            inquiry::note_failure(desk.purse.journal.resolve_unknown(desk.record.intent, cost, "at bound", at).await);
        }
        _ => {}
    }
    let required = refusal.required.unwrap_or(sent.bound);
    if again && required > sent.bound && required <= plan.most {
        plan.bound = required;
        plan.notes.push(format!("the provider asked for cover of {required} USDC before the work"));
        return Ok(plan);
    }
    let disputed = desk.record.books.disputed;
    if required <= sent.bound && !disputed.is_zero() {
        // The voucher covered all that is owed, may be owed, and is required: it insists on the rest.
        return Err(offence(desk, sent, disputed).await);
    }
    let (message, next) = why_insufficient(desk, &plan, sent, required);
    Err(Failure { message, next, ..refused_before_work(desk, sent, refusal) })
}

fn why_insufficient(desk: &Desk, plan: &Plan, sent: Sent, required: Usdc) -> (String, String) {
    let name = desk.name();
    if required <= sent.bound {
        return (
            format!(
                "{name} refused a voucher that covers all that was charged, and the {required} USDC that it asks for: its books hold more than ours"
            ),
            "Close this channel with drain_cooperative_close, then open a new one or use another provider.".into(),
        );
    }
    let most = plan.most;
    if plan.by_token {
        return (
            format!("{name} asks for {required} USDC for this request, more than its price explains ({most})"),
            "Look at its prices with drain_provider_info; if they have changed, close this channel.".into(),
        );
    }
    (
        format!("{name} asks for {required} USDC for this request; at most {most} was allowed"),
        "If its instructions explain that (a price per item, for example), call again with a maxCost that covers it."
            .into(),
    )
}

async fn offence(desk: &mut Desk, sent: Sent, excess: Usdc) -> Failure {
    inquiry::note_failure(desk.purse.journal.offence(desk.record.intent, desk.services.clock.now()).await);
    metrics::correction(metrics::Correction::Unexplained);
    desk.record.offences += 1;
    Failure {
        code: Code::ProviderOffence,
        message: format!(
            "{} says that {excess} USDC more was charged than price, usage and bounds explain; it is not paid",
            desk.name()
        ),
        money: Money::Credit { receipt: sent.receipt.to_string() },
        next: "Close this channel with drain_cooperative_close and use another provider.".into(),
    }
}

/// The provider failed with a voucher in hand. It says that nothing was billed; until its next total says so too, the
/// bound stays reserved.
fn work_maybe_done(desk: &Desk, plan: &Plan, sent: Sent, refusal: &Refusal) -> Failure {
    let name = desk.name();
    let (message, next) = if refusal.code == RefusalCode::InsufficientFundsPost {
        let cost = refusal.required.map_or_else(String::new, |cost| format!(" ({cost} USDC)"));
        (
            format!(
                "{name} did the work, found its cost{cost} above the voucher ({} USDC) and gave no answer",
                sent.amount
            ),
            format!(
                "Ask for less: a smaller maxTokens than {}, or a shorter conversation.",
                plan.request.max_tokens.unwrap_or_default()
            ),
        )
    } else {
        (
            format!("{name} failed: {} {}", refusal.status, quoted(&refusal.message, 300)),
            "The reservation ends with this provider's next answer; another call may be charged too.".into(),
        )
    };
    Failure {
        code: Code::ProviderFailed,
        message,
        money: Money::Reserved { receipt: sent.receipt.to_string(), at_most: sent.bound },
        next,
    }
}

fn refused_before_work(desk: &Desk, sent: Sent, refusal: &Refusal) -> Failure {
    let next = match refusal.code {
        RefusalCode::ChannelNotFound => {
            "The provider does not see this channel: look at it with drain_channel_status; if it is open, the provider reads another contract or chain."
        }
        RefusalCode::ExceedsDeposit => {
            "The deposit is used up by the provider's books: close the channel and open one with a larger deposit."
        }
        RefusalCode::WrongProvider => "The channel belongs to another wallet: open one to this provider.",
        RefusalCode::InvalidNonce | RefusalCode::InvalidSignature => {
            "Close this channel and open a new one; if it happens again, report it."
        }
        RefusalCode::ModelNotSupported => "Look at the provider's models with drain_provider_info.",
        _ if refusal.status == 429 => "The provider limits the rate: wait a minute, then call again.",
        _ if refusal.status == 413 => "The conversation is too large for this provider: shorten it.",
        _ => "Read the provider's instructions with drain_provider_info, correct the request and call again.",
    };
    Failure {
        code: Code::ProviderRefused,
        message: format!(
            "{} refused: {} {}",
            desk.name(),
            quoted(refusal.code.as_str(), 120),
            quoted(&refusal.message, 300)
        ),
        money: Money::Credit { receipt: sent.receipt.to_string() },
        next: next.into(),
    }
}
