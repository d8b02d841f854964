//! A request that its caller has a name for is paid once, however often it is asked for: one that runs is joined, one that
//! was answered is answered so again, and one whose end nobody knows is never sent again (M15).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drain_protocol::{B256, Usdc};
use tokio::sync::watch;
use tracing::Instrument;

use super::Local;
use crate::actors::channel::Once;
use crate::actors::view;
use crate::answers::AnswerId;
use crate::api::{ChatCall, ChatReply, KeptAnswer, Paid, Progress};
use crate::error::{Code, Failure, Money};
use crate::journal::{Earlier, End, ReceiptId};
use crate::policy::Caller;
use crate::policy::repeat::{IdempotencyKey, RequestKey};

type Outcome<T> = Result<T, Failure>;
type AgentAndName = (String, IdempotencyKey);
/// Where the end of a run is heard.
type Ending<T> = watch::Receiver<Option<Outcome<T>>>;

/// What may have a name: a paid request of one of the kinds that there are.
pub(super) trait Named: Clone + Send + Sync + 'static {
    /// What comes back.
    type Reply: Clone + Send + Sync + 'static;

    /// The caller's own name for it.
    fn name(&self) -> Option<&IdempotencyKey>;
    /// SHA-256 of what is asked.
    fn body_hash(&self) -> Result<B256, Failure>;
    /// Those of its kind that run.
    fn running(local: &Local) -> &Running<Self::Reply>;
    /// Pays for it.
    fn pay(
        self,
        local: &Local,
        once: Option<Once>,
        caller: Caller,
        progress: Progress,
    ) -> impl Future<Output = Outcome<Self::Reply>> + Send;
    /// The first answer once more, from what was kept of it. `None` where it is no answer of this kind, or not to be had.
    fn again(
        local: &Local,
        earlier: &Earlier,
        kept: KeptAnswer,
        caller: &Caller,
    ) -> impl Future<Output = Outcome<Option<Self::Reply>>> + Send;
    /// The same reply with a note.
    fn noted(reply: Self::Reply, note: &str) -> Self::Reply;
}

/// Requests with a name that run in this process.
#[derive(Debug)]
pub(super) struct Running<T>(Arc<Mutex<HashMap<AgentAndName, Run<T>>>>);

impl<T> Clone for Running<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Running<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One of them. It has a task of its own, so that it outlives the caller who began it while another one waits.
#[derive(Debug)]
struct Run<T> {
    body: B256,
    end: Arc<watch::Sender<Option<Outcome<T>>>>,
}

/// Takes a run out of the map at its end, however that came.
struct Listed<T> {
    running: Running<T>,
    name: AgentAndName,
    end: Arc<watch::Sender<Option<Outcome<T>>>>,
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // The name may stand for a later run already.
        if running.get(&self.name).is_some_and(|run| Arc::ptr_eq(&run.end, &self.end)) {
            running.remove(&self.name);
        }
    }
}

impl<T> Running<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentAndName, Run<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local {
    /// Pays for a request; where it has a name, only if that was not done before.
    pub(super) async fn once<R: Named>(&self, call: R, caller: Caller, progress: Progress) -> Outcome<R::Reply> {
        let Some(id) = call.name().cloned() else { return call.pay(self, None, caller, progress).await };
        let (body, valid) = (call.body_hash()?, self.services.config.requests.request_id_time.as_secs());
        let (mut end, joined) = self.join(RequestKey { id, body, valid }, call, caller, progress)?;
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        match ended {
            Some(Ok(reply)) if joined => Ok(R::noted(reply, "joined: the same request ran already, and was paid once")),
            Some(outcome) => outcome,
            None => Err(Failure::internal("the request was lost in drain-mcp itself").with_money(Money::Unknown)),
        }
    }

    /// The run of this name, and whether it ran already; a new one where there is none.
    fn join<R: Named>(
        &self,
        key: RequestKey,
        call: R,
        caller: Caller,
        progress: Progress,
    ) -> Result<(Ending<R::Reply>, bool), Failure> {
        let name = (caller.agent.clone(), key.id.clone());
        let mut running = R::running(self).lock();
        match running.get(&name) {
            Some(run) if run.body != key.body => return Err(conflict("one that runs")),
            Some(run) => return Ok((run.end.subscribe(), true)),
            None => {}
        }
        let (sender, receiver) = watch::channel(None);
        let end = Arc::new(sender);
        running.insert(name.clone(), Run { body: key.body, end: end.clone() });
        let listed = Listed { running: R::running(self).clone(), name, end };
        let once = Once { key, turn: Arc::default() };
        tokio::spawn(self.clone().run_once(call, once, caller, progress, listed).in_current_span());
        Ok((receiver, false))
    }

    /// Runs to its end, unless all callers leave before its turn: then nothing is signed for it.
    async fn run_once<R: Named>(
        self,
        call: R,
        once: Once,
        caller: Caller,
        progress: Progress,
        listed: Listed<R::Reply>,
    ) {
        let end = listed.end.clone();
        let turn = once.turn.clone();
        let mut work = Box::pin(self.first_or_again(call, once, caller, progress));
        loop {
            let left = async {
                end.closed().await;
                turn.clone().lock_owned().await
            };
            tokio::select! {
                biased;
                outcome = &mut work => {
                    // First: whoever hears of it and asks again must not join what is over.
                    drop(listed);
                    end.send_replace(Some(outcome));
                    return;
                }
                _turn = left => {
                    let mut running = listed.running.lock();
                    // Unless somebody joined in this very moment.
                    if end.is_closed() {
                        running.remove(&listed.name);
                        drop(running);
                        // Withdrawn before its turn is free again.
                        drop(work);
                        return;
                    }
                }
            }
        }
    }

    async fn first_or_again<R: Named>(
        &self,
        call: R,
        once: Once,
        caller: Caller,
        progress: Progress,
    ) -> Outcome<R::Reply> {
        let (journal, now) = (&self.purse()?.journal, self.services.clock.now());
        match journal.earlier(caller.agent.clone(), once.key.clone(), now).await? {
            Some(earlier) if earlier.body != once.key.body => Err(conflict(&format!("receipt {}", earlier.receipt))),
            Some(earlier) => match self.answered_again::<R>(&earlier, &caller).await? {
                Some(reply) => Ok(reply),
                // Nothing was charged, and nothing came.
                None if earlier.end == End::NotCharged => call.pay(self, Some(once), caller, progress).await,
                None => Err(told(earlier)),
            },
            None => call.pay(self, Some(once), caller, progress).await,
        }
    }

    /// The first one's answer, while it is kept.
    async fn answered_again<R: Named>(&self, earlier: &Earlier, caller: &Caller) -> Outcome<Option<R::Reply>> {
        let receipt = earlier.receipt.to_string();
        let kept = match &earlier.place {
            None => Ok(None),
            Some(place) => {
                let (receipt, channel) = (receipt.clone(), place.clone());
                self.purse()?.answers.find(AnswerId { receipt, channel, agent: caller.agent.clone() }).await
            }
        };
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(%receipt, %error, "a kept answer cannot be read");
            None
        });
        if let Some(kept) = kept
            && let Some(reply) = R::again(self, earlier, kept, caller).await?
        {
            let note = "repeated: this is the first answer, and nothing was paid again";
            return Ok(Some(R::noted(reply, note)));
        }
        Ok(None)
    }
}

impl Named for ChatCall {
    type Reply = ChatReply;

    fn name(&self) -> Option<&IdempotencyKey> {
        self.request_id.as_ref()
    }

    fn body_hash(&self) -> Result<B256, Failure> {
        Self::body_hash(self)
    }

    fn running(local: &Local) -> &Running<ChatReply> {
        &local.chats
    }

    async fn pay(self, local: &Local, once: Option<Once>, caller: Caller, progress: Progress) -> Outcome<ChatReply> {
        local.pay(self, once, caller, progress).await
    }

    async fn again(local: &Local, earlier: &Earlier, kept: KeptAnswer, caller: &Caller) -> Outcome<Option<ChatReply>> {
        let (purse, ReceiptId::Voucher(voucher)) = (local.purse()?, earlier.receipt) else { return Ok(None) };
        // A copy that was put in the journal's place may not know its channel.
        let member = caller.member().map(str::to_owned);
        let Ok(seen) = purse.journal.channel_seen(voucher.intent, member).await else { return Ok(None) };
        let channel = view::seen(&seen, local.services.clock.block_time());
        let spent_today = purse.journal.spent_today(local.services.clock.now()).await?;
        Ok(Some(ChatReply::Paid(Box::new(kept.paid(earlier.receipt.to_string(), spent_today, channel)))))
    }

    fn noted(reply: ChatReply, note: &str) -> ChatReply {
        match reply {
            ChatReply::Paid(paid) => {
                let notes = paid.notes.iter().cloned().chain([note.to_owned()]).collect();
                ChatReply::Paid(Box::new(Paid { notes, ..*paid }))
            }
            unpaid @ ChatReply::ReadFirst { .. } => unpaid,
        }
    }
}

fn conflict(with: &str) -> Failure {
    Failure::unspent(
        Code::IdempotencyConflict,
        format!("the same requestId stands for another request ({with})"),
        "Give each request a requestId of its own; the same one only to repeat exactly the same request.",
    )
}

/// No answer can be given, and the request is not sent again.
fn told(earlier: Earlier) -> Failure {
    let receipt = earlier.receipt.to_string();
    let spent = |receipt: String, amount: Usdc| Money::Spent { receipt, amount };
    let anew = "If the answer is still wanted, send the request under another requestId: that is paid anew.";
    match earlier.end {
        End::Settled { charged, answer: Some(_) } => Failure {
            code: Code::AnswerNotKept,
            message: "this request was answered before, and its answer is not kept any more".into(),
            money: spent(receipt, charged),
            next: anew.into(),
        },
        End::Settled { charged, answer: None } => Failure {
            code: Code::AnswerLost,
            message: "this request was sent before; it was charged, and no answer is known".into(),
            money: spent(receipt, charged),
            next: anew.into(),
        },
        End::InFlight | End::NotCharged => Failure {
            code: Code::RequestUnknown,
            message: "this request was sent before, and what became of it is not known; it is not sent again".into(),
            next: format!(
                "Nothing is charged for asking again later: drain_budget with receipt {receipt} tells when it is known. {anew}"
            ),
            money: Money::Reserved { receipt, at_most: earlier.bound },
        },
    }
}
