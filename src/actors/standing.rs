//! How this process stands with its wallet, for whoever decides whether it is ready.

use std::time::Duration;

use reqwest::Url;

use super::runtime::Runtime;
use crate::error::{Code, Failure};

/// The longest wait for an endpoint that only shows whether it answers.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Where the wallet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Here: this process has its lock and its journal.
    Held,
    /// Its key is being opened, or it is being looked for.
    Looking,
    /// Another process has its lock.
    Elsewhere(Option<i32>),
    /// Another replica has its journal, and serves its agents there.
    Away(Option<Url>),
    /// It cannot be used.
    Without(Failure),
}

impl Runtime {
    /// How this process stands with its wallet.
    pub fn standing(&self) -> Standing {
        self.shared().standing()
    }

    /// Whether other machines may have the wallet too, one at a time.
    pub fn has_replicas(&self) -> bool {
        !self.shared().config().journal.look().is_zero()
    }

    /// By when other replicas have seen that this one let the wallet go.
    pub fn noticed_in(&self) -> Duration {
        self.shared().config().journal.look() * 3
    }

    /// Waits until the wallet is not any more with the replica that is reached there.
    pub async fn moved(&self, from: &Url) {
        self.shared().moved(from).await;
    }

    /// Writes to the journal as far as the disk, as authorizing a voucher does.
    ///
    /// # Errors
    /// When it cannot be written, or is not here.
    pub async fn prove_journal(&self) -> Result<(), Failure> {
        self.shared().holder().await?.prove_journal().await
    }

    /// Asks the chain for its newest block.
    ///
    /// # Errors
    /// When no endpoint answers in time.
    pub async fn prove_chain(&self) -> Result<(), Failure> {
        match tokio::time::timeout(ANSWER_TIME, self.shared().services().chain.head()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::unspent(
                Code::ChainUnavailable,
                "no RPC endpoint answered in time",
                "Check DRAIN_RPC_URL with drain-mcp doctor.",
            )),
        }
    }
}
