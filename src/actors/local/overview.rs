//! Everything that the operator sees of the wallet at once, from the record and from what is known of the directory anyway: looking
//! asks nobody outside.

use std::collections::BTreeMap;

use drain_protocol::Usdc;

use super::Local;
use crate::actors::directory::Peek;
use crate::actors::{listing, person, view};
use crate::api::{
    ChainNow, ChannelNow, ChannelState, EndpointNow, FrozenNow, MoneyNow, Overview, ProviderNow, ReceiptQuery,
    SignerNow,
};
use crate::error::Failure;
use crate::journal::TotalsAsked;
use crate::metrics::state::{Books, agent_limits};

/// Receipts that are shown.
const RECEIPTS: u32 = 20;
/// Channels that are over are shown no longer than this.
const OVER: u64 = 7 * 86_400;

impl Local {
    /// The wallet as it is now.
    pub(super) async fn overview(&self) -> Result<Overview, Failure> {
        let purse = self.purse()?;
        let (services, journal) = (&self.services, &purse.journal);
        let (now, block_time) = (services.clock.now(), services.clock.block_time());
        let asked = TotalsAsked {
            chain_id: services.config.chain.chain_id,
            wallet: purse.address,
            limits: services.config.limits.clone(),
            agents: agent_limits(),
            moment: services.clock.moment(),
            block_time,
        };
        let totals = journal.totals();
        let books = tokio::task::spawn_blocking(move || totals.read(&asked)).await;
        let books = books.map_err(|error| Failure::internal(error.to_string()))??;
        let seen = journal.channels_lately(now.saturating_sub(OVER)).await?;
        let channels: Vec<ChannelNow> = seen
            .iter()
            .map(|seen| ChannelNow {
                channel: view::seen(seen, block_time),
                agents: seen.record.members.iter().map(|member| member.agent.clone()).collect(),
            })
            .collect();
        let query = ReceiptQuery { limit: RECEIPTS, ..ReceiptQuery::default() };
        Ok(Overview {
            address: purse.address.to_string(),
            frozen: match services.config.limits.frozen {
                true => Some(FrozenNow {
                    since: None,
                    reason: "the operator's configuration freezes it (DRAIN_FREEZE)".into(),
                }),
                false => {
                    let frozen = journal.frozen().await?;
                    frozen.map(|frozen| FrozenNow { since: Some(frozen.at), reason: frozen.reason })
                }
            },
            money: MoneyNow {
                disputed: sum(channels
                    .iter()
                    .filter(|one| !is_over(one.channel.state))
                    .map(|one| one.channel.disputed)),
                spent_today: journal.spent_today(now).await?,
                ..money(&books)
            },
            providers: self.providers_now(&channels).await?,
            caps: books.caps,
            spend: journal.spending(now).await?,
            channels,
            approvals: journal.approvals(services.clock.moment()).await?.iter().map(person::view).collect(),
            receipts: journal.receipts(query, None).await?,
            signer: SignerNow { backend: purse.signer.kind.into(), interactive: purse.signer.interactive },
            chain: ChainNow {
                chain_id: services.config.chain.chain_id,
                block_at: (block_time > 0).then_some(block_time),
                endpoints: services
                    .chain
                    .endpoints()
                    .into_iter()
                    .map(|endpoint| EndpointNow { host: endpoint.host, healthy: endpoint.healthy })
                    .collect(),
            },
        })
    }

    /// Who has a channel or a record, those with most charged first.
    async fn providers_now(&self, channels: &[ChannelNow]) -> Result<Vec<ProviderNow>, Failure> {
        let records = self.purse()?.journal.provider_records().await?;
        let known = self.addresses().await?.directory.send(Peek).await.ok().flatten();
        let mut found: BTreeMap<String, ProviderNow> = BTreeMap::new();
        for ChannelNow { channel, .. } in channels {
            let one = found.entry(channel.provider_id.clone()).or_insert_with(|| ProviderNow {
                id: channel.provider_id.clone(),
                name: channel.provider_name.clone(),
                category: channel.category.clone(),
                online: None,
                latency_ms: None,
                standing: None,
                spent: Usdc::ZERO,
            });
            if !is_over(channel.state) {
                one.spent = one.spent.saturating_add(channel.charged);
            }
        }
        for listing in known.iter().flat_map(|known| &known.catalogue.listings) {
            let Some(one) = found.get_mut(&listing.id) else { continue };
            (one.online, one.latency_ms) = (listing.online, listing.latency_ms);
            one.standing = records.get(&listing::key(listing)).map(listing::standing);
        }
        let mut found: Vec<ProviderNow> = found.into_values().collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.spent));
        Ok(found)
    }
}

const fn is_over(state: ChannelState) -> bool {
    matches!(state, ChannelState::Closed | ChannelState::Failed)
}

fn sum(amounts: impl Iterator<Item = Usdc>) -> Usdc {
    amounts.fold(Usdc::ZERO, Usdc::saturating_add)
}

fn money(books: &Books) -> MoneyNow {
    MoneyNow {
        deposited: sum(books.sums.iter().map(|sums| sums.deposit)),
        signed: sum(books.sums.iter().map(|sums| sums.signed)),
        charged: sum(books.sums.iter().map(|sums| sums.charged)),
        reclaimable: books.reclaimable,
        ..MoneyNow::default()
    }
}
