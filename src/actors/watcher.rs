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

/// Watch this channel too.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Watch {
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
    channels: HashMap<ChannelId, IntentId>,
    /// Claimed so far, as seen here.
    claimed: HashMap<ChannelId, Usdc>,
    /// The last block whose events were read.
    read_to: Option<u64>,
    polling: bool,
}

impl WatcherActor {
    /// Watches nothing yet.
    pub fn new(services: Services, wallet: Address, supervisor: Addr<Supervisor>) -> Self {
        Self { services, wallet, supervisor, channels: HashMap::new(), claimed: HashMap::new(), read_to: None, polling: false }
    }

    fn poll(&mut self, ctx: &mut Context<Self>) {
        if self.channels.is_empty() {
            self.polling = false;
            return;
        }
        self.polling = true;
        let services = self.services.clone();
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        let from = self.read_to.map(|block| block.saturating_add(1));
        let look = tokio::spawn(async move { look(&services, &ids, from).await });
        ctx.spawn(look.into_actor(self).map(|result, actor, ctx| {
            match result {
                Ok(Ok((read_to, events))) => {
                    actor.read_to = Some(read_to);
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
        let (id, told) = match *event {
            ChannelEvent::Claimed { channel_id, amount, .. } => {
                let Some(intent) = self.channels.get(&channel_id).copied() else { return };
                let total = self.claimed.entry(channel_id).or_default();
                *total = total.saturating_add(amount);
                (channel_id, ChainEvent::Claimed { intent, total: *total })
            }
            ChannelEvent::Closed { channel_id, consumer, refund, .. } if consumer == self.wallet => {
                let Some(intent) = self.channels.get(&channel_id).copied() else { return };
                (channel_id, ChainEvent::Closed { intent, refund })
            }
            _ => return,
        };
        if matches!(told, ChainEvent::Closed { .. }) {
            self.channels.remove(&id);
        }
        self.supervisor.do_send(told);
    }
}

/// Reads the head, then the events since `from` up to what is final enough not to change.
async fn look(services: &Services, ids: &[ChannelId], from: Option<u64>) -> Result<(u64, Vec<ChannelEvent>), ChainError> {
    let head = services.chain.head().await?;
    services.clock.saw_block(head.timestamp);
    let last = services.chain.finalized_number().await?.min(head.number);
    let Some(from) = from else {
        // What happened before this start is read from the channels themselves when they are used or closed.
        return Ok((last, Vec::new()));
    };
    let to = last.min(from.saturating_add(MAX_RANGE));
    if from > to {
        return Ok((from.saturating_sub(1), Vec::new()));
    }
    let mut events = Vec::new();
    for ids in ids.chunks(MAX_IDS) {
        events.extend(services.chain.channel_events(ids, from, to).await?);
    }
    Ok((to, events))
}

impl Actor for WatcherActor {
    type Context = Context<Self>;
}

impl Handler<Watch> for WatcherActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Self::Context) {
        self.channels.insert(watch.channel_id, watch.intent);
        if !self.polling {
            self.poll(ctx);
        }
    }
}
