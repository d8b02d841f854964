//! The refund actor: unspent money comes back without anyone asking (M10). When is `policy/refund.rs`'s word; this one
//! looks whenever the watcher has seen a block, so that block time decides, and nothing runs while no channel is open.

use std::collections::{HashMap, HashSet};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use drain_protocol::Usdc;
use drain_protocol::text::quoted;

use super::channel::{ChannelActor, CloseKind, End, answer};
use super::services::{Purse, Services, ask, gone};
use super::supervisor::{ChannelOpened, FindOpening, Supervisor};
use crate::api::{ChannelState, Closed, Progress};
use crate::error::{Code, Failure};
use crate::journal::{ChannelRecord, IntentId};
use crate::logging;
use crate::metrics;
use crate::notify::EventKind;
use crate::policy::refund::{Due, Holding, Tries, Way, due, left, worth_it};
use crate::policy::{Asked, Caller};

/// Where gas is dearer than a refund, it is asked again after so long, in seconds.
const GAS_PAUSE: u64 = 3_600;
/// Where nothing is left at all.
const EMPTY_PAUSE: u64 = 86_400;

/// A person at a device is asked for a close again after so long, in seconds.
const ASKED_PAUSE: u64 = 86_400;

/// The watcher saw a block: is anything due?
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Look;

/// What is remembered of a channel between two looks; a restart only asks again sooner.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    tries: Tries,
    /// What its record showed of payments, and the block time at which that was new; zero when it was there at the first
    /// look.
    paid: Option<(Payments, u64)>,
    /// Block time at which a close was first seen to be under way.
    closing: Option<u64>,
    /// Nothing before this block time.
    not_before: u64,
}

/// What changes with each payment, and not with a question for the provider's books.
type Payments = (u64, u64, Usdc);

const fn payments(record: &ChannelRecord) -> Payments {
    (record.used_at, record.requests, record.books.signed)
}

/// One per key.
pub struct RefundActor {
    services: Services,
    purse: Purse,
    supervisor: Addr<Supervisor>,
    memory: HashMap<IntentId, Memory>,
    closing: HashSet<IntentId>,
    looking: bool,
}

impl RefundActor {
    /// Does nothing before the first block is seen.
    pub fn new(services: Services, purse: Purse, supervisor: Addr<Supervisor>) -> Self {
        Self { services, purse, supervisor, memory: HashMap::new(), closing: HashSet::new(), looking: false }
    }

    fn judge(&mut self, records: Vec<ChannelRecord>, ctx: &mut Context<Self>) {
        let now = self.services.clock.block_time();
        self.memory.retain(|intent, _| records.iter().any(|record| record.intent == *intent));
        for record in records {
            let Some(mut holding) = holding(&record) else { continue };
            let memory = self.memory.entry(record.intent).or_default();
            let paid = match memory.paid {
                None => (payments(&record), 0),
                Some((before, at)) if before == payments(&record) => (before, at),
                // A new payment: the first words of memory are out of date.
                Some(_) => {
                    memory.not_before = 0;
                    (payments(&record), now)
                }
            };
            memory.paid = Some(paid);
            holding.used_at = holding.used_at.max(paid.1);
            memory.closing = holding.closing.map(|_| memory.closing.unwrap_or(now));
            holding.closing = memory.closing;
            if now < memory.not_before || self.closing.contains(&record.intent) {
                continue;
            }
            match due(&self.services.config.refunds.settings, &holding, &memory.tries, now) {
                Due::At(at) => memory.not_before = at.min(now.saturating_add(600)),
                // A close needs a person at a device: it is asked for, not begun.
                Due::Now(_) if self.purse.signer.interactive => {
                    memory.not_before = now.saturating_add(ASKED_PAUSE);
                    ask_for_press(&self.services, &self.purse, &record);
                }
                Due::Now(way) => {
                    self.closing.insert(record.intent);
                    self.close(record, holding, way, ctx);
                }
            }
        }
    }

    fn close(&self, record: ChannelRecord, holding: Holding, way: Way, ctx: &mut Context<Self>) {
        let intent = record.intent;
        let (services, purse, supervisor) = (self.services.clone(), self.purse.clone(), self.supervisor.clone());
        let pause = if left(&holding, way).is_zero() { EMPTY_PAUSE } else { GAS_PAUSE };
        let caller = services.operator(Asked::by("refund"));
        let span = logging::call(&caller);
        let work = tokio::spawn(async move {
            let channel = find(&supervisor, &record).await?;
            close(&services, &purse, &channel, &record, (holding, way), caller, Progress::none()).await
        });
        ctx.spawn(work.into_actor(self).map(move |done, actor, _| {
            let _by = span.enter();
            actor.closing.remove(&intent);
            let now = actor.services.clock.block_time();
            let memory = actor.memory.entry(intent).or_default();
            match done {
                Ok(Ok(closed)) => report(intent, &closed),
                Ok(Err(failure)) if failure.code == Code::NotWorthIt => {
                    tracing::info!(channel = %intent, %failure, "not closed now");
                    memory.not_before = now.saturating_add(pause);
                }
                // Paid again meanwhile, or over already: the next look tells.
                Ok(Err(failure)) if matches!(failure.code, Code::Busy | Code::ChannelNotOpen) => {
                    memory.not_before = now.saturating_add(60);
                }
                Ok(Err(failure)) => {
                    tracing::warn!(channel = %intent, %failure, "a refund did not come back yet; tried again later");
                    match way {
                        Way::Cooperative => memory.tries.refused += 1,
                        Way::AtExpiry => memory.tries.failed += 1,
                    }
                    memory.tries.at = now;
                }
                Err(panic) => {
                    tracing::error!(channel = %intent, %panic, "a refund failed in our own code; tried again later");
                    memory.tries.failed += 1;
                    memory.tries.at = now;
                }
            }
        }));
    }
}

/// The one place in which a refund that came back by itself is reported; the wallet tells the operator of every close
/// that is final (`[notify]`, refund_done).
fn report(intent: IntentId, closed: &Closed) {
    tracing::info!(channel = %intent, refund = %closed.refund, paid = %closed.paid, transaction = closed.transaction, "a refund came back");
}

/// Where each signature is a press nothing prompts by itself: the operator is told what waits, and presses when it suits.
fn ask_for_press(services: &Services, purse: &Purse, record: &ChannelRecord) {
    let left = record.books.deposit.saturating_sub(record.books.signed.max(record.books.claimed));
    let text = format!(
        "{left} USDC can come back from the channel to {}: run drain-mcp refund --idle beside your signing device",
        quoted(&record.provider_name, 60)
    );
    tracing::warn!(channel = %record.intent, "{text}");
    services.tell(Some(purse), EventKind::PressNeeded, record.intent.to_string(), text);
}

/// What counts of a record; `None` where nothing can be closed.
pub(super) fn holding(record: &ChannelRecord) -> Option<Holding> {
    record.channel_id?;
    let closing = match record.state {
        ChannelState::Open | ChannelState::Expired => None,
        // Since before anybody looked.
        ChannelState::Closing => Some(0),
        ChannelState::Opening | ChannelState::Closed | ChannelState::Failed => return None,
    };
    Some(Holding {
        generation: record.deployment.generation,
        recovered: record.recovered,
        closing,
        expires_at: record.expires_at,
        used_at: record.used_at,
        deposit: record.books.deposit,
        claimed: record.books.claimed,
        signed: record.books.signed,
    })
}

/// The channel's actor. One that stopped is started from the journal.
pub(super) async fn find(supervisor: &Addr<Supervisor>, record: &ChannelRecord) -> Result<Addr<ChannelActor>, Failure> {
    let running = async || supervisor.send(FindOpening(record.intent)).await.map_err(|error| gone(&error));
    if let Some(actor) = running().await? {
        return Ok(actor);
    }
    supervisor.do_send(ChannelOpened(Box::new(record.clone())));
    running().await?.ok_or_else(|| Failure::internal("a channel could not be started"))
}

/// Closes through the channel's queue (M6): what is in flight goes first, and a channel that pays again meanwhile stays.
pub(super) async fn close(
    services: &Services,
    purse: &Purse,
    channel: &Addr<ChannelActor>,
    record: &ChannelRecord,
    (mut holding, way): (Holding, Way),
    caller: Caller,
    progress: Progress,
) -> Result<Closed, Failure> {
    let per_gas = services.chain.fees().await?.expected_per_gas();
    let worth = |holding: &Holding| worth_it(&services.config.refunds.settings, holding, way, per_gas);
    if way == Way::AtExpiry && !worth(&holding) {
        holding.claimed = taken_in_the_end(services, record).await?;
        if !worth(&holding) {
            purse.journal.not_worth_closing(record.intent, holding.claimed).await?;
        }
    }
    if !worth(&holding) {
        return Err(not_worth_it(&holding, way));
    }
    let (kind, only_after) = match way {
        Way::Cooperative => (CloseKind::Cooperative, Some(record.books.nonce)),
        Way::AtExpiry => (CloseKind::AtExpiry, None),
    };
    let (reply, receiver) = tokio::sync::oneshot::channel();
    ask(channel, End { kind, caller, only_after, progress, reply }).await?;
    answer(receiver).await
}

/// What the provider has for good: the record's figure may be one endpoint's word.
async fn taken_in_the_end(services: &Services, record: &ChannelRecord) -> Result<Usdc, Failure> {
    let found = match record.channel_id {
        Some(id) => services.chain.channel_in_the_end(&record.deployment, id).await?,
        None => None,
    };
    found.map(|channel| channel.claimed).ok_or_else(|| {
        Failure::unspent(Code::ChannelNotOpen, "The contract knows this channel no more", "Look at drain_balance.")
    })
}

fn not_worth_it(holding: &Holding, way: Way) -> Failure {
    let left = left(holding, way);
    let (message, next): (String, &str) = match way {
        Way::AtExpiry if left.is_zero() => (
            "The provider has taken the whole deposit: no close brings anything back".into(),
            "Nothing is to be done. It counts against no limit any more; drain-mcp close removes it from the contract, for its gas.",
        ),
        Way::Cooperative if left.is_zero() => (
            "All of the deposit is signed for: a close with the provider's consent brings nothing back".into(),
            "What the provider does not claim comes back at expiry.",
        ),
        _ => (
            format!("The gas of the close would cost more than the {left} USDC that it brings back"),
            "It is closed when gas is cheaper. DRAIN_POL_USDC says what a POL is worth; drain-mcp close closes all the same.",
        ),
    };
    Failure::unspent(Code::NotWorthIt, message, next)
}

impl Actor for RefundActor {
    type Context = Context<Self>;
}

impl Handler<Look> for RefundActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        if !self.services.config.refunds.automatic || self.looking {
            return;
        }
        self.looking = true;
        let journal = self.purse.journal.clone();
        let read = async move { journal.channels(false).await };
        ctx.spawn(read.into_actor(self).map(|records, actor, ctx| {
            actor.looking = false;
            metrics::progressed(metrics::Actor::Refund);
            match records {
                Ok(records) => actor.judge(records, ctx),
                Err(error) => tracing::error!(%error, "the journal cannot be read; refunds wait"),
            }
        }));
    }
}
