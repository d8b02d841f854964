//! The wallet actor: balances, allowance, transaction nonces, deposits.
//!
//! Transactions go one after another: each takes the next account nonce, and none is sent while another's fate is
//! open. A caller may stop waiting; the work goes on to its end, and is taken up again after a restart.

mod balance;
mod finish;
mod messages;
mod open;
mod send;
mod slot;
mod stored;
mod transact;
mod treasury;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use drain_protocol::Usdc;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument;

pub use balance::{GAS_STATION_USDC, LITTLE_POL, MUCH_USDC};
use finish::Left;
pub use messages::{
    Approve, Balance, ChannelMade, CloseDone, Fund, Open, Reply, ResumeClose, Send, SendClose, Sweep, Undone,
    ask_wallet,
};
pub use open::{OpenPlan, gas_of_opening};

use super::services::{Counted, Purse, Services};
use super::signer::SignerActor;
use super::supervisor::{ChannelOpened, Supervisor};
use crate::api::WalletView;
use crate::error::{Code, Failure, Money};
use crate::journal::audit::{Kind, Wanted};
use crate::journal::{ChannelRecord, TxKind};
use crate::logging;
use crate::metrics;
use crate::policy::{Caller, Limits, Sees};

/// What the wallet's work is done with; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub services: Services,
    pub purse: Purse,
    pub signer: Addr<SignerActor>,
    /// The limits that count for the work at hand (M5).
    pub limits: Arc<Limits>,
    /// What may be said of the wallet to whom the work at hand is for.
    pub sees: Sees,
}

impl Bench {
    fn within(&self, caller: &Caller) -> Self {
        Self { limits: caller.limits.clone(), ..self.asked(caller) }
    }

    /// Records that a limit which is looked at here refused a transaction.
    fn refused(&self, kind: TxKind, amount: Usdc, failure: Failure) -> Failure {
        let wanted = Wanted { kind: Kind::Transaction(kind), provider: None, intent: None, amount: Some(amount) };
        self.purse.journal.refused_later(wanted, &failure);
        failure
    }

    /// The same limits, whose caller only tells who asked.
    fn asked(&self, caller: &Caller) -> Self {
        Self { purse: self.purse.asked(caller), sees: caller.sees, ..self.clone() }
    }
}

/// Which opening somebody else who asks for the same joins: of the same provider, by the same agent of the fleet, or by the
/// operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Opening {
    provider_id: String,
    member: Option<String>,
}

/// Everybody who waits for an opening; the first one asked for it.
type Waiting = Arc<Mutex<Vec<Reply<ChannelMade>>>>;

fn lock(waiting: &Waiting) -> MutexGuard<'_, Vec<Reply<ChannelMade>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often what was left behind is tried to be taken up, where the journal cannot be read just then: nothing new is sent before.
const TAKE_UPS: u32 = 30;
const TAKE_UP_PAUSE: Duration = Duration::from_secs(1);
/// After so many faults in a row what was left behind waits for the next start: a fault in taking it up comes back.
const MAX_FAULTS: u32 = 3;

/// One per key.
pub struct WalletActor {
    bench: Bench,
    supervisor: Addr<Supervisor>,
    queue: VecDeque<BoxFuture<'static, ()>>,
    busy: bool,
    /// Jobs that panicked one after another.
    faults: u32,
    /// Openings on their way.
    opening: HashMap<Opening, Waiting>,
}

impl WalletActor {
    /// From the journal: what was on its way is taken up first.
    pub fn new(services: Services, purse: Purse, signer: Addr<SignerActor>, supervisor: Addr<Supervisor>) -> Self {
        Self {
            bench: Bench { limits: services.config.limits.clone(), services, purse, signer, sees: Sees::All },
            supervisor,
            queue: VecDeque::new(),
            busy: false,
            faults: 0,
            opening: HashMap::new(),
        }
    }

    fn enqueue(&mut self, job: impl Future<Output = ()> + core::marker::Send + 'static, ctx: &mut Context<Self>) {
        let asked = metrics::asked(metrics::Actor::Wallet);
        self.queue.push_back(Box::pin(async move {
            let _asked = asked;
            job.await;
        }));
        self.work(ctx);
    }

    /// Queues work for somebody: begun only while the asker is there, and then brought to its end without.
    fn enqueue_for<T: core::marker::Send + 'static>(
        &mut self,
        caller: &Caller,
        reply: Reply<T>,
        work: impl Future<Output = Result<T, Failure>> + core::marker::Send + 'static,
        ctx: &mut Context<Self>,
    ) {
        let job = async move {
            if !reply.is_closed() {
                let _ = reply.send(work.await);
            }
        };
        self.enqueue(job.instrument(logging::call(caller)), ctx);
    }

    /// Puts into the queue's first place what follows the old transactions to their end: no new one before.
    fn take_up(&mut self, left: Left) {
        let (bench, supervisor) = (self.bench.clone(), self.supervisor.clone());
        self.queue.push_front(Box::pin(async move {
            for _ in 0..TAKE_UPS {
                match finish::take_up(&bench, &supervisor, left).await {
                    Ok(()) => return,
                    Err(failure) => tracing::error!(%failure, "what was left behind could not be taken up"),
                }
                tokio::time::sleep(TAKE_UP_PAUSE).await;
            }
        }));
    }

    fn work(&mut self, ctx: &mut Context<Self>) {
        // An actor that is dropped with its thread is polled once more, when nothing can be begun.
        if self.busy || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Some(job) = self.queue.pop_front() else { return };
        self.busy = true;
        ctx.spawn(tokio::spawn(job).into_actor(self).map(|done, actor, ctx| {
            actor.busy = false;
            match done {
                Ok(()) => actor.faults = 0,
                Err(panic) => {
                    tracing::error!(%panic, "the wallet failed in our own code; what it left behind is taken up from the journal");
                    metrics::restarted(metrics::Actor::Wallet, metrics::Restart::Panic);
                    actor.faults += 1;
                    if actor.faults <= MAX_FAULTS {
                        actor.take_up(Left::ByFault);
                    }
                }
            }
            actor.work(ctx);
        }));
    }

    /// The channels read their records again at once; what was for them is followed when its turn comes.
    fn follow_again(&mut self, undone: Vec<ChannelRecord>, ctx: &mut Context<Self>) {
        for record in &undone {
            self.supervisor.do_send(ChannelOpened(Box::new(record.clone())));
        }
        let (bench, supervisor) = (self.bench.clone(), self.supervisor.clone());
        let job = async move {
            if let Err(failure) = finish::follow_again(&bench, &supervisor, undone).await {
                tracing::error!(%failure, "what a reorganisation took back could not be followed; the next start does it");
            }
        };
        self.enqueue(job, ctx);
    }

    fn opened(&mut self, opening: &Opening, result: Result<ChannelMade, Failure>) {
        if let Ok(made) = &result {
            self.supervisor.do_send(ChannelOpened(Box::new(made.record.clone())));
        }
        // The first asked for it; the others joined.
        let waiting = self.opening.remove(opening).unwrap_or_default();
        for (place, waiting) in lock(&waiting).drain(..).enumerate() {
            let joined = |made: ChannelMade| ChannelMade { resumed: made.resumed || place > 0, ..made };
            let _ = waiting.send(result.clone().map(joined));
        }
    }
}

impl Counted for WalletActor {
    const KIND: Option<metrics::Actor> = Some(metrics::Actor::Wallet);
}

impl Actor for WalletActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.take_up(Left::ByEarlierRun);
        self.work(ctx);
    }
}

fn lost<T>(_: oneshot::error::RecvError) -> Result<T, Failure> {
    Err(Failure::internal(
        "the wallet's work was lost; a transaction that was signed is followed to its end from the journal",
    )
    .with_money(Money::Unknown))
}

async fn answer<T>(receiver: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
    receiver.await.unwrap_or_else(lost)
}

impl Handler<Balance> for WalletActor {
    type Result = ResponseFuture<Result<WalletView, Failure>>;

    fn handle(&mut self, Balance { caller }: Balance, _: &mut Self::Context) -> Self::Result {
        let bench = self.bench.asked(&caller);
        Box::pin(async move { balance::view(&bench, caller.member()).await })
    }
}

impl Handler<Approve> for WalletActor {
    type Result = ();

    fn handle(&mut self, Approve { amount, caller, progress, reply }: Approve, ctx: &mut Self::Context) {
        let bench = self.bench.within(&caller);
        self.enqueue_for(&caller, reply, async move { open::approve_for_person(&bench, amount, &progress).await }, ctx);
    }
}

impl Handler<Open> for WalletActor {
    type Result = ();

    fn handle(&mut self, Open { plan, caller, progress, reply }: Open, ctx: &mut Self::Context) {
        let opening =
            Opening { provider_id: plan.channel.provider_id.clone(), member: caller.member().map(str::to_owned) };
        let waiting = self.opening.entry(opening.clone()).or_default().clone();
        lock(&waiting).push(reply);
        // A repeated open while one is pending is that one (design section 5).
        if lock(&waiting).len() > 1 {
            return;
        }
        let bench = self.bench.within(&caller);
        let (done, work) = oneshot::channel();
        let job = async move {
            let awaited = lock(&waiting).iter().any(|reply| !reply.is_closed());
            let _ = done.send(if awaited { open::open(&bench, plan, &progress).await } else { Err(given_up()) });
        };
        self.enqueue(job.instrument(logging::call(&caller)), ctx);
        ctx.spawn(answer(work).into_actor(self).map(move |result, actor, _| actor.opened(&opening, result)));
    }
}

/// For who joined an opening in the moment in which it was given up.
fn given_up() -> Failure {
    Failure::unspent(Code::Busy, "nobody waited for this opening any more, so it was not begun", "Call again.")
}

impl Handler<SendClose> for WalletActor {
    type Result = ();

    fn handle(&mut self, message: SendClose, ctx: &mut Self::Context) {
        let SendClose { record, call, caller, progress, reply } = message;
        let bench = self.bench.asked(&caller);
        let job = async move {
            if reply.is_closed() {
                // Never begun: the channel pays on.
                finish::put_back(&bench, record.intent).await;
                return;
            }
            let _ = reply.send(send::close(&bench, &record, call, &progress).await);
        };
        self.enqueue(job.instrument(logging::call(&caller)), ctx);
    }
}

impl Handler<ResumeClose> for WalletActor {
    type Result = ();

    fn handle(&mut self, ResumeClose { record, caller, progress, reply }: ResumeClose, ctx: &mut Self::Context) {
        let bench = self.bench.asked(&caller);
        self.enqueue_for(&caller, reply, async move { finish::resume_close(&bench, &record, &progress).await }, ctx);
    }
}

impl Handler<Undone> for WalletActor {
    type Result = ();

    fn handle(&mut self, Undone { transactions }: Undone, ctx: &mut Self::Context) {
        // Recorded beside the queue: a channel whose opening is gone signs nothing while the wallet is busy.
        let journal = self.bench.purse.journal.clone();
        let undo = async move { journal.undo(transactions).await };
        ctx.spawn(undo.into_actor(self).map(|undone, actor, ctx| match undone {
            Ok(Some(undone)) => actor.follow_again(undone, ctx),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "what a reorganisation took back could not be recorded; it is noticed again");
            }
        }));
    }
}

impl Handler<Send> for WalletActor {
    type Result = ();

    fn handle(&mut self, Send { to, amount, again, caller, progress, reply }: Send, ctx: &mut Self::Context) {
        let bench = self.bench.asked(&caller);
        self.enqueue_for(&caller, reply, async move { send::send(&bench, to, amount, again, &progress).await }, ctx);
    }
}

impl Handler<Fund> for WalletActor {
    type Result = ();

    fn handle(&mut self, Fund { to, usdc, pol, caller, progress, reply }: Fund, ctx: &mut Self::Context) {
        let bench = self.bench.asked(&caller);
        self.enqueue_for(&caller, reply, async move { treasury::fund(&bench, to, usdc, pol, &progress).await }, ctx);
    }
}

impl Handler<Sweep> for WalletActor {
    type Result = ();

    fn handle(&mut self, Sweep { caller, progress, reply }: Sweep, ctx: &mut Self::Context) {
        let bench = self.bench.asked(&caller);
        self.enqueue_for(&caller, reply, async move { treasury::sweep(&bench, &progress).await }, ctx);
    }
}
