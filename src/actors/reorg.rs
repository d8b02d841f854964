//! Whether the chain still has what was recorded as final. A reorganisation deeper than was waited for is rare, and must
//! not make the books wrong: it is noticed, told, and what it took back is followed again (design section 5).

use super::services::{Purse, Services};
use crate::chain::ChainError;
use crate::error::Failure;
use crate::journal::TxId;
use crate::notify::EventKind;

/// Blocks on top of a recorded transaction after which it is not looked at any more.
const DEEP_ENOUGH: u64 = 1_024;
/// Seconds for which the chain is read for a recorded transaction alone, when nothing else is watched.
const WATCHED_FOR: u64 = 900;

/// What a look at the recorded transactions brought.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Transactions whose blocks are gone, by the word of two endpoints where there are two.
    pub gone: Vec<TxId>,
    /// Blocks from the deepest of them to the newest final one.
    pub depth: u64,
    /// Whether something was recorded so recently that looking goes on.
    pub go_on: bool,
}

/// Compares the newest recorded blocks with the chain. One that stands vouches for all below it: one request, as a rule.
pub(super) async fn look(services: &Services, purse: &Purse, last: u64) -> Result<Look, Failure> {
    let settled = purse.journal.settled(services.config.chain.chain_id, purse.address).await?;
    let mut look = Look { gone: Vec::new(), depth: 0, go_on: settled.iter().any(|settled| settled.age < WATCHED_FOR) };
    for settled in settled {
        if settled.block_number.saturating_add(DEEP_ENOUGH) < last {
            break;
        }
        let now = match services.chain.block_agreed(settled.block_number).await {
            Ok(block) => block.hash,
            // The other branch is shorter so far, or nobody answers: asked again at the next look.
            Err(error @ (ChainError::Unavailable { .. } | ChainError::Disagreement { .. })) => {
                tracing::debug!(%error, "a recorded block could not be compared");
                return Ok(look);
            }
            Err(error) => return Err(error.into()),
        };
        if now == settled.block_hash {
            break;
        }
        look.gone.push(settled.id);
        look.depth = look.depth.max(last.saturating_sub(settled.block_number).saturating_add(1));
    }
    Ok(look)
}

/// What was final is not: a person should know, whatever becomes of it.
pub(super) fn alarm(services: &Services, purse: &Purse, gone: &[TxId]) {
    let ids: Vec<String> = gone.iter().map(ToString::to_string).collect();
    tracing::error!(alarm = "deep_reorg", transactions = ?ids, "the chain took back what was final; it is followed again");
    let text =
        format!("The chain took back what was final: the transactions {}. They are followed again.", ids.join(", "));
    services.tell(Some(purse), EventKind::Alarm, "deep_reorg", text);
}
