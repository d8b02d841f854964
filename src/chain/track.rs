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
    /// How long nothing of a slot is mined before it is stalled.
    pub(super) stalled: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: (Duration::from_millis(100), Duration::from_secs(2)),
            rebroadcast: (Duration::from_secs(15), Duration::from_secs(2)),
            second_look: Duration::from_secs(3),
            catch_up: 15,
            stalled: Duration::MAX,
        }
    }
}

impl Chain {
    /// Sends signed bytes to one endpoint after another until one takes them. Sending the same bytes twice is harmless.
    /// [`ChainError::Rejected`] only where no node can have taken them.
    pub async fn send_raw(&self, raw: &[u8], hash: B256) -> Result<Sent, ChainError> {
        self.pool().send_raw(raw, hash, false).await
    }
}

/// Where at most one transaction of an account lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Who sends.
    pub wallet: Address,
    /// Its place among the wallet's transactions.
    pub account_nonce: u64,
}

/// A signed and journaled transaction of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The signed bytes; `None` to watch without sending.
    pub raw: Option<Bytes>,
    /// The transaction's hash.
    pub hash: B256,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finality {
    /// The attempt that the receipt names is in a final block. It may have reverted: [`Receipt::success`].
    Final(Receipt),
    /// Another transaction is final in the slot: no attempt ever lands.
    Replaced,
    /// No end: nothing is mined for the configured time although the nodes answer. To be asked again; meanwhile the caller
    /// may offer more ([`Way::outbid`]).
    Stalled,
}

/// What is learnt on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A node took the newest attempt, or has it.
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

/// The way of the transactions that were signed for one slot: at most one of them lands. The newest is sent, and sent
/// again, until one is mined.
pub struct Way {
    pace: Pace,
    chain: Chain,
    wallet: Address,
    account_nonce: u64,
    /// The newest last.
    attempts: Vec<Attempt>,
    /// What was learnt and not told yet.
    news: Vec<Progress>,
    /// What was last told, so that nothing is told twice in a row.
    last: Option<Progress>,
    sent_at: Option<Instant>,
    /// Whether the last broadcast was taken, and whether any was.
    sent: bool,
    taken: bool,
    /// Broadcasts of the newest attempt.
    broadcasts: u32,
    /// Whether the last look found a receipt.
    mined: bool,
    /// Since when the nodes say that nothing of the slot is mined.
    unmined_since: Option<Instant>,
    /// Since when the slot looks lost.
    lost_at: Option<Instant>,
    waited_for_second: u32,
}

impl Way {
    /// Of these transactions, the newest last. At least one; all of one wallet's slot.
    pub fn new(chain: &Chain, slot: Slot, attempts: Vec<Attempt>) -> Self {
        let pace = Pace { stalled: chain.0.replace_after, ..Pace::default() };
        Self::at(pace, chain, slot, attempts)
    }

    /// The same at another pace.
    pub(super) fn at(pace: Pace, chain: &Chain, slot: Slot, attempts: Vec<Attempt>) -> Self {
        Self {
            pace,
            chain: chain.clone(),
            wallet: slot.wallet,
            account_nonce: slot.account_nonce,
            attempts,
            news: Vec::new(),
            last: None,
            sent_at: None,
            sent: false,
            taken: false,
            broadcasts: 0,
            mined: false,
            unmined_since: None,
            lost_at: None,
            waited_for_second: 0,
        }
    }

    /// One more in the same slot, from now on the one that is sent. The others are looked for all the same.
    pub fn outbid(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        (self.sent_at, self.sent, self.broadcasts, self.unmined_since) = (None, false, 0, None);
    }

    /// Waits until one of the attempts, or another transaction in their slot, is final.
    ///
    /// Endpoints that fail are tried forever, so the caller sets a limit; dropping the future is safe at any point, and
    /// calling again goes on.
    ///
    /// # Errors
    /// [`ChainError::Rejected`] where every node refuses the first broadcast, none has a transaction of the slot and it is
    /// free: it cannot land as things are. It must not be forgotten: it may, once things change.
    pub async fn end(&mut self, mut on_progress: impl FnMut(Progress) + Send) -> Result<Finality, ChainError> {
        let mut pause = self.pace.pause.0;
        loop {
            let look = self.look().await;
            if let Err(error) = &look
                && !matches!(error, ChainError::Rejected { .. })
            {
                // What nobody can say is not counted against the transaction.
                self.unmined_since = None;
                self.tell(Progress::Trouble { reason: error.to_string() });
            }
            self.news.drain(..).for_each(&mut on_progress);
            match look {
                Ok(Some(end)) => return Ok(end),
                Err(error @ ChainError::Rejected { .. }) => return Err(error),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(self.pace.pause.1);
        }
    }

    fn tell(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.last = Some(progress.clone());
            self.news.push(progress);
        }
    }

    /// One round.
    async fn look(&mut self) -> Result<Option<Finality>, ChainError> {
        if self.sent_at.is_none() {
            // Before the first look: the usual case is a new transaction.
            self.send().await?;
        }
        let Some(receipt) = self.receipt().await? else {
            if self.mined {
                self.mined = false;
                self.tell(Progress::Unmined);
                (self.sent_at, self.unmined_since) = (None, None);
                return Ok(None);
            }
            if self.slot_is_lost().await? {
                return Ok(Some(Finality::Replaced));
            }
            if self.unmined_since.get_or_insert_with(Instant::now).elapsed() >= self.pace.stalled {
                self.unmined_since = None;
                return Ok(Some(Finality::Stalled));
            }
            let pause = if self.sent { self.pace.rebroadcast.0 } else { self.pace.rebroadcast.1 };
            if self.sent_at.is_some_and(|at| at.elapsed() >= pause) {
                self.send().await?;
            }
            return Ok(None);
        };
        (self.lost_at, self.unmined_since) = (None, None);
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

    /// The receipt of whichever attempt is mined.
    async fn receipt(&self) -> Result<Option<Receipt>, ChainError> {
        for attempt in self.attempts.iter().rev() {
            if let Some(receipt) = self.chain.receipt(attempt.hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    /// Broadcasts the newest. Only a refusal before any node took anything ends the way; whatever else goes wrong is told,
    /// and the looks go on: a transaction may be on its way from an earlier run.
    async fn send(&mut self) -> Result<(), ChainError> {
        self.sent_at = Some(Instant::now());
        let Some(Attempt { raw: Some(raw), hash }) = self.attempts.last().cloned() else { return Ok(()) };
        self.broadcasts = self.broadcasts.saturating_add(1);
        // A node that takes transactions and keeps them to itself must not be the only one to have it.
        let all = self.broadcasts > 1;
        let outcome = self.chain.pool().send_raw(&raw, hash, all).await;
        // A used slot is mined, by this one or another: the looks find out.
        self.sent = outcome.is_ok();
        self.taken |= self.sent;
        match outcome {
            Ok(Sent::Accepted | Sent::Known) => {
                reach(Point::TransactionBroadcast);
                self.tell(Progress::Sent);
            }
            Ok(Sent::NonceUsed) => {}
            Err(ChainError::Rejected { reason }) => {
                if !self.taken && self.broadcasts == 1 && self.receipt().await?.is_none() {
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
        let hash = receipt.hash;
        let canonical = self.chain.block(receipt.block_number).await?.map(|block| block.hash);
        if canonical != Some(receipt.block_hash) {
            return Ok(None);
        }
        let (mut agreed, mut absent, mut silent) = (0, Vec::new(), Vec::new());
        for endpoint in self.chain.pool().order() {
            let said = self.receipt_of(endpoint, hash).await;
            if said.is_ok() {
                endpoint.set_mute(false);
            }
            match said {
                Ok(Some(other)) if other.agrees_with(&receipt) => agreed += 1,
                Ok(Some(_)) => {
                    let what = format!("{} has another receipt for {hash} than the others", endpoint.host);
                    return Err(ChainError::Disagreement { what });
                }
                Ok(None) => absent.push(endpoint),
                Err(_) => silent.push(endpoint),
            }
            if agreed == 2 {
                return Ok(Some(receipt));
            }
        }
        // A second endpoint that is behind, or cannot answer now, gets its time; one that is down, once for all receipts.
        let wanted = self.chain.pool().len().min(2);
        let missing = !absent.is_empty() || silent.iter().any(|endpoint| !endpoint.is_mute());
        let wait = missing && self.waited_for_second < self.pace.catch_up;
        if agreed == 0 || (agreed < wanted && wait) {
            self.waited_for_second += 1;
            return Ok(None);
        }
        silent.iter().for_each(|endpoint| endpoint.set_mute(true));
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

    async fn receipt_of(&self, endpoint: &Endpoint, hash: B256) -> Result<Option<Receipt>, Trouble> {
        let params = json!([hash]);
        self.chain.pool().ask(endpoint, "eth_getTransactionReceipt", &params, |value| Receipt::read(value, hash)).await
    }

    /// Whether this endpoint has a receipt of none of the attempts.
    async fn has_none(&self, endpoint: &Endpoint) -> Result<bool, Trouble> {
        for attempt in &self.attempts {
            if self.receipt_of(endpoint, attempt.hash).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether another transaction is final in this slot: each endpoint (two at least, where there are two) must say that
    /// the slot is used as of a final block, know no receipt, and say so again later.
    async fn slot_is_lost(&mut self) -> Result<bool, ChainError> {
        let (wallet, account_nonce) = (self.wallet, self.account_nonce);
        let latest = self.chain.account_nonce_at(wallet, BlockNumberOrTag::Latest).await?;
        if latest <= account_nonce {
            self.lost_at = None;
            return Ok(false);
        }
        let final_block = self.chain.finalized_number().await?;
        let chain = self.chain.clone();
        let pool = chain.pool();
        let params = json!([wallet, BlockNumberOrTag::Number(final_block)]);
        let mut said = 0;
        for endpoint in pool.order() {
            let Ok(used) = pool.ask(endpoint, "eth_getTransactionCount", &params, number).await else { continue };
            // Asked after the count, so that a node that has the slot's transaction has its receipt too.
            match self.has_none(endpoint).await {
                Ok(true) if used > account_nonce => said += 1,
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
