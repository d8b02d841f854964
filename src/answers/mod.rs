//! Paid answers, kept for a while in a file of their own in the wallet's folder, or beside a journal on a server, so that one
//! whose caller has gone can be fetched by its receipt.
//!
//! The file holds no money: it can be deleted at any time, a power cut may take the last answers from it, and one that is
//! damaged is set aside and begun anew. A thread of its own reads and writes it.

#[cfg(feature = "postgres")]
mod server;
mod store;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::KeptAnswer;
use crate::clock::Clock;
use crate::config::Keep;
use crate::journal::Location;
use store::FileStore;

/// How often what is too old is deleted where nothing else happens.
const LOOK: Duration = Duration::from_secs(600);

/// Which answer: a receipt alone could be another one's after the journal was lost and begun anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerId {
    /// The receipt.
    pub receipt: String,
    /// The channel's id on chain; of a payment without one its payee.
    pub channel: String,
    /// Whose request it was.
    pub agent: String,
}

enum Job {
    /// With the answer as JSON.
    Keep(AnswerId, String, oneshot::Sender<Result<(), String>>),
    Find(AnswerId, oneshot::Sender<Result<Option<KeptAnswer>, String>>),
}

/// Handle to the kept answers; cheap to clone.
#[derive(Clone, Debug)]
pub struct Answers {
    queue: Option<Sender<Job>>,
    keep: Keep,
}

impl Answers {
    /// The answers of the wallet whose journal lies there. Without a thread for them none is kept.
    pub fn open(location: Location, keep: Keep) -> Self {
        let (queue, jobs) = channel();
        let started = thread::Builder::new().name("answers".into()).spawn(move || work(kept_at(location, keep), &jobs));
        if let Err(error) = &started {
            tracing::warn!(%error, "answers are not kept");
        }
        Self { queue: started.is_ok().then_some(queue), keep }
    }

    /// Keeps an answer; when this returns it survives the end of the process. The error says why it could not be kept.
    pub async fn keep(&self, id: AnswerId, answer: &KeptAnswer) -> Result<(), String> {
        if self.keep.time.is_zero() {
            return Ok(());
        }
        let body = serde_json::to_string(answer).map_err(|e| e.to_string())?;
        self.ask(|reply| Job::Keep(id, body, reply)).await
    }

    /// The answer, while it is kept. The error says why nobody can tell.
    pub async fn find(&self, id: AnswerId) -> Result<Option<KeptAnswer>, String> {
        self.ask(|reply| Job::Find(id, reply)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Job) -> Result<T, String> {
        let gone = || "its thread has ended".to_owned();
        let (reply, answer) = oneshot::channel();
        self.queue.as_ref().ok_or_else(gone)?.send(job(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Beside the journal's file, or on its server.
fn kept_at(location: Location, keep: Keep) -> Store {
    #[cfg(feature = "postgres")]
    if let Some((server, schema)) = location.server() {
        return Store::Server(Box::new(server::ServerStore::new(server.clone(), schema.clone(), keep)));
    }
    Store::File(FileStore::new(location.folder().into(), keep))
}

enum Store {
    File(FileStore),
    #[cfg(feature = "postgres")]
    Server(Box<server::ServerStore>),
}

impl Store {
    fn keep(&mut self, id: &AnswerId, body: &str, now: u64) -> Result<(), String> {
        match self {
            Self::File(store) => store.keep(id, body, now),
            #[cfg(feature = "postgres")]
            Self::Server(store) => store.keep(id, body, now),
        }
    }

    fn find(&mut self, id: &AnswerId, now: u64) -> Result<Option<KeptAnswer>, String> {
        match self {
            Self::File(store) => store.find(id, now),
            #[cfg(feature = "postgres")]
            Self::Server(store) => store.find(id, now),
        }
    }

    fn forget_old(&mut self, now: u64) {
        match self {
            Self::File(store) => store.forget_old(now),
            #[cfg(feature = "postgres")]
            Self::Server(store) => store.forget_old(now),
        }
    }
}

fn work(mut store: Store, jobs: &Receiver<Job>) {
    let now = || Clock::default().now();
    store.forget_old(now());
    loop {
        match jobs.recv_timeout(LOOK) {
            Ok(Job::Keep(id, answer, reply)) => drop(reply.send(store.keep(&id, &answer, now()))),
            Ok(Job::Find(id, reply)) => drop(reply.send(store.find(&id, now()))),
            Err(RecvTimeoutError::Timeout) => store.forget_old(now()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
