//! What a channel asks its provider without paying: instructions, and the books by a voucher of amount zero.

use std::collections::BTreeMap;
use std::time::Duration;

use drain_protocol::Usdc;
use drain_protocol::chat::{ChatRequest, Message, Role};
use drain_protocol::pricing::ModelPrice;

use super::Desk;
use super::pay::sign;
use crate::api::Progress;
use crate::error::Failure;
use crate::http_client::RequestLimits;
use crate::journal::JournalError;
use crate::metrics;
use crate::points::{Point, reach};
use crate::policy::books::Correction;
use crate::provider::ChatOutcome;

/// A refusal needs no work: it comes soon or not at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// The instructions of a non-LLM provider, if no agent was ever shown them. Returned instead of paying, once.
pub(super) async fn docs_to_read(desk: &mut Desk) -> Result<Option<String>, Failure> {
    if desk.docs_checked || desk.record.category.eq_ignore_ascii_case("llm") {
        return Ok(None);
    }
    desk.docs_checked = true;
    if desk.purse.journal.were_docs_read(desk.record.provider_id.clone()).await? {
        return Ok(None);
    }
    // A provider without readable instructions is paid as it is: they are a help, not a condition.
    let Ok(docs) = desk.services.provider.docs(desk.base()?).await else { return Ok(None) };
    desk.purse.journal.docs_read(desk.record.provider_id.clone(), desk.services.clock.now()).await?;
    Ok(Some(docs))
}

/// A recovered channel pays nothing before its provider's total is known, or taken as all that was ever signed.
pub(super) async fn read_books_of_recovered(desk: &mut Desk, progress: &Progress) -> Result<(), Failure> {
    if desk.record.books_known {
        return Ok(());
    }
    let known = desk.record.books.owed_at_most();
    let charged =
        provider_total(desk, progress).await?.filter(|total| *total <= desk.record.books.deposit).unwrap_or(known);
    desk.record = desk.purse.journal.books_read(desk.record.intent, charged).await?;
    Ok(())
}

/// The provider's total by a voucher that authorises nothing (design section 4); `None` where it does not tell.
pub(super) async fn provider_total(desk: &mut Desk, progress: &Progress) -> Result<Option<Usdc>, Failure> {
    let Some(model) = costly_model(&desk.prices.models) else { return Ok(None) };
    let leave = desk.purse.journal.authorize_probe(desk.record.intent, desk.services.clock.now()).await?;
    reach(Point::ProbeAuthorized);
    let (_, voucher) = sign(desk, leave, progress).await?;
    // A fixed body: never a user's words.
    let request = ChatRequest {
        model,
        messages: vec![Message { role: Role::User, content: "balance?".into() }],
        max_tokens: Some(1),
        temperature: None,
        stream: false,
    };
    let limits = RequestLimits::new(PATIENCE.min(desk.services.config.requests.timeout), 64 * 1024);
    let outcome = desk.services.provider.chat(desk.base()?, &request, &voucher.to_header(), limits).await;
    Ok(match outcome {
        Ok(ChatOutcome::Refused(refusal)) => refusal.total_charged(Usdc::ZERO),
        _ => None,
    })
}

/// Asks the provider's books what became of requests of unknown outcome. True when none is unknown afterwards.
pub(super) async fn ask_unknown(desk: &mut Desk, progress: &Progress) -> Result<bool, Failure> {
    if desk.record.books.in_flight.is_zero() {
        return Ok(true);
    }
    let Some(total) = provider_total(desk, progress).await? else { return Ok(false) };
    let Correction::Adopted(cost) = desk.record.books.correct(total) else { return Ok(false) };
    resolved(desk, metrics::Correction::Adopted, cost);
    desk.purse.journal.resolve_unknown(desk.record.intent, cost, "asked", desk.services.clock.now()).await?;
    Ok(true)
}

/// Before a close nothing may be in flight (M6): the provider's total ends what is unknown, or its bound is booked.
pub(super) async fn settle_unknown(desk: &mut Desk, progress: &Progress) -> Result<(), Failure> {
    if ask_unknown(desk, progress).await? {
        return Ok(());
    }
    let cost = desk.record.books.book_unknown_at_bound();
    resolved(desk, metrics::Correction::AtBound, cost);
    desk.purse.journal.resolve_unknown(desk.record.intent, cost, "before close", desk.services.clock.now()).await?;
    Ok(())
}

/// One that is not free, so that a voucher of zero is refused with the books in the answer.
fn costly_model(models: &BTreeMap<String, ModelPrice>) -> Option<String> {
    models.iter().max_by_key(|(_, model)| model.price.bound(1_000, 1_000)).map(|(id, _)| id.clone())
}

/// Counts that requests of unknown outcome were booked at `cost`.
pub(super) fn resolved(desk: &Desk, how: metrics::Correction, cost: Usdc) {
    metrics::correction(how);
    metrics::spent(&desk.caller.agent, &desk.record.provider_key(), cost);
}

/// Books that lag behind in the journal only hold a larger reservation: said, and gone on.
pub(super) fn note_failure(result: Result<(), JournalError>) {
    if let Err(error) = result {
        tracing::error!(%error, "an outcome could not be recorded; its bound stays reserved in the journal");
    }
}
