//! The other end: commands of a process that shares the wallet, sent to the one that has it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::frames::{Down, Reader, Up, Writer, split};
use super::greeting::{Hello, Spoken, Welcome};
use super::{FRAME_BYTES, GREETING_BYTES, GREETING_TIME, path, same_user};
use crate::api::{Command, Parts, Progress, Reply, Said};
use crate::error::Failure;
use crate::policy::Asked;

/// What became of a command.
#[derive(Debug)]
pub enum Fate {
    /// It was answered.
    Answered(Result<Reply, Failure>),
    /// It was not begun: the holder was gone, or is about to go.
    NotBegun,
    /// The holder ended while it had the command; the last line of progress that it told.
    Lost(Option<String>),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// Nobody listens, or not yet.
    Absent,
    /// Somebody does, and it cannot be shared with it.
    Refused(Failure),
}

impl From<io::Error> for NotConnected {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "nobody answers on the wallet's socket");
        Self::Absent
    }
}

/// A command that waits for its end.
struct Waiting {
    progress: Progress,
    last: Option<String>,
    /// The holder may have it. Set before the first byte is written.
    sent: bool,
    reply: oneshot::Sender<Fate>,
}

/// Those that wait, by number; `None` once the holder is gone.
#[derive(Clone)]
struct Calls(Arc<Mutex<Option<HashMap<u64, Waiting>>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: u64, change: impl FnOnce(&mut Waiting) -> T) -> Option<T> {
        self.lock().as_mut()?.get_mut(&id).map(change)
    }

    fn end(&self, id: u64, fate: Fate) {
        let waiting = self.lock().as_mut().and_then(|calls| calls.remove(&id));
        if let Some(waiting) = waiting {
            // Nobody waits any more: it was cancelled in this moment.
            let _ = waiting.reply.send(fate);
        }
    }

    fn end_all(&self) {
        for (_, waiting) in self.lock().take().into_iter().flatten() {
            let fate = if waiting.sent { Fate::Lost(waiting.last) } else { Fate::NotBegun };
            let _ = waiting.reply.send(fate);
        }
    }
}

/// A frame of a command, or one that takes it back or answers its question.
struct Outgoing {
    id: u64,
    call: bool,
    frame: Vec<u8>,
}

/// A connection to the holder; cheap to clone. It ends with its last clone.
#[derive(Clone)]
pub struct Remote {
    up: mpsc::UnboundedSender<Outgoing>,
    calls: Calls,
    next: Arc<AtomicU64>,
    gone: CancellationToken,
    /// The holder, where the system tells it.
    pub pid: Option<i32>,
    /// Its version.
    pub version: String,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("pid", &self.pid).field("version", &self.version).finish_non_exhaustive()
    }
}

/// Greets the process that has the wallet of `folder`.
pub async fn connect(folder: &Path, hello: &Hello) -> Result<Remote, NotConnected> {
    let stream = UnixStream::connect(path::of(folder)?).await?;
    if !same_user(&stream) {
        tracing::warn!("another user's process listens on the wallet's socket");
        return Err(NotConnected::Absent);
    }
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (mut reader, mut writer) = split(stream, GREETING_BYTES);
    let welcomed = timeout(GREETING_TIME, greet(&mut reader, &mut writer, hello, pid)).await;
    let spoken = welcomed.unwrap_or(Err(NotConnected::Absent))?;
    reader.allow(FRAME_BYTES);
    let (up, outgoing) = mpsc::unbounded_channel();
    let calls = Calls(Arc::new(Mutex::new(Some(HashMap::new()))));
    let gone = CancellationToken::new();
    tokio::spawn(write(writer, outgoing, calls.clone()));
    tokio::spawn({
        // The last `Remote` ends the connection: this end holds it no longer.
        let (calls, gone, up) = (calls.clone(), gone.clone(), up.downgrade());
        async move {
            read(&mut reader, &calls, &up).await;
            // First the mark: who finds its command lost or not begun is not to come here again.
            gone.cancel();
            calls.end_all();
        }
    });
    Ok(Remote { up, calls, next: Arc::default(), gone, pid, version: spoken.version })
}

async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    hello: &Hello,
    pid: Option<i32>,
) -> Result<Spoken, NotConnected> {
    // One that turns away speaks first and may have closed already: what it said counts.
    let greeted = writer.send(hello).await;
    let Some(bytes) = reader.bytes().await? else { return Err(NotConnected::Absent) };
    let spoken: Spoken = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
    if let Some(failure) = hello.spoken.incompatible(&spoken, pid) {
        return Err(NotConnected::Refused(failure));
    }
    let welcome: Welcome = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
    match welcome.refused {
        Some(failure) => Err(NotConnected::Refused(failure)),
        None => Ok(greeted.map(|()| spoken)?),
    }
}

/// Dropping the last sender ends it, and by that the connection.
async fn write(mut writer: Writer, mut outgoing: mpsc::UnboundedReceiver<Outgoing>, calls: Calls) {
    while let Some(Outgoing { id, call, frame }) = outgoing.recv().await {
        // Nobody waits for it any more: it is not sent.
        if call && calls.with(id, |waiting| waiting.sent = true).is_none() {
            continue;
        }
        if writer.bytes(&frame).await.is_err() {
            // The holder has not got it whole, and gets no more: it never begins a part of a frame.
            calls.end(id, Fate::NotBegun);
            return;
        }
    }
}

async fn read(reader: &mut Reader, calls: &Calls, up: &mpsc::WeakUnboundedSender<Outgoing>) {
    loop {
        match reader.next().await {
            Ok(Some(Down::Progress { id, said })) => {
                calls.with(id, |waiting| match said {
                    Said::Line(text) => {
                        waiting.progress.say(text.as_str());
                        waiting.last = Some(text);
                    }
                    Said::Part(text) => drop(waiting.progress.part(text)),
                });
            }
            Ok(Some(Down::Ask { id, question, text })) => {
                if let Some(progress) = calls.with(id, |waiting| waiting.progress.clone()) {
                    let up = up.clone();
                    tokio::spawn(async move {
                        let verdict = progress.ask(question, text).await;
                        if let (Ok(frame), Some(up)) = (serde_json::to_vec(&Up::Answer { id, verdict }), up.upgrade()) {
                            // The holder is gone: it asks nobody any more.
                            let _ = up.send(Outgoing { id, call: false, frame });
                        }
                    });
                }
            }
            Ok(Some(Down::Done { id, result })) => calls.end(id, Fate::Answered(result)),
            Ok(Some(Down::Leaving { id })) => calls.end(id, Fate::NotBegun),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the process that has the wallet is gone, or speaks nonsense");
                return;
            }
        }
    }
}

impl Remote {
    /// Whether the holder is gone.
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Ends when the holder is gone; keeps no connection.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Lets the holder do something. Dropping this takes the command back, as far as it was not begun.
    pub async fn run(&self, command: Command, asked: Asked, progress: Progress) -> Fate {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (person, parts) = (progress.has_person(), progress.wanted_parts() != Parts::None);
        let command = Box::new(command);
        let frame = match serde_json::to_vec(&Up::Call { id, command, asked, person, parts }) {
            Ok(frame) if frame.len() <= FRAME_BYTES => frame,
            Ok(frame) => {
                let reason =
                    format!("{} bytes are more than crosses between two processes ({FRAME_BYTES})", frame.len());
                return Fate::Answered(Err(Failure::argument("messages", reason)));
            }
            Err(error) => return Fate::Answered(Err(Failure::internal(error.to_string()))),
        };
        let (reply, receiver) = oneshot::channel();
        match self.calls.lock().as_mut() {
            Some(calls) => drop(calls.insert(id, Waiting { progress, last: None, sent: false, reply })),
            None => return Fate::NotBegun,
        }
        let _taken_back = TakeBack { remote: self, id };
        if self.up.send(Outgoing { id, call: true, frame }).is_err() {
            self.calls.end(id, Fate::NotBegun);
        }
        receiver.await.unwrap_or(Fate::Lost(None))
    }
}

/// Tells the holder that nobody waits any more, unless the command has ended.
struct TakeBack<'a> {
    remote: &'a Remote,
    id: u64,
}

impl Drop for TakeBack<'_> {
    fn drop(&mut self) {
        let waiting = self.remote.calls.lock().as_mut().and_then(|calls| calls.remove(&self.id));
        if waiting.is_some_and(|waiting| waiting.sent)
            && let Ok(frame) = serde_json::to_vec(&Up::Cancel { id: self.id })
        {
            // The holder is gone: it has nothing to take back.
            let _ = self.remote.up.send(Outgoing { id: self.id, call: false, frame });
        }
    }
}
