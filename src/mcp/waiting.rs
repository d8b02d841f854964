//! Calls that wait for a person at a signing device longer than a client waits for a tool.
//!
//! After a while such a call is answered "waiting" with a receipt, and its work goes on. The same call again collects the
//! one result: nothing is asked of the device, signed or paid a second time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::answer::Answer;
use super::server::{Handler, Job, PROGRESS_QUEUE};
use super::tools::Running;
use crate::api::{Progress, Said};
use crate::error::{Code, Failure, Money};

/// Calls that may wait at once; more are refused before anything is signed.
const MOST: usize = 64;
/// A result that nobody collects is forgotten after so long; the journal knows what was paid.
const KEPT: Duration = Duration::from_secs(3_600);

/// A tool and its arguments: what makes two calls the same.
type Call = (&'static str, String);

/// Work that goes on without its call.
struct Parked {
    receipt: u64,
    task: JoinHandle<Result<Answer, Failure>>,
    lines: mpsc::Receiver<Said>,
    /// What the device, or whoever else is waited for, was last said to wait for.
    last: String,
    since: Instant,
}

#[derive(Default)]
struct Waiting {
    /// `None` while a call waits for its own work.
    calls: HashMap<Call, Option<Parked>>,
    receipts: u64,
}

type Shared = Arc<Mutex<Waiting>>;

fn lock(waiting: &Shared) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets calls that may need a signature answer after `patience` and go on.
pub(super) fn patient(handler: Handler, patience: Duration) -> Handler {
    let waiting = Shared::default();
    Arc::new(move |job, asked, progress| -> Running {
        match &job {
            Job::Tool(tool, given) if tool.effect.moves_money() => {
                let call = (tool.name, serde_json::Value::Object(given.clone()).to_string());
                let handler = handler.clone();
                let work = move |progress| handler(job, asked, progress);
                Box::pin(one_call(waiting.clone(), call, work, progress, patience))
            }
            _ => handler(job, asked, progress),
        }
    })
}

async fn one_call(
    waiting: Shared,
    call: Call,
    work: impl FnOnce(Progress) -> Running + Send,
    progress: Progress,
    patience: Duration,
) -> Result<Answer, Failure> {
    let mut turn = Turn::begin(waiting, call, |lines| tokio::spawn(work(progress.clone().with_lines(lines))))?;
    let until = tokio::time::sleep(patience);
    tokio::pin!(until);
    loop {
        let Some(parked) = turn.parked.as_mut() else { return Err(Failure::internal("a call waits for nothing")) };
        tokio::select! {
            biased;
            Some(said) = parked.lines.recv() => match said {
                Said::Line(line) => {
                    parked.last.clone_from(&line);
                    progress.say(line);
                }
                Said::Part(text) => drop(progress.part(text)),
            },
            outcome = &mut parked.task => {
                turn.parked = None;
                return outcome.unwrap_or_else(|error| match error.try_into_panic() {
                    // As if there were no second task between: the supervisor tells it.
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(error) => Err(Failure::internal(error.to_string()).with_money(Money::Unknown)),
                });
            }
            () = &mut until => return Err(turn.park()),
        }
    }
}

/// A call's turn with its work. Dropped without being parked the work is not wanted any more: it ends, and a device is
/// asked no longer.
struct Turn {
    waiting: Shared,
    call: Call,
    parked: Option<Parked>,
}

impl Turn {
    fn begin(
        waiting: Shared,
        call: Call,
        work: impl FnOnce(mpsc::Sender<Said>) -> JoinHandle<Result<Answer, Failure>>,
    ) -> Result<Self, Failure> {
        let mut calls = lock(&waiting);
        calls.calls.retain(|_, parked| parked.as_ref().is_none_or(|parked| parked.since.elapsed() < KEPT));
        if calls.calls.len() >= MOST && !calls.calls.contains_key(&call) {
            return Err(Failure::unspent(
                Code::Busy,
                format!("{MOST} calls wait for the signing device already"),
                "Call again when some of them are answered.",
            ));
        }
        let parked = match calls.calls.insert(call.clone(), None) {
            Some(Some(parked)) => parked,
            Some(None) => {
                return Err(Failure::unspent(
                    Code::Busy,
                    "The same call is waiting for the signing device already",
                    "Wait for its answer. Two calls of the same content at once are taken for one.",
                ));
            }
            None => {
                calls.receipts += 1;
                let (sender, lines) = mpsc::channel(PROGRESS_QUEUE);
                let last = String::from("the work has begun");
                Parked { receipt: calls.receipts, task: work(sender), lines, last, since: Instant::now() }
            }
        };
        drop(calls);
        Ok(Self { waiting, call, parked: Some(parked) })
    }

    /// Leaves the work to the next call of the same content.
    fn park(&mut self) -> Failure {
        let Some(parked) = self.parked.take() else { return Failure::internal("a call waits for nothing") };
        let receipt = format!("w{}", parked.receipt);
        let failure = Failure {
            code: Code::WaitingForDevice,
            message: format!("Waiting for the signing device or what follows it ({receipt}): {}", parked.last),
            money: Money::Pending { receipt },
            next: "A person confirms on the device. Then make exactly the same call again: it collects this one's result, \
                   and nothing is signed or paid twice."
                .into(),
        };
        lock(&self.waiting).calls.insert(self.call.clone(), Some(parked));
        failure
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            parked.task.abort();
        }
        let mut waiting = lock(&self.waiting);
        if let Some(None) = waiting.calls.get(&self.call) {
            waiting.calls.remove(&self.call);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::sync::Notify;

    use super::*;
    use crate::mcp::tools;
    use crate::policy::Asked;

    const SHORT: Duration = Duration::from_millis(20);

    /// Work that says a line, waits for a press, and counts how often it was begun and ended.
    #[derive(Clone, Default)]
    struct Device {
        begun: Arc<AtomicUsize>,
        dropped: Arc<AtomicUsize>,
        press: Arc<Notify>,
    }

    struct Asking(Arc<AtomicUsize>);

    impl Drop for Asking {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Device {
        fn handler(&self) -> Handler {
            let device = self.clone();
            let handler: Handler = Arc::new(move |_, _, progress: Progress| -> Running {
                let device = device.clone();
                Box::pin(async move {
                    device.begun.fetch_add(1, Ordering::SeqCst);
                    let _asking = Asking(device.dropped.clone());
                    progress.say("confirm on your Ledger");
                    device.press.notified().await;
                    Answer::new(&json!({ "paid": true }), &[], "paid")
                })
            });
            patient(handler, SHORT)
        }

        fn counts(&self) -> (usize, usize) {
            (self.begun.load(Ordering::SeqCst), self.dropped.load(Ordering::SeqCst))
        }
    }

    fn job(tool: &str, text: &str) -> Job {
        let given = json!({ "message": text }).as_object().unwrap().clone();
        Job::Tool(tools::find(tool).unwrap(), given)
    }

    fn asked() -> Asked {
        Asked::by("drain_chat")
    }

    fn waits(outcome: Result<Answer, Failure>) -> Failure {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.code, Code::WaitingForDevice, "{failure:?}");
        failure
    }

    #[tokio::test]
    async fn the_same_call_again_collects_the_one_result() {
        let device = Device::default();
        let handler = device.handler();
        let first = waits(handler(job("drain_chat", "Hello"), asked(), Progress::none()).await);
        assert!(first.message.contains("confirm on your Ledger"), "{first:?}");
        assert_eq!(first.money, Money::Pending { receipt: "w1".into() });
        let again = waits(handler(job("drain_chat", "Hello"), asked(), Progress::none()).await);
        assert_eq!((again.money, device.counts()), (first.money, (1, 0)));
        // Another call is other work.
        waits(handler(job("drain_chat", "Bye"), asked(), Progress::none()).await);
        assert_eq!(device.counts(), (2, 0));
        device.press.notify_waiters();
        handler(job("drain_chat", "Hello"), asked(), Progress::none()).await.unwrap();
        handler(job("drain_chat", "Bye"), asked(), Progress::none()).await.unwrap();
        assert_eq!(device.counts(), (2, 2));
        // What was collected is over: the next one is new.
        waits(handler(job("drain_chat", "Hello"), asked(), Progress::none()).await);
        assert_eq!(device.counts(), (3, 2));
    }

    #[tokio::test]
    async fn a_cancelled_call_ends_its_work_unless_it_was_told_to_go_on() {
        let device = Device::default();
        let handler = device.handler();
        let mut call = handler(job("drain_chat", "Hello"), asked(), Progress::none());
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        while device.counts().0 != device.counts().1 {
            tokio::task::yield_now().await;
        }
        waits(handler(job("drain_chat", "Hello"), asked(), Progress::none()).await);
        tokio::time::sleep(SHORT).await;
        let (begun, dropped) = device.counts();
        assert_eq!(begun, dropped + 1, "parked work goes on");
    }

    #[tokio::test]
    async fn two_at_once_are_one_and_reading_tools_are_left_alone() {
        let device = Device::default();
        let handler = device.handler();
        let mut first = handler(job("drain_chat", "Hello"), asked(), Progress::none());
        assert!(futures::poll!(&mut first).is_pending());
        let second = handler(job("drain_chat", "Hello"), asked(), Progress::none()).await.unwrap_err();
        assert_eq!((second.code, second.money), (Code::Busy, Money::NotSpent));
        waits(first.await);
        let mut reading = handler(job("drain_balance", ""), asked(), Progress::none());
        assert!(tokio::time::timeout(SHORT * 3, &mut reading).await.is_err(), "never answered as waiting");
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let device = Device::default();
        let handler = device.handler();
        let calls = (0..MOST).map(|n| handler(job("drain_chat", &n.to_string()), asked(), Progress::none()));
        for outcome in futures::future::join_all(calls).await {
            waits(outcome);
        }
        let refused = handler(job("drain_chat", "one more"), asked(), Progress::none()).await.unwrap_err();
        assert_eq!((refused.code, device.counts()), (Code::Busy, (MOST, 0)));
    }
}
