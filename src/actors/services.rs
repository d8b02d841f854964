//! What every actor shares: immutable settings and handles to the outside.

use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};
use drain_protocol::Address;
use drain_signers::Capabilities;
use tokio::sync::{Notify, watch};

use super::payments::AllUnderway;
use crate::answers::Answers;
use crate::chain::Chain;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Failure, Money};
use crate::http_client::HttpClient;
use crate::journal::Journal;
use crate::marketplace::MarketplaceClient;
use crate::metrics;
use crate::notify::{Event, EventKind, Notifier};
use crate::policy::{Asked, Caller, Sees};
use crate::provider::ProviderClient;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    /// The operator's settings.
    pub config: Arc<Config>,
    /// Requests to whoever else wants to be paid.
    pub http: HttpClient,
    /// Requests to providers.
    pub provider: ProviderClient,
    /// Requests to the marketplace.
    pub marketplace: MarketplaceClient,
    /// The RPC endpoints.
    pub chain: Chain,
    /// Tempo's, where requests are paid over it too.
    pub tempo: Option<Chain>,
    /// Both clocks.
    pub clock: Clock,
    /// Tells the operator of events.
    pub notifier: Notifier,
}

impl Services {
    /// Tells the operator of an event.
    pub fn tell(&self, purse: Option<&Purse>, event: EventKind, subject: impl Into<String>, text: impl Into<String>) {
        self.notifier.tell(Event {
            event,
            subject: subject.into(),
            text: text.into(),
            wallet: purse.map(|purse| purse.address.to_string()).unwrap_or_default(),
            at: self.clock.now(),
        });
    }
}

impl Services {
    /// Looks at the chain's clock where nobody has yet: what is counted by time begins with it (M4).
    pub async fn know_time(&self) -> Result<(), Failure> {
        if !self.clock.knows_block() {
            self.clock.saw_block(self.chain.head().await?.timestamp);
        }
        Ok(())
    }
}

impl Services {
    /// The operator of this process, as whoever asks, by this call.
    pub fn operator(&self, asked: Asked) -> Caller {
        Caller { agent: self.config.agent.clone(), limits: self.config.limits.clone(), asked, sees: Sees::All }
    }
}

/// What there is only with a key: the wallet's record.
#[derive(Clone, Debug)]
pub struct Purse {
    /// The account that pays.
    pub address: Address,
    /// Its durable record.
    pub journal: Journal,
    /// Answers that were paid for.
    pub answers: Answers,
    /// How its key signs.
    pub signer: Capabilities,
    /// Rings when a person has answered a question.
    pub decisions: watch::Sender<()>,
    /// Rings when a payment without a channel was signed: the chain is to be asked what became of it.
    pub paid: Arc<Notify>,
    /// Such payments whose request is on its way.
    pub underway: AllUnderway,
}

impl Purse {
    /// The same for this caller: what is recorded names it.
    pub fn asked(&self, caller: &Caller) -> Self {
        Self { journal: self.journal.asked(caller), ..self.clone() }
    }
}

/// Asks an actor that answers with a result. An actor that is gone is a fault of ours.
pub async fn ask<A, M, T>(actor: &Addr<A>, message: M) -> Result<T, Failure>
where
    A: Counted + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    let _asked = A::KIND.map(metrics::asked);
    actor.send(message).await.unwrap_or_else(|error| Err(gone(&error)))
}

/// An actor whose questions are counted until they are answered.
pub trait Counted: Actor {
    /// Which kind is shown; `None` where it counts its own queue.
    const KIND: Option<metrics::Actor>;
}

/// The failure of a mailbox.
pub fn gone(error: &MailboxError) -> Failure {
    Failure::internal(format!("a part of drain-mcp stopped ({error}); it is started anew from the journal"))
        .with_money(Money::Unknown)
}
