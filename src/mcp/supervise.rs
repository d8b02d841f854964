//! Runs one call: in a task of its own, with its progress passed on, until it ends, panics or is not waited for.

use std::future::Future;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::answer::Fault;
use crate::api::Said;
use crate::error::Failure;

/// What runs, as texts for a reader need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct What {
    /// Its name.
    pub name: &'static str,
    /// Whether breaking off may leave money in an unknown state.
    pub moves_money: bool,
}

/// Runs `work` and passes on what it says through `progress` by `tell`.
///
/// When nobody waits any more the work is dropped: the actors see then that what still queues is not wanted, and give
/// the channel that an opening leads to whoever asks next. What they have started they end, in tasks of their own.
pub(super) async fn supervise<T, W, F>(
    what: What,
    work: W,
    cancelled: &CancellationToken,
    mut progress: mpsc::Receiver<Said>,
    mut tell: impl FnMut(Said) -> F,
) -> Result<T, Fault>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Failure>> + Send + 'static,
    F: Future<Output = ()>,
{
    let mut task = tokio::spawn(work.in_current_span());
    loop {
        tokio::select! {
            biased;
            // Progress after the answer would be an error of protocol, progress before it is welcome.
            // A client that does not read holds up no cancel.
            Some(said) = progress.recv() => tokio::select! {
                () = tell(said) => {}
                () = cancelled.cancelled() => {}
            },
            outcome = &mut task => return match outcome {
                Ok(outcome) => outcome.map_err(Fault::from),
                Err(error) => {
                    tracing::error!(tool = what.name, %error, "a call broke off");
                    Err(Fault::crashed(what.name, what.moves_money))
                }
            },
            () = cancelled.cancelled() => {
                tracing::info!(tool = what.name, "a call is not waited for any more");
                task.abort();
                return Err(Fault::cancelled(what.name, what.moves_money));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::api::Progress;
    use crate::error::{Code, Money};

    const PAYS: What = What { name: "drain_chat", moves_money: true };

    fn channel() -> (Progress, mpsc::Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(8);
        (Progress::to(sender), receiver)
    }

    #[tokio::test]
    async fn passes_on_progress_in_order_and_the_outcome() {
        let (progress, receiver) = channel();
        let mut said = Vec::new();
        let work = async move {
            progress.say("one");
            progress.say("two");
            Ok(7)
        };
        let tell = |text| {
            said.push(text);
            async {}
        };
        let outcome = supervise(PAYS, work, &CancellationToken::new(), receiver, tell).await;
        assert_eq!(outcome, Ok(7));
        assert_eq!(said, ["one", "two"].map(|text| Said::Line(text.into())));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_with_unknown_money() {
        let (_progress, receiver) = channel();
        let work = async { if true { panic!("secret detail") } else { Ok(()) } };
        let fault = supervise(PAYS, work, &CancellationToken::new(), receiver, |_| async {}).await.unwrap_err();
        assert_eq!(fault.failure.code, Code::Internal);
        assert_eq!(fault.failure.money, Money::Unknown);
        assert!(!format!("{fault:?}").contains("secret detail"));
    }

    #[tokio::test]
    async fn cancelling_drops_the_work() {
        let (_progress, receiver) = channel();
        // What an actor would answer to.
        let (mut reply, answer) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _ = answer.await;
            Ok(())
        };
        let token = CancellationToken::new();
        token.cancel();
        let fault = supervise(PAYS, work, &token, receiver, |_| async {}).await.unwrap_err();
        assert_eq!((fault.failure.code, fault.failure.money), (Code::Cancelled, Money::Unknown));
        reply.closed().await;
    }
}
