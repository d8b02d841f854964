//! Channels of the TypeScript drain-mcp (`channels.json`), taken over as recovered ones (design section 4).
//!
//! That file may have lost updates, so nothing in it is believed but the ids and, as a lower bound, what was signed.
//! Deposit, provider and expiry come from the chain. The file itself is left as it is.

use std::collections::BTreeMap;
use std::path::Path;

use actix::Addr;
use alloy::primitives::Bytes;
use alloy::sol_types::SolCall;
use drain_protocol::contract::DrainChannel;
use drain_protocol::directory::Listing;
use drain_protocol::{ChannelId, Usdc};
use serde::Deserialize;

use super::directory::Read;
use super::opening::{base_url, check_pin};
use super::services::{Purse, Services, ask, gone};
use super::supervisor::{ChannelOpened, Find, Supervisor};
use crate::api::{Import, Imported, LeftBehind};
use crate::chain::OnChainChannel;
use crate::error::{Code, Failure};
use crate::journal::{FirstSight, Found, NewChannel};

/// The largest file that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The file's name in DRAIN_HOME.
const FILE: &str = "channels.json";

/// An entry: the newer form, or the older one that is a provider id alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Full {
        #[serde(rename = "providerId")]
        provider_id: String,
        #[serde(default)]
        spending: serde_json::Value,
    },
    ProviderId(String),
}

/// The calldata of a plain close, as we build it.
pub fn close_calldata(id: ChannelId) -> Bytes {
    DrainChannel::closeCall { channelId: id.0 }.abi_encode().into()
}

/// Takes the file's channels over in the background; a failure is said and tried again at the next start.
pub fn start(services: Services, purse: Purse, supervisor: Addr<Supervisor>) {
    tokio::spawn(async move {
        match read(&services.config.home.join(FILE)).await {
            Ok(left) => {
                let all = take_over(&services, &purse, &supervisor, left).await;
                for Imported { channel_id, outcome, message } in all {
                    match outcome {
                        Import::TakenOver => tracing::info!(channel = %channel_id, "taken over from channels.json"),
                        Import::Failed => {
                            let why = message.unwrap_or_default();
                            tracing::warn!(channel = %channel_id, %why, "not taken over from channels.json");
                        }
                        Import::Known | Import::NotThere => {}
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(reason) => tracing::warn!(%reason, "channels.json of the earlier drain-mcp cannot be read"),
        }
    });
}

/// The channels that such a file names; entries that make no sense are left out.
pub async fn read(path: &Path) -> std::io::Result<Vec<LeftBehind>> {
    let invalid = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let size = tokio::fs::metadata(path).await?.len();
    if size > MAX_BYTES {
        return Err(invalid(format!("it has {size} bytes")));
    }
    let text = tokio::fs::read(path).await?;
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
    Ok(entries
        .into_iter()
        .filter_map(|(id, value)| {
            let (provider, signed) = match serde_json::from_value(value).ok()? {
                Entry::Full { provider_id, spending } => (provider_id, spent(&spending)),
                Entry::ProviderId(provider_id) => (provider_id, Usdc::ZERO),
            };
            Some(LeftBehind { channel: id.parse().ok()?, provider, signed })
        })
        .collect())
}

/// Takes each over that the chain has for this wallet.
pub async fn take_over(
    services: &Services,
    purse: &Purse,
    supervisor: &Addr<Supervisor>,
    left: Vec<LeftBehind>,
) -> Vec<Imported> {
    let mut all = Vec::with_capacity(left.len());
    for left in left {
        let (outcome, message) = match adopt(services, purse, supervisor, &left).await {
            Ok((outcome, message)) => (outcome, message),
            Err(failure) => (Import::Failed, Some(format!("{}. {}", failure.message, failure.next))),
        };
        all.push(Imported { channel_id: left.channel.to_string(), outcome, message });
    }
    all
}

async fn adopt(
    services: &Services,
    purse: &Purse,
    supervisor: &Addr<Supervisor>,
    left: &LeftBehind,
) -> Result<(Import, Option<String>), Failure> {
    let (id, provider_id) = (left.channel, &left.provider);
    if let Some(known) = purse.journal.channel_by_id(services.config.chain.chain_id, id).await? {
        return Ok((Import::Known, payable_by(&known.api_url, id)));
    }
    for deployment in &services.config.chain.deployments {
        let Some(on_chain) = services.chain.channel(deployment, id).await? else { continue };
        if on_chain.consumer != purse.address {
            continue;
        }
        let mut listing = listing(services, purse, supervisor, provider_id, &on_chain).await?;
        let mut prices = String::new();
        if let Ok(base) = base_url(&listing.api_url) {
            match services.provider.pricing(&base).await {
                Ok((_, body)) => prices = body,
                Err(error) => {
                    let failure = error.into_failure(&listing.name);
                    tracing::warn!(%failure, "a channel of channels.json can be closed; drain-mcp channels adopt lets it be paid on once its provider tells prices");
                    listing.api_url.clear();
                }
            }
        }
        let channel = new_channel(services, purse, *deployment, provider_id, &listing, prices, &on_chain);
        let found = Found {
            claimed: on_chain.claimed,
            signed: left.signed.max(on_chain.claimed),
            nonce_floor: services.clock.nonce_floor(),
            over: false,
        };
        let record = purse.journal.record_foreign(channel, id, on_chain.expiry, found).await?;
        let message = payable_by(&record.api_url, id);
        supervisor.do_send(ChannelOpened(Box::new(record)));
        return Ok((Import::TakenOver, message));
    }
    Ok((Import::NotThere, None))
}

/// What lets a channel be paid on that has no provider's URL.
fn payable_by(api_url: &str, id: ChannelId) -> Option<String> {
    api_url
        .is_empty()
        .then(|| format!("it is closed at expiry; to pay on: drain-mcp channels adopt {id} --provider PROVIDER"))
}

/// Where the provider is reached, for the channel's whole life: an answer that does not tell it is an error, so that
/// the next start asks again. Without any URL only what nobody can pay any more is taken over, so that it is closed.
async fn listing(
    services: &Services,
    purse: &Purse,
    supervisor: &Addr<Supervisor>,
    provider_id: &str,
    on_chain: &OnChainChannel,
) -> Result<Listing, Failure> {
    if services.chain.head().await?.timestamp >= on_chain.expiry {
        return Ok(Listing::default());
    }
    let addresses = supervisor.send(Find).await.map_err(|error| gone(&error))?;
    let known = ask(&addresses.directory, Read).await?;
    let listed = |listing: &&Listing| listing.id == provider_id && listing.provider_address == on_chain.provider;
    let Some(listing) = known.catalogue.listings.iter().find(listed).cloned() else {
        if known.stale {
            return Err(Failure::unspent(
                Code::DirectoryUnavailable,
                "the directory does not answer, so nobody says where the provider is reached",
                "It is tried again at the next start.",
            ));
        }
        return Ok(Listing::default());
    };
    base_url(&listing.api_url)?;
    match check_pin(services, purse, &listing, FirstSight::Pins).await {
        Ok(()) => Ok(listing),
        Err(failure) if failure.code == Code::ProviderChanged => {
            tracing::warn!(%failure, "a channel of channels.json can be closed but not paid on");
            Ok(Listing { api_url: String::new(), ..listing })
        }
        Err(failure) => Err(failure),
    }
}

/// The file writes base units as a string.
fn spent(value: &serde_json::Value) -> Usdc {
    // A value that makes no sense only lowers a lower bound.
    value.as_str().and_then(|text| Usdc::parse_units(text).ok()).unwrap_or_default()
}

fn new_channel(
    services: &Services,
    purse: &Purse,
    deployment: drain_protocol::Deployment,
    provider_id: &str,
    listing: &Listing,
    prices: String,
    on_chain: &OnChainChannel,
) -> NewChannel {
    NewChannel {
        deployment,
        consumer: purse.address,
        provider_id: provider_id.into(),
        provider_name: if listing.name.is_empty() { provider_id.into() } else { listing.name.clone() },
        provider_wallet: on_chain.provider,
        api_url: listing.api_url.clone(),
        category: if listing.category.is_empty() { "llm".into() } else { listing.category.clone() },
        prices,
        deposit: on_chain.deposit,
        cap: on_chain.deposit.min(services.config.limits.per_channel),
        duration: 0,
        agent: services.config.agent.clone(),
        shared: false,
        at: services.clock.now(),
    }
}
