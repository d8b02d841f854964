//! Channels that this journal does not know are found on chain (M10). What is found is *foreign*: shown, counted as locked,
//! and closed at expiry only; it is recorded as recovered (design section 4) and without the URL of a provider.

use alloy::eips::BlockNumberOrTag;
use drain_protocol::directory::Listing;
use drain_protocol::{Address, ChannelId, Usdc};

use super::Local;
use crate::actors::directory::Read;
use crate::actors::opening::{base_url, check_pin};
use crate::actors::services::{Purse, Services, ask};
use crate::actors::supervisor::ChannelOpened;
use crate::actors::view;
use crate::api::{ChannelView, OpeningsFound, Progress, Recovery, unknown};
use crate::chain::{ChainError, Opening};
use crate::error::{Code, Failure};
use crate::journal::{Adopted, FirstSight, Found, NewChannel, Whose};
use crate::policy::Caller;

/// Blocks at the end of what was read that are read again: a reorganisation may have changed them.
const READ_AGAIN: u64 = 256;

/// What is known, and what is there as of a final block, contract by contract.
pub(in crate::actors) async fn openings(services: &Services, purse: &Purse) -> Result<Vec<OpeningsFound>, Failure> {
    count(services, purse, None).await
}

/// The same. Of openings of ours that are on their way only those count as known that a search `found` on chain; without a
/// search, all: nobody need look for them.
async fn count(services: &Services, purse: &Purse, found: Option<&[Opening]>) -> Result<Vec<OpeningsFound>, Failure> {
    let (chain, chain_id) = (&services.chain, services.config.chain.chain_id);
    let mut all = Vec::new();
    for on in &services.config.chain.deployments {
        // The record first: what becomes final and known in between makes a search go on, never end too early.
        let recorded = purse.journal.known_openings(chain_id, on.contract(), purse.address).await?;
        let mut known = recorded.recorded;
        match found {
            None => known = known.saturating_add(recorded.opening),
            Some(found) => {
                for opening in found.iter().filter(|opening| opening.contract == on.contract()) {
                    known += u64::from(whose(services, purse, opening).await? == Whose::OnItsWay);
                }
            }
        }
        let last = BlockNumberOrTag::Number(chain.finalized_number().await?);
        let on_chain = chain.opened_count_at(on, purse.address, last).await?;
        all.push(OpeningsFound { contract: on.contract(), generation: on.generation, on_chain, known });
    }
    Ok(all)
}

async fn whose(services: &Services, purse: &Purse, opening: &Opening) -> Result<Whose, Failure> {
    let chain_id = services.config.chain.chain_id;
    Ok(purse.journal.whose(chain_id, opening.contract, opening.channel_id, opening.transaction).await?)
}

fn complete(found: &[OpeningsFound]) -> bool {
    found.iter().all(|on| on.known == on.on_chain)
}

impl Local {
    /// Searches the contracts' events backwards from the newest final block until every opening is known, and goes on where
    /// an earlier search was broken off. Blocks that an earlier search read are skipped, until the beginning is reached and
    /// something is missing all the same: then they are read too, since an endpoint may not have told all.
    pub(super) async fn recover(&self, progress: Progress) -> Result<Recovery, Failure> {
        let purse = self.purse()?.clone();
        let (journal, chain) = (&purse.journal, &self.services.chain);
        let head = chain.head().await?;
        self.services.clock.saw_block(head.timestamp);
        // What may still change is not searched: it is found when it is final.
        let newest = chain.finalized_number().await?.min(head.number);
        let contracts: Vec<Address> = self.services.config.chain.deployments.iter().map(|on| on.contract()).collect();
        let mut read_before = journal.searched(&contracts).await?;
        let (mut found, mut on_their_way, mut skipped): (u64, Vec<Opening>, bool) = (0, Vec::new(), false);
        // All blocks from this one on were read.
        let mut from = newest.saturating_add(1);
        let mut known = count(&self.services, &purse, Some(&on_their_way)).await?;
        while !complete(&known) {
            if from == 0 {
                journal.forget_searched().await?;
                if !skipped {
                    break;
                }
                progress.say("something is missing in what was read before; reading it again");
                (from, skipped) = (newest.saturating_add(1), false);
            }
            if let Some((first, last)) = read_before
                && from <= last.saturating_add(1)
            {
                (read_before, skipped, from) = (None, true, from.min(first));
                continue;
            }
            progress.say(format!("block {}: {} openings to be found", from - 1, unknown(&known)));
            let (first, events) = chain.openings_before(purse.address, from - 1).await?;
            for opening in events {
                match self.record_found(&purse, &opening).await? {
                    Whose::Known => {}
                    Whose::OnItsWay if on_their_way.contains(&opening) => {}
                    Whose::OnItsWay => on_their_way.push(opening),
                    Whose::Foreign => found += 1,
                }
            }
            from = first;
            if read_before.is_none() {
                let read = (first, newest.saturating_sub(READ_AGAIN));
                journal.set_searched(read, &contracts, self.services.clock.now()).await?;
            }
            known = count(&self.services, &purse, Some(&on_their_way)).await?;
        }
        let complete = complete(&known);
        if complete {
            journal.all_found(self.services.clock.now()).await?;
        }
        Ok(Recovery { complete, found, contracts: known })
    }

    /// Makes a foreign channel payable, by a person's word: the provider is the one that is named, or the only listing that
    /// has the channel's wallet.
    pub(super) async fn adopt(
        &self,
        channel: ChannelId,
        provider: Option<String>,
        caller: &Caller,
    ) -> Result<ChannelView, Failure> {
        let purse = self.purse()?;
        let record = self.record(channel, caller).await?;
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
        check_pin(&self.services, purse, listing, FirstSight::Pins).await?;
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

    /// Records an opening that is new to the journal; one that is over too, so that it is known what is missing. Whose it was
    /// before is the answer.
    async fn record_found(&self, purse: &Purse, opening: &Opening) -> Result<Whose, Failure> {
        let (services, chain) = (&self.services, &self.services.chain);
        let (contract, id) = (opening.contract, opening.channel_id);
        let Some(on) = services.config.chain.deployments.iter().find(|on| on.contract() == contract) else {
            return Ok(Whose::Known);
        };
        let whose = whose(services, purse, opening).await?;
        if whose != Whose::Foreign {
            return Ok(whose);
        }
        // An event is one node's word, and one that is behind knows no new channels: what is recorded as over is never
        // looked at again, so that takes two, at a final block.
        let over = chain.channel_is_gone(on, id, chain.finalized_number().await?).await?;
        let there = if over { None } else { chain.channel_agreed(on, id).await? };
        if there.is_some_and(|channel| channel.consumer != purse.address) {
            let what = format!("a node says that this wallet opened the channel {id}, which is another one's");
            return Err(ChainError::Disagreement { what }.into());
        }
        // Where it was closed a moment ago, the event is all that is known; the watcher sees the close.
        let (provider, deposit, expiry, claimed) = match there {
            Some(channel) => (channel.provider, channel.deposit, channel.expiry, channel.claimed),
            None => (opening.provider, opening.deposit, opening.expiry, Usdc::ZERO),
        };
        let name = provider.to_string();
        let new = NewChannel {
            deployment: *on,
            consumer: purse.address,
            provider_id: name.clone(),
            provider_name: name,
            provider_wallet: provider,
            api_url: String::new(),
            category: "llm".into(),
            prices: String::new(),
            deposit,
            cap: deposit.min(services.config.limits.per_channel),
            duration: 0,
            agent: services.config.agent.clone(),
            shared: false,
            at: services.clock.now(),
        };
        let found = Found { claimed, signed: claimed, nonce_floor: services.clock.nonce_floor(), over };
        let record = purse.journal.record_foreign(new, id, expiry, found).await?;
        // Of one that is over nobody here knows what came back, and to whom: nothing is said of it.
        if !over {
            self.supervisor.do_send(ChannelOpened(Box::new(record)));
        }
        Ok(whose)
    }
}
