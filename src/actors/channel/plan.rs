//! What a request sends and the most that it can cost, before anything is signed (design section 4).

use drain_protocol::Usdc;
use drain_protocol::chat::{ChatRequest, Usage, input_tokens_upper};
use drain_protocol::pricing::{self, Price, PriceList};
use drain_protocol::text::quoted;

use super::{Desk, inquiry};
use crate::api::{ChatCall, Parts, Progress};
use crate::error::{Code, Failure};
use crate::journal::ApprovalId;
use crate::policy::approvals::ApprovalKind;
use crate::policy::choice::{Wanted, is_by_token};

/// The longest answer that a provider may assume when it asks for cover before the work.
const PESSIMISTIC_OUTPUT: u32 = 4_096;

/// A request that fits: what is sent and the most that it can cost.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub request: ChatRequest,
    pub price: Price,
    /// Cost follows from tokens, so that usage explains it.
    pub by_token: bool,
    pub bound: Usdc,
    /// The bound of the same request answered at once, where a stream is asked for.
    pub unstreamed: Option<Usdc>,
    /// The highest bound that a provider may ask for before the work: pessimistic tokens at the pinned price, or the
    /// caller's maxCost where the price is not by token.
    pub most: Usdc,
    pub notes: Vec<String>,
    /// The person's yes that the first try used.
    pub approval: Option<ApprovalId>,
}

impl Plan {
    /// The same request, answered at once: for a limit that the bound of a stream passes. `None` where it is that already.
    pub fn at_once(&mut self) -> Option<()> {
        self.bound = self.unstreamed.take()?;
        self.request.stream = false;
        Some(())
    }

    /// The most that the price and what came explain for a request of this `bound`; `None` where nothing tells. `text` is
    /// that of a stream, which may report no usage: no tokenizer makes more tokens than there are bytes.
    pub fn explained(&self, bound: Usdc, usage: Option<Usage>, text: Option<&str>) -> Option<Usdc> {
        match &self.price {
            // Above the flat price only where the caller allowed it, which the price does not explain.
            Price::Flat(flat) => (bound <= *flat).then_some(*flat),
            Price::Free => Some(Usdc::ZERO),
            Price::PerToken { .. } if self.by_token => match (usage, text) {
                (Some(usage), _) => Some(self.price.cost(usage.prompt_tokens, usage.completion_tokens)),
                (None, Some(text)) => {
                    let most = u64::try_from(text.len()).unwrap_or(u64::MAX);
                    Some(self.price.bound(input_tokens_upper(&self.request.messages), most))
                }
                (None, None) => None,
            },
            Price::PerToken { .. } => None,
        }
    }
}

/// What further requests can use. The operator's word of today may be lower than that of the opening (M3).
fn available(desk: &Desk) -> Usdc {
    let mut books = desk.record.books;
    books.cap = books.cap.min(desk.caller.limits.per_channel);
    books.available()
}

/// The plan; where it does not fit beside requests of unknown outcome, the provider is asked for their cost first: by
/// themselves they would hold what is left of the channel to its end.
pub(super) async fn fitting(desk: &mut Desk, call: ChatCall, progress: &Progress) -> Result<Plan, Failure> {
    let again = (!desk.record.books.in_flight.is_zero()).then(|| call.clone());
    let stream = progress.wanted_parts() != Parts::None && desk.services.config.requests.stream;
    let first = plan(desk, call, stream)?;
    match again {
        Some(call) if first.bound > available(desk) && inquiry::ask_unknown(desk, progress).await? => {
            plan(desk, call, stream)
        }
        _ => Ok(first),
    }
}

/// What is sent and what it can cost at most. Nothing is signed yet.
fn plan(desk: &Desk, call: ChatCall, stream: bool) -> Result<Plan, Failure> {
    let requests = &desk.services.config.requests;
    let size: usize = call.messages.iter().map(|message| message.content.len()).sum();
    if size > requests.max_request_bytes {
        return Err(Failure::argument(
            "messages",
            format!("{size} bytes are more than the limit of {}", requests.max_request_bytes),
        ));
    }
    let llm = desk.record.category.eq_ignore_ascii_case("llm");
    let price = price_of(desk, &call.model)?;
    let by_token = is_by_token(&desk.record.category, &price);
    let available = available(desk);
    let per_request = desk.caller.limits.per_request;
    let limit = call.max_cost.map_or(available, |max| max.min(available)).min(per_request);
    let mut notes = Vec::new();
    let mut max_tokens = call.max_tokens;
    let bound = if by_token {
        let learned = desk.lengths.get(&call.model).copied().unwrap_or_default();
        let asked = call.max_tokens.unwrap_or_else(|| learned.suggest(requests.default_max_tokens));
        let fits = pricing::largest_max_tokens(&price, &call.messages, limit);
        let sent = fits.map_or(asked, |fits| asked.min(fits));
        if call.max_tokens.is_some_and(|asked| sent < asked) {
            let why = if limit < available { "the limit for one request" } else { "what is left" };
            notes.push(format!("maxTokens was lowered to {sent}: more might cost above {why} ({limit} USDC)"));
        }
        max_tokens = Some(sent);
        wanted(desk, &call, sent).bound(&price, true)
    } else {
        let bound = wanted(desk, &call, call.max_tokens.unwrap_or(0)).bound(&price, false);
        if matches!(price, Price::PerToken { .. }) {
            notes.push(format!("this provider does not charge by token; at most {bound} USDC was allowed (maxCost)"));
        }
        bound
    };
    // Above both, the channel is what is short.
    if let Some(max_cost) = call.max_cost.filter(|max| bound > *max && *max <= available) {
        return Err(Failure::unspent(
            Code::LimitReached,
            format!("The request may cost up to {bound} USDC, above its maxCost of {max_cost}"),
            "Raise maxCost, or ask for a shorter answer (maxTokens).",
        ));
    }
    let most = match (by_token, call.max_cost) {
        (true, _) => pricing::request_bound(&price, &call.messages, max_tokens.unwrap_or(0).max(PESSIMISTIC_OUTPUT)),
        // A flat price in a list may be one per item: how many there are is the caller's to know.
        (false, Some(max_cost)) if !llm => bound.max(max_cost),
        (false, _) => bound,
    };
    // Services of another kind answer at once. A stream is a courtesy: for none is a request made shorter, refused, or a
    // person asked.
    let streamed = (stream && by_token)
        .then(|| wanted(desk, &call, max_tokens.unwrap_or(0)).streamed().bound(&price, true))
        .filter(|streamed| *streamed <= limit && asks_person(desk, *streamed) == asks_person(desk, bound));
    let request = ChatRequest {
        model: call.model,
        messages: call.messages,
        max_tokens,
        temperature: call.temperature,
        stream: streamed.is_some(),
    };
    let (bound, unstreamed) = streamed.map_or((bound, None), |streamed| (streamed, Some(bound)));
    Ok(Plan { request, price, by_token, bound, unstreamed, most: most.max(bound).min(limit), notes, approval: None })
}

fn asks_person(desk: &Desk, bound: Usdc) -> bool {
    desk.caller.limits.approve.needs_person(ApprovalKind::Request, bound)
}

fn wanted(desk: &Desk, call: &ChatCall, max_tokens: u32) -> Wanted {
    let max_cost = call.max_cost.unwrap_or(desk.services.config.requests.default_max_cost);
    Wanted { input_tokens: input_tokens_upper(&call.messages), max_tokens, max_cost }
}

fn price_of(desk: &Desk, model: &str) -> Result<Price, Failure> {
    if let Some(known) = desk.prices.models.get(model) {
        return Ok(known.price);
    }
    Err(unknown_model(&desk.prices, model, &desk.record.provider_name))
}

/// A provider does not offer a model.
pub fn unknown_model(prices: &PriceList, model: &str, provider: &str) -> Failure {
    let names: Vec<String> = prices.models.keys().take(20).map(|name| quoted(name, 80)).collect();
    Failure::unspent(
        Code::UnknownModel,
        format!("{} does not offer the model {}", quoted(provider, 60), quoted(model, 80)),
        format!("Use one of: {}.", names.join(", ")),
    )
}
