//! The watcher actor: the chain's head, and what happens to our channels on chain.
//!
//! It polls only while there is something to watch, so that an idle process asks nobody anything.

use std::collections::HashMap;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use alloy::eips::BlockNumberOrTag;
use drain_protocol::{Address, ChannelId, Usdc};

use super::services::Services;
use super::supervisor::Supervisor;
use crate::chain::{ChainError, ChannelEvent};
use crate::journal::IntentId;

/// Blocks asked for at once; public nodes refuse large ranges.
const MAX_RANGE: u64 = 1_000;
/// Channel ids in one filter.
const MAX_IDS: usize = 100;
/// How far the machine's clock may be ahead of the chain's when a close is searched for.
const CLOCK_SLACK: u64 = 3_600;

type Key = (Address, ChannelId);

/// Watch this channel too.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// Its contract: V1 and V2 may give two channels the same id.
    pub contract: Address,
    /// Its on-chain id.
    pub channel_id: ChannelId,
    /// Our id of it.
    pub intent: IntentId,
    /// When it was surely there: it last paid, or was recorded, in Unix seconds of the machine's clock.
    pub there_at: u64,
}

/// What happened to a channel.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub enum ChainEvent {
    /// The provider took money.
    Claimed {
        /// Which channel.
        intent: IntentId,
        /// In all, so far.
        total: Usdc,
    },
    /// The contract forgot the channel.
    Closed {
        /// Which channel.
        intent: IntentId,
        /// What came back.
        refund: Usdc,
    },
}

/// One per chain.
pub struct WatcherActor {
    services: Services,
    wallet: Address,
    supervisor: Addr<Supervisor>,
    channels: HashMap<Key, IntentId>,
    /// Channels whose state was not compared with the chain yet: much may have happened before this start.
    unseen: Vec<Watch>,
    /// The last block whose events were read.
    read_to: Option<u64>,
    polling: bool,
}

impl WatcherActor {
    /// Watches nothing yet.
    pub fn new(services: Services, wallet: Address, supervisor: Addr<Supervisor>) -> Self {
        Self {
            services,
            wallet,
            supervisor,
            channels: HashMap::new(),
            unseen: Vec::new(),
            read_to: None,
            polling: false,
        }
    }

    fn poll(&mut self, ctx: &mut Context<Self>) {
        if self.channels.is_empty() {
            self.polling = false;
            return;
        }
        self.polling = true;
        let services = self.services.clone();
        let ids: Vec<ChannelId> = self.channels.keys().map(|(_, id)| *id).collect();
        let from = self.read_to.map(|block| block.saturating_add(1));
        let unseen = self.unseen.clone();
        let compared = unseen.len();
        let look = tokio::spawn(async move { look(&services, &ids, &unseen, from).await });
        ctx.spawn(look.into_actor(self).map(move |result, actor, ctx| {
            match result {
                Ok(Ok(Seen { read_to, events, claimed })) => {
                    actor.read_to = Some(read_to);
                    actor.unseen.drain(..compared);
                    for (id, total) in claimed {
                        if let Some(intent) = actor.channels.get(&id).copied() {
                            actor.supervisor.do_send(ChainEvent::Claimed { intent, total });
                        }
                    }
                    for event in events {
                        actor.tell(&event);
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "the chain could not be read; tried again later"),
                Err(panic) => tracing::error!(%panic, "the watcher failed in our own code; tried again later"),
            }
            ctx.run_later(actor.services.config.chain.poll_interval, Self::poll);
        }));
    }

    fn tell(&mut self, event: &ChannelEvent) {
        let ChannelEvent::Closed { channel_id, consumer, refund, at } = event else { return };
        if *consumer != self.wallet {
            return;
        }
        if let Some(intent) = self.channels.remove(&(at.contract, *channel_id)) {
            self.supervisor.do_send(ChainEvent::Closed { intent, refund: *refund });
        }
    }
}

/// What one look brought.
struct Seen {
    read_to: u64,
    events: Vec<ChannelEvent>,
    /// Totals of the channels that were claimed from.
    claimed: Vec<(Key, Usdc)>,
}

/// Reads the head, then the events since `from` up to what is final enough not to change, and compares channels that
/// are new here with the contract.
async fn look(services: &Services, ids: &[ChannelId], unseen: &[Watch], from: Option<u64>) -> Result<Seen, ChainError> {
    let chain = &services.chain;
    let head = chain.head().await?;
    services.clock.saw_block(head.timestamp);
    let last = chain.finalized_number().await?.min(head.number);
    // Without a beginning there is none to read events from: what was before is seen in the channels themselves.
    let from = from.unwrap_or(last.saturating_add(1));
    let mut seen = Seen { read_to: last.min(from.saturating_add(MAX_RANGE)), events: Vec::new(), claimed: Vec::new() };
    if from <= seen.read_to {
        for ids in ids.chunks(MAX_IDS) {
            seen.events.extend(chain.channel_events(ids, from, seen.read_to).await?);
        }
    }
    seen.read_to = seen.read_to.max(from.saturating_sub(1));
    let mut claimed: Vec<Key> = Vec::new();
    for event in &seen.events {
        if let ChannelEvent::Claimed { channel_id, at, .. } = event {
            claimed.push((at.contract, *channel_id));
        }
    }
    for watch in unseen {
        claimed.push((watch.contract, watch.channel_id));
        seen.events.extend(closed_before(services, watch, last).await?);
    }
    for key in claimed {
        // Events tell increments; the contract tells the total, whichever of them we missed.
        let on = services.config.chain.deployments.iter().find(|deployment| deployment.contract() == key.0);
        if let Some(on) = on
            && let Some(channel) = chain.channel(on, key.1).await?
            && !channel.claimed.is_zero()
        {
            seen.claimed.push((key, channel.claimed));
        }
    }
    Ok(seen)
}

/// The end of a channel that the contract knows no more as of the final block `last`. Its event is searched for: that
/// it is gone tells nothing of the refund.
async fn closed_before(services: &Services, watch: &Watch, last: u64) -> Result<Vec<ChannelEvent>, ChainError> {
    let chain = &services.chain;
    let Some(on) = services.config.chain.deployments.iter().find(|on| on.contract() == watch.contract) else {
        return Ok(Vec::new());
    };
    if chain.channel_at(on, watch.channel_id, BlockNumberOrTag::Number(last)).await?.is_some() {
        return Ok(Vec::new());
    }
    let since = watch.there_at.saturating_sub(CLOCK_SLACK);
    let (mut first, mut after) = (0, last);
    while first < after {
        let middle = first.midpoint(after);
        match chain.block(middle).await? {
            Some(block) if block.timestamp < since => first = middle + 1,
            _ => after = middle,
        }
    }
    let mut events = chain.channel_events(&[watch.channel_id], first, last).await?;
    events.retain(|event| matches!(event, ChannelEvent::Closed { .. }));
    if events.is_empty() {
        tracing::warn!(channel = %watch.channel_id, "the contract does not know this channel, and its close was not found");
    }
    Ok(events)
}

impl Actor for WatcherActor {
    type Context = Context<Self>;
}

impl Handler<Watch> for WatcherActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Self::Context) {
        self.channels.insert((watch.contract, watch.channel_id), watch.intent);
        self.unseen.push(watch);
        if !self.polling {
            self.poll(ctx);
        }
    }
}
