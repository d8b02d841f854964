//! The holder's end: it lets other processes of the same user in and runs their commands on this process' runtime.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drain_protocol::Address;
use futures::future::BoxFuture;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;

use super::frames::{Down, Reader, Up, Writer, split};
use super::greeting::{Hello, Spoken, Welcome};
use super::{
    FRAME_BYTES, GREETING_BYTES, GREETING_TIME, MAX_CALLS, MAX_CALLS_OF_ALL, MAX_CONNECTIONS, OUTGOING, PROGRESS,
    WRITE_TIME, same_user,
};
use crate::api::{ChatReply, Command, Effect, Parts, Progress, Question, Reply};
use crate::error::{Code, Failure, Money};
use crate::policy::Caller;
use crate::policy::approvals::Verdict;

/// Does a command for a caller. Dropping it takes the command back, as far as it was not begun.
pub type Work = Arc<dyn Fn(Command, Caller, Progress) -> BoxFuture<'static, Result<Reply, Failure>> + Send + Sync>;

/// An agent's name is no longer in the records.
const AGENT_CHARS: usize = 64;

/// What every connection needs.
struct House {
    chain_id: u64,
    wallet: Address,
    /// Whose limits none exceeds (M5).
    operator: Caller,
    work: Work,
    /// One for each command under way.
    calls: Arc<Semaphore>,
    leaving: AtomicBool,
}

/// Listens until it is dropped.
pub struct Server {
    house: Arc<House>,
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Lets others in. Call within a tokio runtime.
    ///
    /// # Errors
    /// When the listener cannot be registered.
    pub fn start(
        (listener, path): (StdListener, PathBuf),
        chain_id: u64,
        wallet: Address,
        operator: Caller,
        work: Work,
    ) -> std::io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let calls = Arc::new(Semaphore::new(MAX_CALLS_OF_ALL as usize));
        let house = Arc::new(House { chain_id, wallet, operator, work, calls, leaving: AtomicBool::new(false) });
        let accepting = tokio::spawn(accept(listener, house.clone()));
        Ok(Self { house, path, accepting })
    }

    /// Begins no command any more, and waits for those under way. Who is connected stays so: that this process has gone
    /// is told by the end of the connection.
    pub async fn leave(&self) {
        self.house.leaving.store(true, Ordering::SeqCst);
        // All of them: then none is under way. It is never closed.
        let _ = self.house.calls.acquire_many(MAX_CALLS_OF_ALL).await;
        self.close();
    }

    #[cfg(test)]
    pub(super) fn is_leaving(&self) -> bool {
        self.house.leaving.load(Ordering::SeqCst)
    }

    /// Nobody finds the way here any more.
    fn close(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
        self.accepting.abort();
    }
}

/// Dropping this ends every connection.
async fn accept(listener: UnixListener, house: Arc<House>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if !same_user(&stream) => tracing::warn!("another user's process was turned away"),
            Ok((stream, _)) if connections.len() >= MAX_CONNECTIONS => turn_away(stream).await,
            Ok((stream, _)) => drop(connections.spawn(connection(stream, house.clone()))),
            // Out of files, most likely: those who are here go on.
            Err(error) => {
                tracing::warn!(%error, "a process that wants to share the wallet was not let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn turn_away(stream: UnixStream) {
    let failure = Failure::unspent(
        Code::Busy,
        format!("{MAX_CONNECTIONS} processes share this wallet already"),
        "End some of them, then call again.",
    );
    let (_, mut writer) = split(stream, GREETING_BYTES);
    // It fits into the socket's own buffer: a peer that does not read holds nobody up.
    let _ = timeout(GREETING_TIME, writer.send(&Welcome::of(Some(failure)))).await;
}

async fn connection(stream: UnixStream, house: Arc<House>) {
    let _session = crate::metrics::session(crate::metrics::Transport::Socket);
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (mut reader, mut writer) = split(stream, GREETING_BYTES);
    let greeted = timeout(GREETING_TIME, greet(&mut reader, &mut writer, &house, pid)).await;
    let Ok(Ok(Some(caller))) = greeted else {
        tracing::debug!(?pid, "a process connected and did not greet as it should");
        return;
    };
    reader.allow(FRAME_BYTES);
    let (out, outgoing) = mpsc::channel(OUTGOING);
    tokio::select! {
        () = serve(&mut reader, &house, &caller, &out) => {}
        // It does not read: what it asked for is not wanted.
        () = write(writer, outgoing) => {}
    }
}

/// Compares what must be equal. `None` after a refusal that was told.
async fn greet(
    reader: &mut Reader,
    writer: &mut Writer,
    house: &House,
    pid: Option<i32>,
) -> std::io::Result<Option<Caller>> {
    let Some(bytes) = reader.bytes().await? else { return Ok(None) };
    let spoken: Spoken = serde_json::from_slice(&bytes)?;
    // Told from the other end: there it is read.
    if let Some(failure) = spoken.incompatible(&Spoken::here(), own_pid()) {
        tracing::warn!(?pid, version = %drain_protocol::text::one_line(&spoken.version, 40), "a drain-mcp of another version was turned away");
        writer.send(&Welcome::of(Some(failure))).await?;
        return Ok(None);
    }
    let hello: Hello = serde_json::from_slice(&bytes)?;
    if (hello.chain_id, hello.wallet) != (house.chain_id, house.wallet) {
        let failure = Failure::unspent(
            Code::InvalidConfig,
            format!("this socket is of the wallet {} on chain {}", house.wallet, house.chain_id),
            "Use another DRAIN_HOME for another wallet.",
        );
        writer.send(&Welcome::of(Some(failure))).await?;
        return Ok(None);
    }
    writer.send(&Welcome::of(None)).await?;
    let agent = drain_protocol::text::one_line(&hello.agent, AGENT_CHARS);
    Ok(Some(house.operator.guest(agent, &hello.limits)))
}

fn own_pid() -> Option<i32> {
    i32::try_from(std::process::id()).ok()
}

/// Takes commands until the client leaves or speaks nonsense. Those under way are dropped then, which takes back what was
/// not begun; what was begun goes on to its end in the actors.
async fn serve(reader: &mut Reader, house: &Arc<House>, caller: &Caller, out: &mpsc::Sender<Outgoing>) {
    let mut running: JoinSet<u64> = JoinSet::new();
    let mut ids: HashMap<u64, Running> = HashMap::new();
    loop {
        let frame = tokio::select! {
            Some(ended) = running.join_next() => {
                if let Ok(id) = ended {
                    ids.remove(&id);
                }
                continue;
            }
            frame = reader.next() => frame,
        };
        match frame {
            Ok(Some(Up::Call { id, command, asked, person, parts })) if !ids.contains_key(&id) => {
                match house.admit(ids.len()) {
                    Ok(permit) => {
                        let (answer, answers) = mpsc::channel(1);
                        let work = Call { house: house.clone(), id, out: out.clone(), permit };
                        let task = running.spawn(work.run(
                            *command,
                            caller.clone().by(asked.cleaned()),
                            parts,
                            person.then_some(answers),
                        ));
                        ids.insert(id, Running { task, answer });
                    }
                    Err(refusal) => {
                        let down = match refusal {
                            Some(failure) => Down::Done { id, result: Err(failure) },
                            None => Down::Leaving { id },
                        };
                        if out.send(Outgoing { down, _permit: None }).await.is_err() {
                            return;
                        }
                    }
                }
            }
            Ok(Some(Up::Cancel { id })) => {
                if let Some(call) = ids.remove(&id) {
                    call.task.abort();
                }
            }
            Ok(Some(Up::Answer { id, verdict })) => {
                // Without a question nobody takes it.
                let _ = ids.get(&id).map(|call| call.answer.try_send(verdict));
            }
            Ok(None) => return,
            Ok(Some(Up::Call { .. })) => {
                tracing::debug!("a client used a number twice");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a client's frame makes no sense");
                return;
            }
        }
    }
}

impl House {
    /// A place for a command; `None` instead of a failure when this process is about to end.
    fn admit(&self, running: usize) -> Result<OwnedSemaphorePermit, Option<Failure>> {
        let permit = self.calls.clone().try_acquire_owned();
        if self.leaving.load(Ordering::SeqCst) {
            return Err(None);
        }
        match permit {
            Ok(permit) if running < MAX_CALLS => Ok(permit),
            _ => Err(Some(Failure::unspent(
                Code::Busy,
                "too many calls are under way in the process that has the wallet",
                "Call again when some of them are answered.",
            ))),
        }
    }
}

/// A command under way, as its connection sees it.
struct Running {
    task: AbortHandle,
    /// Where a person's answer goes.
    answer: mpsc::Sender<Option<Verdict>>,
}

/// One command.
struct Call {
    house: Arc<House>,
    id: u64,
    out: mpsc::Sender<Outgoing>,
    permit: OwnedSemaphorePermit,
}

impl Call {
    /// To its end, with its progress and, where there is a person, the questions to it.
    async fn run(
        self,
        command: Command,
        caller: Caller,
        parts: bool,
        answers: Option<mpsc::Receiver<Option<Verdict>>>,
    ) -> u64 {
        let Self { house, id, out, permit } = self;
        let (sender, mut lines) = mpsc::channel(PROGRESS);
        let (asker, mut questions) = mpsc::channel(1);
        let progress = Progress::to(sender).with_parts(if parts { Parts::Shown } else { Parts::None });
        let progress = if answers.is_some() { progress.with_person(asker) } else { progress };
        let mut answers = answers.unwrap_or_else(|| mpsc::channel(1).1);
        let mut asked: Option<Question> = None;
        let pays = command.effect() == Effect::Pays;
        // A set of its own: a panic ends this call only, and a cancel takes the work along.
        let mut work = JoinSet::new();
        work.spawn((house.work)(command, caller, progress));
        let result = loop {
            tokio::select! {
                biased;
                // Progress is a courtesy: a slow reader loses lines, never the work.
                Some(said) = lines.recv() => {
                    let _ = out.try_send(Outgoing { down: Down::Progress { id, said }, _permit: None });
                }
                Some(question) = questions.recv(), if asked.is_none() => {
                    let (name, text) = (question.id.clone(), question.text.clone());
                    let down = Down::Ask { id, question: name, text };
                    // A question that is not delivered is dropped, which answers nothing.
                    asked = out.try_send(Outgoing { down, _permit: None }).is_ok().then_some(question);
                }
                Some(verdict) = answers.recv() => {
                    if let (Some(question), Some(verdict)) = (asked.take(), verdict) {
                        // Somebody at a terminal was quicker.
                        let _ = question.reply.send(verdict);
                    }
                }
                ended = work.join_next() => break match ended {
                    Some(Ok(result)) => result,
                    _ => Err(crashed(pays)),
                },
            }
        };
        // The place is free when the answer is written: who leaves waits for that. A client that is gone needs none.
        let _ = out.send(Outgoing { down: Down::Done { id, result }, _permit: Some(permit) }).await;
        id
    }
}

fn crashed(pays: bool) -> Failure {
    let failure = Failure::internal("the call broke off by a fault of drain-mcp; the runtime goes on");
    if pays { failure.with_money(Money::Unknown) } else { failure }
}

/// A frame, and the place of the command that it ends.
struct Outgoing {
    down: Down,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Writes until the connection's other half ends, or the client does not read.
async fn write(mut writer: Writer, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { down, _permit }) = outgoing.recv().await {
        let Ok(frame) = encode(down) else { return };
        if !matches!(timeout(WRITE_TIME, writer.bytes(&frame)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// An answer that does not fit is told without the provider's JSON, or as what it cost.
fn encode(down: Down) -> serde_json::Result<Vec<u8>> {
    let frame = serde_json::to_vec(&down)?;
    if frame.len() <= FRAME_BYTES {
        return Ok(frame);
    }
    let result = match down {
        Down::Done { id, result: Ok(Reply::Chat(ChatReply::Paid(mut paid))) } => {
            if !paid.content.is_empty() && !paid.raw.is_null() {
                paid.raw = serde_json::Value::Null;
                return encode(Down::Done { id, result: Ok(Reply::Chat(ChatReply::Paid(paid))) });
            }
            let money = Money::Spent { receipt: paid.receipt, amount: paid.cost };
            (id, too_large(frame.len()).with_money(money))
        }
        Down::Done { id, .. } => (id, too_large(frame.len())),
        // No line is that long.
        Down::Progress { id, .. } | Down::Ask { id, .. } | Down::Leaving { id } => (id, too_large(frame.len())),
    };
    serde_json::to_vec(&Down::Done { id: result.0, result: Err(result.1) })
}

fn too_large(bytes: usize) -> Failure {
    Failure::unspent(
        Code::AnswerLost,
        format!("an answer of {bytes} bytes is more than crosses between two processes ({FRAME_BYTES})"),
        "Ask for less at once, or call from the process that has the wallet.",
    )
}
