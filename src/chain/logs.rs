//! `eth_getLogs` in as many pieces as the nodes want.

use std::sync::atomic::Ordering;

use alloy::rpc::types::{Filter, Log};
use drain_protocol::ChannelId;
use serde_json::json;

use super::pool::ReadError;
use super::reads::plain;
use super::{Chain, ChainError, ChannelEvent, Watched, channel_events, channel_logs_filter};

/// After so many pieces that were answered the next one is twice as wide: a refusal costs one request in so many.
const WIDER_AFTER: u64 = 8;

impl Chain {
    /// The logs that a filter finds, in the order of the chain. The filter must name its first and last block by number,
    /// as [`super::channel_logs_filter`] does; a node that does not have the last block is not asked. A range that is too
    /// wide for the nodes is split.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        let (Some(first), Some(last)) = (filter.get_from_block(), filter.get_to_block()) else {
            return Err(ChainError::malformed("a log filter needs the numbers of its first and last block"));
        };
        let (mut found, mut next) = (Vec::new(), first);
        while next <= last {
            let span = self.0.log_span.load(Ordering::Relaxed);
            let until = next.saturating_add(span.max(1) - 1).min(last);
            match self.logs_of(&filter.clone().from_block(next).to_block(until), until).await {
                Ok(logs) => {
                    // A node may have meant its load and not the range.
                    if self.0.log_pieces.fetch_add(1, Ordering::Relaxed) % WIDER_AFTER == WIDER_AFTER - 1 {
                        self.0.log_span.store(span.saturating_mul(2), Ordering::Relaxed);
                    }
                    found.extend(logs);
                    let Some(after) = until.checked_add(1) else { break };
                    next = after;
                }
                Err(ReadError::TooWide(_)) if until > next => {
                    // Remembered, so that the next piece does not probe again.
                    self.0.log_span.store((until - next).div_ceil(2), Ordering::Relaxed);
                }
                Err(ReadError::TooWide(reason)) => return Err(ChainError::Unavailable { reason }),
                Err(ReadError::Chain(error)) => return Err(error),
            }
        }
        Ok(found)
    }

    /// What the configured contracts logged about these channels from block `first` to block `last`, both included.
    pub async fn channel_events(
        &self,
        ids: &[ChannelId],
        first: u64,
        last: u64,
    ) -> Result<Vec<ChannelEvent>, ChainError> {
        self.watched_events(&Watched::Channels(ids.to_vec()), first, last).await
    }

    /// The same for whatever is watched: a consumer's channels, or the contracts' owner.
    pub async fn watched_events(
        &self,
        watched: &Watched,
        first: u64,
        last: u64,
    ) -> Result<Vec<ChannelEvent>, ChainError> {
        let known = &self.0.deployments;
        Ok(channel_events(known, &self.logs(&channel_logs_filter(known, watched, first, last)).await?))
    }

    async fn logs_of(&self, filter: &Filter, last: u64) -> Result<Vec<Log>, ReadError> {
        self.pool().read_range("eth_getLogs", &json!([filter]), Some(last), plain).await
    }
}
