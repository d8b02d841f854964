//! The session of a client of the older revisions: begun by the client, begun anew by the relay where the server lost it,
//! so that the client does not notice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::header::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::Relay;
use super::link::{Body, Fate, Refusal, Reply, To, Why};
use super::message::{self, Id};
use crate::http_client::deadline;

/// Longest wait for the server's side of a greeting.
const GREETING: Duration = Duration::from_secs(30);
/// Between two tries to listen to a session, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// One session with the server.
#[derive(Debug)]
pub(super) struct Session {
    /// Which one of this process.
    number: u64,
    pub id: Option<HeaderValue>,
    pub version: Option<HeaderValue>,
    /// Cancelled when it is over.
    over: CancellationToken,
}

/// What the client said when it began.
struct Greeting {
    body: Bytes,
    /// What was agreed on.
    version: String,
    /// What it said when it had heard the answer.
    initialized: Option<Bytes>,
}

#[derive(Default)]
struct State {
    greeting: Option<Greeting>,
    current: Option<Arc<Session>>,
    /// Sessions so far.
    count: u64,
}

/// A question of the server to the client.
struct Question {
    session: u64,
    /// As the server calls it.
    theirs: Id,
    /// As the client knows it.
    ours: Id,
}

/// The one session of now, and what the server asks in it.
#[derive(Default)]
pub(super) struct Sessions {
    /// Held while one is begun, so that calls that find none begin one together.
    state: tokio::sync::Mutex<State>,
    questions: Mutex<HashMap<String, Question>>,
}

impl Sessions {
    /// The session in which a call is made; none before the client began one. One that was lost is begun anew.
    pub async fn of_now(&self, relay: &Arc<Relay>) -> Result<Option<Arc<Session>>, Refusal> {
        let mut state = self.state.lock().await;
        if state.current.is_some() || state.greeting.is_none() {
            return Ok(state.current.clone());
        }
        let session = begin_anew(relay, &mut state).await?;
        tracing::info!(server = relay.link.shown, "the session was begun anew");
        Ok(Some(session))
    }

    /// The client began one, and this is the answer.
    pub async fn begun(&self, greeting: &Bytes, id: Option<HeaderValue>, answer: &Bytes) {
        let Some(version) = message::agreed_version(answer) else { return };
        let mut state = self.state.lock().await;
        state.current = Some(next(&mut state.count, id, &version));
        state.greeting = Some(Greeting { body: greeting.clone(), version, initialized: None });
    }

    /// The client has heard the answer, and so is the server told.
    pub async fn confirmed(&self, relay: &Arc<Relay>, initialized: Bytes) {
        let mut state = self.state.lock().await;
        let Some(greeting) = &mut state.greeting else { return };
        greeting.initialized = Some(initialized.clone());
        let Some(session) = state.current.clone() else { return };
        if confirm(relay, &session, &initialized).await.is_err() {
            // The next call begins another one, and tells it there.
            self.drop_current(&mut state, relay).await;
        }
    }

    /// The server does not know this session any more.
    pub async fn lost(&self, session: &Session, relay: &Arc<Relay>) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.number == session.number) {
            self.drop_current(&mut state, relay).await;
        }
    }

    /// The client begins anew, or leaves.
    pub async fn end(&self, relay: &Arc<Relay>, within: Duration) {
        let mut state = self.state.lock().await;
        state.greeting = None;
        let session = state.current.clone();
        self.drop_current(&mut state, relay).await;
        drop(state);
        if let Some(session) = session {
            relay.link.end(&session, within).await;
        }
    }

    async fn drop_current(&self, state: &mut State, relay: &Relay) {
        let Some(session) = state.current.take() else { return };
        session.over.cancel();
        // Nobody waits for these answers any more.
        let withdrawn: Vec<Id> = {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            let (gone, kept) = questions.drain().partition(|(_, question)| question.session == session.number);
            *questions = kept;
            let gone: HashMap<String, Question> = gone;
            gone.into_values().map(|question| question.ours).collect()
        };
        for id in withdrawn {
            relay.say(message::cancelled(&id, "the server ended")).await;
        }
    }

    /// A question that the server asks. The client knows one of a later session by another id: servers count from zero, and
    /// an answer to a question of the session before must not be one to this (M5).
    pub fn asked(&self, session: &Session, id: Id, body: Bytes) -> Option<Bytes> {
        let first = session.number == 1;
        let ours = if first { id.clone() } else { Id::named(&format!("{}:{}", session.number, id.key)) };
        let body = if first { body } else { message::with_id(&body, &ours)? };
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.insert(ours.key.clone(), Question { session: session.number, theirs: id, ours });
        Some(body)
    }

    /// The server takes a question back: its id for the client.
    pub fn taken_back(&self, session: &Session, id: &Id) -> Option<Id> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = |question: &Question| question.session == session.number && question.theirs.key == id.key;
        let key = questions.iter().find(|(_, question)| of_it(question)).map(|(key, _)| key.clone())?;
        questions.remove(&key).map(|question| question.ours)
    }

    /// An answer of the client, as the session that asked knows it; none where that is over.
    pub async fn answered(&self, id: &Id, body: &Bytes) -> Option<(Arc<Session>, Bytes)> {
        let question = self.questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.key)?;
        let session = self.state.lock().await.current.clone()?;
        (session.number == question.session).then_some((session, message::with_id(body, &question.theirs)?))
    }

    /// The session of now, as it is.
    pub async fn at_hand(&self) -> Option<Arc<Session>> {
        self.state.lock().await.current.clone()
    }
}

fn next(count: &mut u64, id: Option<HeaderValue>, version: &str) -> Arc<Session> {
    *count += 1;
    let version = HeaderValue::from_str(version).ok();
    Arc::new(Session { number: *count, id, version, over: CancellationToken::new() })
}

/// Greets the server with the client's own words. Greeting moves no money: where one fails, another one is harmless.
async fn begin_anew(relay: &Arc<Relay>, state: &mut State) -> Result<Arc<Session>, Refusal> {
    let later = |why: Why| Refusal { why, again: Some(PAUSE) };
    let Some(greeting) = &state.greeting else { return Err(later(Why::NoSession)) };
    let reply = match relay.link.post(&greeting.body, To::Nobody, deadline(GREETING)).await {
        Fate::Answers(reply) => reply,
        Fate::Refused(refusal) => return Err(refusal),
        Fate::Unknown(why) => return Err(later(Why::Unreachable(why))),
    };
    let Reply { session: id, body } = reply;
    let answer = relay.whole(body, deadline(GREETING)).await.map_err(|why| later(Why::Unreachable(why)))?;
    let version = message::agreed_version(&answer);
    if version.as_ref() != Some(&greeting.version) {
        return Err(Refusal { why: Why::OtherRevision, again: None });
    }
    let initialized = greeting.initialized.clone();
    let session = next(&mut state.count, id, &greeting.version);
    if let Some(initialized) = initialized {
        confirm(relay, &session, &initialized).await?;
    }
    state.current = Some(session.clone());
    Ok(session)
}

async fn confirm(relay: &Arc<Relay>, session: &Arc<Session>, initialized: &Bytes) -> Result<(), Refusal> {
    match relay.link.post(initialized, To::Session(session), deadline(GREETING)).await {
        Fate::Answers(_) => {
            tokio::spawn(listen(relay.clone(), session.clone()));
            Ok(())
        }
        Fate::Refused(refusal) => Err(refusal),
        Fate::Unknown(why) => Err(Refusal { why: Why::Unreachable(why), again: Some(PAUSE) }),
    }
}

/// Passes on what the server says beside its answers, while the session lasts.
async fn listen(relay: Arc<Relay>, session: Arc<Session>) {
    let over = session.over.clone();
    let listening = async {
        let (mut pause, mut last) = (PAUSE, None);
        loop {
            match relay.link.listen(&session, last.as_deref(), deadline(GREETING)).await {
                Fate::Answers(Reply { body: Body::Events(stream), .. }) => {
                    pause = PAUSE;
                    relay.pass_on(stream, &session, &mut last).await;
                }
                Fate::Refused(Refusal { why: Why::NoSession | Why::Token, .. }) => {
                    tokio::spawn(async move { relay.sessions.lost(&session, &relay).await });
                    return;
                }
                // A server that says nothing by itself.
                Fate::Answers(_) | Fate::Refused(Refusal { why: Why::NoServer(_), .. }) => return,
                Fate::Refused(_) | Fate::Unknown(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = listening => {}
    }
}
