//! The directory as people and agents see it.

use std::collections::HashMap;

use drain_protocol::Usdc;
use drain_protocol::demand::Protocol;
use drain_protocol::directory::{Catalogue, ListedModel, Listing, ListingProtocol};

use super::directory::Known;
use super::naming;
use super::opening::{base_url, differing, first_difference};
use super::services::Services;
use crate::api::{
    Job, MAX_PROVIDERS, ModelSummary, Offer, ProviderDetails, ProviderPage, ProviderQuery, ProviderStanding,
    ProviderSummary,
};
use crate::config::ListedProvider;
use crate::journal::provider_key;
use crate::payment::is_built;
use crate::policy::ranking::Facts;
use crate::policy::score::{ProviderRecord, Score};
use crate::provider::contract_choice;

/// Providers on a page when nobody says.
const USUAL_LIMIT: usize = 100;
/// Most models of a provider that are shown.
const MAX_MODELS: usize = 200;

/// What our own requests say of providers, by wallet and host; of nobody where it is not the caller's to see.
pub type Records = HashMap<String, ProviderRecord>;

/// The listings that match, ranked. MPP listings only when asked for: no channel pays them. `own` are the ids that a
/// person listed.
pub fn page(known: &Known, query: &ProviderQuery, records: &Records, own: &[ListedProvider]) -> ProviderPage {
    let wanted = query.protocol.as_deref().unwrap_or("drain");
    let job = query.job.unwrap_or(Job::USUAL);
    let scale = quality_scale(&known.catalogue);
    let matching = known
        .catalogue
        .listings
        .iter()
        .filter(|listing| protocol(listing).eq_ignore_ascii_case(wanted))
        .filter(|listing| !query.online_only || listing.online == Some(true))
        .filter(|listing| {
            query.category.as_ref().is_none_or(|category| listing.category.eq_ignore_ascii_case(category))
        })
        .filter(|listing| query.model.as_ref().is_none_or(|model| offers(listing, model)))
        .map(|listing| {
            let offer = offer(listing, query.model.as_deref(), job);
            let facts = Facts {
                quality: quality(listing, scale),
                cost: offer.as_ref().and_then(|offer| offer.cost),
                ..facts(listing, records, own)
            };
            (listing, offer, facts)
        })
        .filter(|(.., facts)| suits(facts, query));
    let mut ranked: Vec<(&Listing, Option<Offer>, Facts)> = matching.collect();
    ranked.sort_by_cached_key(|(.., facts)| facts.rank(query.sort));
    let (limit, page) = (query.limit.unwrap_or(USUAL_LIMIT), query.page.unwrap_or(1).max(1));
    let limit = limit.clamp(1, MAX_PROVIDERS as usize);
    let short = naming::short_ids(&known.catalogue);
    let matched = ranked.len();
    let shown = ranked.into_iter().skip((page - 1).saturating_mul(limit)).take(limit);
    let providers = shown.map(|(listing, offer, facts)| {
        let short_id = short.get(listing.id.as_str()).unwrap_or(&listing.id).clone();
        ProviderSummary { short_id, offer, quality: facts.quality, ..summary(listing, records) }
    });
    ProviderPage {
        providers: providers.collect(),
        matched,
        page,
        next_page: (page.saturating_mul(limit) < matched).then_some(page + 1),
        age_seconds: known.read_at.elapsed().as_secs(),
        stale: known.stale,
    }
}

/// What is known of a provider, but for what its models cost and how good they are.
pub fn facts(listing: &Listing, records: &Records, own: &[ListedProvider]) -> Facts {
    let record = records.get(&key(listing));
    Facts {
        payable: listing.protocol == ListingProtocol::Drain,
        by_person: own.iter().any(|own| own.id == listing.id),
        online: listing.online,
        latency_ms: listing.latency_ms,
        quality: None,
        set_aside: record.is_some_and(|record| record.set_aside.is_some()),
        score: record.and_then(points),
        cost: None,
    }
}

/// The cheapest of the models that match.
fn offer(listing: &Listing, model: Option<&str>, job: Job) -> Option<Offer> {
    let wanted = model.map(str::to_lowercase);
    let matching = listing.models.iter().filter(|known| wanted.as_ref().is_none_or(|wanted| is_like(known, wanted)));
    let priced = matching.map(|known| (known, known.price.and_then(|price| job.cost(&listing.category, &price))));
    let (known, cost) = priced.min_by_key(|(_, cost)| cost.unwrap_or(Usdc::MAX))?;
    Some(Offer { model: known.id.clone(), cost })
}

/// What is not known suits no bound.
fn suits(facts: &Facts, query: &ProviderQuery) -> bool {
    query.max_price.is_none_or(|most| facts.cost.is_some_and(|cost| cost <= most))
        && query.max_latency_ms.is_none_or(|most| facts.latency_ms.is_some_and(|ms| ms <= most))
        && query.min_quality.is_none_or(|least| facts.quality.is_some_and(|quality| quality >= least))
        && query.min_score.is_none_or(|least| facts.score.is_some_and(|score| score >= least))
}

/// By what the directory's measure of quality is multiplied: it has been seen from 0 to 1 and from 0 to 100.
fn quality_scale(catalogue: &Catalogue) -> f64 {
    let of_a_hundred = catalogue.listings.iter().any(|listing| listing.quality_score.is_some_and(|score| score > 1.0));
    if of_a_hundred { 1.0 } else { 100.0 }
}

/// 0 to 100.
fn quality(listing: &Listing, scale: f64) -> Option<u8> {
    listing.quality_score.map(|score| (score * scale).clamp(0.0, 100.0).round() as u8)
}

fn offers(listing: &Listing, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    listing.models.iter().any(|model| is_like(model, &wanted))
}

/// `wanted` in lower case.
fn is_like(model: &ListedModel, wanted: &str) -> bool {
    model.id.to_lowercase().contains(wanted) || model.name.to_lowercase().contains(wanted)
}

fn protocol(listing: &Listing) -> &str {
    match &listing.protocol {
        ListingProtocol::Drain => "drain",
        ListingProtocol::Mpp => "mpp",
        ListingProtocol::Other(name) => name,
    }
}

/// Which tool asks and pays it. Whether an MPP service is paid on this chain only its own 402 tells.
fn tool(listing: &Listing) -> &'static str {
    match listing.protocol {
        ListingProtocol::Drain => "drain_chat",
        ListingProtocol::Mpp if !is_built(Protocol::Mpp) => "",
        ListingProtocol::Mpp if listing.mpp_rest => "mpp_request",
        ListingProtocol::Mpp => "mpp_chat",
        ListingProtocol::Other(_) => "",
    }
}

/// One listing.
fn summary(listing: &Listing, records: &Records) -> ProviderSummary {
    ProviderSummary {
        id: listing.id.clone(),
        short_id: listing.id.clone(),
        name: listing.name.clone(),
        category: listing.category.clone(),
        protocol: protocol(listing).into(),
        payable: !tool(listing).is_empty(),
        tool: tool(listing).into(),
        online: listing.online,
        latency_ms: listing.latency_ms,
        quality: None,
        description: listing.description.clone(),
        wallet: listing.provider_address.to_string(),
        api_url: listing.api_url.clone(),
        min_duration: listing.min_duration,
        max_duration: listing.max_duration,
        offer: None,
        standing: records.get(&key(listing)).filter(|record| record.first_at > 0).map(standing),
        models: listing
            .models
            .iter()
            .take(MAX_MODELS)
            .map(|model| ModelSummary {
                id: model.id.clone(),
                price: model.price.as_ref().map_or_else(|| "unknown".into(), ToString::to_string),
            })
            .collect(),
    }
}

/// Whose record it is.
pub fn key(listing: &Listing) -> String {
    provider_key(&format!("{:#x}", listing.provider_address), &listing.api_url)
}

fn points(record: &ProviderRecord) -> Option<u8> {
    match record.score() {
        Score::New => None,
        Score::Known(score) => Some(score),
    }
}

/// What a record says of its provider.
pub fn standing(record: &ProviderRecord) -> ProviderStanding {
    ProviderStanding {
        score: points(record),
        answered: record.answered,
        failed: record.failed,
        refused: record.refused,
        offences: record.offences,
        disputed: record.disputed,
        set_aside: record.set_aside.clone(),
    }
}

/// A listing with the provider's own word. A provider that does not answer is shown all the same, with a warning.
pub async fn details(services: &Services, listing: &Listing, known: &Known, records: &Records) -> ProviderDetails {
    let scale = quality_scale(&known.catalogue);
    let mut details = ProviderDetails {
        listing: ProviderSummary { quality: quality(listing, scale), ..summary(listing, records) },
        docs: None,
        contract: None,
        channels: Vec::new(),
        warnings: Vec::new(),
    };
    if listing.bad_checksum {
        details.warnings.push("the directory spells its wallet with a wrong checksum".into());
    }
    if listing.protocol != ListingProtocol::Drain {
        details.warnings.push(match tool(listing) {
            "" => "it is not paid by a channel: drain-mcp cannot pay it".into(),
            tool => format!(
                "it is paid request by request with {tool}, without a channel; its price is what it asks for then"
            ),
        });
        return details;
    }
    let base = match base_url(&listing.api_url) {
        Ok(base) => base,
        Err(failure) => {
            details.warnings.push(failure.message);
            return details;
        }
    };
    let provider = &services.provider;
    let (prices, discovery, docs) =
        futures::join!(provider.pricing(&base), provider.discover(&base), provider.docs(&base));
    match prices {
        Ok((own, _)) => {
            details.listing.models = own
                .models
                .iter()
                .take(MAX_MODELS)
                .map(|(id, model)| ModelSummary { id: id.clone(), price: model.price.to_string() })
                .collect();
            if let Some(model) = first_difference(listing, &own) {
                details.warnings.push(differing(model));
            }
            if own.provider.is_some_and(|wallet| wallet != listing.provider_address) {
                details
                    .warnings
                    .push("it names another wallet than the directory does: opening will be refused".into());
            }
        }
        Err(error) => {
            details.warnings.push(format!("it does not tell its prices ({error}); these are the directory's"))
        }
    }
    match discovery {
        Ok(discovery) => match contract_choice::choose(
            &services.config.chain.deployments,
            services.config.chain.generation,
            discovery.as_ref(),
            known.catalogue.contract,
        ) {
            Ok((_, choice)) => details.contract = Some(choice),
            Err(failure) => details.warnings.push(failure.message),
        },
        Err(error) => details.warnings.push(format!("it does not answer: {error}")),
    }
    match docs {
        Ok(docs) => details.docs = Some(docs),
        Err(error) => details.warnings.push(format!("no instructions: {error}")),
    }
    details
}
