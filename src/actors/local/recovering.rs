//! Channels that this journal does not know are found on chain (M10). What is found is *foreign*: shown, counted as locked,
//! and closed at expiry only; it is recorded as recovered (design section 4) and without the URL of a provider.

use std::collections::HashMap;

use drain_protocol::directory::Listing;
use drain_protocol::{ChannelId, Deployment};

use super::Local;
use crate::actors::directory::Read;
use crate::actors::opening::{base_url, check_pin};
use crate::actors::services::{Purse, Services, ask};
use crate::actors::supervisor::ChannelOpened;
use crate::actors::view;
use crate::api::{ChannelView, OpeningsFound, Progress, Recovery};
use crate::chain::Opening;
use crate::error::{Code, Failure};
use crate::journal::{Adopted, Found, NewChannel};

/// What is known and what is there, contract by contract.
pub(in crate::actors) async fn openings(services: &Services, purse: &Purse) -> Result<Vec<OpeningsFound>, Failure> {
    let mut all = Vec::new();
    for on in &services.config.chain.deployments {
        let on_chain = services.chain.opened_count(on, purse.address).await?;
        let known = purse.journal.known_openings(services.config.chain.chain_id, on.contract(), purse.address).await?;
        all.push(OpeningsFound { contract: on.contract(), generation: on.generation, on_chain, known });
    }
    Ok(all)
}

fn complete(found: &[OpeningsFound]) -> bool {
    found.iter().all(|on| on.known >= on.on_chain)
}

impl Local {
    /// Searches the contracts' events backwards until every opening is known, and goes on where an earlier search was
    /// broken off.
    pub(super) async fn recover(&self, progress: Progress) -> Result<Recovery, Failure> {
        let purse = self.purse()?.clone();
        let (journal, chain) = (&purse.journal, &self.services.chain);
        let mut found = 0;
        let head = chain.head().await?;
        self.services.clock.saw_block(head.timestamp);
        // Blocks that an earlier search read are not read again, but for the last ones: a reorg may have changed them.
        let mut done: Vec<(u64, u64)> = journal.searched().await?.into_iter().collect();
        let mut last = head.number;
        let mut openings_known = openings(&self.services, &purse).await?;
        while !complete(&openings_known) {
            if let Some((first, to)) = done.first().copied()
                && last <= to
            {
                done.clear();
                if first == 0 {
                    break;
                }
                last = first - 1;
            }
            let left: u64 = openings_known.iter().map(|on| on.on_chain.saturating_sub(on.known)).sum();
            progress.say(format!("block {last}: {left} openings to be found"));
            let (first, events) = chain.openings_before(purse.address, last).await?;
            for opening in events {
                found += u64::from(self.record_found(&purse, opening).await?);
            }
            if done.is_empty() {
                journal.set_searched((first, head.number.saturating_sub(256)), self.services.clock.now()).await?;
            }
            openings_known = openings(&self.services, &purse).await?;
            if first == 0 {
                break;
            }
            last = first - 1;
        }
        Ok(Recovery { complete: complete(&openings_known), found, contracts: openings_known })
    }

    /// Makes a foreign channel payable, by a person's word: the provider is the one that is named, or the only listing that
    /// has the channel's wallet.
    pub(super) async fn adopt(&self, channel: ChannelId, provider: Option<String>) -> Result<ChannelView, Failure> {
        let purse = self.purse()?;
        let record = self.record(channel).await?;
        let known = ask(&self.addresses().await?.directory, Read).await?;
        let fits = |listing: &&Listing| {
            listing.provider_address == record.provider_wallet
                && provider.as_ref().is_none_or(|wanted| *wanted == listing.id)
        };
        let mut listings = known.catalogue.listings.iter().filter(fits);
        let (Some(listing), None) = (listings.next(), listings.next()) else {
            return Err(Failure::unspent(
                Code::UnknownProvider,
                format!("Not exactly one listing has the wallet {} of this channel", record.provider_wallet),
                "Name the provider with --provider; without one the channel is closed at expiry.",
            ));
        };
        check_pin(&self.services, purse, listing).await?;
        let base = base_url(&listing.api_url)?;
        let (_, prices) = self.services.provider.pricing(&base).await.map_err(|e| e.into_failure(&listing.name))?;
        let adopted = Adopted {
            provider_id: listing.id.clone(),
            provider_name: listing.name.clone(),
            api_url: listing.api_url.clone(),
            category: listing.category.clone(),
            prices,
        };
        if !purse.journal.adopted(record.intent, adopted).await? {
            return Err(Failure::unspent(
                Code::ChannelNotOpen,
                "This channel is over, or it is not foreign: its provider is known",
                "List the channels with drain-mcp channels.",
            ));
        }
        let record = purse.journal.channel(record.intent).await?;
        let shown = view::channel(&record, self.services.clock.block_time());
        self.supervisor.do_send(ChannelOpened(Box::new(record)));
        Ok(shown)
    }

    /// True when it is new to the journal. One that is over is recorded too: so it is known what is missing.
    async fn record_found(&self, purse: &Purse, opening: Opening) -> Result<bool, Failure> {
        let (services, journal) = (&self.services, &purse.journal);
        let deployments: HashMap<_, &Deployment> =
            services.config.chain.deployments.iter().map(|on| (on.contract(), on)).collect();
        let Some(on) = deployments.get(&opening.contract) else { return Ok(false) };
        if journal.knows(services.config.chain.chain_id, opening.contract, opening.channel_id).await? {
            return Ok(false);
        }
        let on_chain = services.chain.channel(on, opening.channel_id).await?;
        let claimed = on_chain.as_ref().map(|channel| channel.claimed).unwrap_or_default();
        let name = opening.provider.to_string();
        let new = NewChannel {
            deployment: **on,
            consumer: purse.address,
            provider_id: name.clone(),
            provider_name: name,
            provider_wallet: opening.provider,
            api_url: String::new(),
            category: "llm".into(),
            prices: String::new(),
            deposit: opening.deposit,
            cap: opening.deposit.min(services.config.limits.per_channel),
            duration: 0,
            agent: services.config.agent.clone(),
            at: services.clock.now(),
        };
        let found = Found { claimed, signed: claimed, nonce_floor: services.clock.nonce_floor() };
        let record = journal.adopt(new, opening.channel_id, opening.expiry, found).await?;
        if on_chain.is_some() {
            self.supervisor.do_send(ChannelOpened(Box::new(record)));
        } else {
            // What came back, and to whom, nobody here knows: nothing is said of it.
            journal.found_closed(record.intent).await?;
        }
        Ok(true)
    }
}
