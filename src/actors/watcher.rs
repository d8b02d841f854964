//! The watcher actor: the chain's head, and what happens to our channels on chain.
//!
//! It polls only while there is something to watch, so that an idle process asks nobody anything.

use std::collections::HashMap;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use drain_protocol::{Address, ChannelId, Usdc};

use super::services::Services;
use super::supervisor::Supervisor;
use crate::chain::{ChainError, ChannelEvent};
use crate::journal::IntentId;

/// Blocks asked for at once; public nodes refuse large ranges.
const MAX_RANGE: u64 = 1_000;
/// Channel ids in one filter.
const MAX_IDS: usize = 100;

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
    /// The last block whose events were read.
    read_to: Option<u64>,
    polling: bool,
}

impl WatcherActor {
    /// Watches nothing yet.
    pub fn new(services: Services, wallet: Address, supervisor: Addr<Supervisor>) -> Self {
        Self { services, wallet, supervisor, channels: HashMap::new(), read_to: None, polling: false }
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
        let look = tokio::spawn(async move { look(&services, &ids, from).await });
        ctx.spawn(look.into_actor(self).map(|result, actor, ctx| {
            match result {
                Ok(Ok(Seen { read_to, events, claimed })) => {
                    actor.read_to = Some(read_to);
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

/// Reads the head, then the events since `from` up to what is final enough not to change.
async fn look(services: &Services, ids: &[ChannelId], from: Option<u64>) -> Result<Seen, ChainError> {
    let head = services.chain.head().await?;
    services.clock.saw_block(head.timestamp);
    let last = services.chain.finalized_number().await?.min(head.number);
    let nothing = |read_to| Seen { read_to, events: Vec::new(), claimed: Vec::new() };
    let Some(from) = from else {
        // What happened before this start is read from the channels themselves when they are used or closed.
        return Ok(nothing(last));
    };
    let to = last.min(from.saturating_add(MAX_RANGE));
    if from > to {
        return Ok(nothing(from.saturating_sub(1)));
    }
    let deployments = &services.config.chain.deployments;
    let mut seen = nothing(to);
    for ids in ids.chunks(MAX_IDS) {
        seen.events.extend(services.chain.channel_events(ids, from, to).await?);
    }
    for event in &seen.events {
        let ChannelEvent::Claimed { channel_id, at, .. } = event else { continue };
        // Events tell increments; the contract tells the total, whichever of them we missed.
        let on = deployments.iter().find(|deployment| deployment.contract() == at.contract);
        if let Some(on) = on
            && let Some(channel) = services.chain.channel(on, *channel_id).await?
        {
            seen.claimed.push(((at.contract, *channel_id), channel.claimed));
        }
    }
    Ok(seen)
}

impl Actor for WatcherActor {
    type Context = Context<Self>;
}

impl Handler<Watch> for WatcherActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Self::Context) {
        self.channels.insert((watch.contract, watch.channel_id), watch.intent);
        if !self.polling {
            self.poll(ctx);
        }
    }
}
