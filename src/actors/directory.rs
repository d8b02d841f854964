//! The directory actor: the catalogue of providers, its age, and one request at a time to refresh it.

use std::sync::Arc;
use std::time::Instant;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, WrapFuture,
};
use drain_protocol::directory::{Catalogue, Listing, ListingProtocol};
use tokio::sync::oneshot;

use super::services::{Counted, Services};
use crate::error::{Code, Failure};
use crate::metrics;

/// Waiting questions.
const MAILBOX: usize = 1_024;

/// The catalogue as it stands; refreshed first when it is too old.
#[derive(Debug, Message)]
#[rtype(result = "Result<Known, Failure>")]
pub struct Read;

/// A catalogue and how far it can be trusted to be current.
#[derive(Clone, Debug)]
pub struct Known {
    /// What the directory said, and what a person listed.
    pub catalogue: Arc<Catalogue>,
    /// When it was read.
    pub read_at: Instant,
    /// The directory did not answer: this is an older copy.
    pub stale: bool,
}

/// One per runtime.
pub struct DirectoryActor {
    services: Services,
    known: Option<Known>,
    /// Everybody who waits for the request on its way.
    waiting: Vec<oneshot::Sender<Result<Known, Failure>>>,
}

impl DirectoryActor {
    /// Asks nobody until somebody asks it.
    pub const fn new(services: Services) -> Self {
        Self { services, known: None, waiting: Vec::new() }
    }

    fn refresh(&mut self, ctx: &mut Context<Self>) {
        let services = self.services.clone();
        let fetch = tokio::spawn(async move { services.marketplace.catalogue().await });
        ctx.spawn(fetch.into_actor(self).map(|result, actor, _| {
            let known = match result {
                Ok(Ok(catalogue)) => Ok(Known {
                    catalogue: Arc::new(actor.with_listed(catalogue)),
                    read_at: Instant::now(),
                    stale: false,
                }),
                Ok(Err(error)) => actor.fall_back(&error.to_string()),
                Err(panic) => actor.fall_back(&panic.to_string()),
            };
            if let Ok(known) = &known {
                actor.known = Some(known.clone());
            }
            for waiting in actor.waiting.drain(..) {
                let _ = waiting.send(known.clone());
            }
        }));
    }

    /// An older copy, marked; without one, what a person listed; else the failure.
    fn fall_back(&self, reason: &str) -> Result<Known, Failure> {
        tracing::warn!(reason, "the directory did not answer");
        if let Some(known) = &self.known {
            return Ok(Known { stale: true, ..known.clone() });
        }
        let listed = self.with_listed(Catalogue::default());
        if !listed.listings.is_empty() {
            return Ok(Known { catalogue: Arc::new(listed), read_at: Instant::now(), stale: true });
        }
        Err(Failure::unspent(
            Code::DirectoryUnavailable,
            format!("the directory gave no usable answer: {reason}"),
            "Call again in a while; channels that are open still work. drain-mcp doctor tells more.",
        ))
    }

    /// A person's listings come first and win over the directory's of the same id.
    fn with_listed(&self, mut catalogue: Catalogue) -> Catalogue {
        let chain_id = self.services.config.chain.chain_id;
        for provider in &self.services.config.providers {
            catalogue.listings.retain(|listing| listing.id != provider.id);
            catalogue.ambiguous.remove(&provider.id);
            catalogue.listings.insert(
                0,
                Listing {
                    id: provider.id.clone(),
                    name: provider.id.clone(),
                    description: "listed in your configuration".into(),
                    api_url: provider.api_url.to_string().trim_end_matches('/').into(),
                    provider_address: provider.wallet,
                    chain_id,
                    category: provider.category.clone(),
                    protocol: ListingProtocol::Drain,
                    ..Listing::default()
                },
            );
        }
        catalogue
    }
}

impl Counted for DirectoryActor {
    const KIND: Option<metrics::Actor> = Some(metrics::Actor::Directory);
}

impl Actor for DirectoryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// What is known of the directory, without asking it.
#[derive(Debug, Message)]
#[rtype(result = "Option<Known>")]
pub struct Peek;

impl Handler<Peek> for DirectoryActor {
    type Result = MessageResult<Peek>;

    fn handle(&mut self, _: Peek, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.known.clone())
    }
}

impl Handler<Read> for DirectoryActor {
    type Result = ResponseFuture<Result<Known, Failure>>;

    fn handle(&mut self, _: Read, ctx: &mut Self::Context) -> Self::Result {
        let max_age = self.services.config.marketplace.max_age;
        if let Some(known) = self.known.clone().filter(|known| !known.stale && known.read_at.elapsed() < max_age) {
            return Box::pin(async move { Ok(known) });
        }
        let (reply, receiver) = oneshot::channel();
        self.waiting.push(reply);
        if self.waiting.len() == 1 {
            self.refresh(ctx);
        }
        Box::pin(
            async move { receiver.await.unwrap_or_else(|_| Err(Failure::internal("the directory's answer was lost"))) },
        )
    }
}
