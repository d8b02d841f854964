//! Both ends over a real socket, with a runtime that only answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use drain_protocol::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

use super::greeting::{Hello, PROTOCOL, Spoken};
use super::*;
use crate::api::{Command, Progress, ProviderPage, ProviderQuery, Question, Reply, Said};
use crate::error::{Code, Failure};
use crate::policy::approvals::Verdict;
use crate::policy::testing::limits;
use crate::policy::{Asked, Caller, Limits, Sees};

const WALLET: Address = Address::repeat_byte(7);

fn hello(agent: &str, limits: Limits) -> Hello {
    Hello { spoken: Spoken::here(), chain_id: 137, wallet: WALLET, agent: agent.into(), limits }
}

fn operator() -> Caller {
    Caller { agent: "operator".into(), limits: Arc::new(limits()), asked: Asked::by("test"), sees: Sees::All }
}

fn serve(folder: &Path, work: Work) -> Server {
    Server::start(path::listen(folder).unwrap(), 137, WALLET, operator(), work).unwrap()
}

fn page(matched: usize) -> Reply {
    Reply::Providers(ProviderPage {
        providers: vec![],
        matched,
        page: 1,
        next_page: None,
        age_seconds: 0,
        stale: false,
    })
}

/// Waits for leave at each command, and counts those that began and those that were dropped.
#[derive(Clone)]
struct Slow {
    leave: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Slow {
    fn new() -> Self {
        Self { leave: Arc::new(Semaphore::new(0)), begun: Arc::default(), dropped: Arc::default() }
    }

    fn work(&self) -> Work {
        let slow = self.clone();
        Arc::new(move |_, _, progress: Progress| {
            let slow = slow.clone();
            Box::pin(async move {
                let dropped = Counted(slow.dropped.clone());
                slow.begun.fetch_add(1, Ordering::SeqCst);
                progress.say("receipt 7");
                let _ = slow.leave.acquire().await;
                std::mem::forget(dropped);
                Ok(page(slow.begun.load(Ordering::SeqCst)))
            })
        })
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
}

fn providers() -> Command {
    Command::Providers(ProviderQuery::default())
}

/// The holder's log and record name the call as the client's do; the tool's name is another process' word (M13).
#[tokio::test]
async fn m13_the_calls_id_and_its_tool_cross() {
    let folder = tempfile::tempdir().unwrap();
    let work: Work = Arc::new(|_, caller, _| {
        let Asked { request, tool } = caller.asked;
        Box::pin(async move { Err(Failure::unspent(Code::LimitReached, request.to_string(), tool)) })
    });
    let _server = serve(folder.path(), work);
    let remote = connect(folder.path(), &hello("agent", limits())).await.unwrap();
    for (tool, shown) in [("drain_chat", "drain_chat"), ("two\nlines", "two lines")] {
        let asked = Asked::by(tool);
        let fate = remote.run(Command::Balance, asked.clone(), Progress::none()).await;
        let Fate::Answered(Err(failure)) = fate else { panic!("{fate:?}") };
        assert_eq!((failure.message, failure.next.as_str()), (asked.request.to_string(), shown));
    }
}

#[tokio::test]
async fn a_command_its_progress_and_its_answer_cross() {
    let folder = tempfile::tempdir().unwrap();
    let work: Work = Arc::new(|command, caller, progress: Progress| {
        Box::pin(async move {
            progress.say("one");
            progress.say("two");
            match command {
                Command::Providers(_) => Ok(page(caller.agent.len())),
                _ => Err(Failure::unspent(Code::LimitReached, caller.limits.per_channel.to_string(), "n")),
            }
        })
    });
    let _server = serve(folder.path(), work);
    let mut tight = limits();
    tight.per_channel = "0.01".parse().unwrap();
    let remote = connect(folder.path(), &hello("agent", tight)).await.unwrap();
    assert_eq!(remote.pid, i32::try_from(std::process::id()).ok());
    let (sender, mut lines) = mpsc::channel(8);
    let fate = remote.run(providers(), Asked::by("test"), Progress::to(sender)).await;
    assert!(matches!(fate, Fate::Answered(Ok(Reply::Providers(page))) if page.matched == 5));
    assert_eq!(
        (lines.recv().await.unwrap(), lines.recv().await.unwrap()),
        (Said::Line("one".into()), Said::Line("two".into()))
    );
    // M5: the tighter limit counts; a looser one does not.
    for (per_channel, counts) in [("0.01", "0.01".to_owned()), ("5000", limits().per_channel.to_string())] {
        let mut own = limits();
        own.per_channel = per_channel.parse().unwrap();
        let remote = connect(folder.path(), &hello("agent", own)).await.unwrap();
        let fate = remote.run(Command::Balance, Asked::by("test"), Progress::none()).await;
        assert!(matches!(&fate, Fate::Answered(Err(failure)) if failure.message == counts), "{fate:?}");
    }
}

/// A person at the client is asked over the socket; where nobody is, or nobody answers, nothing is.
#[tokio::test]
async fn a_question_crosses_and_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let work: Work = Arc::new(|_, _, progress: Progress| {
        Box::pin(async move {
            let verdict = progress.ask("a1".into(), "pay?".into()).await;
            Ok(page(match verdict {
                Some(Verdict::Approve) => 2,
                Some(Verdict::Deny) => 1,
                None => 0,
            }))
        })
    });
    let _server = serve(folder.path(), work);
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    for (verdict, counts) in [(Some(Verdict::Approve), 2), (Some(Verdict::Deny), 1), (None, 0)] {
        let (sender, mut questions) = mpsc::channel::<Question>(1);
        let person = tokio::spawn(async move {
            let question = questions.recv().await.unwrap();
            assert_eq!((question.id.as_str(), question.text.as_str()), ("a1", "pay?"));
            verdict.map(|verdict| question.reply.send(verdict))
        });
        let fate = remote.run(providers(), Asked::by("test"), Progress::none().with_person(sender)).await;
        assert!(matches!(&fate, Fate::Answered(Ok(Reply::Providers(page))) if page.matched == counts), "{fate:?}");
        person.await.unwrap();
    }
    let fate = remote.run(providers(), Asked::by("test"), Progress::none()).await;
    assert!(matches!(fate, Fate::Answered(Ok(Reply::Providers(page))) if page.matched == 0));
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Slow::new();
    let _server = serve(folder.path(), slow.work());
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let asked = tokio::spawn({
        let remote = remote.clone();
        async move { remote.run(providers(), Asked::by("test"), Progress::none()).await }
    });
    until(|| slow.begun.load(Ordering::SeqCst) == 1).await;
    asked.abort();
    until(|| slow.dropped.load(Ordering::SeqCst) == 1).await;
    // A client that goes takes back all of its own.
    let other = connect(folder.path(), &hello("b", limits())).await.unwrap();
    let asked = tokio::spawn(async move { other.run(providers(), Asked::by("test"), Progress::none()).await });
    until(|| slow.begun.load(Ordering::SeqCst) == 2).await;
    asked.abort();
    until(|| slow.dropped.load(Ordering::SeqCst) == 2).await;
    slow.leave.close();
    assert!(matches!(remote.run(providers(), Asked::by("test"), Progress::none()).await, Fate::Answered(Ok(_))));
}

#[tokio::test]
async fn who_leaves_ends_what_it_began_and_begins_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Slow::new();
    let server = Arc::new(serve(folder.path(), slow.work()));
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let asked = tokio::spawn({
        let remote = remote.clone();
        async move { remote.run(providers(), Asked::by("test"), Progress::none()).await }
    });
    until(|| slow.begun.load(Ordering::SeqCst) == 1).await;
    let leaving = tokio::spawn({
        let server = server.clone();
        async move { server.leave().await }
    });
    until(|| server.is_leaving()).await;
    assert!(matches!(remote.run(providers(), Asked::by("test"), Progress::none()).await, Fate::NotBegun));
    assert!(!leaving.is_finished() && !remote.is_gone());
    slow.leave.close();
    assert!(matches!(asked.await.unwrap(), Fate::Answered(Ok(_))));
    leaving.await.unwrap();
    assert!(!path::of(folder.path()).unwrap().exists());
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1);
    // The connection ends with the process.
    drop(server);
    remote.gone().cancelled().await;
    assert!(matches!(remote.run(providers(), Asked::by("test"), Progress::none()).await, Fate::NotBegun));
}

#[tokio::test]
async fn a_holder_that_dies_leaves_the_outcome_open() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Slow::new();
    let server = serve(folder.path(), slow.work());
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let (sender, mut lines) = mpsc::channel(8);
    let asked = tokio::spawn(async move { remote.run(providers(), Asked::by("test"), Progress::to(sender)).await });
    assert_eq!(lines.recv().await.unwrap(), Said::Line("receipt 7".into()));
    drop(server);
    assert!(matches!(asked.await.unwrap(), Fate::Lost(Some(last)) if last == "receipt 7"));
}

#[tokio::test]
async fn too_many_commands_of_one_client() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Slow::new();
    let _server = serve(folder.path(), slow.work());
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..=MAX_CALLS {
        let remote = remote.clone();
        asked.spawn(async move { remote.run(providers(), Asked::by("test"), Progress::none()).await });
    }
    let refused = asked.join_next().await.unwrap().unwrap();
    assert!(matches!(&refused, Fate::Answered(Err(failure)) if failure.code == Code::Busy), "{refused:?}");
    slow.leave.close();
    while let Some(fate) = asked.join_next().await {
        assert!(matches!(fate.unwrap(), Fate::Answered(Ok(_))));
    }
}

#[tokio::test]
async fn a_panic_ends_one_call_only() {
    let folder = tempfile::tempdir().unwrap();
    let work: Work = Arc::new(|command, _, _| {
        Box::pin(async move { if matches!(command, Command::Balance) { panic!("secret") } else { Ok(page(0)) } })
    });
    let _server = serve(folder.path(), work);
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let fate = remote.run(Command::Balance, Asked::by("test"), Progress::none()).await;
    assert!(matches!(&fate, Fate::Answered(Err(failure)) if failure.code == Code::Internal), "{fate:?}");
    assert!(!format!("{fate:?}").contains("secret"));
    assert!(matches!(remote.run(providers(), Asked::by("test"), Progress::none()).await, Fate::Answered(Ok(_))));
}

#[tokio::test]
async fn another_version_chain_or_wallet_is_told_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let _server = serve(folder.path(), Slow::new().work());
    for (protocol, remedy) in
        [(PROTOCOL - 1, "Update the drain-mcp of this process"), (PROTOCOL + 1, "(1.0.0 is older)")]
    {
        let mut hello = hello("a", limits());
        hello.spoken = Spoken { protocol, version: "0.9.9".into() };
        let refused = connect(folder.path(), &hello).await;
        let Err(NotConnected::Refused(failure)) = refused else { panic!("{refused:?}") };
        assert_eq!(failure.code, Code::IncompatibleVersion);
        assert!(failure.next.contains(remedy) && failure.next.contains(&std::process::id().to_string()), "{failure:?}");
    }
    let hello = Hello { chain_id: 1, ..hello("a", limits()) };
    let refused = connect(folder.path(), &hello).await;
    assert!(matches!(refused, Err(NotConnected::Refused(failure)) if failure.code == Code::InvalidConfig));
}

/// Whatever is written, the connection ends and the others go on.
#[tokio::test]
async fn garbage_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let _server = serve(folder.path(), Arc::new(|_, _, _| Box::pin(async { Ok(page(0)) })));
    let remote = connect(folder.path(), &hello("a", limits())).await.unwrap();
    let framed = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let good = framed(&serde_json::to_vec(&hello("b", limits())).unwrap());
    let huge = u32::MAX.to_be_bytes().to_vec();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        huge.clone(),
        framed(b"not json"),
        framed(br#"{"protocol":1,"version":"1"}"#),
        [good.clone(), framed(b"[]")].concat(),
        [good.clone(), huge].concat(),
        [good.clone(), framed(br#"{"call":{"id":1,"command":{"send_all":"0x0"},"person":false}}"#)].concat(),
        [good, framed(br#"{"call":{"id":-1,"command":"balance","person":false}}"#)].concat(),
    ] {
        let mut stream = UnixStream::connect(path::of(folder.path()).unwrap()).await.unwrap();
        // It may be cut off before the last byte.
        let _ = stream.write_all(&bytes).await;
        let ended = tokio::time::timeout(GREETING_TIME * 4, stream.read_to_end(&mut Vec::new())).await;
        // An end or a reset, as the system tells it.
        let _ = ended.unwrap_or_else(|_| panic!("{bytes:?} is not cut off"));
    }
    // Silence too.
    let mut stream = UnixStream::connect(path::of(folder.path()).unwrap()).await.unwrap();
    let ended = tokio::time::timeout(GREETING_TIME * 4, stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
    assert!(matches!(remote.run(providers(), Asked::by("test"), Progress::none()).await, Fate::Answered(Ok(_))));
}

#[tokio::test]
async fn one_connection_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let _server = serve(folder.path(), Arc::new(|_, _, _| Box::pin(async { Ok(page(0)) })));
    let mut connected = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        connected.push(connect(folder.path(), &hello("a", limits())).await.unwrap());
    }
    let refused = connect(folder.path(), &hello("a", limits())).await;
    assert!(matches!(&refused, Err(NotConnected::Refused(failure)) if failure.code == Code::Busy), "{refused:?}");
    assert!(matches!(connected[0].run(providers(), Asked::by("test"), Progress::none()).await, Fate::Answered(Ok(_))));
    drop(connected.pop());
    let mut found = None;
    while found.is_none() {
        found = connect(folder.path(), &hello("a", limits())).await.ok();
    }
}

/// Nobody listens, or somebody who does not greet back.
#[tokio::test]
async fn nobody_there() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(connect(folder.path(), &hello("a", limits())).await, Err(NotConnected::Absent)));
    let (listener, _) = path::listen(folder.path()).unwrap();
    drop(listener);
    assert!(matches!(connect(folder.path(), &hello("a", limits())).await, Err(NotConnected::Absent)));
}
