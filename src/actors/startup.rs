//! What a runtime starts from: the handles to the outside, and the wallet with its lock and journal.

use std::path::PathBuf;
use std::sync::Arc;

use drain_protocol::Address;
use drain_signers::Signer;
use tokio::sync::watch;

use super::payments::AllUnderway;
use super::services::{Purse, Services};
use super::supervisor::WithKey;
use crate::answers::Answers;
use crate::chain::Chain;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::http_client::{HttpClient, UrlPolicy};
use crate::journal::{Hold, Journal, Location, Lock};
use crate::marketplace::MarketplaceClient;
use crate::notify::Notifier;
use crate::provider::ProviderClient;

/// Whether money can be used, or why not.
#[derive(Clone)]
pub(super) enum Access {
    Key(Purse),
    Without(Failure),
}

/// Handles to the outside. Contacts nobody.
pub(super) fn services(config: Config) -> Result<Services, Failure> {
    let policy = UrlPolicy::new(&config.marketplace.directory_url, config.requests.allow_insecure);
    let http = HttpClient::new(policy);
    Ok(Services {
        provider: ProviderClient::new(http.clone()),
        marketplace: MarketplaceClient::new(http.clone(), &config.marketplace),
        http,
        chain: Chain::new(&config.chain)?,
        tempo: config.tempo.as_ref().map(Chain::new).transpose()?,
        clock: Clock::default(),
        notifier: Notifier::start(&config.notify),
        config: Arc::new(config),
    })
}

/// No key: what an agent tells its person.
pub(super) fn no_signer() -> Failure {
    Failure::unspent(
        Code::NoSigner,
        "No wallet is configured: listing and reading providers works, paying does not",
        "A person runs drain-mcp wallet new, sends it $1-5 of native USDC on Polygon and about 0.10 POL, and starts this again. \
         Or sets DRAIN_PRIVATE_KEY to the key of a dedicated wallet.",
    )
}

/// Where everything of a wallet lives: lock, journal, socket.
pub fn folder(config: &Config, address: Address) -> PathBuf {
    config.home.join(format!("{}-{address:#x}", config.chain.chain_id))
}

/// Where its journal lies.
pub fn location(config: &Config, address: Address) -> Location {
    let here = Location::new(folder(config, address));
    #[cfg(feature = "postgres")]
    if let Some(server) = &config.journal.server {
        return here.on(server.clone(), config.chain.chain_id, address);
    }
    here
}

/// Opens the journal of a wallet that this process holds, and reads what had not ended.
pub(super) async fn wallet(services: &Services, signer: Signer, hold: Hold) -> Result<(WithKey, Lock), Failure> {
    let address = signer.address();
    if let Some(now) = hold.server_time() {
        services.clock.follow(now);
    }
    let (journal, lock) = tokio::task::spawn_blocking(move || Journal::open(hold))
        .await
        .map_err(|e| Failure::internal(e.to_string()))??;
    let channels = journal.channels(false).await?;
    let answers = Answers::open(location(&services.config, address), services.config.requests.keep);
    let purse = Purse {
        address,
        journal,
        answers,
        signer: signer.capabilities(),
        decisions: watch::Sender::new(()),
        paid: Arc::default(),
        underway: AllUnderway::default(),
    };
    Ok((WithKey { purse, signer, channels }, lock))
}

/// Whether another process has the wallet at this moment. Makes nothing.
pub fn is_held(config: &Config, address: Address) -> bool {
    location(config, address).is_held()
}

/// The right to write the wallet's journal; `None` when another process has it.
pub(super) async fn take(location: Location) -> Result<Option<Hold>, Failure> {
    let taken = tokio::task::spawn_blocking(move || crate::journal::take(&location))
        .await
        .map_err(|e| Failure::internal(e.to_string()))?;
    Ok(taken?)
}
