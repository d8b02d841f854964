//! The way of one paid request: bound, leave, signature, send, books (design section 4).
//!
//! The order is always: authorize, durable, sign, send (M1). Everything that can be refused is refused before.

use std::time::Instant;

use drain_protocol::chat::ChatAnswer;
use drain_protocol::headers::CostHeaders;
use drain_protocol::{B256, SignedVoucher, Usdc};
use reqwest::Url;

use super::partial::{Partial, began};
use super::plan::{self, Plan};
use super::{Desk, Turn, inquiry, refused};
use crate::actors::person;
use crate::actors::services::ask;
use crate::actors::signer::SignVoucher;
use crate::actors::view;
use crate::answers::AnswerId;
use crate::api::{ChatCall, ChatReply, KeptAnswer, Progress};
use crate::error::{Code, Failure, Money};
use crate::http_client::RequestLimits;
use crate::journal::audit::{Kind, Wanted};
use crate::journal::{Authorized, JournalError, Outcome, Receipt, VoucherIntent};
use crate::logging;
use crate::metrics::{self, VoucherEnd};
use crate::points::{Point, reach};
use crate::policy::books::{Claims, Settlement};
use crate::policy::repeat::sha256;
use crate::provider::{ChatError, ChatOutcome, Form};

/// A voucher that left, and what is needed to book its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub receipt: Receipt,
    pub amount: Usdc,
    pub bound: Usdc,
    pub spent_today: Usdc,
}

pub(super) async fn pay(desk: &mut Desk, call: ChatCall, progress: &Progress) -> Result<Turn, Failure> {
    check_open(desk)?;
    let base = desk.base()?.clone();
    if let Some(docs) = inquiry::docs_to_read(desk).await? {
        return Ok(Turn::Done(ChatReply::ReadFirst { docs }));
    }
    inquiry::read_books_of_recovered(desk, progress).await?;
    let mut plan = match plan::fitting(desk, call, progress).await {
        Ok(plan) => plan,
        Err(failure) => {
            let (provider, intent) = (Some(desk.record.provider_id.clone()), Some(desk.record.intent));
            let wanted = Wanted { kind: Kind::Voucher, provider, intent, amount: None };
            desk.purse.journal.refused_later(wanted, &failure);
            return Err(failure);
        }
    };
    let mut left = None;
    // A second try only where the provider says that no work was done, and then once (M15).
    for attempt in [Attempt::First, Attempt::Second] {
        match one_try(desk, &base, plan, attempt, &mut left, progress).await {
            Ok(Step::Done(turn)) => return Ok(turn),
            Ok(Step::Again(next)) => plan = *next,
            Err(failure) => return Err(with_what_left(failure, left)),
        }
    }
    Err(Failure::internal("a request was tried twice and neither answered nor refused"))
}

/// What one try led to.
enum Step {
    Done(Turn),
    Again(Box<Plan>),
}

async fn one_try(
    desk: &mut Desk,
    base: &Url,
    mut plan: Plan,
    attempt: Attempt,
    left: &mut Option<Receipt>,
    progress: &Progress,
) -> Result<Step, Failure> {
    let leave = match authorize(desk, &plan).await {
        // The first payment of all, from a channel that was found.
        Err(JournalError::NoTime) => {
            desk.services.know_time().await?;
            authorize(desk, &plan).await
        }
        leave => leave,
    };
    let leave = match leave {
        // What is too much for a stream may do for an answer at once.
        Err(JournalError::OverLimit(_)) if plan.at_once().is_some() => authorize(desk, &plan).await,
        leave => leave,
    };
    let leave = match leave {
        Err(JournalError::NeedsPerson) => {
            let subject = desk.record.request_subject(&desk.caller.agent, plan.bound);
            let asked = person::question(&desk.services, &desk.purse, subject).await?;
            return match attempt {
                Attempt::First => Ok(Step::Done(Turn::AskPerson(Box::new(asked)))),
                Attempt::Second => Err(person::needed(&asked)),
            };
        }
        leave => leave?,
    };
    plan.approval = leave.approval();
    let (sent, voucher) = sign(desk, leave, progress).await?;
    progress.say(format!("sent to {} (at most {} USDC, receipt {})", desk.name(), sent.bound, sent.receipt));
    let (begun, outcome) = (Instant::now(), send(desk, base, &plan, &voucher, progress).await);
    measured(desk, &outcome, begun);
    reach(Point::VoucherAnswered);
    match outcome {
        Ok(ChatOutcome::Answered { answer, costs, form }) => {
            logging::content("answer", || answer.content.clone());
            let reply = answered(desk, &plan, sent, *answer, &costs, form).await;
            reach(Point::VoucherSettled);
            Ok(Step::Done(Turn::Done(reply)))
        }
        Ok(ChatOutcome::Refused(refusal)) => {
            *left = Some(sent.receipt);
            let next = refused::refused(desk, plan, sent, refusal, attempt).await?;
            Ok(Step::Again(Box::new(next)))
        }
        Ok(ChatOutcome::BrokenOff { refusal, came }) => {
            logging::content("answer", || came.clone());
            Err(refused::broken_off(desk, &plan, sent, &refusal, &came))
        }
        Err(error) => Err(lost(desk, &plan, sent, &error)),
    }
}

/// A second try that fails before it is sent leaves the first voucher with the provider (M15).
fn with_what_left(failure: Failure, left: Option<Receipt>) -> Failure {
    match (&failure.money, left) {
        (Money::NotSpent, Some(receipt)) => failure.with_money(Money::Credit { receipt: receipt.to_string() }),
        _ => failure,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Second,
}

/// No voucher once block time plus the request's limit reaches expiry, and none for a provider that overcharged.
fn check_open(desk: &Desk) -> Result<(), Failure> {
    let record = &desk.record;
    let limit = desk.services.config.requests.timeout.as_secs();
    if desk.services.clock.block_time().saturating_add(limit) >= record.expires_at {
        return Err(Failure::unspent(
            Code::ChannelExpired,
            "The channel has expired or expires before this request could end",
            "Get the rest back with drain_close_channel at expiry (or drain_cooperative_close before), and open a new channel.",
        ));
    }
    if record.offences > 0 {
        return Err(Failure::unspent(
            Code::ProviderOffence,
            format!(
                "{} insisted on more than price, usage and bound explain; this channel pays it no further",
                desk.name()
            ),
            "Close the channel with drain_cooperative_close and use another provider.",
        ));
    }
    Ok(())
}

/// Leave from the journal, durable (M1).
async fn authorize(desk: &Desk, plan: &Plan) -> Result<Authorized, JournalError> {
    let leave = desk
        .purse
        .journal
        .authorize(VoucherIntent {
            intent: desk.record.intent,
            bound: plan.bound,
            limits: desk.caller.limits.clone(),
            agent: desk.caller.agent.clone(),
            approval: plan.approval,
            model: plan.request.model.clone(),
            key: desk.key.clone(),
            moment: desk.services.clock.moment(),
        })
        .await?;
    reach(Point::VoucherAuthorized);
    Ok(leave)
}

pub(super) async fn sign(
    desk: &mut Desk,
    leave: Authorized,
    progress: &Progress,
) -> Result<(Sent, SignedVoucher), Failure> {
    let sent = Sent {
        receipt: leave.receipt(),
        amount: leave.voucher().amount,
        bound: leave.bound(),
        spent_today: leave.spent_today(),
    };
    desk.record.books = leave.books();
    let signed = match desk.signer().await {
        Ok(signer) => ask(&signer, SignVoucher { leave, progress: progress.clone(), gone: desk.gone.clone() }).await,
        Err(failure) => Err(failure),
    };
    match signed {
        Ok(voucher) => {
            reach(Point::VoucherSigned);
            tracing::info!(channel = %desk.record.intent, provider = desk.name(), receipt = %sent.receipt, nonce = voucher.voucher.nonce.get(), amount = %sent.amount, bound = %sent.bound, "voucher signed");
            Ok((sent, voucher))
        }
        Err(failure) => {
            // Nothing left, whatever became of the signer: the reservation is free again. The nonce stays used (M2).
            unsent(desk, sent, failure.code.as_str());
            Err(failure.with_money(Money::NotSpent))
        }
    }
}

/// Counts what the provider did, and what became of the voucher where that is its end.
fn measured(desk: &Desk, outcome: &Result<ChatOutcome, ChatError>, begun: Instant) {
    let how = match outcome {
        Ok(ChatOutcome::Answered { .. }) => metrics::Request::Answered,
        Ok(ChatOutcome::Refused(refusal)) => {
            metrics::voucher_refused(&refusal.code);
            if refused::before_work(refusal) { metrics::Request::Refused } else { metrics::Request::Failed }
        }
        Ok(ChatOutcome::BrokenOff { refusal, .. }) => {
            metrics::voucher_refused(&refusal.code);
            metrics::Request::Failed
        }
        Err(error) if error.before_sent() => metrics::Request::Unreachable,
        Err(_) => metrics::Request::Lost,
    };
    tracing::info!(
        provider = desk.name(),
        outcome = how.as_ref(),
        seconds = begun.elapsed().as_secs_f64(),
        "provider asked"
    );
    metrics::request(&desk.record.provider_key(), how, begun.elapsed());
}

async fn send(
    desk: &Desk,
    base: &Url,
    plan: &Plan,
    voucher: &SignedVoucher,
    progress: &Progress,
) -> Result<ChatOutcome, ChatError> {
    logging::content("request", || serde_json::to_string(&plan.request.messages).unwrap_or_default());
    let requests = &desk.services.config.requests;
    let limits = RequestLimits::new(requests.timeout, requests.max_answer_bytes);
    let (begun, provider) = (Instant::now(), desk.record.provider_key());
    let head = || metrics::first_byte(&provider, begun.elapsed());
    let partial = plan.request.stream.then(|| Partial::to(progress.clone()));
    let part = |text| {
        if let Some(partial) = &partial {
            partial.add(text);
        }
    };
    // Whoever asked may go meanwhile: what the provider bills is read to its end all the same (design section 4).
    let outcome =
        desk.services.provider.chat_watched(base, &plan.request, &voucher.to_header(), limits, head, part).await;
    if let Some(partial) = partial {
        partial.end().await;
    }
    outcome
}

/// Books a request at the smallest of the provider's word, what price and usage explain, and the bound. The notes tell
/// what a reader should know of it.
fn book(
    desk: &mut Desk,
    sent: Sent,
    costs: &CostHeaders,
    explained: Option<Usdc>,
    answered: bool,
    answer: Option<B256>,
) -> (Settlement, Vec<String>) {
    let charged_before = desk.record.books.charged;
    let settled = desk.record.books.settle(sent.bound, Claims { cost: costs.cost, total: costs.total, explained });
    let at = desk.services.clock.now();
    let provider = desk.record.provider_key();
    metrics::booked(&desk.caller.agent, &provider, settled.charged, sent.bound);
    metrics::voucher(&provider, if answered { VoucherEnd::Answered } else { VoucherEnd::Unusable });
    if let Some(older) = settled.older {
        metrics::spent(&desk.caller.agent, &provider, older);
    }
    tracing::info!(receipt = %sent.receipt, charged = %settled.charged, disputed = %settled.disputed, "cost booked");
    let mut notes = Vec::new();
    let outcome = Outcome::Settled { answered, charged: settled.charged, disputed: settled.disputed, answer };
    if let Err(error) = desk.purse.journal.settle_later(sent.receipt, outcome, at) {
        // What was answered is here and paid for; the journal keeps the larger reservation.
        notes.push(format!("the cost could not be recorded ({error}); the whole bound stays reserved"));
    }
    if let Some(older) = settled.older {
        inquiry::note_failure(desk.purse.journal.resolve_unknown_later(desk.record.intent, older, "total", at));
    }
    if !settled.disputed.is_zero() {
        notes.push(format!(
            "the provider claims {} USDC more than price, usage and bound explain; not accepted",
            settled.disputed
        ));
    }
    if costs.total.is_some_and(|total| total < charged_before) {
        notes.push(
            "the provider's total is below what it charged before: it lost its books, or repeats an old answer".into(),
        );
    }
    if costs.garbage {
        notes.push("the provider's cost headers made no sense and were not believed".into());
    }
    (settled, notes)
}

async fn answered(
    desk: &mut Desk,
    plan: &Plan,
    sent: Sent,
    answer: ChatAnswer,
    costs: &CostHeaders,
    form: Form,
) -> ChatReply {
    // Nothing at all, or something that is no answer, is a failure in the provider's record, whatever was paid for it.
    let usable = !answer.raw.is_string() && (answer.finish_reason.is_some() || !answer.content.trim().is_empty());
    let mut kept = KeptAnswer {
        content: answer.content,
        raw: answer.raw,
        finish_reason: answer.finish_reason,
        max_tokens_sent: plan.request.max_tokens,
        cost: Usdc::ZERO,
        disputed: Usdc::ZERO,
        notes: plan.notes.clone(),
    };
    let hash = sha256(kept.text().as_bytes());
    let (settled, booked) = if form == Form::Stream && costs.cost.is_none() {
        cost_to_come(desk, sent, usable, hash)
    } else {
        let text = (form == Form::Stream).then_some(kept.content.as_str());
        let explained = plan.explained(sent.bound, answer.usage, text);
        book(desk, sent, costs, explained, usable, Some(hash))
    };
    (kept.cost, kept.disputed) = (settled.charged, settled.disputed);
    kept.notes.extend(booked);
    if kept.raw.is_string() {
        kept.notes
            .push("the answer is no JSON of the agreed form: this is what came, and what the provider charged".into());
    }
    desk.record.requests += u64::from(usable);
    if let Some(usage) = answer.usage.filter(|_| plan.by_token) {
        let cut = kept.finish_reason.as_deref() == Some("length");
        desk.lengths.entry(plan.request.model.clone()).or_default().observe(usage.completion_tokens, cut);
    }
    keep(desk, sent.receipt, &mut kept).await;
    let channel = view::channel(&desk.record, desk.services.clock.block_time());
    let spent_today = sent.spent_today.saturating_add(settled.charged);
    ChatReply::Paid(Box::new(kept.paid(sent.receipt.to_string(), spent_today, channel)))
}

/// Before it is given to a caller who may have gone.
async fn keep(desk: &Desk, receipt: Receipt, answer: &mut KeptAnswer) {
    let Some(channel) = desk.record.channel_id else { return };
    let id = AnswerId { receipt: receipt.to_string(), channel: channel.to_string(), agent: desk.caller.agent.clone() };
    if let Err(error) = desk.purse.answers.keep(id, answer).await {
        tracing::warn!(%receipt, %error, "an answer could not be kept");
        answer.notes.push(format!("this answer cannot be fetched again: {error}"));
    }
}

/// A stream ended without its cost: what stood between may have dropped the comments that tell it. The bound stays reserved until
/// the provider's next total, or its books, tell: what usage it reports is not what it charged.
fn cost_to_come(desk: &Desk, sent: Sent, usable: bool, answer: B256) -> (Settlement, Vec<String>) {
    inquiry::note_failure(desk.purse.journal.answered_later(sent.receipt, answer));
    if usable {
        metrics::voucher(&desk.record.provider_key(), VoucherEnd::Answered);
    } else {
        count_failure(desk, sent);
    }
    let note = format!(
        "the provider did not say what this cost: at most {} USDC, reserved until its next answer tells",
        sent.bound
    );
    (Settlement { charged: sent.bound, disputed: Usdc::ZERO, older: None }, vec![note])
}

/// Frees the reservation of a request whose voucher never left.
fn unsent(desk: &mut Desk, sent: Sent, note: &str) {
    free(desk, sent, Outcome::Unsent { note: note.into() });
}

/// Frees the reservation of a request for which the provider says that it did no work.
pub(super) fn not_charged(desk: &mut Desk, sent: Sent, note: &str) {
    free(desk, sent, Outcome::Refused { note: note.into() });
}

/// A voucher was taken and no usable answer came: counted in the provider's record, once. What it costs is unknown.
pub(super) fn count_failure(desk: &Desk, sent: Sent) {
    metrics::voucher(&desk.record.provider_key(), VoucherEnd::Lost);
    inquiry::note_failure(desk.purse.journal.failed_later(sent.receipt, desk.services.clock.now()));
}

fn free(desk: &mut Desk, sent: Sent, outcome: Outcome) {
    desk.record.books.not_charged(sent.bound);
    let end = if matches!(outcome, Outcome::Unsent { .. }) { VoucherEnd::Unsent } else { VoucherEnd::Refused };
    metrics::voucher(&desk.record.provider_key(), end);
    if let Err(error) = desk.purse.journal.settle_later(sent.receipt, outcome, desk.services.clock.now()) {
        tracing::error!(%error, receipt = %sent.receipt, "a refused request stays reserved in the journal");
    }
}

/// No usable answer. What did not reach the provider costs nothing; a cost that it stated is booked; everything else is
/// unknown and stays reserved.
fn lost(desk: &mut Desk, plan: &Plan, sent: Sent, error: &ChatError) -> Failure {
    let name = desk.name();
    if error.before_sent() {
        unsent(desk, sent, "not sent");
        return Failure::unspent(
            Code::ProviderUnreachable,
            format!("{name} was not reached: {error}"),
            "Call again; if it goes on, close the channel and use another provider.",
        );
    }
    let stated = error.costs().filter(|costs| costs.cost.is_some());
    let money = match stated {
        Some(costs) => {
            let explained = error.came().and_then(|text| plan.explained(sent.bound, None, Some(text)));
            let (settled, _) = book(desk, sent, costs, explained, false, None);
            Money::Spent { receipt: sent.receipt.to_string(), amount: settled.charged }
        }
        None => {
            count_failure(desk, sent);
            Money::Reserved { receipt: sent.receipt.to_string(), at_most: sent.bound }
        }
    };
    Failure {
        code: Code::AnswerLost,
        message: format!("{name} took the voucher and gave no usable answer: {error}{}", began(error.came())),
        money,
        next: "Do not count on a free repeat: another call may be charged too. A reservation ends with this provider's next answer.".into(),
    }
}
