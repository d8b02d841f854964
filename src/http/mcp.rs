//! `/mcp`: from a request that means us to the agent's MCP service.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use rmcp::transport::streamable_http_server::session::SessionManager;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::fleet::Member;
use super::forward::{self, Answered};
use super::{Refusal, Shared, auth, body};
use crate::actors::standing::Standing;
use crate::listener::Peer;

const SESSION: &str = "mcp-session-id";
/// When a refused call may be tried again.
const SOON: Duration = Duration::from_secs(1);

/// A call that runs: counted for its agent, and waited for at the end. Lives in the request, which MCP keeps until the tool
/// has answered, and in the answer until that is sent.
pub(super) struct Running {
    _of_agent: OwnedSemaphorePermit,
    _waited_for: TaskTrackerToken,
}

impl Running {
    /// Where the agent has one to spare.
    pub(super) fn of(shared: &Shared, member: &Member) -> Result<Arc<Self>, Refusal> {
        let call = member.calls.clone().try_acquire_owned().map_err(|_| {
            let most = shared.settings.max_requests;
            let text = format!("This agent has {most} calls running (DRAIN_MAX_AGENT_REQUESTS).");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).again_in(SOON)
        })?;
        Ok(Arc::new(Self { _of_agent: call, _waited_for: shared.calls.token() }))
    }
}

/// What a body is, as far as it matters here.
#[derive(Deserialize)]
struct Peek {
    method: Option<String>,
    id: Option<IgnoredAny>,
}

pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Refusal> {
    shared.guard.check(request.uri(), request.headers())?;
    let member = auth::agent(&shared, peer, request.headers())?;
    let request = match forward::to_its_wallet(&shared, &member, request).await? {
        Answered::Here(request) => request,
        Answered::There(answer) => return Ok(answer),
    };
    has_its_wallet(&member)?;
    let request = without_secrets(request);
    match *request.method() {
        Method::POST => post(&shared, &member, request).await,
        Method::GET => stream(&shared, &member, request).await,
        Method::DELETE => end_session(&member, request).await,
        _ => {
            let mut response = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "POST, GET or DELETE.").into_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            Ok(response)
        }
    }
}

/// Only the process with the wallet's lock serves its agents.
pub(super) fn has_its_wallet(member: &Member) -> Result<(), Refusal> {
    let why = match member.runtime.standing() {
        Standing::Held => return Ok(()),
        Standing::Looking => "is being looked for".to_owned(),
        Standing::Elsewhere(_) | Standing::Away(_) => "is in use by another process".to_owned(),
        Standing::Without(_) => "cannot be used".to_owned(),
    };
    let text = format!("The wallet {} {why}; /readyz says more.", member.wallet);
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).again_in(Duration::from_secs(10)))
}

/// MCP keeps a request's head with its work and may log it: what shows who asks is not in it (M12).
pub(super) fn without_secrets(mut request: Request) -> Request {
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(COOKIE);
    request
}

async fn post(shared: &Shared, member: &Member, request: Request) -> Result<Response, Refusal> {
    // First this, then the look: either the end waits for this call, or this call sees the end.
    let running = Running::of(shared, member)?;
    let (mut parts, incoming) = request.into_parts();
    let data = body::read(&parts.headers, incoming, shared.settings.max_body_bytes).await?;
    let full = !parts.headers.contains_key(SESSION) && is_full(shared, member).await;
    let is_ending = shared.ending.is_cancelled();
    if is_ending || full {
        let peek = serde_json::from_slice::<Peek>(&data).ok();
        let asks = |peek: &Peek| peek.method.is_some() && peek.id.is_some();
        // Answers and cancellations for what runs still come through.
        if is_ending && peek.as_ref().is_none_or(asks) {
            return Err(ending());
        }
        if full && peek.is_some_and(|peek| peek.method.as_deref() == Some("initialize")) {
            let text = format!(
                "This agent has {} sessions (DRAIN_MAX_AGENT_SESSIONS). End one with DELETE, or wait until one was unused for DRAIN_SESSION_IDLE.",
                shared.settings.max_sessions
            );
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).again_in(Duration::from_secs(60)));
        }
    }
    parts.extensions.insert(running.clone());
    let answer = member.service.handle(Request::from_parts(parts, Body::from(data))).await;
    Ok(answer.map(|sent| body::holding(sent, running)))
}

/// The stream of a session, beside its calls.
async fn stream(shared: &Shared, member: &Member, request: Request) -> Result<Response, Refusal> {
    if shared.ending.is_cancelled() {
        return Err(ending());
    }
    let stream = member.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "This agent has too many streams open.").again_in(SOON)
    })?;
    let answer = member.service.handle(request).await;
    Ok(answer.map(|sent| body::holding(sent, Arc::new(stream))))
}

async fn end_session(member: &Member, request: Request) -> Result<Response, Refusal> {
    if let Some(session) = session(request.headers())
        && !member.sessions.has_session(&session.into()).await.unwrap_or(false)
    {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "Not Found: Session not found"));
    }
    let mut answer = member.service.handle(request).await.map(Body::new);
    // It is over, and there is nothing to wait for: the SDK of Python takes 202 for a failure.
    if answer.status() == StatusCode::ACCEPTED {
        *answer.status_mut() = StatusCode::NO_CONTENT;
    }
    Ok(answer)
}

fn session(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

/// Those that come at the same moment may be a few more: each is a call, and calls are counted.
async fn is_full(shared: &Shared, member: &Member) -> bool {
    member.sessions.sessions.read().await.len() >= shared.settings.max_sessions
}

pub(super) fn ending() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "The server is about to end.").again_in(SOON).and_close()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn m12_what_shows_who_asks_goes_no_further() {
        let request =
            Request::builder().header(AUTHORIZATION, "Bearer x").header(COOKIE, "a=b").header("accept", "*/*");
        let passed = without_secrets(request.body(Body::empty()).unwrap());
        let names: Vec<&str> = passed.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["accept"]);
    }
}
