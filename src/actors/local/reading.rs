//! What is only looked at: directory, wallet, channels.

use drain_protocol::ChannelId;

use super::Local;
use crate::actors::directory::{Known, Read};
use crate::actors::listing::{self, Records};
use crate::actors::services::ask;
use crate::actors::wallet::Balance;
use crate::actors::{import, naming, opening, view};
use crate::api::{
    ChannelState, ChannelView, ChatCall, Command, PayFrom, PaymentCall, ProviderDetails, ProviderPage, ProviderQuery,
    QuoteCall, Target, WalletView,
};
use crate::error::Failure;
use crate::policy::Caller;

impl Local {
    pub(super) async fn catalogue(&self) -> Result<Known, Failure> {
        ask(&self.addresses().await?.directory, Read).await
    }

    /// The directory, filtered.
    pub(super) async fn providers(&self, query: ProviderQuery, caller: &Caller) -> Result<ProviderPage, Failure> {
        let known = self.catalogue().await?;
        Ok(listing::page(&known, &query, &self.records(caller).await?, &self.services.config.providers))
    }

    /// Our record of providers. It is made of all requests of the wallet, and so of other agents' too: an agent of the fleet
    /// sees none of it.
    async fn records(&self, caller: &Caller) -> Result<Records, Failure> {
        match (self.purse(), caller.member()) {
            (Ok(purse), None) => Ok(purse.journal.provider_records().await?),
            _ => Ok(Records::new()),
        }
    }

    /// A command with the whole id of the provider that it names by a short one.
    pub(super) async fn spelled_out(&self, mut command: Command) -> Result<Command, Failure> {
        let named = match &mut command {
            Command::Provider(named) => named,
            Command::Open(request) => &mut request.provider,
            Command::Chat(ChatCall { from: PayFrom::Provider(wish), .. })
            | Command::Quote(QuoteCall { from: PayFrom::Provider(wish), .. }) => &mut wish.provider,
            Command::PayRequest(PaymentCall { target: Target::Provider(named), .. })
            | Command::QuoteRequest(PaymentCall { target: Target::Provider(named), .. }) => named,
            Command::Feedback(feedback) => &mut feedback.provider_id,
            _ => return Ok(command),
        };
        if let Some(end) = naming::end_of(named).map(str::to_owned) {
            let used = match self.purse() {
                Ok(purse) => purse.journal.pinned_ids_ending(end.clone()).await?,
                Err(_) => Vec::new(),
            };
            *named = naming::spelled_out(&self.catalogue().await?.catalogue, &used, &end)?;
        }
        Ok(command)
    }

    /// One provider, with its own prices and instructions.
    pub(super) async fn provider(&self, id: &str, caller: &Caller) -> Result<ProviderDetails, Failure> {
        let known = self.catalogue().await?;
        let found = opening::find(&known.catalogue, id)?;
        let records = self.records(caller).await?;
        let mut details = listing::details(&self.services, found, &known, &records).await;
        if let Ok(purse) = self.purse() {
            if details.docs.is_some() {
                purse.journal.docs_read(found.id.clone(), self.services.clock.now()).await?;
            }
            let now = self.services.clock.block_time();
            let channels = purse.journal.channels_seen(caller.member().map(str::to_owned), false).await?;
            let to_it = channels.iter().filter(|seen| seen.record.provider_id == found.id);
            details.channels = to_it.map(|seen| view::seen(seen, now)).collect();
        }
        Ok(details)
    }

    /// What the wallet holds; of what is locked and spent an agent of the fleet sees its own part.
    pub(super) async fn balance(&self, caller: Caller) -> Result<WalletView, Failure> {
        ask(&self.wallet().await?, Balance { caller }).await
    }

    /// Every channel that the caller sees; those at their end only with `all`.
    pub(super) async fn channels(&self, all: bool, caller: &Caller) -> Result<Vec<ChannelView>, Failure> {
        let now = self.services.clock.block_time();
        let channels = self.purse()?.journal.channels_seen(caller.member().map(str::to_owned), all).await?;
        Ok(channels.iter().map(|seen| view::seen(seen, now)).collect())
    }

    /// One channel, compared with what the chain says.
    pub(super) async fn channel(&self, id: ChannelId, caller: &Caller) -> Result<ChannelView, Failure> {
        let sight = self.sight(id, caller).await?;
        let record = &sight.record;
        let chain = &self.services.chain;
        let seen = futures::try_join!(chain.head(), chain.channel(&record.deployment, id));
        if let Ok((head, _)) = &seen {
            self.services.clock.saw_block(head.timestamp);
        }
        let mut view = view::seen(&sight, self.services.clock.block_time());
        match seen {
            Ok((_, Some(_))) if sight.share.is_some() => {}
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
