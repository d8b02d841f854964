//! The supervisor: starts every actor, knows their addresses, and starts a panicked one anew from the journal.

use std::collections::HashMap;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, MessageResult};
use drain_protocol::ChannelId;
use drain_signers::Signer;

use super::channel::{ChannelActor, Seen};
use super::directory::DirectoryActor;
use super::refund::{Look, RefundActor};
use super::services::{Purse, Services};
use super::signer::SignerActor;
use super::wallet::{Undone, WalletActor};
use super::watcher::{ChainEvent, Watch, WatcherActor};
use crate::api::ChannelState;
use crate::journal::{ChannelRecord, IntentId, Member, among};
use crate::metrics;

/// Waiting look-ups.
const MAILBOX: usize = 4_096;

/// What a wallet needs: only there with a key.
#[derive(Debug)]
pub struct WithKey {
    /// Account and journal.
    pub purse: Purse,
    /// The key, with its rules.
    pub signer: Signer,
    /// Channels that had not ended at start.
    pub channels: Vec<ChannelRecord>,
}

struct Keyed {
    purse: Purse,
    key: Signer,
    signer: Addr<SignerActor>,
    wallet: Addr<WalletActor>,
    watcher: Addr<WatcherActor>,
    refund: Addr<RefundActor>,
}

/// One per runtime.
pub struct Supervisor {
    services: Services,
    directory: Addr<DirectoryActor>,
    with_key: Option<WithKey>,
    keyed: Option<Keyed>,
    channels: HashMap<IntentId, Addr<ChannelActor>>,
    by_id: HashMap<ChannelId, IntentId>,
    watched: HashMap<IntentId, Watch>,
    /// Whose they are, of those that agents of the fleet use.
    members: HashMap<IntentId, Vec<Member>>,
}

impl Supervisor {
    /// Call inside of a running actix system.
    pub fn new(services: Services, with_key: Option<WithKey>) -> Self {
        let directory = DirectoryActor::new(services.clone()).start();
        Self {
            services,
            directory,
            with_key,
            keyed: None,
            channels: HashMap::new(),
            by_id: HashMap::new(),
            watched: HashMap::new(),
            members: HashMap::new(),
        }
    }

    /// Finds and watches the channel by its id, which a reorganisation may have changed.
    fn register(&mut self, record: &ChannelRecord) {
        let Some(keyed) = &self.keyed else { return };
        if let Some(id) = record.channel_id {
            // Under another id it was before a reorganisation, it is no more.
            if let Some(before) = self.watched.get(&record.intent)
                && self.by_id.get(&before.channel_id) == Some(&record.intent)
            {
                self.by_id.remove(&before.channel_id);
            }
            self.by_id.insert(id, record.intent);
            if !record.members.is_empty() {
                self.members.insert(record.intent, record.members.clone());
            }
            let watch = Watch {
                contract: record.deployment.contract(),
                channel_id: id,
                intent: record.intent,
                there_at: record.used_at,
            };
            self.watched.insert(record.intent, watch);
            keyed.watcher.do_send(watch);
        }
    }

    fn start_channel(&mut self, record: ChannelRecord, supervisor: Addr<Self>) {
        self.register(&record);
        let Some(keyed) = &self.keyed else { return };
        let intent = record.intent;
        let agents = record.members.iter().map(|member| member.agent.as_str());
        metrics::channel(&record.provider_key(), agents);
        let actor = ChannelActor::new(self.services.clone(), keyed.purse.clone(), supervisor, record);
        self.channels.insert(intent, actor.start());
    }

    /// Starts what has stopped. Signer and directory hold nothing; the wallet takes up its transactions from the journal.
    /// Channels ask here for both when they need them, so they go on: a second actor of one channel beside its first
    /// would sign over it.
    fn revive(&mut self, ctx: &mut Context<Self>) {
        if !self.directory.connected() {
            tracing::error!("the directory actor is started anew");
            metrics::restarted(metrics::Actor::Directory, metrics::Restart::Gone);
            self.directory = DirectoryActor::new(self.services.clone()).start();
        }
        let Some(keyed) = &mut self.keyed else { return };
        if !keyed.signer.connected() {
            tracing::error!("the signer actor is started anew");
            metrics::restarted(metrics::Actor::Signer, metrics::Restart::Gone);
            keyed.signer = SignerActor::new(keyed.key.clone()).start();
            // The wallet holds the old address: it starts anew with the new one.
            keyed.wallet =
                WalletActor::new(self.services.clone(), keyed.purse.clone(), keyed.signer.clone(), ctx.address())
                    .start();
        }
        if !keyed.wallet.connected() {
            tracing::error!("the wallet actor is started anew");
            metrics::restarted(metrics::Actor::Wallet, metrics::Restart::Gone);
            keyed.wallet =
                WalletActor::new(self.services.clone(), keyed.purse.clone(), keyed.signer.clone(), ctx.address())
                    .start();
        }
        if !keyed.watcher.connected() {
            tracing::error!("the watcher actor is started anew");
            metrics::restarted(metrics::Actor::Watcher, metrics::Restart::Gone);
            keyed.watcher = WatcherActor::new(self.services.clone(), keyed.purse.clone(), ctx.address()).start();
            for watch in self.watched.values() {
                keyed.watcher.do_send(*watch);
            }
        }
        if !keyed.refund.connected() {
            tracing::error!("the refund actor is started anew");
            metrics::restarted(metrics::Actor::Refund, metrics::Restart::Gone);
            keyed.refund = RefundActor::new(self.services.clone(), keyed.purse.clone(), ctx.address()).start();
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let Some(WithKey { purse, signer: key, channels }) = self.with_key.take() else { return };
        let signer = SignerActor::new(key.clone()).start();
        let wallet = WalletActor::new(self.services.clone(), purse.clone(), signer.clone(), ctx.address()).start();
        let watcher = WatcherActor::new(self.services.clone(), purse.clone(), ctx.address()).start();
        let refund = RefundActor::new(self.services.clone(), purse.clone(), ctx.address()).start();
        self.keyed = Some(Keyed { purse, key, signer, wallet, watcher, refund });
        for record in channels {
            if record.channel_id.is_some() {
                self.start_channel(record, ctx.address());
            }
        }
    }
}

/// The addresses of the actors that are one of a kind.
#[derive(Debug, Message)]
#[rtype(result = "Addresses")]
pub struct Find;

/// Where to send.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The catalogue.
    pub directory: Addr<DirectoryActor>,
    /// Only with a key.
    pub wallet: Option<Addr<WalletActor>>,
    /// Only with a key.
    pub signer: Option<Addr<SignerActor>>,
}

/// A channel's actor, if one runs that the caller sees.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<Found>")]
pub struct FindChannel {
    /// Which.
    pub id: ChannelId,
    /// The agent of the fleet who looks for it.
    pub member: Option<String>,
}

/// The actor of one opening, if it runs. V1 and V2 may give two channels the same id: this asks for one of them.
#[derive(Debug, Message)]
#[rtype(result = "Option<Addr<ChannelActor>>")]
pub struct FindOpening(pub IntentId);

/// How a channel was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// It runs.
    Running(Addr<ChannelActor>),
    /// It is known but does not run: its record is to be read, and given with [`ChannelOpened`].
    Stopped(IntentId),
}

/// Every channel that runs.
#[derive(Debug, Message)]
#[rtype(result = "Running")]
pub struct FindAll;

/// Their addresses.
#[derive(Debug)]
pub struct Running(pub Vec<Addr<ChannelActor>>);

/// A channel is there: from an opening, from the journal, from an import.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChannelOpened(pub Box<ChannelRecord>);

/// The runtime ends, and nothing is started anew: the wallet is another process' now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct End;

impl Handler<End> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        self.keyed = None;
        self.channels.clear();
        ctx.stop();
    }
}

impl Handler<Find> for Supervisor {
    type Result = MessageResult<Find>;

    fn handle(&mut self, _: Find, ctx: &mut Self::Context) -> Self::Result {
        self.revive(ctx);
        MessageResult(Addresses {
            directory: self.directory.clone(),
            wallet: self.keyed.as_ref().map(|keyed| keyed.wallet.clone()),
            signer: self.keyed.as_ref().map(|keyed| keyed.signer.clone()),
        })
    }
}

impl Handler<FindOpening> for Supervisor {
    type Result = MessageResult<FindOpening>;

    fn handle(&mut self, FindOpening(intent): FindOpening, ctx: &mut Self::Context) -> Self::Result {
        self.revive(ctx);
        MessageResult(self.channels.get(&intent).filter(|actor| actor.connected()).cloned())
    }
}

impl Handler<FindChannel> for Supervisor {
    type Result = MessageResult<FindChannel>;

    fn handle(&mut self, FindChannel { id, member }: FindChannel, ctx: &mut Self::Context) -> Self::Result {
        self.revive(ctx);
        let sees = |intent: &&IntentId| {
            let of = |agent: &String| self.members.get(intent).is_some_and(|members| among(members, agent));
            member.as_ref().is_none_or(of)
        };
        let found = self.by_id.get(&id).filter(sees).map(|intent| {
            match self.channels.get(intent).filter(|actor| actor.connected()) {
                Some(actor) => Found::Running(actor.clone()),
                None => Found::Stopped(*intent),
            }
        });
        MessageResult(found)
    }
}

impl Handler<FindAll> for Supervisor {
    type Result = MessageResult<FindAll>;

    fn handle(&mut self, _: FindAll, _: &mut Self::Context) -> Self::Result {
        MessageResult(Running(self.channels.values().cloned().collect()))
    }
}

impl Handler<ChannelOpened> for Supervisor {
    type Result = ();

    fn handle(&mut self, ChannelOpened(record): ChannelOpened, ctx: &mut Self::Context) {
        // Two of one channel would sign over each other: a running one stays, and reads its record.
        if let Some(running) = self.channels.get(&record.intent).filter(|actor| actor.connected()) {
            running.do_send(Seen::Recorded);
            // The watcher has forgotten one that it saw closed, which a reorganisation may have taken back.
            if matches!(record.state, ChannelState::Open | ChannelState::Closing) {
                self.register(&record);
            }
            return;
        }
        if self.channels.contains_key(&record.intent) {
            metrics::restarted(metrics::Actor::Channel, metrics::Restart::Gone);
        }
        self.start_channel(*record, ctx.address());
    }
}

impl Handler<ChainEvent> for Supervisor {
    type Result = ();

    fn handle(&mut self, event: ChainEvent, _: &mut Self::Context) {
        let (intent, seen) = match event {
            ChainEvent::Undone { transactions } => {
                if let Some(keyed) = &self.keyed {
                    keyed.wallet.do_send(Undone { transactions });
                }
                return;
            }
            ChainEvent::Claimed { intent, total } => (intent, Seen::Claimed(total)),
            ChainEvent::Closed { intent, refund } => (intent, Seen::Closed { refund }),
        };
        if let Some(channel) = self.channels.get(&intent) {
            channel.do_send(seen);
        }
    }
}

impl Handler<Look> for Supervisor {
    type Result = ();

    fn handle(&mut self, look: Look, ctx: &mut Self::Context) {
        self.revive(ctx);
        if let Some(keyed) = &self.keyed {
            keyed.refund.do_send(look);
        }
    }
}
