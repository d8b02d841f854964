//! The client's requests: each is sent at most once to where it may be begun, and answered once.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::Response;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::link::{Body, Fate, Refusal, Reply, To, Why};
use super::message::{self, Id, Message, Request};
use super::session::Session;
use super::{LARGEST, Relay, fault};
use crate::error::Failure;
use crate::http_client::{HttpError, deadline, read_bounded};

/// How long a request that was not begun is tried again: while a server starts anew, or is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the server may take beyond what it allows a call itself.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a call that is cancelled as it is sent has to be begun: before that the server cannot cancel it.
const BEGINNING: Duration = Duration::from_secs(2);
/// How often a stream that broke off is taken up again.
const RESUMES: u32 = 3;

/// How far a request is.
#[derive(Clone)]
enum Phase {
    /// Here.
    Waiting,
    /// On its way.
    Sent(Option<Arc<Session>>),
    /// The server has it.
    Begun(Option<Arc<Session>>),
}

/// A request under way.
pub(super) struct Call {
    pub id: Id,
    phase: watch::Sender<Phase>,
    cancelled: CancellationToken,
    /// What the server is told then.
    word: OnceLock<Bytes>,
}

impl Call {
    pub fn new(id: Id) -> Self {
        Self {
            id,
            phase: watch::Sender::new(Phase::Waiting),
            cancelled: CancellationToken::new(),
            word: OnceLock::new(),
        }
    }

    /// Nobody wants its answer any more.
    pub fn cancel(&self, word: Bytes) {
        let _ = self.word.set(word);
        self.cancelled.cancel();
    }
}

/// What one try led to.
enum Try {
    Answered,
    Refused(Refusal),
    Lost(String),
}

impl Relay {
    /// Answers a request, unless it is cancelled.
    pub(super) async fn serve(self: &Arc<Self>, request: Request, call: &Call, after: Option<CancellationToken>) {
        let work = async {
            if let Some(after) = after {
                after.cancelled().await;
            }
            if let Err(failure) = self.answer(&request, call).await
                && !call.cancelled.is_cancelled()
            {
                tracing::warn!(method = request.method, code = failure.code.as_str(), "a request failed: {failure}");
                self.say(fault::answer(&request, failure)).await;
            }
        };
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {}
            () = call.cancelled.cancelled() => {
                let mut phase = call.phase.subscribe();
                if matches!(&*phase.borrow(), Phase::Sent(Some(_))) {
                    let begun = phase.wait_for(|phase| matches!(phase, Phase::Begun(_)));
                    tokio::select! {
                        () = &mut work => {}
                        _ = begun => {}
                        () = tokio::time::sleep(BEGINNING) => {}
                    }
                }
                let session = match &*call.phase.borrow() {
                    Phase::Waiting => None,
                    Phase::Sent(session) | Phase::Begun(session) => session.clone(),
                };
                // Without a session the end of the connection is what cancels.
                if let (Some(session), Some(word)) = (session, call.word.get()) {
                    let _ = self.link.post(word, To::Session(&session), deadline(BEGINNING)).await;
                }
            }
        }
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.id.key);
    }

    async fn answer(self: &Arc<Self>, request: &Request, call: &Call) -> Result<(), Failure> {
        if request.method == "initialize" {
            self.sessions.end(self, BEGINNING).await;
        }
        let until = deadline(PATIENCE);
        let (mut pause, mut step) = (Duration::ZERO, 0.0);
        loop {
            let refusal = match self.attempt(request, call).await {
                Try::Answered => return Ok(()),
                Try::Lost(why) => return Err(fault::lost(request, &self.link.shown, &why)),
                Try::Refused(refusal) => refusal,
            };
            call.phase.send_replace(Phase::Waiting);
            let failed = || fault::refused(&refusal, &self.link.shown);
            let again = refusal.again.ok_or_else(failed)?.max(pause);
            if call.cancelled.is_cancelled() || Instant::now() + again > until {
                return Err(failed());
            }
            if let Some(token) = &request.progress {
                // The server's own steps begin at one.
                step += 1.0;
                let text = match &refusal.why {
                    Why::Unreachable(_) => "the server cannot be reached; trying again",
                    _ => "the server does not take calls now; trying again",
                };
                self.say(message::progress(token, step / (step + 1.0), text)).await;
            }
            tokio::time::sleep(again).await;
            pause = (again * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE);
        }
    }

    async fn attempt(self: &Arc<Self>, request: &Request, call: &Call) -> Try {
        let begins = request.method == "initialize";
        let session = if begins || request.version.is_some() {
            None
        } else {
            match self.sessions.of_now(self).await {
                Ok(session) => session,
                Err(refusal) => return Try::Refused(refusal),
            }
        };
        let to = match (&session, &request.version) {
            (_, Some(version)) => To::Stateless(request, version),
            (Some(session), None) => To::Session(session),
            (None, None) if begins => To::Nobody,
            (None, None) => return Try::Refused(Refusal { why: Why::NoGreeting, again: None }),
        };
        let until = deadline(self.call_time.saturating_add(MARGIN));
        call.phase.send_replace(Phase::Sent(session.clone()));
        let reply = match self.link.post(&request.body, to, until).await {
            Fate::Answers(reply) => reply,
            Fate::Refused(refusal) => {
                if let (Why::NoSession, Some(session)) = (&refusal.why, &session) {
                    self.sessions.lost(session, self).await;
                }
                return Try::Refused(refusal);
            }
            Fate::Unknown(why) => return Try::Lost(why),
        };
        call.phase.send_replace(Phase::Begun(session.clone()));
        let Reply { session: id, body } = reply;
        let answer = match body {
            Body::Events(stream) => self.hear(stream, &request.id, session.as_deref(), until).await,
            body => self.whole(body, until).await,
        };
        let answer = match answer.map(message::read) {
            Ok(Ok(Message::Answer { id: Some(of), body })) if of.key == request.id.key => body,
            // An error of a server that did not read who asks.
            Ok(Ok(Message::Answer { id: None, body })) => match message::with_id(&body, &request.id) {
                Some(body) => body,
                None => return Try::Lost("the answer cannot be read".into()),
            },
            Ok(_) => return Try::Lost("what came is no answer to it".into()),
            Err(why) => return Try::Lost(why),
        };
        if begins {
            self.sessions.begun(&request.body, id, &answer).await;
        }
        self.say(answer).await;
        Try::Answered
    }

    /// The one message of a body.
    pub(super) async fn whole(&self, body: Body, until: Instant) -> Result<Bytes, String> {
        match body {
            Body::Empty => Err("there is no answer".into()),
            Body::Whole(answer) => Ok(answer),
            Body::Json(response) => {
                read_bounded(response, LARGEST, until).await.map(Bytes::from).map_err(|error| error.to_string())
            }
            Body::Events(mut stream) => {
                let (mut events, mut last) = (Events::new(LARGEST), None);
                loop {
                    for message in next(&mut stream, &mut events, &mut last, until).await? {
                        if let Message::Answer { body, .. } = message {
                            return Ok(body);
                        }
                    }
                }
            }
        }
    }

    /// Passes on what comes before the answer to `id`, and gives the answer. A stream of a session that breaks off is taken
    /// up where it was, which sends nothing again.
    async fn hear(
        &self,
        mut stream: Response,
        id: &Id,
        session: Option<&Session>,
        until: Instant,
    ) -> Result<Bytes, String> {
        let (mut events, mut last) = (Events::new(LARGEST), None);
        let mut resumes = 0;
        loop {
            let why = match next(&mut stream, &mut events, &mut last, until).await {
                Ok(messages) => {
                    for message in messages {
                        match message {
                            Message::Answer { id: of, body } if of.as_ref().is_none_or(|of| of.key == id.key) => {
                                return Ok(body);
                            }
                            other => self.forward(other, session).await,
                        }
                    }
                    continue;
                }
                Err(why) => why,
            };
            let (Some(session), Some(from)) = (session, last.as_deref()) else { return Err(why) };
            resumes += 1;
            if resumes > RESUMES || Instant::now() >= until {
                return Err(why);
            }
            match self.link.listen(session, Some(from), until).await {
                Fate::Answers(Reply { body: Body::Events(again), .. }) => {
                    (stream, events) = (again, Events::new(LARGEST));
                }
                Fate::Refused(Refusal { again: Some(pause), why: Why::Unreachable(_) }) => {
                    tokio::time::sleep(pause * 2).await;
                }
                _ => return Err(why),
            }
        }
    }

    /// Passes on all that a stream beside the calls says.
    pub(super) async fn pass_on(&self, mut stream: Response, session: &Session, last: &mut Option<String>) {
        let mut events = Events::new(LARGEST);
        let never = deadline(Duration::MAX);
        while let Ok(messages) = next(&mut stream, &mut events, last, never).await {
            for message in messages {
                self.forward(message, Some(session)).await;
            }
        }
    }

    /// What the server says without being asked.
    async fn forward(&self, message: Message, session: Option<&Session>) {
        let line = match (message, session) {
            (Message::Request(Request { id, body, .. }), Some(session)) => self.sessions.asked(session, id, body),
            // Without a session nobody could be told the answer.
            (Message::Request(_), None) | (Message::Answer { .. }, _) => None,
            (Message::Notification { cancels: Some(id), .. }, Some(session)) => self
                .sessions
                .taken_back(session, &id)
                .map(|ours| message::cancelled(&ours, "the server does not wait for it any more")),
            (Message::Notification { body, .. }, _) => Some(body),
        };
        if let Some(line) = line {
            self.say(line).await;
        }
    }
}

/// The messages that come next on a stream.
async fn next(
    stream: &mut Response,
    events: &mut Events,
    last: &mut Option<String>,
    until: Instant,
) -> Result<Vec<Message>, String> {
    let part = tokio::time::timeout_at(until, stream.chunk()).await.map_err(|_| "it took too long".to_owned())?;
    let part = part.map_err(|error| HttpError::from_reqwest(error).to_string())?;
    let part = part.ok_or("the stream ended")?;
    let found = events.feed(&part).map_err(|_| "a message is too large".to_owned())?;
    let mut messages = Vec::new();
    for event in found {
        if event.id.is_some() {
            *last = event.id;
        }
        if event.data.is_empty() {
            continue;
        }
        match message::read(event.data.into()) {
            Ok(message) => messages.push(message),
            Err(_) if messages.is_empty() => return Err("what came is no message".into()),
            // What came before it counts.
            Err(_) => break,
        }
    }
    Ok(messages)
}
