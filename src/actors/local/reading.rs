//! What is only looked at: directory, wallet, channels.

use drain_protocol::ChannelId;

use super::Local;
use crate::actors::directory::{Known, Read};
use crate::actors::services::ask;
use crate::actors::wallet::Balance;
use crate::actors::{import, listing, opening, view};
use crate::api::{ChannelState, ChannelView, ProviderDetails, ProviderPage, ProviderQuery, WalletView};
use crate::error::Failure;

impl Local {
    async fn catalogue(&self) -> Result<Known, Failure> {
        ask(&self.addresses().await?.directory, Read).await
    }

    /// The directory, filtered.
    pub(super) async fn providers(&self, query: ProviderQuery) -> Result<ProviderPage, Failure> {
        let mut page = listing::page(&self.catalogue().await?, &query);
        if let Ok(purse) = self.purse() {
            listing::add_standings(&purse.journal, &mut page.providers).await?;
        }
        Ok(page)
    }

    /// One provider, with its own prices and instructions.
    pub(super) async fn provider(&self, id: &str) -> Result<ProviderDetails, Failure> {
        let known = self.catalogue().await?;
        let found = opening::find(&known.catalogue, id)?;
        let mut details = listing::details(&self.services, found, known.catalogue.contract).await;
        if let Ok(purse) = self.purse() {
            if details.docs.is_some() {
                purse.journal.docs_read(found.id.clone(), self.services.clock.now()).await?;
            }
            listing::add_standings(&purse.journal, std::slice::from_mut(&mut details.listing)).await?;
            let now = self.services.clock.block_time();
            let channels = purse.journal.channels(false).await?;
            details.channels =
                channels.iter().filter(|c| c.provider_id == found.id).map(|c| view::channel(c, now)).collect();
        }
        Ok(details)
    }

    /// What the wallet holds.
    pub(super) async fn balance(&self) -> Result<WalletView, Failure> {
        ask(&self.wallet().await?, Balance).await
    }

    /// Every channel; those at their end only with `all`.
    pub(super) async fn channels(&self, all: bool) -> Result<Vec<ChannelView>, Failure> {
        let now = self.services.clock.block_time();
        Ok(self.purse()?.journal.channels(all).await?.iter().map(|record| view::channel(record, now)).collect())
    }

    /// One channel, compared with what the chain says.
    pub(super) async fn channel(&self, id: ChannelId) -> Result<ChannelView, Failure> {
        let record = self.record(id).await?;
        let chain = &self.services.chain;
        let seen = futures::try_join!(chain.head(), chain.channel(&record.deployment, id));
        if let Ok((head, _)) = &seen {
            self.services.clock.saw_block(head.timestamp);
        }
        let mut view = view::channel(&record, self.services.clock.block_time());
        match seen {
            Ok((_, Some(on_chain))) => view.claimed = view.claimed.max(on_chain.claimed),
            Ok((_, None)) if matches!(view.state, ChannelState::Open | ChannelState::Expired) => {
                view.notes.push("the contract knows this channel no more: it was closed elsewhere".into());
            }
            Ok(_) => {}
            Err(error) => view.notes.push(format!("the chain could not be read ({error}); this is our record")),
        }
        if view.state == ChannelState::Expired {
            view.notes.extend(self.marketplace_hint(id).await);
        }
        Ok(view)
    }

    /// What the marketplace says of an expired channel. A hint: its calldata is compared with ours and never sent.
    async fn marketplace_hint(&self, id: ChannelId) -> Option<String> {
        let hints = self.services.marketplace.channel_status(&[id]).await.ok()?;
        let hint = hints.into_iter().find(|hint| hint.channel_id == id)?;
        let own = import::close_calldata(id);
        match hint.close_calldata {
            Some(theirs) if theirs != own => {
                Some("the marketplace proposes another close transaction than ours; it is ignored".into())
            }
            _ => Some(format!("the marketplace says: {}", drain_protocol::text::shell_word(&hint.status))),
        }
    }
}
