//! A streamed answer: server-sent events as OpenAI clients read them. The head is sent with the first part, so that a failure
//! before that has a status of its own; what fails later is an event `error`, and the stream ends without `[DONE]`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::answer::{Head, cost_headers};
use super::refusal::{Wrong, of_failure};
use super::request::Asked;
use super::{CHAT, Running, Work, ended, told};
use crate::api::{Paid, Said};
use crate::error::{Failure, Money};
use crate::http::body::holding;

/// Without a part for so long the head is sent all the same, and then a comment from time to time: a proxy ends what is silent.
const SILENCE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long has gone.
const UNREAD: Duration = Duration::from_secs(60);
/// Events that wait for a slow reader.
const EVENTS: usize = 64;

/// What comes next.
enum Next {
    Part(String),
    End(Result<Box<Paid>, Failure>),
    Nothing,
}

impl Work {
    /// Parts before the end, whatever is ready.
    async fn next(&mut self) -> Next {
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        loop {
            let said = async {
                match &mut self.said {
                    Some(said) => said.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                said = said => match said {
                    Some(Said::Part(text)) => return Next::Part(text),
                    // A line of ours, such as that a channel is opened.
                    Some(Said::Line(_)) => {}
                    None => self.said = None,
                },
                paid = ended(&mut self.task, self.until, &self.closes) => {
                    told(CHAT, paid.as_ref().err(), self.begun);
                    return Next::End(paid);
                }
                () = &mut silence => return Next::Nothing,
            }
        }
    }
}

pub(super) async fn answered(mut work: Work, asked: &Asked, running: Arc<Running>) -> Result<Response, Wrong> {
    let first = match work.next().await {
        Next::End(Err(failure)) => return Err(failure.into()),
        other => other,
    };
    let (events, received) = mpsc::channel(EVENTS);
    let body = futures::stream::unfold(received, async |mut received| {
        let event = received.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(event), received))
    });
    let mut response = Response::new(holding(Body::from_stream(body), running));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Next::End(Ok(paid)) = &first {
        cost_headers(headers, paid);
    }
    let usage_alone = asked.include_usage;
    // Ends when the reader has gone: sending fails then, and the work is dropped.
    tokio::spawn(async move { tell(work, first, &events, usage_alone).await });
    Ok(response)
}

/// `None` where nobody reads any more.
async fn tell(mut work: Work, first: Next, events: &mpsc::Sender<Bytes>, usage_alone: bool) -> Option<()> {
    let mut so_far = String::new();
    let mut next = first;
    send(events, &work.head.part(&json!({ "role": "assistant", "content": "" }))).await?;
    loop {
        match next {
            Next::Nothing => events.send(Bytes::from_static(b": still at work\n\n")).await.ok()?,
            Next::Part(text) => {
                send(events, &work.head.part(&json!({ "content": text }))).await?;
                so_far.push_str(&text);
            }
            Next::End(Err(failure)) => return send(events, &of_failure(&failure)).await,
            Next::End(Ok(paid)) => return last(&work.head, &so_far, &paid, events, usage_alone).await,
        }
        next = tokio::select! {
            next = work.next() => next,
            () = events.closed() => return None,
        };
    }
}

/// What was not told yet, why it ended, and what it cost.
async fn last(head: &Head, so_far: &str, paid: &Paid, events: &mpsc::Sender<Bytes>, usage_alone: bool) -> Option<()> {
    match paid.content.strip_prefix(so_far) {
        Some("") => {}
        Some(rest) => send(events, &head.part(&json!({ "content": rest }))).await?,
        // Parts of one answer and the end of another are none.
        None => {
            let money = Money::Spent { receipt: paid.receipt.clone(), amount: paid.cost };
            let failure = Failure::internal("the answer is not what its parts were").with_money(money);
            return send(events, &of_failure(&failure)).await;
        }
    }
    send(events, &head.last_part(paid, usage_alone)).await?;
    if usage_alone {
        send(events, &head.usage(paid)).await?;
    }
    events.send(Bytes::from_static(b"data: [DONE]\n\n")).await.ok()
}

async fn send(events: &mpsc::Sender<Bytes>, event: &impl Serialize) -> Option<()> {
    let event = serde_json::to_string(event).ok()?;
    // Who does not read is not waited for.
    tokio::time::timeout(UNREAD, events.send(Bytes::from(format!("data: {event}\n\n")))).await.ok()?.ok()
}
