//! A request that names a model in place of a provider: which of those that a person allowed by name is paid for it, by price,
//! health and our record.

use drain_protocol::directory::{ListedModel, Listing};
use drain_protocol::text::quoted;

use super::Local;
use crate::actors::{listing, opening};
use crate::api::{Job, OfferedModel, ProviderWish};
use crate::error::{Code, Failure};
use crate::journal::JournalError;
use crate::policy::Caller;
use crate::policy::choice::{Wanted, is_by_token};
use crate::policy::limits::Party;
use crate::policy::ranking::Facts;

/// Models that a refusal names.
const SHOWN: usize = 20;

/// A model of a provider that a person allowed.
struct Offered<'a> {
    listing: &'a Listing,
    model: &'a ListedModel,
}

impl Local {
    /// What may be named.
    pub(super) async fn models(&self, caller: &Caller) -> Result<Vec<OfferedModel>, Failure> {
        let known = self.catalogue().await?;
        let models = offered(&known.catalogue.listings, caller)?.into_iter().map(|offered| OfferedModel {
            provider_id: offered.listing.id.clone(),
            model: offered.model.id.clone(),
            price: offered.model.price.map(|price| price.to_string()).unwrap_or_default(),
        });
        Ok(models.collect())
    }

    /// Whom a request for this model is sent to, and the model as that one calls it.
    pub(super) async fn selected(
        &self,
        model: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(ProviderWish, String), Failure> {
        let known = self.catalogue().await?;
        let offered = offered(&known.catalogue.listings, caller)?;
        let mut named: Vec<&Offered<'_>> = offered.iter().filter(|offered| offered.is_of_provider(model)).collect();
        if named.is_empty() {
            named = offered.iter().filter(|offered| offered.model.id == model.trim()).collect();
        }
        if named.is_empty() {
            return Err(unknown(model, &offered));
        }
        if caller.limits.auto_open.is_none() {
            self.keep_those_with_a_channel(&mut named, caller).await?;
        }
        let records = self.purse()?.journal.provider_records().await?;
        let job = Job {
            input_tokens: u32::try_from(wanted.input_tokens).unwrap_or(u32::MAX),
            output_tokens: wanted.max_tokens,
        };
        let ranked = named.iter().filter_map(|offered| {
            let cost = offered.model.price.and_then(|price| job.cost(&offered.listing.category, &price));
            let facts = listing::facts(offered.listing, &records, &self.services.config.providers);
            Some((Facts { cost, ..facts }.chosen()?, offered))
        });
        let Some((_, best)) = ranked.min_by(|(a, _), (b, _)| a.cmp(b)) else {
            let set_aside = named.iter().find_map(|offered| {
                let reason = records.get(&listing::key(offered.listing))?.set_aside.clone()?;
                Some(JournalError::SetAside { provider_id: offered.listing.id.clone(), reason })
            });
            return Err(set_aside.map_or_else(|| all_offline(model), Failure::from));
        };
        let wish = ProviderWish { provider: best.listing.id.clone(), max_deposit: None, duration: None };
        Ok((wish, best.model.id.clone()))
    }

    /// Where nothing may be opened, who has an open channel comes before who is cheaper.
    async fn keep_those_with_a_channel(&self, named: &mut Vec<&Offered<'_>>, caller: &Caller) -> Result<(), Failure> {
        let mut open = Vec::new();
        for offered in named.iter() {
            if !self.channels_to(&offered.listing.id, caller).await?.is_empty() {
                open.push(*offered);
            }
        }
        if !open.is_empty() {
            *named = open;
        }
        Ok(())
    }
}

/// Every model that this caller may name: of the providers that a person allowed by name, and that answer as an LLM does.
fn offered<'a>(listings: &'a [Listing], caller: &Caller) -> Result<Vec<Offered<'a>>, Failure> {
    let parties = &caller.limits.parties;
    if !parties.names_whom() {
        return Err(Failure::unspent(
            Code::NotAllowed,
            "no provider is allowed by name, and a model alone chooses only among those",
            "A person allows some: drain-mcp agents add NAME --allow-providers ID, or DRAIN_ALLOW_PROVIDERS.",
        ));
    }
    let allowed = listings.iter().filter(|listing| {
        let host = opening::base_url(&listing.api_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let party = Party {
            id: &listing.id,
            wallet: listing.provider_address,
            host: host.as_deref().unwrap_or_default(),
            category: &listing.category,
        };
        parties.check(party).is_ok()
    });
    let models = allowed.flat_map(|listing| {
        let chats = listing
            .models
            .iter()
            .filter(|model| model.price.is_some_and(|price| is_by_token(&listing.category, &price)));
        chats.map(move |model| Offered { listing, model })
    });
    Ok(models.collect())
}

impl Offered<'_> {
    /// Whether it is called `provider/model`. Ids of models may hold a slash themselves: who is called so by its own id comes
    /// before a model of somebody else's with the same name.
    fn is_of_provider(&self, name: &str) -> bool {
        let of_this = name.trim().strip_prefix(self.listing.id.as_str()).and_then(|rest| rest.strip_prefix('/'));
        of_this == Some(&self.model.id)
    }
}

fn all_offline(model: &str) -> Failure {
    Failure::unspent(
        Code::ProviderUnreachable,
        format!("no allowed provider of {} is online", quoted(model, 80)),
        "Call again later, or take another model.",
    )
}

fn unknown(model: &str, offered: &[Offered<'_>]) -> Failure {
    let mut names: Vec<&str> = offered.iter().map(|offered| offered.model.id.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    let mut shown = names.iter().take(SHOWN).map(|name| quoted(name, 80)).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    Failure::unspent(
        Code::UnknownModel,
        format!("no allowed provider offers the model {}", quoted(model, 80)),
        if shown.is_empty() {
            "The allowed providers offer no model; a person allows others.".into()
        } else {
            format!("Use one of: {shown}.")
        },
    )
}
