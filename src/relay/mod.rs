//! `drain-mcp` as a client of the fleet's server: carries MCP between standard input and output and `drain-mcp serve`, for
//! clients that speak no HTTP. It has no key, no wallet and no record.
//!
//! A pump of our own over [`crate::http_client`], and not the SDK's client transport: that one sends a request a second
//! time where a session was lost, ends where the server is away, and reads messages into its own types and writes them
//! anew. Here one place says whether a message may have been begun ([`link`]), a request that may have been is never sent
//! again ([`calls`]), a lost session is begun anew unseen ([`session`]), and texts are passed on as they came ([`message`]).

mod calls;
mod events;
mod fault;
mod lines;
mod link;
mod message;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::RelayConfig;
use crate::error::Failure;
use crate::http_client::deadline;
use calls::Call;
use lines::Line;
use link::{Fate, Link, To};
use message::{Id, Message, Odd, Request};
use session::Sessions;

/// The largest message that is read, of either side. What is sent has the operator's limit.
const LARGEST: usize = 64 * 1024 * 1024;
/// Messages that may wait for a client that does not read, and ones beside calls for the server.
const WAITING: usize = 64;
/// What is no call has this long to reach the server.
const ASIDE: Duration = Duration::from_secs(10);
/// At the end: how long calls have to be cancelled at the server, the session to be ended, and lines to be read.
const CANCELLING: Duration = Duration::from_secs(4);
const ENDING: Duration = Duration::from_secs(2);

/// JSON-RPC's code for what is no request.
const INVALID: i32 = -32_600;

/// Carries messages until standard input ends, or `stop`.
///
/// # Errors
/// Where standard input cannot be read.
pub async fn run(config: RelayConfig, stop: impl Future<Output = ()>) -> Result<(), Failure> {
    let (out, lines) = mpsc::channel(WAITING);
    let (left, finish) = (CancellationToken::new(), CancellationToken::new());
    let written = tokio::spawn(write(tokio::io::stdout(), lines, left.clone(), finish.clone()));
    let relay = Arc::new(Relay::new(&config, out)?);
    let (aside, others) = mpsc::channel(WAITING);
    let carried = tokio::spawn(carry(relay.clone(), others));
    let reading = relay.clone().read(aside);
    let result = tokio::select! {
        result = reading => result,
        () = left.cancelled() => Ok(()),
        () = stop => Ok(()),
    };
    relay.leave().await;
    carried.abort();
    finish.cancel();
    // Who does not read is not waited for.
    let _ = tokio::time::timeout(ENDING, written).await;
    result
}

/// What is under way.
struct Relay {
    link: Link,
    sessions: Sessions,
    out: mpsc::Sender<Bytes>,
    calls: Mutex<HashMap<String, Arc<Call>>>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    max_requests: usize,
    max_bytes: usize,
    call_time: Duration,
}

/// A message that is no call.
struct Aside {
    /// What must be over before.
    after: Option<CancellationToken>,
    what: What,
}

enum What {
    /// The client has heard the answer to its greeting. Whatever comes next waits until the server knows.
    Initialized(Bytes, DropGuard),
    Answer(Id, Bytes),
    Notification(Bytes),
}

impl Relay {
    fn new(config: &RelayConfig, out: mpsc::Sender<Bytes>) -> Result<Self, Failure> {
        Ok(Self {
            link: Link::new(config)?,
            sessions: Sessions::default(),
            out,
            calls: Mutex::default(),
            tasks: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(config.max_requests)),
            max_requests: config.max_requests,
            max_bytes: config.max_body_bytes,
            call_time: config.call_time,
        })
    }

    /// A line for the client. Once it has left nobody hears it.
    async fn say(&self, line: Bytes) {
        let _ = self.out.send(line).await;
    }

    /// Takes the client's messages, in their order.
    async fn read(self: Arc<Self>, aside: mpsc::Sender<Aside>) -> Result<(), Failure> {
        let mut input = BufReader::new(tokio::io::stdin());
        // The latest greeting, or its confirmation: what comes after it waits for it.
        let mut gate: Option<CancellationToken> = None;
        loop {
            let line = lines::next(&mut input, LARGEST).await;
            let message = match line.map_err(|e| Failure::internal(format!("standard input: {e}")))? {
                Line::End => return Ok(()),
                Line::TooLong => {
                    self.say(message::error(None, INVALID, "the message is too large", None)).await;
                    continue;
                }
                Line::Text(text) => message::read(text),
            };
            let after = gate.clone();
            let what = match message {
                Err(Odd::Noise) => {
                    tracing::warn!("a line of the client is no JSON, and was left out");
                    continue;
                }
                Err(Odd::Invalid) => {
                    self.say(message::error(None, INVALID, "Invalid request", None)).await;
                    continue;
                }
                Ok(Message::Request(request)) => {
                    let done = (request.method == "initialize").then(CancellationToken::new);
                    if let Some(done) = &done {
                        gate = Some(done.clone());
                    }
                    self.begin(request, after, done.map(CancellationToken::drop_guard)).await;
                    continue;
                }
                Ok(Message::Notification { cancels: Some(id), body, .. }) => {
                    self.cancel(&id, body);
                    continue;
                }
                Ok(Message::Notification { method, body, .. }) if method == "notifications/initialized" => {
                    let done = CancellationToken::new();
                    gate = Some(done.clone());
                    What::Initialized(body, done.drop_guard())
                }
                Ok(Message::Notification { body, .. }) => What::Notification(body),
                Ok(Message::Answer { id: Some(id), body }) => What::Answer(id, body),
                Ok(Message::Answer { id: None, .. }) => continue,
            };
            let _ = aside.send(Aside { after, what }).await;
        }
    }

    async fn begin(self: &Arc<Self>, request: Request, after: Option<CancellationToken>, done: Option<DropGuard>) {
        if request.body.len() > self.max_bytes {
            self.say(fault::answer(&request, fault::too_large())).await;
            return;
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.say(fault::answer(&request, fault::busy(self.max_requests))).await;
            return;
        };
        let call = Arc::new(Call::new(request.id.clone()));
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if !calls.contains_key(&request.id.key) {
                calls.insert(request.id.key.clone(), call.clone());
                let relay = self.clone();
                self.tasks.spawn(async move {
                    relay.serve(request, &call, after).await;
                    drop((permit, done));
                });
                return;
            }
        }
        // Its answer would be taken for the other one's.
        tracing::warn!("a request with the id of one that is under way was refused");
        self.say(message::error(Some(&request.id), INVALID, "the id is in use by a request that is under way", None))
            .await;
    }

    /// The client does not want an answer any more.
    fn cancel(&self, id: &Id, body: Bytes) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // What is answered already is not of interest to the server.
        if let Some(call) = calls.get(&id.key) {
            call.cancel(body);
        }
    }

    /// The client left: nobody waits for what runs.
    async fn leave(self: &Arc<Self>) {
        for (_, call) in self.calls.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            call.cancel(message::cancelled(&call.id, "the client left"));
        }
        self.tasks.close();
        let _ = tokio::time::timeout(CANCELLING, self.tasks.wait()).await;
        let _ = tokio::time::timeout(ENDING, self.sessions.end(self, ENDING)).await;
    }
}

/// Takes messages that are no calls to the server, one after another. Each is sent once.
async fn carry(relay: Arc<Relay>, mut others: mpsc::Receiver<Aside>) {
    while let Some(Aside { after, what }) = others.recv().await {
        if let Some(after) = after {
            after.cancelled().await;
        }
        let (session, body) = match what {
            What::Initialized(body, done) => {
                relay.sessions.confirmed(&relay, body).await;
                drop(done);
                continue;
            }
            What::Answer(id, body) => match relay.sessions.answered(&id, &body).await {
                Some(found) => found,
                None => {
                    tracing::debug!("an answer to a question that nobody asks any more was left out");
                    continue;
                }
            },
            What::Notification(body) => match relay.sessions.at_hand().await {
                Some(session) => (session, body),
                // Without a session there is nobody whom it would tell something.
                None => continue,
            },
        };
        if body.len() > relay.max_bytes {
            tracing::warn!("a message that is larger than the server takes was left out");
            continue;
        }
        match relay.link.post(&body, To::Session(&session), deadline(ASIDE)).await {
            Fate::Answers(_) => {}
            Fate::Refused(refusal) => tracing::warn!(why = ?refusal.why, "the server did not take a message"),
            Fate::Unknown(why) => tracing::warn!(why, "the server may not have taken a message"),
        }
    }
}

/// Writes lines until all that is said before `finish` is out, or the client has `left`.
async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<Bytes>,
    left: CancellationToken,
    finish: CancellationToken,
) {
    loop {
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = finish.cancelled() => return,
        };
        let Some(line) = line else { return };
        // A JSON text holds line ends between its parts only.
        let mut text: Vec<u8> =
            line.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
        text.push(b'\n');
        if to.write_all(&text).await.is_err() || to.flush().await.is_err() {
            left.cancel();
            return;
        }
    }
}
