//! The way of a signed transaction to finality (M7).

use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Bytes;
use drain_protocol::{Address, B256};
use serde::Deserialize;
use serde_json::json;

use super::events::Receipt;
use super::pool::{Endpoint, Sent, number};
use super::reads::plain;
use super::rpc::Trouble;
use super::{Chain, ChainError};
use crate::points::{Point, reach};

/// How patient the way is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// First and longest pause between two looks: development chains mine at once, Polygon in two seconds.
    pub(super) pause: (Duration, Duration),
    /// How often an unmined transaction is sent again: where nodes have taken it, and where none has yet.
    pub(super) rebroadcast: (Duration, Duration),
    /// A lost slot is looked at again after this, before it counts.
    pub(super) second_look: Duration,
    /// Looks that a second endpoint gets to catch up with a final receipt.
    pub(super) catch_up: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: (Duration::from_millis(100), Duration::from_secs(2)),
            rebroadcast: (Duration::from_secs(15), Duration::from_secs(2)),
            second_look: Duration::from_secs(3),
            catch_up: 15,
        }
    }
}

/// A signed and journaled transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// The signed bytes; `None` to watch without sending.
    pub raw: Option<Bytes>,
    /// The transaction's hash.
    pub hash: B256,
    /// Who sent it.
    pub wallet: Address,
    /// Its slot among the wallet's transactions.
    pub account_nonce: u64,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finality {
    /// It is in a final block. It may have reverted: [`Receipt::success`].
    Final(Receipt),
    /// Another transaction is final in its slot: this one never lands.
    Replaced,
}

/// What is learnt on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A node took it, or has it.
    Sent,
    /// The nodes refuse to take it again. It may be pending elsewhere all the same.
    Refused {
        /// The node's words.
        reason: String,
    },
    /// It is in a block that is not final yet.
    Mined {
        /// The block.
        block_number: u64,
        /// The block's hash.
        block_hash: B256,
    },
    /// Its block is gone; it is waited for, and sent, again.
    Unmined,
    /// No endpoint helps at present; it goes on.
    Trouble {
        /// What they say.
        reason: String,
    },
}

impl Chain {
    /// Sends signed bytes to one endpoint after another until one takes them. Sending the same bytes twice is harmless.
    /// [`ChainError::Rejected`] only where no node can have taken them.
    pub async fn send_raw(&self, raw: &[u8], hash: B256) -> Result<Sent, ChainError> {
        self.pool().send_raw(raw, hash, false).await
    }

    /// [`await_final`] for as long as the configuration says, then [`ChainError::Pending`]. What happens on the way is
    /// logged.
    pub async fn await_final(
        &self,
        raw: &[u8],
        hash: B256,
        wallet: Address,
        account_nonce: u64,
    ) -> Result<Finality, ChainError> {
        let transaction = Broadcast { raw: Some(Bytes::copy_from_slice(raw)), hash, wallet, account_nonce };
        let note = |progress| tracing::info!(transaction = %hash, ?progress, "transaction");
        let waited = self.0.transaction_timeout;
        let end = tokio::time::timeout(waited, await_final(self, &transaction, note)).await;
        end.unwrap_or(Err(ChainError::Pending { hash, waited }))
    }
}

/// Waits until the transaction, or another one in its slot, is final; sends it until it is mined.
///
/// Endpoints that fail are tried forever, so the caller sets a limit; dropping the future is safe at any point, and
/// calling again goes on.
///
/// # Errors
/// [`ChainError::Rejected`] where every node refuses the first broadcast, none has the transaction and its slot is free:
/// it cannot land as things are. It must not be forgotten: it may, once things change.
pub async fn await_final(
    chain: &Chain,
    transaction: &Broadcast,
    on_progress: impl FnMut(Progress) + Send,
) -> Result<Finality, ChainError> {
    await_final_at(Pace::default(), chain, transaction, on_progress).await
}

/// The same at another pace.
pub(super) async fn await_final_at(
    pace: Pace,
    chain: &Chain,
    transaction: &Broadcast,
    on_progress: impl FnMut(Progress) + Send,
) -> Result<Finality, ChainError> {
    let way = Way {
        pace,
        chain,
        transaction,
        on_progress,
        last: None,
        sent_at: None,
        sent: false,
        attempts: 0,
        mined: false,
        lost_at: None,
        waited_for_second: 0,
    };
    way.run().await
}

struct Way<'a, F> {
    pace: Pace,
    chain: &'a Chain,
    transaction: &'a Broadcast,
    on_progress: F,
    /// What was last told, so that nothing is told twice in a row.
    last: Option<Progress>,
    sent_at: Option<Instant>,
    /// Whether the last broadcast was taken.
    sent: bool,
    attempts: u32,
    /// Whether the last look found a receipt.
    mined: bool,
    /// Since when the slot looks lost.
    lost_at: Option<Instant>,
    waited_for_second: u32,
}

impl<F: FnMut(Progress) + Send> Way<'_, F> {
    async fn run(mut self) -> Result<Finality, ChainError> {
        let mut pause = self.pace.pause.0;
        loop {
            match self.look().await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error @ ChainError::Rejected { .. }) => return Err(error),
                Err(error) => self.tell(Progress::Trouble { reason: error.to_string() }),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(self.pace.pause.1);
        }
    }

    fn tell(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            (self.on_progress)(progress.clone());
            self.last = Some(progress);
        }
    }

    /// One round.
    async fn look(&mut self) -> Result<Option<Finality>, ChainError> {
        if self.sent_at.is_none() {
            // Before the first look: the usual case is a new transaction.
            self.send().await?;
        }
        let hash = self.transaction.hash;
        let Some(receipt) = self.chain.receipt(hash).await? else {
            if self.mined {
                self.mined = false;
                self.tell(Progress::Unmined);
                self.sent_at = None;
                return Ok(None);
            }
            if self.slot_is_lost().await? {
                return Ok(Some(Finality::Replaced));
            }
            let pause = if self.sent { self.pace.rebroadcast.0 } else { self.pace.rebroadcast.1 };
            if self.sent_at.is_some_and(|at| at.elapsed() >= pause) {
                self.send().await?;
            }
            return Ok(None);
        };
        self.lost_at = None;
        if !self.mined {
            reach(Point::TransactionMined);
        }
        self.mined = true;
        let final_block = self.chain.finalized_number().await?;
        if receipt.block_number > final_block {
            self.tell(Progress::Mined { block_number: receipt.block_number, block_hash: receipt.block_hash });
            return Ok(None);
        }
        Ok(self.confirmed(receipt).await?.map(Finality::Final))
    }

    /// Broadcasts. Only a refusal of the very first attempt ends the way; whatever else goes wrong is told, and the
    /// looks go on: the transaction may be on its way from an earlier run.
    async fn send(&mut self) -> Result<(), ChainError> {
        self.sent_at = Some(Instant::now());
        let Some(raw) = &self.transaction.raw else { return Ok(()) };
        self.attempts = self.attempts.saturating_add(1);
        // A node that takes transactions and keeps them to itself must not be the only one to have it.
        let all = self.attempts > 1;
        let outcome = self.chain.pool().send_raw(raw, self.transaction.hash, all).await;
        // A used slot is mined, by this one or another: the looks find out.
        self.sent = outcome.is_ok();
        match outcome {
            Ok(Sent::Accepted | Sent::Known) => self.tell(Progress::Sent),
            Ok(Sent::NonceUsed) => {}
            Err(ChainError::Rejected { reason }) => {
                if self.attempts == 1 && self.chain.receipt(self.transaction.hash).await?.is_none() {
                    return Err(ChainError::Rejected { reason });
                }
                self.tell(Progress::Refused { reason });
            }
            Err(error) => self.tell(Progress::Trouble { reason: error.to_string() }),
        }
        Ok(())
    }

    /// The receipt once more, now that its block is final: from the endpoints as they come, and where several are
    /// configured by the word of two that agree, unless the others cannot be reached or have no receipts.
    async fn confirmed(&mut self, receipt: Receipt) -> Result<Option<Receipt>, ChainError> {
        let hash = self.transaction.hash;
        let canonical = self.chain.block(receipt.block_number).await?.map(|block| block.hash);
        if canonical != Some(receipt.block_hash) {
            return Ok(None);
        }
        let (mut agreed, mut absent) = (0, Vec::new());
        for endpoint in self.chain.pool().order() {
            match self.receipt_of(endpoint).await {
                Ok(Some(other)) if other.agrees_with(&receipt) => agreed += 1,
                Ok(Some(_)) => {
                    let what = format!("{} has another receipt for {hash} than the others", endpoint.host);
                    return Err(ChainError::Disagreement { what });
                }
                Ok(None) => absent.push(endpoint),
                Err(_) => {}
            }
            if agreed == 2 {
                return Ok(Some(receipt));
            }
        }
        // A second endpoint that is behind gets its time.
        let wanted = self.chain.pool().len().min(2);
        if agreed == 0 || (agreed < wanted && !absent.is_empty() && self.waited_for_second < self.pace.catch_up) {
            self.waited_for_second += 1;
            return Ok(None);
        }
        for endpoint in absent {
            self.has_it_in_its_block(endpoint, &receipt).await?;
        }
        Ok(Some(receipt))
    }

    /// An endpoint without a receipt must not stop everything, if it serves no receipts at all: it has the same block
    /// then, with the transaction in it. Else it denies the receipt, or is still behind.
    async fn has_it_in_its_block(&self, endpoint: &Endpoint, receipt: &Receipt) -> Result<(), ChainError> {
        #[derive(Deserialize)]
        struct Block {
            hash: B256,
            transactions: Vec<B256>,
        }
        let (pool, number) = (self.chain.pool(), receipt.block_number);
        let params = json!([BlockNumberOrTag::Number(number), false]);
        let block = pool.ask(endpoint, "eth_getBlockByNumber", &params, plain::<Option<Block>>).await;
        let denies = |why: &str| {
            let what = format!("{} has no receipt for {}, and block {number} {why}", endpoint.host, receipt.hash);
            Err(ChainError::Disagreement { what })
        };
        match block {
            Ok(Some(block)) if block.hash != receipt.block_hash => denies("is another one there"),
            Ok(Some(block)) if !block.transactions.contains(&receipt.hash) => denies("is without it there"),
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let reason = format!("{} is behind block {number}", endpoint.host);
                Err(ChainError::Unavailable { reason })
            }
            Err(trouble) => Err(pool.summary(&[(endpoint, trouble)])),
        }
    }

    async fn receipt_of(&self, endpoint: &Endpoint) -> Result<Option<Receipt>, Trouble> {
        let hash = self.transaction.hash;
        let params = json!([hash]);
        self.chain.pool().ask(endpoint, "eth_getTransactionReceipt", &params, |value| Receipt::read(value, hash)).await
    }

    /// Whether another transaction is final in this one's slot: each endpoint (two at least, where there are two) must
    /// say that the slot is used as of a final block, know no receipt, and say so again later.
    async fn slot_is_lost(&mut self) -> Result<bool, ChainError> {
        let wallet = self.transaction.wallet;
        let latest = self.chain.account_nonce_at(wallet, BlockNumberOrTag::Latest).await?;
        if latest <= self.transaction.account_nonce {
            self.lost_at = None;
            return Ok(false);
        }
        let final_block = self.chain.finalized_number().await?;
        let pool = self.chain.pool();
        let params = json!([wallet, BlockNumberOrTag::Number(final_block)]);
        let mut said = 0;
        for endpoint in pool.order() {
            let Ok(used) = pool.ask(endpoint, "eth_getTransactionCount", &params, number).await else { continue };
            // Asked after the count, so that a node that has the slot's transaction has its receipt too.
            match self.receipt_of(endpoint).await {
                Ok(None) if used > self.transaction.account_nonce => said += 1,
                Ok(_) => {
                    self.lost_at = None;
                    return Ok(false);
                }
                Err(_) => {}
            }
        }
        if said < pool.len().min(2) {
            return Ok(false);
        }
        Ok(self.lost_at.get_or_insert_with(Instant::now).elapsed() >= self.pace.second_look)
    }
}
