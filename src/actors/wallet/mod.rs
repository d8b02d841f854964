//! The wallet actor: balances, allowance, transaction nonces, deposits.
//!
//! Transactions go one after another: each takes the next account nonce, and none is sent while another's fate is
//! open. A caller may stop waiting; the work goes on to its end, and is taken up again after a restart.

mod balance;
mod finish;
mod open;
mod send;
mod transact;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use drain_protocol::{Address, Usdc};
use drain_signers::Call;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

pub use open::OpenPlan;

use super::services::{Purse, Services};
use super::signer::SignerActor;
use super::supervisor::{ChannelOpened, Supervisor};
use crate::api::{Approved, Progress, SendAmount, WalletView};
use crate::error::{Failure, Money};
use crate::journal::{ChannelRecord, IntentId};

/// What the wallet holds. Answered beside the queue.
#[derive(Debug, Message)]
#[rtype(result = "Result<WalletView, Failure>")]
pub struct Balance;

/// Set the allowance of the V2 contract.
#[derive(Debug, Message)]
#[rtype(result = "Result<Approved, Failure>")]
pub struct Approve {
    /// How much; the limit on what may be locked without it (M9).
    pub amount: Option<Usdc>,
    /// Where progress goes.
    pub progress: Progress,
}

/// Open a channel whose provider was checked already.
#[derive(Debug, Message)]
#[rtype(result = "Result<ChannelMade, Failure>")]
pub struct Open {
    /// What to open.
    pub plan: OpenPlan,
    /// Where progress goes.
    pub progress: Progress,
}

/// Somebody was given the opened channel of this provider.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Told {
    /// The provider's id.
    pub provider_id: String,
}

/// A channel that is open now.
#[derive(Clone, Debug)]
pub struct ChannelMade {
    /// Its record.
    pub record: ChannelRecord,
    /// True when an earlier opening was joined.
    pub resumed: bool,
    /// The V1 session fee that this opening used.
    pub session_fee: Usdc,
    /// Hashes, in order.
    pub transactions: Vec<String>,
}

/// Send a channel's close and see it final. Only a channel actor asks, in its turn (M6).
#[derive(Debug, Message)]
#[rtype(result = "Result<CloseDone, Failure>")]
pub struct SendClose {
    /// The channel.
    pub record: Box<ChannelRecord>,
    /// `Close` or `CooperativeClose`.
    pub call: Call,
    /// What the provider had taken before.
    pub claimed_before: Usdc,
    /// Where progress goes.
    pub progress: Progress,
}

/// A close that is final.
#[derive(Clone, Debug)]
pub struct CloseDone {
    /// The record at its end.
    pub record: ChannelRecord,
    /// What came back.
    pub refund: Usdc,
    /// The protocol's part of what the provider got.
    pub protocol_fee: Usdc,
    /// The hash.
    pub transaction: String,
}

/// A person moves money out (terminal only, M5).
#[derive(Debug, Message)]
#[rtype(result = "Result<String, Failure>")]
pub struct Send {
    /// To whom.
    pub to: Address,
    /// What.
    pub amount: SendAmount,
    /// Where progress goes.
    pub progress: Progress,
}

/// What the wallet's work is done with; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub services: Services,
    pub purse: Purse,
    pub signer: Addr<SignerActor>,
    pub untold: Untold,
}

/// Openings, by provider, that ended well and that nobody was told of yet: the next call for that provider is. Only a convenience: the record of a channel is the journal's.
#[derive(Clone, Debug, Default)]
pub(super) struct Untold(Arc<Mutex<HashMap<String, IntentId>>>);

impl Untold {
    fn map(&self) -> MutexGuard<'_, HashMap<String, IntentId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, record: &ChannelRecord) {
        self.map().insert(record.provider_id.clone(), record.intent);
    }

    fn take(&self, provider_id: &str) -> Option<IntentId> {
        self.map().remove(provider_id)
    }
}

type OpenReply = oneshot::Sender<Result<ChannelMade, Failure>>;

/// One per key.
pub struct WalletActor {
    bench: Bench,
    supervisor: Addr<Supervisor>,
    queue: VecDeque<BoxFuture<'static, ()>>,
    busy: bool,
    /// Openings on their way, by provider, with everybody who waits for them.
    opening: HashMap<String, Vec<OpenReply>>,
}

impl WalletActor {
    /// From the journal: what was on its way is taken up first.
    pub fn new(services: Services, purse: Purse, signer: Addr<SignerActor>, supervisor: Addr<Supervisor>) -> Self {
        Self {
            bench: Bench { services, purse, signer, untold: Untold::default() },
            supervisor,
            queue: VecDeque::new(),
            busy: false,
            opening: HashMap::new(),
        }
    }

    /// Queues work and gives its answer. Dropping the answer does not stop the work.
    fn enqueue<T: core::marker::Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>> + core::marker::Send + 'static,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Result<T, Failure>> {
        let (reply, receiver) = oneshot::channel();
        self.queue.push_back(Box::pin(async move {
            let _ = reply.send(work.await);
        }));
        self.work(ctx);
        receiver
    }

    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(job) = self.queue.pop_front() else { return };
        self.busy = true;
        ctx.spawn(tokio::spawn(job).into_actor(self).map(|done, actor, ctx| {
            if let Err(panic) = done {
                tracing::error!(%panic, "the wallet failed in our own code; its transactions are taken up again at the next start");
            }
            actor.busy = false;
            actor.work(ctx);
        }));
    }

    fn opened(&mut self, provider_id: &str, result: Result<ChannelMade, Failure>) {
        if let Ok(made) = &result {
            // An answer that is sent may still find nobody: whoever gets it says so.
            self.bench.untold.put(&made.record);
            self.supervisor.do_send(ChannelOpened(Box::new(made.record.clone())));
        }
        // The first asked for it; the others joined.
        for (place, waiting) in self.opening.remove(provider_id).unwrap_or_default().into_iter().enumerate() {
            let joined = |made: ChannelMade| ChannelMade { resumed: made.resumed || place > 0, ..made };
            let _ = waiting.send(result.clone().map(joined));
        }
    }
}

impl Actor for WalletActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let bench = self.bench.clone();
        let supervisor = self.supervisor.clone();
        // In the queue's first place: no new transaction before the fate of the old ones is known.
        self.enqueue(async move { finish::take_up(&bench, &supervisor).await }, ctx);
    }
}

fn lost<T>(_: oneshot::error::RecvError) -> Result<T, Failure> {
    Err(Failure::internal(
        "the wallet's work was lost; a transaction that was signed is taken up again at the next start",
    )
    .with_money(Money::Unknown))
}

async fn answer<T>(receiver: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
    receiver.await.unwrap_or_else(lost)
}

impl Handler<Balance> for WalletActor {
    type Result = ResponseFuture<Result<WalletView, Failure>>;

    fn handle(&mut self, _: Balance, _: &mut Self::Context) -> Self::Result {
        let bench = self.bench.clone();
        Box::pin(async move { balance::view(&bench).await })
    }
}

impl Handler<Approve> for WalletActor {
    type Result = ResponseFuture<Result<Approved, Failure>>;

    fn handle(&mut self, message: Approve, ctx: &mut Self::Context) -> Self::Result {
        let bench = self.bench.clone();
        Box::pin(answer(
            self.enqueue(async move { open::approve_for_person(&bench, message.amount, &message.progress).await }, ctx),
        ))
    }
}

impl Handler<Open> for WalletActor {
    type Result = ResponseFuture<Result<ChannelMade, Failure>>;

    fn handle(&mut self, message: Open, ctx: &mut Self::Context) -> Self::Result {
        let (reply, receiver) = oneshot::channel();
        let provider_id = message.plan.channel.provider_id.clone();
        let waiting = self.opening.entry(provider_id.clone()).or_default();
        waiting.push(reply);
        // A repeated open while one is pending is that one (design section 5).
        if waiting.len() == 1 {
            let bench = self.bench.clone();
            let work = self.enqueue(async move { open::open(&bench, message.plan, &message.progress).await }, ctx);
            ctx.spawn(answer(work).into_actor(self).map(move |result, actor, _| actor.opened(&provider_id, result)));
        }
        Box::pin(answer(receiver))
    }
}

impl Handler<Told> for WalletActor {
    type Result = ();

    fn handle(&mut self, Told { provider_id }: Told, _: &mut Self::Context) {
        self.bench.untold.take(&provider_id);
    }
}

impl Handler<SendClose> for WalletActor {
    type Result = ResponseFuture<Result<CloseDone, Failure>>;

    fn handle(&mut self, message: SendClose, ctx: &mut Self::Context) -> Self::Result {
        let bench = self.bench.clone();
        Box::pin(answer(self.enqueue(async move { send::close(&bench, message).await }, ctx)))
    }
}

impl Handler<Send> for WalletActor {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, message: Send, ctx: &mut Self::Context) -> Self::Result {
        let bench = self.bench.clone();
        Box::pin(answer(
            self.enqueue(async move { send::send(&bench, message.to, message.amount, &message.progress).await }, ctx),
        ))
    }
}
