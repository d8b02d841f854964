//! Before a channel is opened: which provider, contract, duration and prices. No money moves here (design section 6, M14).

use actix::Addr;
use drain_protocol::directory::{Catalogue, Listing, ListingProtocol};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::pricing::PriceList;
use drain_protocol::text::{quoted, shell_word};
use drain_protocol::{Address, Generation, Usdc};
use reqwest::Url;

use super::directory::{DirectoryActor, Read};
use super::services::{Purse, Services, ask};
use super::view;
use super::wallet::OpenPlan;
use crate::api::{ContractChoice, OpenRequest, Progress};
use crate::error::{Code, Failure};
use crate::journal::{FirstSight, NewChannel, PinCheck, provider_key};
use crate::policy::limits::Party;
use crate::policy::prices::risen;
use crate::policy::{Caller, Limits};
use crate::provider::contract_choice;

/// Below this a V2 provider's auto-claim may come before our close (protocol.md section 8).
const SHORT: u64 = 2 * 3_600;

/// Everything that opening needs, and what to tell the caller.
#[derive(Debug)]
pub struct Prepared {
    /// For the wallet.
    pub plan: OpenPlan,
    /// Which contract, and why.
    pub choice: ContractChoice,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Finds a listing by id, or by a wallet that exactly one listing has.
pub fn find<'a>(catalogue: &'a Catalogue, wanted: &str) -> Result<&'a Listing, Failure> {
    let wanted = wanted.trim();
    if let Some(listing) = catalogue.listings.iter().find(|listing| listing.id == wanted) {
        return Ok(listing);
    }
    if catalogue.ambiguous.contains(wanted) {
        return Err(Failure::unspent(
            Code::AmbiguousProvider,
            format!("the directory lists several providers with the id {}, at different places", quoted(wanted, 80)),
            "Use another provider, and tell the marketplace. A person who knows the right one lists it in the configuration, with id, URL and wallet.",
        ));
    }
    let Ok(wallet) = wanted.parse::<Address>() else {
        return Err(Failure::unspent(
            Code::UnknownProvider,
            format!("no provider with the id {} is in the directory", quoted(wanted, 80)),
            "List the ids with drain_providers.",
        ));
    };
    let same: Vec<&Listing> = catalogue
        .listings
        .iter()
        .filter(|listing| listing.provider_address == wallet && listing.protocol == ListingProtocol::Drain)
        .collect();
    match same.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::unspent(
            Code::UnknownProvider,
            format!("no provider with the wallet {wallet} is in the directory"),
            "List the providers with drain_providers. Another one must be listed by a person in the configuration, with id, URL and wallet.",
        )),
        many => {
            let ids: Vec<&str> = many.iter().map(|listing| listing.id.as_str()).take(20).collect();
            Err(Failure::unspent(
                Code::AmbiguousProvider,
                format!("{} providers share the wallet {wallet}", many.len()),
                format!(
                    "Open with one of the ids: {}.",
                    ids.iter().map(|id| quoted(id, 80)).collect::<Vec<_>>().join(", ")
                ),
            ))
        }
    }
}

/// A provider's base URL. Whether it may be contacted is the HTTP client's to say (M14).
pub fn base_url(api_url: &str) -> Result<Url, Failure> {
    api_url.parse().map_err(|error| {
        Failure::unspent(
            Code::UrlRefused,
            format!("the provider's URL is malformed: {error}"),
            "Use another provider, and tell the marketplace.",
        )
    })
}

/// Checks provider, contract, duration and prices, in that order, and pins what must not change (M14), unless somebody only
/// looks.
pub async fn prepare(
    services: &Services,
    purse: &Purse,
    directory: &Addr<DirectoryActor>,
    request: &OpenRequest,
    caller: &Caller,
    first: FirstSight,
    progress: &Progress,
) -> Result<Prepared, Failure> {
    if request.amount.is_zero() {
        return Err(Failure::argument("amount", "a deposit of zero opens nothing"));
    }
    let limits = &caller.limits;
    let cap = usable_cap(limits, request)?;
    let known = ask(directory, Read).await?;
    let listing = find(&known.catalogue, &request.provider)?;
    check_listing(services, purse, listing)?;
    let base = base_url(&listing.api_url)?;
    check_lists(limits, listing, &base)?;
    let provider = provider_key(&format!("{:#x}", listing.provider_address), &listing.api_url);
    purse.journal.check_set_aside(provider, listing.id.clone()).await?;
    let mut warnings = Vec::new();
    let duration = duration(services, limits, listing, request.duration)?;
    check_pin(services, purse, listing, first).await?;

    let name = quoted(&listing.name, 60);
    progress.say(format!("reaching {name}"));
    let (prices, prices_body) = services.provider.pricing(&base).await.map_err(|e| e.into_failure(&listing.name))?;
    let mismatch = |what: &str| {
        Failure::unspent(
            Code::ProviderMismatch,
            format!("{name}: {what}"),
            "Use another provider, and tell the marketplace.",
        )
    };
    if prices.provider.is_some_and(|wallet| wallet != listing.provider_address) {
        return Err(mismatch("the provider names another wallet than the directory does"));
    }
    if prices.chain_id.is_some_and(|chain| chain != services.config.chain.chain_id) {
        return Err(mismatch("the provider works on another chain"));
    }
    if prices.models.is_empty() {
        return Err(mismatch("the provider offers no model"));
    }
    check_prices(purse, listing, &prices, &prices_body, services.config.requests.price_tolerance_percent, first)
        .await?;
    if let Some(model) = first_difference(listing, &prices) {
        warnings.push(differing(model));
    }
    let discovery = services.provider.discover(&base).await.map_err(|e| e.into_failure(&listing.name))?;
    if discovery.as_ref().and_then(|d| d.provider).is_some_and(|wallet| wallet != listing.provider_address) {
        return Err(mismatch("the provider asks for payment to another wallet than the directory names"));
    }
    let (deployment, choice) = contract_choice::choose(
        &services.config.chain.deployments,
        services.config.chain.generation,
        discovery.as_ref(),
        known.catalogue.contract,
    )?;
    check_contract(services, purse, listing, deployment.contract(), first).await?;
    if deployment.generation == Generation::V2 && duration.seconds() < SHORT {
        warnings.push("under 2 h the provider usually claims before a cooperative close: what is left then comes back only at expiry".into());
    }
    let fee_wallet = match deployment.generation {
        Generation::V1 => fee_wallet(services, purse, first).await?,
        Generation::V2 => None,
    };
    if request.cap.is_some_and(|asked| asked > limits.per_channel) {
        warnings.push(format!("cap was kept at {cap} USDC: only a person raises DRAIN_MAX_PER_CHANNEL"));
    }
    let channel = NewChannel {
        deployment,
        consumer: purse.address,
        provider_id: listing.id.clone(),
        provider_name: listing.name.clone(),
        provider_wallet: listing.provider_address,
        api_url: listing.api_url.clone(),
        category: listing.category.clone(),
        prices: prices_body,
        deposit: request.amount,
        cap,
        duration: duration.seconds(),
        agent: caller.agent.clone(),
        // Who wishes for a cap of its own wants a channel of its own.
        shared: caller.shares() && request.cap.is_none(),
        at: services.clock.now(),
    };
    Ok(Prepared { plan: OpenPlan { channel, duration, fee_wallet }, choice, warnings })
}

/// The most that the channel's vouchers may reach (M3): the operator's limit, or a lower cap of the caller's own wish. No
/// deposit is above the limit: the rest could not be used before expiry.
fn usable_cap(limits: &Limits, request: &OpenRequest) -> Result<Usdc, Failure> {
    let limit = limits.per_channel;
    if request.amount > limit {
        return Err(Failure::unspent(
            Code::LimitReached,
            format!(
                "a deposit of {} USDC is above what one channel may spend: {limit} USDC (DRAIN_MAX_PER_CHANNEL)",
                request.amount
            ),
            format!("Open with {limit} USDC at most, or let a person raise DRAIN_MAX_PER_CHANNEL."),
        ));
    }
    Ok(limit.min(request.cap.unwrap_or(limit)))
}

fn check_listing(services: &Services, purse: &Purse, listing: &Listing) -> Result<(), Failure> {
    if listing.protocol != ListingProtocol::Drain {
        return Err(Failure::unspent(
            Code::NotPayable,
            format!("{} is not paid by a channel", quoted(&listing.name, 60)),
            "It is paid request by request: mpp_chat or pay_request. For a channel use a provider of the protocol drain.",
        ));
    }
    if listing.chain_id != services.config.chain.chain_id {
        return Err(Failure::unspent(
            Code::ProviderMismatch,
            format!(
                "{} works on chain {}, this wallet on {}",
                quoted(&listing.name, 60),
                listing.chain_id,
                services.config.chain.chain_id
            ),
            "Use a provider of this chain.",
        ));
    }
    if listing.provider_address.is_zero() || listing.provider_address == purse.address {
        return Err(Failure::unspent(
            Code::ProviderMismatch,
            format!("{} names the zero address, or this very wallet, as its own", quoted(&listing.name, 60)),
            "Use another provider.",
        ));
    }
    Ok(())
}

/// Whether the operator's lists allow to pay this provider: asked before it is contacted.
fn check_lists(limits: &Limits, listing: &Listing, base: &Url) -> Result<(), Failure> {
    let party = Party {
        id: &listing.id,
        wallet: listing.provider_address,
        host: base.host_str().unwrap_or_default(),
        category: &listing.category,
    };
    Ok(limits.parties.check(party)?)
}

/// The caller's wish, or the default; both within what the operator allows and the provider states. Outside is refused
/// with the numbers.
fn duration(
    services: &Services,
    limits: &Limits,
    listing: &Listing,
    wanted: Option<ChannelDuration>,
) -> Result<ChannelDuration, Failure> {
    let least = listing.min_duration.unwrap_or(0);
    let most = listing.max_duration.filter(|most| *most > 0).unwrap_or(u64::MAX);
    let usual = services.config.requests.default_duration;
    let refuse = |seconds: u64| {
        let limit = |seconds: u64| {
            if seconds == u64::MAX { "no limit".into() } else { format!("{} ({seconds} s)", view::seconds(seconds)) }
        };
        Failure::unspent(
            Code::DurationRefused,
            format!(
                "{} takes channels of {} to {}; {} ({seconds} s) is outside",
                quoted(&listing.name, 60),
                limit(least),
                limit(most),
                view::seconds(seconds)
            ),
            "Call again with a duration within.",
        )
    };
    let allowed = limits.max_duration.seconds();
    let duration = match wanted {
        Some(duration) => duration,
        None => ChannelDuration::from_seconds(usual.seconds().min(allowed).max(least).min(most))
            .map_err(|_| refuse(usual.seconds()))?,
    };
    if !(least..=most).contains(&duration.seconds()) {
        return Err(refuse(duration.seconds()));
    }
    if duration.seconds() > allowed {
        // A deposit is locked for as long, whatever becomes of the provider.
        let allowed = view::seconds(allowed);
        return Err(Failure::unspent(
            Code::LimitReached,
            format!(
                "a channel of {} to {} is longer than the limit of {allowed} (DRAIN_MAX_DURATION)",
                view::seconds(duration.seconds()),
                quoted(&listing.name, 60)
            ),
            "Use a shorter duration, or let a person raise DRAIN_MAX_DURATION.",
        ));
    }
    Ok(duration)
}

/// URL and wallet as when the id was first used (M14).
pub async fn check_pin(
    services: &Services,
    purse: &Purse,
    listing: &Listing,
    first: FirstSight,
) -> Result<(), Failure> {
    let check = purse
        .journal
        .check_provider_pin(
            listing.id.clone(),
            listing.api_url.clone(),
            listing.provider_address,
            first,
            services.clock.now(),
        )
        .await?;
    match check {
        PinCheck::Holds => Ok(()),
        PinCheck::Changed { before } => Err(Failure::unspent(
            Code::ProviderChanged,
            format!(
                "{} had URL {} and wallet {} when it was first used; now the directory says {} and {:#x}",
                quoted(&listing.id, 80),
                quoted(&before.api_url, 120),
                before.wallet,
                quoted(&listing.api_url, 120),
                listing.provider_address
            ),
            format!(
                "A person who knows that the change is right runs: drain-mcp providers --trust {}",
                shell_word(&listing.id)
            ),
        )),
    }
}

/// No price above the one that was pinned when the id was first used, beyond the operator's tolerance.
async fn check_prices(
    purse: &Purse,
    listing: &Listing,
    now: &PriceList,
    body: &str,
    tolerance: u32,
    first: FirstSight,
) -> Result<(), Failure> {
    let pinned = purse.journal.pinned_prices(listing.id.clone(), body.to_owned(), first).await?;
    let before = PriceList::parse(pinned.as_bytes()).unwrap_or_default();
    let Some(model) = risen(&before, now, tolerance) else { return Ok(()) };
    let price = |list: &PriceList| list.models.get(model).map_or_else(String::new, |model| model.price.to_string());
    Err(Failure::unspent(
        Code::ProviderChanged,
        format!(
            "{} raised the price of {} by more than {tolerance} %: it was {}, now it is {}",
            quoted(&listing.name, 60),
            quoted(model, 80),
            price(&before),
            price(now)
        ),
        format!("A person who accepts that runs: drain-mcp providers --trust {}", shell_word(&listing.id)),
    ))
}

/// The contract as when the id was first used, unless the operator chose: on another one there may be a fee, and no way
/// out before expiry.
async fn check_contract(
    services: &Services,
    purse: &Purse,
    listing: &Listing,
    contract: Address,
    first: FirstSight,
) -> Result<(), Failure> {
    let by_operator = services.config.chain.generation.is_some();
    match purse.journal.check_contract_pin(listing.id.clone(), contract, by_operator, first).await? {
        PinCheck::Holds => Ok(()),
        PinCheck::Changed { before } => Err(Failure::unspent(
            Code::ProviderChanged,
            format!(
                "{} was paid on the contract {before} when it was first used; now it leads to {contract:#x}",
                quoted(&listing.name, 60)
            ),
            format!("A person who accepts that runs: drain-mcp providers --trust {}", shell_word(&listing.id)),
        )),
    }
}

/// The marketplace's fee wallet, as when it was first seen (design section 6).
async fn fee_wallet(services: &Services, purse: &Purse, first: FirstSight) -> Result<Option<Address>, Failure> {
    let config = services.marketplace.fee_config().await.map_err(|error| {
        Failure::unspent(
            Code::DirectoryUnavailable,
            format!("the marketplace does not tell its fee wallet: {error}"),
            "Call again in a while.",
        )
    })?;
    let Some(wallet) = config.fee_wallet else { return Ok(None) };
    match purse.journal.check_fee_wallet_pin(services.config.chain.chain_id, wallet, first).await? {
        PinCheck::Holds => Ok(Some(wallet)),
        PinCheck::Changed { before } => Err(Failure::unspent(
            Code::ProviderChanged,
            format!("the marketplace's fee wallet was {before}; now it says {wallet:#x}"),
            "A person who knows that the change is right runs: drain-mcp providers --trust-fee-wallet",
        )),
    }
}

/// The remark about a listing whose price is not the provider's.
pub fn differing(model: &str) -> String {
    format!("the provider's own price of {} differs from its listing; its own counts", quoted(model, 80))
}

/// The first model that the directory lists at another price than the provider's own.
pub fn first_difference<'a>(listing: &'a Listing, own: &PriceList) -> Option<&'a str> {
    listing.models.iter().find(|model| differs(model, own)).map(|model| model.id.as_str())
}

fn differs(listed: &drain_protocol::directory::ListedModel, own: &drain_protocol::pricing::PriceList) -> bool {
    match (&listed.price, own.models.get(&listed.id)) {
        (Some(price), Some(model)) => *price != model.price,
        _ => false,
    }
}
