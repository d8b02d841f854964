//! The directory as people and agents see it.

use drain_protocol::Address;
use drain_protocol::directory::{Listing, ListingProtocol};

use super::directory::Known;
use super::opening::{base_url, differing, first_difference};
use super::services::Services;
use crate::api::{
    MAX_PROVIDERS, ModelSummary, ProviderDetails, ProviderPage, ProviderQuery, ProviderStanding, ProviderSummary,
};
use crate::error::Failure;
use crate::journal::{Journal, provider_key};
use crate::policy::score::{ProviderRecord, Score};
use crate::provider::contract_choice;

/// Providers on a page when nobody says.
const USUAL_LIMIT: usize = 50;
/// Most models of a provider that are shown.
const MAX_MODELS: usize = 200;

/// The listings that match, in the directory's order. MPP listings only when asked for: they cannot be paid here.
pub fn page(known: &Known, query: &ProviderQuery) -> ProviderPage {
    let wanted = query.protocol.as_deref().unwrap_or("drain");
    let matching: Vec<&Listing> = known
        .catalogue
        .listings
        .iter()
        .filter(|listing| protocol(listing).eq_ignore_ascii_case(wanted))
        .filter(|listing| !query.online_only || listing.online == Some(true))
        .filter(|listing| {
            query.category.as_ref().is_none_or(|category| listing.category.eq_ignore_ascii_case(category))
        })
        .filter(|listing| query.model.as_ref().is_none_or(|model| offers(listing, model)))
        .collect();
    let limit = query.limit.unwrap_or(USUAL_LIMIT).clamp(1, MAX_PROVIDERS as usize);
    ProviderPage {
        matched: matching.len(),
        providers: matching.into_iter().take(limit).map(summary).collect(),
        age_seconds: known.read_at.elapsed().as_secs(),
        stale: known.stale,
    }
}

fn offers(listing: &Listing, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    listing
        .models
        .iter()
        .any(|model| model.id.to_lowercase().contains(&wanted) || model.name.to_lowercase().contains(&wanted))
}

fn protocol(listing: &Listing) -> &str {
    match &listing.protocol {
        ListingProtocol::Drain => "drain",
        ListingProtocol::Mpp => "mpp",
        ListingProtocol::Other(name) => name,
    }
}

/// One listing.
pub fn summary(listing: &Listing) -> ProviderSummary {
    ProviderSummary {
        id: listing.id.clone(),
        name: listing.name.clone(),
        category: listing.category.clone(),
        protocol: protocol(listing).into(),
        payable: listing.protocol == ListingProtocol::Drain,
        online: listing.online,
        description: listing.description.clone(),
        wallet: listing.provider_address.to_string(),
        api_url: listing.api_url.clone(),
        min_duration: listing.min_duration,
        max_duration: listing.max_duration,
        standing: None,
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

/// Adds what the journal knows of these providers.
pub async fn add_standings(journal: &Journal, providers: &mut [ProviderSummary]) -> Result<(), Failure> {
    let key = |provider: &ProviderSummary| provider_key(&provider.wallet.to_lowercase(), &provider.api_url);
    let records = journal.provider_records(providers.iter().map(key).collect()).await?;
    for (provider, record) in providers.iter_mut().zip(records) {
        provider.standing = (record.first_at > 0).then(|| standing(record));
    }
    Ok(())
}

fn standing(record: ProviderRecord) -> ProviderStanding {
    let score = match record.score() {
        Score::New => None,
        Score::Known(score) => Some(score),
    };
    let ProviderRecord { answered, failed, refused, offences, disputed, set_aside, .. } = record;
    ProviderStanding { score, answered, failed, refused, offences, disputed, set_aside }
}

/// A listing with the provider's own word. A provider that does not answer is shown all the same, with a warning.
pub async fn details(services: &Services, listing: &Listing, catalogue_contract: Option<Address>) -> ProviderDetails {
    let mut details = ProviderDetails {
        listing: summary(listing),
        docs: None,
        contract: None,
        channels: Vec::new(),
        warnings: Vec::new(),
    };
    if listing.bad_checksum {
        details.warnings.push("the directory spells its wallet with a wrong checksum".into());
    }
    if listing.protocol != ListingProtocol::Drain {
        details.warnings.push("it is not paid by a channel: drain-mcp cannot pay it".into());
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
            catalogue_contract,
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
