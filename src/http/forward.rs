//! What an agent asks goes to the replica that has its wallet, whichever one it reached: as it came, and the answer back as it
//! comes. Sessions are there too, so no proxy has to send an agent to the same replica each time.
//!
//! A request is passed on again only where the other one surely did not begin it: it was not reached, or it said so. Where its
//! answer breaks off, nobody here knows what became of it, and that is said (M15).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use reqwest::Url;
use tokio::time::Instant;

use super::fleet::Member;
use super::mcp::Running;
use super::{NOT_BEGUN, Refusal, Shared, body};
use crate::actors::Runtime;
use crate::actors::standing::Standing;
use crate::http_client::deadline;
use crate::metrics::{self, Forwarded};

/// On a request that a replica passed on: it is not passed on once more.
const FORWARDED: HeaderName = HeaderName::from_static("drain-forwarded");
/// How long a request waits for whoever has the wallet next.
const HAND_OVER: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(100);
/// One that ends in order lets the wallet go when it has answered; that answer may come later than the news.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Beyond the time of a call, for its answer to come.
const BEYOND: Duration = Duration::from_secs(30);

/// Where a request is answered.
pub(super) enum Answered {
    /// Here: this process has the wallet.
    Here(Request),
    /// By another one.
    There(Response),
}

/// Brings a request to the replica that has the agent's wallet.
pub(super) async fn to_its_wallet(shared: &Shared, member: &Member, request: Request) -> Result<Answered, Refusal> {
    let passed_on = request.headers().contains_key(FORWARDED);
    if matches!(member.runtime.standing(), Standing::Held) || passed_on || !member.runtime.has_replicas() {
        return Ok(Answered::Here(request));
    }
    // Counted and waited for like a call that runs here.
    let running = match request.method() {
        &Method::POST => Some(Running::of(shared, member)?),
        // A stream beside the calls goes on until one of both ends.
        _ => None,
    };
    let running = Arc::new(running);
    let (parts, incoming) = request.into_parts();
    let data = body::read(&parts.headers, incoming, shared.settings.max_body_bytes).await?;
    let until = Instant::now() + HAND_OVER;
    loop {
        match member.runtime.standing() {
            Standing::Held => return Ok(Answered::Here(Request::from_parts(parts, Body::from(data)))),
            Standing::Away(Some(url)) => {
                if let Some(answer) = pass_on(shared, member, &url, &parts, data.clone(), running.clone()).await {
                    return Ok(Answered::There(answer));
                }
            }
            _ => {}
        }
        if Instant::now() >= until || shared.ending.is_cancelled() {
            let text =
                format!("The wallet {} goes over to another replica, which nobody has reached yet.", member.wallet);
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).again_in(Duration::from_secs(2)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `None` where it was surely not begun.
async fn pass_on(
    shared: &Shared,
    member: &Member,
    url: &Url,
    parts: &Parts,
    data: Bytes,
    running: Arc<Option<Arc<Running>>>,
) -> Option<Response> {
    let mut target = url.clone();
    target.set_path(parts.uri.path());
    let mut request = reqwest::Request::new(parts.method.clone(), target);
    *request.headers_mut() = end_to_end(&parts.headers);
    // A connection that was kept may end just now: then nobody knew whether the request had arrived.
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
    *request.body_mut() = Some(data.into());
    let sent = shared.replicas.send(request, deadline(shared.settings.call_time + BEYOND));
    let runtime = member.runtime.clone();
    let answer = tokio::select! {
        answer = sent => answer.map_err(|error| if error.before_sent() { Forwarded::NotBegun } else { Forwarded::Unknown }),
        // It stands still, and its wallet has gone over: what became of this is known there at most.
        () = gone_over(&runtime, url) => Err(Forwarded::Unknown),
    };
    let (outcome, response) = match answer {
        Err(Forwarded::NotBegun) => (Forwarded::NotBegun, None),
        Err(_) => (Forwarded::Unknown, Some(unknown(member))),
        Ok(answer)
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE && answer.headers().contains_key(NOT_BEGUN) =>
        {
            (Forwarded::NotBegun, None)
        }
        Ok(answer) => {
            let (status, headers) = (answer.status(), end_to_end(answer.headers()));
            let url = url.clone();
            let moved: BoxFuture<'static, ()> = Box::pin(async move { gone_over(&runtime, &url).await });
            let parts = answer.bytes_stream().map(|part| part.map_err(std::io::Error::other)).boxed();
            let mut response = Response::new(body::holding(Body::from_stream(unless_moved(parts, moved)), running));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            (Forwarded::Answered, Some(response))
        }
    };
    metrics::forwarded(outcome);
    response
}

/// Waits until the wallet is not with this replica any more, and what it said before that is here.
async fn gone_over(runtime: &Runtime, from: &Url) {
    runtime.moved(from).await;
    tokio::time::sleep(LAST_WORD).await;
}

/// The parts of an answer; one that is cut off ends with an error, so that it does not look like a whole one.
fn unless_moved(
    parts: BoxStream<'static, std::io::Result<Bytes>>,
    moved: BoxFuture<'static, ()>,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(Some((parts, moved)), async |both| {
        let (mut parts, mut moved) = both?;
        tokio::select! {
            biased;
            part = parts.next() => part.map(|part| (part, Some((parts, moved)))),
            () = &mut moved => Some((Err(std::io::Error::other("the wallet has gone over")), None)),
        }
    })
}

/// No refusal: those say that nothing was begun.
fn unknown(member: &Member) -> Response {
    let text = format!(
        "The replica that has the wallet {} ended before it answered: what became of this request is not known. Look at the channel \
         (drain_channel_status), or ask for its receipt with drain_budget, before it is sent again.\n",
        member.wallet
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// Without what belongs to one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, HeaderName::from_static("keep-alive")] {
        kept.remove(name);
    }
    kept
}
