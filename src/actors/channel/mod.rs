//! The channel actor: one open channel's accounting and the order of its requests.
//!
//! It keeps its own bounded queue and runs at most one job of it at a time, spawned to a worker, so its mailbox never
//! blocks: events are taken in while a request is on its way. The protocol demands the order (protocol.md
//! section 6.1): providers check a nonce against the last one only.

mod close;
mod inquiry;
mod messages;
mod partial;
mod pay;
mod plan;
mod refused;

use std::collections::{HashMap, VecDeque};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use drain_protocol::pricing::PriceList;
use drain_protocol::text::quoted;
use futures::TryFutureExt;
use reqwest::Url;
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

pub use messages::{CloseKind, End, Idle, Once, Pay, Seen, Turn};
pub use plan::unknown_model;

use super::services::{Counted, Purse, Services, gone};
use super::signer::SignerActor;
use super::supervisor::{Addresses, ChannelOpened, Find, Supervisor};
use super::view;
use super::wallet::WalletActor;
use crate::api::{ChannelState, ChannelView, ChatReply, Closed, Paid};
use crate::error::{Code, Failure};
use crate::journal::{ChannelRecord, IntentId, Seen as ChannelSeen, Share};
use crate::logging;
use crate::metrics;
use crate::policy::learn::AnswerLength;
use crate::policy::repeat::RequestKey;
use crate::policy::{Asked, Caller};

/// What an agent may ask of a channel while others wait.
const MAILBOX: usize = 256;

enum Job {
    Take(Seen),
    Idle(oneshot::Sender<()>),
    Pay(Box<Pay>),
    End(End),
}

/// A job that waits or is at work, counted until it ends.
struct Queued {
    job: Job,
    counted: metrics::Asked,
}

impl From<Job> for Queued {
    fn from(job: Job) -> Self {
        Self { job, counted: metrics::asked(metrics::Actor::Channel) }
    }
}

/// Everything that a job works with; given to it and taken back.
#[derive(Debug)]
pub(super) struct Desk {
    pub services: Services,
    pub purse: Purse,
    /// Knows signer and wallet, and starts them anew: never kept here.
    pub supervisor: Addr<Supervisor>,
    pub record: ChannelRecord,
    pub prices: PriceList,
    /// Where the provider is reached; `None` when the record holds no usable URL.
    pub base: Option<Url>,
    pub lengths: HashMap<String, AnswerLength>,
    pub docs_checked: bool,
    /// Whom the request on the desk is for.
    pub caller: Caller,
    /// That caller's own name for it.
    pub key: Option<RequestKey>,
    /// Cancelled when nobody waits for the request any more: a device that asks a person then asks no longer.
    pub gone: Option<CancellationToken>,
}

impl Desk {
    /// What follows is for this caller.
    fn serve(&mut self, caller: Caller) {
        self.purse = self.purse.asked(&caller);
        self.caller = caller;
    }

    /// The channel as whom this is for sees it, who may share it.
    async fn shown(&self, whole: ChannelView) -> ChannelView {
        let Some(agent) = self.caller.member().filter(|_| self.record.is_shared()) else { return whole };
        let seen = self.purse.journal.channel_seen(self.record.intent, Some(agent.to_owned())).await;
        let seen = seen.unwrap_or_else(|error| {
            tracing::error!(%error, "an agent's part of a shared channel cannot be read; none is shown");
            ChannelSeen { record: self.record.clone(), share: Some(Share::default()) }
        });
        view::seen(&seen, self.services.clock.block_time())
    }

    /// Records what the chain says; the record is then read anew.
    async fn take_in(&mut self, seen: Seen) {
        let (journal, intent) = (&self.purse.journal, self.record.intent);
        let recorded = match seen {
            Seen::Claimed(total) => journal.claimed(intent, total).await,
            // Our own close records its end itself, with its transaction.
            Seen::Closed { .. } if self.record.state != ChannelState::Open => Ok(()),
            Seen::Closed { refund } => {
                let claimed = self.record.books.deposit.saturating_sub(refund);
                journal.closed(intent, None, claimed, refund, self.services.clock.moment()).await.map(drop)
            }
            Seen::Recorded => Ok(()),
        };
        match futures::future::ready(recorded).and_then(|()| journal.channel(intent)).await {
            Ok(record) => {
                self.record = record;
                // A person may have said whom the channel pays.
                if matches!(seen, Seen::Recorded) && self.base.is_none() {
                    self.base = self.record.api_url.parse().ok();
                    self.prices = PriceList::parse(self.record.prices.as_bytes()).unwrap_or_default();
                }
            }
            Err(error) => {
                tracing::error!(%error, "what the chain says could not be recorded; it is looked at again");
                self.watch_again();
            }
        }
    }

    /// The watcher forgets a channel that it saw closed. What is not closed in the journal is compared with the chain again.
    fn watch_again(&self) {
        self.supervisor.do_send(ChannelOpened(Box::new(self.record.clone())));
    }

    async fn addresses(&self) -> Result<Addresses, Failure> {
        self.supervisor.send(Find).await.map_err(|error| gone(&error))
    }

    /// Who signs now.
    async fn signer(&self) -> Result<Addr<SignerActor>, Failure> {
        self.addresses().await?.signer.ok_or_else(|| Failure::internal("a channel runs without a signer"))
    }

    /// Who sends transactions now.
    async fn wallet(&self) -> Result<Addr<WalletActor>, Failure> {
        self.addresses().await?.wallet.ok_or_else(|| Failure::internal("a channel runs without a wallet"))
    }

    /// The provider's name within a sentence of ours (M13).
    pub(super) fn name(&self) -> String {
        quoted(&self.record.provider_name, 60)
    }

    /// Where the provider is reached.
    fn base(&self) -> Result<&Url, Failure> {
        self.base.as_ref().ok_or_else(|| {
            Failure::unspent(
                Code::UrlRefused,
                format!("no URL of {} is known for this channel", self.name()),
                "Close the channel at expiry with drain_close_channel.",
            )
        })
    }
}

/// One per open channel.
pub struct ChannelActor {
    /// Away while a job works with it.
    desk: Option<Desk>,
    intent: IntentId,
    services: Services,
    purse: Purse,
    supervisor: Addr<Supervisor>,
    queue: VecDeque<Queued>,
    /// Set while the job that has the desk ends the channel; cancelled before that is answered.
    ending: Option<CancellationToken>,
}

impl ChannelActor {
    /// From the record; never from another actor's memory.
    pub fn new(services: Services, purse: Purse, supervisor: Addr<Supervisor>, record: ChannelRecord) -> Self {
        let intent = record.intent;
        let mut actor = Self { desk: None, intent, services, purse, supervisor, queue: VecDeque::new(), ending: None };
        actor.desk = Some(actor.lay_desk(record, HashMap::new()));
        actor
    }

    fn lay_desk(&self, record: ChannelRecord, lengths: HashMap<String, AnswerLength>) -> Desk {
        // A record without readable prices can still be closed.
        let prices = PriceList::parse(record.prices.as_bytes()).unwrap_or_default();
        Desk {
            base: record.api_url.parse().ok(),
            services: self.services.clone(),
            purse: self.purse.clone(),
            supervisor: self.supervisor.clone(),
            record,
            prices,
            lengths,
            docs_checked: false,
            caller: self.services.operator(Asked::by("runtime")),
            key: None,
            gone: None,
        }
    }

    fn enqueue(&mut self, job: Job, ctx: &mut Context<Self>) -> Result<(), Failure> {
        self.queue.retain(|queued| !queued.job.abandoned());
        if self.queue.len() >= self.services.config.requests.queue {
            return Err(Failure::unspent(
                Code::Busy,
                format!("{} requests already wait on this channel", self.queue.len()),
                "Call again when some of them are answered, or open a second channel to this provider.",
            ));
        }
        self.queue.push_back(job.into());
        self.work(ctx);
        Ok(())
    }

    /// Whether somebody ends the channel or waits to: a request behind that would wait for the chain.
    fn is_ending(&self) -> bool {
        self.ending.as_ref().is_some_and(|ended| !ended.is_cancelled())
            || self.queue.iter().any(|Queued { job, .. }| matches!(job, Job::End(_)) && !job.abandoned())
    }

    /// Starts the next job, if the desk is free.
    fn work(&mut self, ctx: &mut Context<Self>) {
        while let Some(queued) = self.queue.pop_front() {
            // Whoever asked has gone: nothing was signed, so nothing needs to be.
            if queued.job.abandoned() {
                continue;
            }
            let Some(mut desk) = self.desk.take() else {
                self.queue.push_front(queued);
                return;
            };
            let Queued { job, counted } = queued;
            let ended = CancellationToken::new();
            self.ending = matches!(job, Job::End(_)).then(|| ended.clone());
            let span = job.span();
            let work = async move {
                let _counted = counted;
                match job {
                    Job::Idle(reply) => drop(reply.send(())),
                    Job::Take(seen) => {
                        desk.serve(desk.services.operator(Asked::by("watcher")));
                        desk.take_in(seen).await;
                    }
                    Job::Pay(pay) => {
                        let Pay { call, caller, progress, once, mut reply } = *pay;
                        let (key, turn) = once.map(|once| (once.key, once.turn)).unzip();
                        let Ok(_turn) = turn.map(Mutex::try_lock_owned).transpose() else {
                            // Withdrawn in this very moment.
                            return desk;
                        };
                        desk.serve(caller);
                        desk.key = key;
                        let gone = desk.gone.insert(CancellationToken::new()).clone();
                        let result = {
                            let paying = pay::pay(&mut desk, call, &progress);
                            tokio::pin!(paying);
                            tokio::select! {
                                biased;
                                result = &mut paying => result,
                                () = reply.closed() => {
                                    gone.cancel();
                                    paying.await
                                }
                            }
                        };
                        (desk.gone, desk.key) = (None, None);
                        let result = match result {
                            Ok(Turn::Done(ChatReply::Paid(paid))) => {
                                let channel = desk.shown(paid.channel).await;
                                Ok(Turn::Done(ChatReply::Paid(Box::new(Paid { channel, ..*paid }))))
                            }
                            other => other,
                        };
                        let _ = reply.send(result);
                    }
                    Job::End(End { kind, caller, only_after, progress, reply }) => {
                        desk.serve(caller);
                        let result = close::end(&mut desk, kind, only_after, &progress).await;
                        ended.cancel();
                        let result = match result {
                            Ok(closed) => Ok(Closed { channel: desk.shown(closed.channel).await, ..closed }),
                            other => other,
                        };
                        let _ = reply.send(result);
                    }
                }
                desk
            };
            let task = tokio::spawn(work.instrument(span));
            ctx.spawn(task.into_actor(self).map(|done, actor, ctx| {
                actor.ending = None;
                match done {
                    Ok(desk) => {
                        actor.desk = Some(desk);
                        actor.work(ctx);
                    }
                    Err(panic) => {
                        tracing::error!(channel = %actor.intent, %panic, "a request failed in our own code; the channel is read again from the journal");
                        metrics::restarted(metrics::Actor::Channel, metrics::Restart::Panic);
                        actor.reload(ctx);
                    }
                }
            }));
            return;
        }
    }

    /// After a panic memory is not trusted: the books come from the journal.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        let (journal, intent) = (self.purse.journal.clone(), self.intent);
        let read = async move { journal.channel(intent).await };
        ctx.spawn(read.into_actor(self).map(|record, actor, ctx| match record {
            Ok(record) => {
                actor.desk = Some(actor.lay_desk(record, HashMap::new()));
                actor.work(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the journal cannot be read");
                // Dropping the queue answers everybody; the supervisor starts a new actor on the next call.
                actor.queue.clear();
                actix::ActorContext::stop(ctx);
            }
        }));
    }
}

impl Job {
    /// By which call it came about.
    fn span(&self) -> Span {
        match self {
            Self::Pay(pay) => logging::call(&pay.caller),
            Self::End(end) => logging::call(&end.caller),
            Self::Take(_) | Self::Idle(_) => Span::none(),
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Self::Take(_) => false,
            Self::Idle(reply) => reply.is_closed(),
            Self::Pay(request) => request.reply.is_closed(),
            Self::End(request) => request.reply.is_closed(),
        }
    }
}

impl Counted for ChannelActor {
    const KIND: Option<metrics::Actor> = None;
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// Waits for a job's answer. A job that vanished was dropped by a fault of ours after it may have signed.
pub async fn answer<T>(
    receiver: impl Future<Output = Result<Result<T, Failure>, oneshot::error::RecvError>>,
) -> Result<T, Failure> {
    receiver.await.unwrap_or_else(|_| {
        Err(Failure {
            code: Code::Internal,
            message: "the request was lost in drain-mcp itself".into(),
            money: crate::error::Money::Unknown,
            next: "Look at the channel with drain_channel_status: what may have been spent is reserved there.".into(),
        })
    })
}

impl Handler<Pay> for ChannelActor {
    type Result = Result<(), Failure>;

    fn handle(&mut self, message: Pay, ctx: &mut Self::Context) -> Self::Result {
        if self.is_ending() {
            return Err(Failure::unspent(
                Code::ChannelNotOpen,
                "A close of this channel is under way",
                "Use another channel, or open one. Should the close fail, drain_channel_status shows this one open again.",
            ));
        }
        self.enqueue(Job::Pay(Box::new(message)), ctx)
    }
}

impl Handler<End> for ChannelActor {
    type Result = Result<(), Failure>;

    fn handle(&mut self, message: End, ctx: &mut Self::Context) -> Self::Result {
        self.enqueue(Job::End(message), ctx)
    }
}

impl Handler<Idle> for ChannelActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Idle, ctx: &mut Self::Context) -> Self::Result {
        let (reply, receiver) = oneshot::channel();
        // Not bounded by the queue's length: there is one at the end of a process.
        self.queue.push_back(Job::Idle(reply).into());
        self.work(ctx);
        Box::pin(async move { receiver.await.unwrap_or_default() })
    }
}

impl Handler<Seen> for ChannelActor {
    type Result = ();

    fn handle(&mut self, seen: Seen, ctx: &mut Self::Context) {
        // Not bounded by the queue's length: what happened on chain is taken in whatever waits.
        self.queue.push_back(Job::Take(seen).into());
        self.work(ctx);
    }
}
