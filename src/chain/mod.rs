//! The chain: endpoints, reads, fees, receipts and the way of a transaction to finality (M7, M8).
//!
//! Nothing here signs or knows a key. Every answer of a node is a claim: reads fail over from endpoint to endpoint, what
//! freezes money is asked twice, and a receipt counts only with the expected events of the expected contract.

pub mod claims;
pub mod error;
pub mod events;
pub mod fees;
pub mod filters;
mod hedge;
mod logs;
mod openings;
mod pool;
pub mod reads;
#[cfg(fuzzing)]
mod replies;
mod rpc;
mod shown;
mod tempo;
#[cfg(test)]
mod tests;
pub mod track;
mod transfers;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use drain_protocol::Deployment;

use crate::config::ChainConfig;

pub use claims::{ClaimedVoucher, claimed_voucher};
pub use error::ChainError;
pub use events::{
    ChannelEvent, ClosedEvent, LogPlace, OpenedEvent, Receipt, channel_events, expect_approval, expect_closed,
    expect_opened, expect_transfer,
};
pub use fees::Fees;
pub use filters::{Watched, channel_logs_filter};
pub use openings::{Opening, STEP};
pub use pool::{EndpointHealth, Sent};
pub use reads::{Fee, Head, OnChainChannel, Transaction};
#[cfg(fuzzing)]
pub use replies::read_reply;
pub use tempo::{Search, TempoOutcome, Wanted};
pub use track::{Attempt, Finality, Progress, Slot, Way};

use pool::Pool;

/// The chain as this process reaches it. Cheap to clone; all clones share connections and health.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    pool: Pool,
    chain_id: u64,
    deployments: Vec<Deployment>,
    confirmations: u64,
    /// Whether a node has told what is `finalized`: from then on a depth is no substitute.
    knows_finalized: AtomicBool,
    replace_after: Duration,
    /// The widest range of blocks that a node last gave logs for.
    log_span: AtomicU64,
    /// Pieces of logs that were answered.
    log_pieces: AtomicU64,
}

impl fmt::Debug for Chain {
    /// The endpoints by host: an URL may hold a key (M12).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("chain_id", &self.0.chain_id).field("endpoints", &self.endpoints()).finish()
    }
}

impl Chain {
    /// Prepares the endpoints. Contacts nothing and opens nothing: the first call does.
    ///
    /// # Errors
    /// When no endpoint is configured, or one is neither http nor https.
    pub fn new(config: &ChainConfig) -> Result<Self, ChainError> {
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(config.chain_id, &config.rpc_urls, config.rpc_timeout)?,
            chain_id: config.chain_id,
            deployments: config.deployments.clone(),
            confirmations: config.confirmations,
            knows_finalized: false.into(),
            replace_after: config.replace_after,
            log_span: u64::MAX.into(),
            log_pieces: 0.into(),
        })))
    }

    /// The chain's id, as configured; every endpoint is checked against it before its first answer counts.
    pub fn chain_id(&self) -> u64 {
        self.0.chain_id
    }

    /// How the endpoints do, in configured order.
    pub fn endpoints(&self) -> Vec<EndpointHealth> {
        self.0.pool.health()
    }

    fn pool(&self) -> &Pool {
        &self.0.pool
    }
}
