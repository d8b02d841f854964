//! The OpenAI-compatible gateway: `/v1/chat/completions` and `/v1/models`, with an agent's token as the API key.
//!
//! The model's name picks a provider among those that a person allowed by name; its channel pays, or one is opened where a
//! person lets the agent do so. One provider is asked: what it does not answer is told, and no other one is tried.

mod answer;
mod refusal;
mod request;
mod stream;
mod undelivered;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::fleet::Member;
use super::forward::{self, Answered};
use super::mcp::{Running, ending, has_its_wallet, without_secrets};
use super::{Refusal, Shared, auth, body};
use crate::actors::Runtime;
use crate::api::{ChatReply, Effect, Paid, Parts, Progress, Said};
use crate::config::Toolset;
use crate::error::{Failure, Money};
use crate::listener::Peer;
use crate::mcp::answer::Fault;
use crate::metrics;
use crate::policy::Asked as By;
use answer::{Head, cost_headers, insert};
use refusal::Wrong;
use request::Asked;
pub(super) use undelivered::Undelivered;

/// How calls of the gateway are named in records and metrics.
const CHAT: &str = "gateway_chat";
const MODELS: &str = "gateway_models";
/// Parts of an answer that wait for a slow reader.
const PARTS: usize = 256;

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Wrong> {
    let member = admitted(&shared, peer, &request)?;
    let request = match forward::to_its_wallet(&shared, &member, request).await? {
        Answered::Here(request) => without_secrets(request),
        Answered::There(answer) => return Ok(refusal::passed_on(answer).await),
    };
    has_its_wallet(&member)?;
    if member.tools() < Toolset::Pay {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "This agent looks only: it may not pay.").into());
    }
    let running = Running::of(&shared, &member)?;
    let (parts, incoming) = request.into_parts();
    let data = body::read(&parts.headers, incoming, shared.settings.max_body_bytes).await?;
    if shared.ending.is_cancelled() {
        return Err(ending().into());
    }
    let mut asked = Asked::parse(&data, &parts.headers, shared.settings.gateway_channels)?;
    let mut delivery = None;
    if asked.call.request_id.is_none() {
        let named = shared.undelivered.name(&member.name, asked.call.body_hash()?, &parts.headers);
        (asked.call.request_id, delivery) = named.unzip();
    }
    let work = Work::begin(&member.runtime, &asked, &shared);
    let left_out = asked.left_out.join(", ");
    let answered = match asked.stream {
        true => stream::answered(work, &asked, running).await,
        false => whole(work).await,
    };
    // From here on it is handed to the connection. Before, a client that has gone ends this here.
    if let Some(delivery) = delivery {
        delivery.delivered();
    }
    let mut response = answered?;
    if !left_out.is_empty() {
        insert(response.headers_mut(), HeaderName::from_static("x-drain-left-out"), &left_out);
    }
    if member.runtime.play_money() {
        insert(response.headers_mut(), HeaderName::from_static("x-drain-play-money"), "yes");
    }
    Ok(response)
}

/// `GET /v1/models`: each model by itself, and with each provider that offers it.
pub(super) async fn models(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Wrong> {
    let member = admitted(&shared, peer, &request)?;
    if let Answered::There(answer) = forward::to_its_wallet(&shared, &member, request).await? {
        return Ok(refusal::passed_on(answer).await);
    }
    has_its_wallet(&member)?;
    let _running = Running::of(&shared, &member)?;
    let begun = Instant::now();
    let found = member.runtime.asked_by(MODELS).models().await;
    told(MODELS, found.as_ref().err(), begun);
    let found = found?;
    let model = |id: &str, owner: &str, price: Option<&str>| json!({ "id": id, "object": "model", "created": 0, "owned_by": owner, "price": price });
    let mut names: Vec<&str> = found.iter().map(|offered| offered.model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let alone = names.into_iter().map(|name| model(name, "drain-mcp", None));
    let of_each = found.iter().map(|offered| {
        let id = format!("{}/{}", offered.provider_id, offered.model);
        model(&id, &offered.provider_id, Some(&offered.price))
    });
    let data: Vec<_> = alone.chain(of_each).collect();
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({ "object": "list", "data": data }))).into_response())
}

/// Whose request it is, where it means us.
fn admitted(shared: &Shared, peer: std::net::IpAddr, request: &Request) -> Result<Arc<Member>, Refusal> {
    shared.guard.check(request.uri(), request.headers())?;
    auth::agent(shared, peer, request.headers())
}

/// What the metrics count.
fn told(tool: &str, failure: Option<&Failure>, begun: Instant) {
    metrics::mcp(tool, failure.map_or("ok", |failure| failure.code.as_str()), begun.elapsed());
}

/// A request that runs, in a task of its own: where nobody waits any more it is not begun, and ends as it may where it is.
struct Work {
    head: Head,
    task: Task,
    /// While there may be more.
    said: Option<mpsc::Receiver<Said>>,
    begun: Instant,
    until: Instant,
    /// The server closes: whoever waits is told so, before its connection ends.
    closes: CancellationToken,
}

type Task = AbortOnDropHandle<Result<ChatReply, Failure>>;

impl Work {
    fn begin(runtime: &Runtime, asked: &Asked, shared: &Shared) -> Self {
        let by = By::by(CHAT);
        let created = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let head = Head { id: format!("chatcmpl-{}", by.request), created, model: asked.model.clone() };
        let (sender, said) = mpsc::channel(PARTS);
        let parts = if asked.stream { Parts::Exact } else { Parts::None };
        let (runtime, call) = (runtime.asked(by), asked.call.clone());
        let work = async move { runtime.chat(call, Progress::to(sender).with_parts(parts)).await };
        let task = AbortOnDropHandle::new(tokio::spawn(work.in_current_span()));
        let begun = Instant::now();
        let (until, closes) = (begun + shared.settings.call_time, shared.closes.clone());
        Self { head, task, said: Some(said), begun, until, closes }
    }
}

/// How it ended, or that it is not waited for any more.
async fn ended(task: &mut Task, until: Instant, closes: &CancellationToken) -> Result<Box<Paid>, Failure> {
    let ended = tokio::select! {
        biased;
        ended = tokio::time::timeout_at(until, task) => ended,
        () = closes.cancelled() => return Err(Effect::Pays.lost("the server ends before the answer came")),
    };
    match ended {
        Ok(Ok(reply)) => reply.and_then(|reply| match reply {
            ChatReply::Paid(paid) => Ok(paid),
            ChatReply::ReadFirst { .. } => Err(Failure::internal("a service that is no LLM was chosen")),
        }),
        Ok(Err(error)) => {
            tracing::error!(tool = CHAT, %error, "a call broke off");
            Err(Fault::crashed(CHAT, true).failure)
        }
        Err(_) => Err(Fault::outlasted(CHAT, true).failure),
    }
}

async fn whole(mut work: Work) -> Result<Response, Wrong> {
    let paid = ended(&mut work.task, work.until, &work.closes).await;
    told(CHAT, paid.as_ref().err(), work.begun);
    let paid = paid?;
    let text = serde_json::to_vec(&work.head.completion(&paid)).map_err(|error| unwritten(&paid, &error))?;
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    cost_headers(headers, &paid);
    Ok(response)
}

/// Never: what is paid is told all the same.
fn unwritten(paid: &Paid, error: &serde_json::Error) -> Failure {
    let money = Money::Spent { receipt: paid.receipt.clone(), amount: paid.cost };
    Failure::internal(format!("the answer cannot be written: {error}")).with_money(money)
}
