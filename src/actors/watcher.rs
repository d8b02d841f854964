//! The watcher actor: the chain's head, and what happens to our channels on chain.
//!
//! It polls only while there is something to watch, so that an idle process asks nobody anything.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use drain_protocol::{Address, ChannelId, Deployment, Usdc};
use futures::StreamExt;
use futures::stream;

use super::admin;
use super::refund::Look;
use super::reorg;
use super::services::{Purse, Services};
use super::supervisor::Supervisor;
use super::theft;
use crate::chain::{ChainError, ChannelEvent, Watched};
use crate::journal::{IntentId, TxId};
use crate::metrics;

/// Blocks asked for at once; public nodes refuse large ranges.
const MAX_RANGE: u64 = 1_000;
/// Ranges in one look.
const MAX_RANGES: usize = 20;
/// Channel ids in one filter.
const MAX_IDS: usize = 100;
/// Channels compared at once: few enough for a public node, and enough that ten thousand are no matter of many minutes.
const AT_ONCE: usize = 16;
/// Channels compared in one look: a start with thousands must not keep the head from being read.
const MOST_COMPARED: usize = 1_000;
/// How far the machine's clock may be ahead of the chain's when a close is searched for.
pub(super) const CLOCK_SLACK: u64 = 3_600;

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

impl Watch {
    const fn key(&self) -> Key {
        (self.contract, self.channel_id)
    }
}

/// What happened to a channel.
#[derive(Clone, Debug, Message)]
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
    /// A reorganisation took back what was final.
    Undone {
        /// Ours that were in the blocks that are gone.
        transactions: Vec<TxId>,
    },
}

/// One per chain.
pub struct WatcherActor {
    services: Services,
    purse: Purse,
    supervisor: Addr<Supervisor>,
    channels: HashMap<Key, Watch>,
    /// Under which key each was registered last.
    keys: HashMap<IntentId, Key>,
    /// Channels to compare with the contract at the next look: new ones, as much may have happened before this start, and
    /// those that the last look could not make sure of.
    unseen: HashSet<Key>,
    /// The last block whose events were read.
    read_to: Option<u64>,
    /// Something of ours was recorded so recently that a reorganisation might take it back.
    settling: bool,
    /// What the last look found gone.
    undone: HashSet<TxId>,
    polling: bool,
}

impl WatcherActor {
    /// Watches nothing yet.
    pub fn new(services: Services, purse: Purse, supervisor: Addr<Supervisor>) -> Self {
        Self {
            services,
            purse,
            supervisor,
            channels: HashMap::new(),
            keys: HashMap::new(),
            unseen: HashSet::new(),
            read_to: None,
            settling: false,
            undone: HashSet::new(),
            polling: false,
        }
    }

    fn poll(&mut self, ctx: &mut Context<Self>) {
        if !self.supervisor.connected() {
            // The runtime has ended: the wallet is another process' now.
            ctx.stop();
            return;
        }
        if self.channels.is_empty() && !self.settling {
            self.polling = false;
            metrics::watching(self.purse.address, false);
            return;
        }
        self.polling = true;
        metrics::watching(self.purse.address, true);
        let (services, purse, channels) = (self.services.clone(), self.purse.clone(), self.channels.clone());
        let from = self.read_to.map(|block| block.saturating_add(1));
        let unseen = some_of(&mut self.unseen, MOST_COMPARED);
        let kept = unseen.clone();
        let look = tokio::spawn(async move { look(&services, &purse, &channels, unseen, from).await });
        ctx.spawn(look.into_actor(self).map(move |result, actor, ctx| {
            let mut pause = actor.services.config.chain.poll_interval;
            match result {
                Ok(Ok(seen)) => {
                    // What is left to compare goes on at once, unless the chain is hard to read.
                    if !actor.unseen.is_empty() && seen.unsure.is_empty() {
                        pause = Duration::ZERO;
                    }
                    actor.saw(seen);
                    actor.supervisor.do_send(Look);
                }
                Ok(Err(error)) => {
                    actor.unseen.extend(kept);
                    tracing::warn!(%error, "the chain could not be read; tried again later");
                }
                Err(panic) => {
                    actor.unseen.extend(kept);
                    tracing::error!(%panic, "the watcher failed in our own code; tried again later");
                }
            }
            ctx.run_later(pause, Self::poll);
        }));
    }

    fn saw(&mut self, seen: Seen) {
        metrics::progressed(metrics::Actor::Watcher);
        self.read_to = Some(seen.read_to);
        self.settling = seen.recorded.go_on;
        let gone: HashSet<TxId> = seen.recorded.gone.into_iter().collect();
        let news: Vec<TxId> = gone.difference(&self.undone).copied().collect();
        if !news.is_empty() {
            reorg::alarm(&self.services, &self.purse, &news);
            metrics::reorg(seen.recorded.depth);
            // Claims and closes in the blocks that were read before may be others now.
            self.unseen.extend(self.channels.keys());
        }
        if !gone.is_empty() {
            // Until the wallet has recorded it.
            self.supervisor.do_send(ChainEvent::Undone { transactions: gone.iter().copied().collect() });
        }
        self.undone = gone;
        self.unseen.extend(seen.unsure);
        for (key, total) in seen.claimed {
            if let Some(watch) = self.channels.get(&key) {
                self.supervisor.do_send(ChainEvent::Claimed { intent: watch.intent, total });
            }
        }
        for (key, refund) in seen.closed {
            if let Some(watch) = self.channels.remove(&key) {
                self.keys.remove(&watch.intent);
                self.supervisor.do_send(ChainEvent::Closed { intent: watch.intent, refund });
            }
        }
    }
}

/// Takes at most so many out of a set.
fn some_of(set: &mut HashSet<Key>, most: usize) -> HashSet<Key> {
    let some: HashSet<Key> = set.iter().take(most).copied().collect();
    set.retain(|key| !some.contains(key));
    some
}

/// What one look brought.
struct Seen {
    read_to: u64,
    /// Totals of the channels that were claimed from.
    claimed: Vec<(Key, Usdc)>,
    /// What came back from the channels that are closed.
    closed: Vec<(Key, Usdc)>,
    /// Channels that could not be compared with the contract.
    unsure: HashSet<Key>,
    /// Whether the chain still has what was recorded.
    recorded: reorg::Look,
}

/// Reads the head, then the events since `from` up to what is final enough not to change, and compares channels that
/// something happened to, or that are new here, with the contract. What fails for one channel is nothing to the others:
/// it is compared again at the next look, which misses nothing.
async fn look(
    services: &Services,
    purse: &Purse,
    channels: &HashMap<Key, Watch>,
    unseen: HashSet<Key>,
    from: Option<u64>,
) -> Result<Seen, ChainError> {
    let chain = &services.chain;
    let head = chain.head().await?;
    services.clock.saw_block(head.timestamp);
    let last = chain.finalized_number().await?.min(head.number);
    metrics::watched(purse.address, head.timestamp, last);
    // Without a beginning there is none to read events from: what was before is seen in the channels themselves. Where
    // nodes that are behind, or one that told of blocks that are not there, take the end back, so goes the beginning.
    let from = from.unwrap_or(u64::MAX).min(last.saturating_add(1));
    let mut seen = Seen {
        read_to: from.saturating_sub(1),
        claimed: Vec::new(),
        closed: Vec::new(),
        unsure: HashSet::new(),
        recorded: reorg::look(services, purse, last).await.unwrap_or_else(|failure| {
            tracing::warn!(%failure, "what was recorded could not be compared with the chain; tried again later");
            reorg::Look { go_on: true, ..reorg::Look::default() }
        }),
    };
    let mut events = Vec::new();
    for _ in 0..MAX_RANGES {
        let first = seen.read_to.saturating_add(1);
        let until = last.min(seen.read_to.saturating_add(MAX_RANGE));
        if first > until {
            break;
        }
        match events_of(services, channels, first, until).await {
            Ok(found) => events.extend(found),
            Err(error) => {
                tracing::warn!(%error, first, until, "events could not be read; tried again later");
                break;
            }
        }
        seen.read_to = until;
    }
    let mut claimed = unseen.clone();
    let mut closed: HashMap<Key, Option<Usdc>> = unseen.into_iter().map(|key| (key, None)).collect();
    let unsure = |key: Key, error: ChainError| {
        tracing::warn!(channel = %key.1, %error, "a channel could not be compared with the chain; tried again later");
        key
    };
    let before = claimed.clone();
    for event in events {
        match event {
            ChannelEvent::Claimed { channel_id, at, .. } => {
                let key = (at.contract, channel_id);
                claimed.insert(key);
                if let Some((watch, on)) = channels.get(&key).and_then(|w| Some((w, deployment_of(services, w)?)))
                    && let Err(error) = theft::judge(services, purse, on, watch.intent, at.transaction).await
                {
                    seen.unsure.insert(unsure(key, error));
                }
            }
            ChannelEvent::Closed { channel_id, consumer, refund, at } if consumer == purse.address => {
                closed.insert((at.contract, channel_id), Some(refund));
            }
            other => admin::alarm(services, purse, &other),
        }
    }
    let mut totals = Vec::new();
    for key in &claimed {
        if let Some(watch) = channels.get(key) {
            totals.push(async move { (watch, claimed_in_all(services, watch).await) });
        }
    }
    for (watch, total) in stream::iter(totals).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        match total {
            Ok(total) if total.is_zero() => {}
            Ok(total) => {
                seen.claimed.push((watch.key(), total));
                // What was claimed while nobody looked.
                if let (true, Some(on)) = (before.contains(&watch.key()), deployment_of(services, watch))
                    && let Err(error) = theft::search(services, purse, on, watch.intent, total, last).await
                {
                    seen.unsure.insert(unsure(watch.key(), error));
                }
            }
            Err(error) => _ = seen.unsure.insert(unsure(watch.key(), error)),
        }
    }
    let mut ends = Vec::new();
    for (key, told) in closed {
        if let Some(watch) = channels.get(&key) {
            ends.push(async move { (key, closed_by(services, watch, last, told).await) });
        }
    }
    for (key, end) in stream::iter(ends).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        match end {
            Ok(Some(refund)) => seen.closed.push((key, refund)),
            Ok(None) => {}
            Err(error) => _ = seen.unsure.insert(unsure(key, error)),
        }
    }
    Ok(seen)
}

async fn events_of(
    services: &Services,
    channels: &HashMap<Key, Watch>,
    first: u64,
    last: u64,
) -> Result<Vec<ChannelEvent>, ChainError> {
    let ids: Vec<ChannelId> = channels.keys().map(|(_, id)| *id).collect();
    let mut events = Vec::new();
    for ids in ids.chunks(MAX_IDS) {
        events.extend(services.chain.channel_events(ids, first, last).await?);
    }
    events.extend(services.chain.watched_events(&Watched::Admin, first, last).await?);
    Ok(events)
}

fn deployment_of<'a>(services: &'a Services, watch: &Watch) -> Option<&'a Deployment> {
    services.config.chain.deployments.iter().find(|on| on.contract() == watch.contract)
}

/// Events tell increments; the contract tells the total, whichever of them we missed.
async fn claimed_in_all(services: &Services, watch: &Watch) -> Result<Usdc, ChainError> {
    let Some(on) = deployment_of(services, watch) else { return Ok(Usdc::ZERO) };
    let channel = services.chain.channel(on, watch.channel_id).await?;
    Ok(channel.map_or(Usdc::ZERO, |channel| channel.claimed))
}

/// What came back from the channel, if it is closed as of the final block `last`: that the contract knows it no more is
/// what closes it here, for good; an event (`told`, or else searched for) is one node's word and tells the refund alone.
async fn closed_by(
    services: &Services,
    watch: &Watch,
    last: u64,
    told: Option<Usdc>,
) -> Result<Option<Usdc>, ChainError> {
    let chain = &services.chain;
    let Some(on) = deployment_of(services, watch) else { return Ok(None) };
    if !chain.channel_is_gone(on, watch.channel_id, last).await? {
        return match told {
            None => Ok(None),
            Some(_) => {
                let what = "a node tells of the close of a channel that the contract has".into();
                Err(ChainError::Disagreement { what })
            }
        };
    }
    if told.is_some() {
        return Ok(told);
    }
    let since = watch.there_at.saturating_sub(CLOCK_SLACK);
    let first = chain.first_block_since(since, last).await?;
    let events = chain.channel_events(&[watch.channel_id], first, last).await?;
    let refund = events.into_iter().find_map(|event| match event {
        ChannelEvent::Closed { refund, at, .. } if at.contract == watch.contract => Some(refund),
        _ => None,
    });
    match refund {
        Some(refund) => Ok(Some(refund)),
        None => {
            let reason = "the contract does not know this channel, and no node tells of its close".into();
            Err(ChainError::Unavailable { reason })
        }
    }
}

impl Actor for WatcherActor {
    type Context = Context<Self>;

    /// What an earlier run recorded may have been taken back since, a last close too: then there is no channel to watch.
    fn started(&mut self, ctx: &mut Self::Context) {
        let (journal, chain_id, wallet) =
            (self.purse.journal.clone(), self.services.config.chain.chain_id, self.purse.address);
        let recorded = async move { journal.settled(chain_id, wallet).await };
        ctx.spawn(recorded.into_actor(self).map(|recorded, actor, ctx| {
            if recorded.is_ok_and(|recorded| !recorded.is_empty()) {
                actor.settling = true;
                if !actor.polling {
                    actor.poll(ctx);
                }
            }
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        metrics::watching(self.purse.address, false);
    }
}

impl Handler<Watch> for WatcherActor {
    type Result = ();

    fn handle(&mut self, watch: Watch, ctx: &mut Self::Context) {
        // Under another id it was before a reorganisation, it is no more.
        if let Some(before) = self.keys.insert(watch.intent, watch.key())
            && self.channels.get(&before).is_some_and(|other| other.intent == watch.intent)
        {
            self.channels.remove(&before);
        }
        self.unseen.insert(watch.key());
        self.channels.insert(watch.key(), watch);
        if !self.polling {
            self.poll(ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_channels_are_compared_in_parts_and_none_is_left_out() {
        let all: HashSet<Key> =
            (0..25).map(|n| (Address::repeat_byte(n), ChannelId(drain_protocol::B256::repeat_byte(n)))).collect();
        let (mut rest, mut taken, mut parts) = (all.clone(), HashSet::new(), Vec::new());
        while !rest.is_empty() {
            let part = some_of(&mut rest, 10);
            parts.push(part.len());
            taken.extend(part);
        }
        assert_eq!((parts, taken), (vec![10, 10, 5], all));
    }
}
