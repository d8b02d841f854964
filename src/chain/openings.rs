//! Every channel that an account ever opened, read from the contracts' events, newest first (M10).

use drain_protocol::{Address, B256, ChannelId, Usdc};

use super::{Chain, ChainError, ChannelEvent, Watched};

/// Blocks of one step back; nodes that give less get smaller pieces.
pub const STEP: u64 = 10_000;

/// One opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// V1 and V2 may give two channels the same id.
    pub contract: Address,
    /// Its id.
    pub channel_id: ChannelId,
    /// Who is paid.
    pub provider: Address,
    /// What was locked.
    pub deposit: Usdc,
    /// Unix seconds of block time.
    pub expiry: u64,
    /// What made it.
    pub transaction: B256,
}

impl Chain {
    /// The openings of one step: those up to block `last`, and the first block that was read for them.
    pub async fn openings_before(&self, consumer: Address, last: u64) -> Result<(u64, Vec<Opening>), ChainError> {
        let first = last.saturating_sub(STEP - 1);
        let events = self.watched_events(&Watched::Consumer(consumer), first, last).await?;
        let openings = events.into_iter().filter_map(|event| match event {
            ChannelEvent::Opened { at, channel_id, consumer: by, provider, deposit, expiry } if by == consumer => {
                Some(Opening {
                    contract: at.contract,
                    channel_id,
                    provider,
                    deposit,
                    expiry,
                    transaction: at.transaction,
                })
            }
            _ => None,
        });
        Ok((first, openings.collect()))
    }
}
