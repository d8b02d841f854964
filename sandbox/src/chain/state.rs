//! The chain itself: blocks, the clock, mining and reorganisation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::consensus::{Header, Transaction as _, TxEnvelope, transaction::Recovered};
use alloy::primitives::{Address, B256, Bytes, Log, U256, keccak256, logs_bloom};
use revm::context::result::{ExecutionResult, Output};
use revm::database::InMemoryDB;
use tokio::sync::watch;

use super::ChainConfig;
use super::evm::{self, Rules, Undo};
use super::pool::{Pending, Pool};

/// A transaction in a block, with what its receipt needs.
pub(super) struct MinedTx {
    pub(super) tx: Recovered<TxEnvelope>,
    pub(super) hash: B256,
    pub(super) success: bool,
    pub(super) gas_used: u64,
    pub(super) cumulative_gas: u64,
    pub(super) gas_price: u128,
    pub(super) created: Option<Address>,
    pub(super) logs: Vec<Log>,
    /// Position in the block of the first log.
    pub(super) first_log: u64,
    undo: Undo,
}

/// A block of the canonical chain.
pub(super) struct Mined {
    pub(super) header: Header,
    pub(super) hash: B256,
    pub(super) txs: Vec<MinedTx>,
}

/// What becomes of the transactions in blocks that a reorganisation removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReorgTxs {
    /// They are lost, as if the network had never seen them.
    Drop,
    /// They go back to the pool and wait for the next block.
    Requeue,
    /// They are mined again in the replacing blocks, whose timestamps are this
    /// many seconds later (so channels opened in them get other ids).
    Remine {
        /// Seconds added to each block's timestamp.
        shift: u64,
    },
}

/// Everything behind the endpoints of one chain.
pub(super) struct Chain {
    pub(super) config: ChainConfig,
    pub(super) db: InMemoryDB,
    pub(super) blocks: Vec<Mined>,
    pub(super) by_hash: HashMap<B256, u64>,
    /// Where a mined transaction is: block number and index.
    pub(super) locations: HashMap<B256, (u64, usize)>,
    pub(super) pool: Pool,
    pub(super) automine: bool,
    /// Keeps every transaction in the pool.
    pub(super) hold: bool,
    /// How many of the next transactions fail when mined.
    pub(super) revert_next: u64,
    pub(super) base_fee: u64,
    /// Tells the miner task how often to mine; zero stops it.
    pub(super) interval: watch::Sender<Duration>,
    /// Seconds between the machine's clock and the chain's.
    offset: i128,
    next_timestamp: Option<u64>,
    /// Counts reorganisations, so that replacing blocks get other hashes.
    generation: u64,
}

fn machine_clock() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i128::from(since.as_secs()))
}

impl Chain {
    pub(super) fn new(config: ChainConfig, interval: watch::Sender<Duration>) -> Self {
        let mut chain = Self {
            db: InMemoryDB::default(),
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            locations: HashMap::new(),
            pool: Pool::default(),
            automine: config.block_time.is_none(),
            hold: false,
            revert_next: 0,
            base_fee: config.base_fee,
            interval,
            offset: config.genesis_timestamp.map_or(0, |start| i128::from(start) - machine_clock()),
            next_timestamp: None,
            generation: 0,
            config,
        };
        chain.seal(chain.next_header(), Vec::new());
        chain
    }

    /// Number of the newest block.
    pub(super) fn head(&self) -> u64 {
        self.blocks.len().saturating_sub(1) as u64
    }

    pub(super) fn block(&self, number: u64) -> Option<&Mined> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// The chain's clock: what the next block's timestamp would be.
    pub(super) fn clock(&self) -> u64 {
        let parent = self.blocks.last().map_or(0, |block| block.header.timestamp);
        let now = u64::try_from(machine_clock() + self.offset).unwrap_or(0);
        self.next_timestamp.unwrap_or(now).max(parent)
    }

    pub(super) fn shift_clock(&mut self, seconds: i64) {
        self.offset += i128::from(seconds);
    }

    /// The next block gets this time, and the clock runs on from there.
    pub(super) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<(), String> {
        let parent = self.blocks.last().map_or(0, |block| block.header.timestamp);
        if timestamp < parent {
            return Err(format!("timestamp {timestamp} is before the last block's {parent}"));
        }
        self.next_timestamp = Some(timestamp);
        self.offset = i128::from(timestamp) - machine_clock();
        Ok(())
    }

    /// The header the next block would have if it stayed empty.
    pub(super) fn next_header(&self) -> Header {
        Header {
            parent_hash: self.blocks.last().map_or(B256::ZERO, |block| block.hash),
            number: self.blocks.len() as u64,
            gas_limit: self.config.gas_limit,
            timestamp: self.clock(),
            base_fee_per_gas: Some(self.base_fee),
            extra_data: Bytes::from(self.generation.to_be_bytes().to_vec()),
            ..Header::default()
        }
    }

    /// State after a past block.
    pub(super) fn state_at(&self, number: u64) -> Cow<'_, InMemoryDB> {
        if number >= self.head() {
            return Cow::Borrowed(&self.db);
        }
        let mut db = self.db.clone();
        for block in self.blocks.iter().skip(number as usize + 1).rev() {
            for mined in block.txs.iter().rev() {
                evm::revert(&mut db, &mined.undo);
            }
        }
        Cow::Owned(db)
    }

    /// Mines one block with everything in the pool that can run.
    pub(super) fn mine(&mut self) -> u64 {
        self.mine_up_to(usize::MAX)
    }

    /// Mines a block for each transaction that can run: what automine does.
    pub(super) fn mine_ready(&mut self) {
        while self.automine && !self.hold && self.pool.next(&self.db, self.base_fee).is_some() {
            self.mine_up_to(1);
        }
    }

    fn mine_up_to(&mut self, limit: usize) -> u64 {
        let header = self.next_header();
        let mut txs = Vec::new();
        let mut gas = 0;
        while !self.hold && txs.len() < limit {
            let Some(hash) = self.pool.next(&self.db, self.base_fee) else {
                break;
            };
            let Some(pending) = self.pool.remove(hash) else {
                break;
            };
            if gas + pending.tx.gas_limit() > header.gas_limit {
                self.pool.put_back(pending);
                break;
            }
            if let Some(mined) = self.run(&header, pending, &txs) {
                gas = mined.cumulative_gas;
                txs.push(mined);
            }
        }
        self.next_timestamp = None;
        self.seal(header, txs)
    }

    /// Executes a transaction on the head state; one that is invalid by now is
    /// left out, as block builders do.
    fn run(&mut self, header: &Header, pending: Pending, before: &[MinedTx]) -> Option<MinedTx> {
        let Pending { tx, hash, .. } = pending;
        let sender = tx.signer();
        let done = evm::execute(
            &self.db,
            self.config.chain_id,
            evm::block_env(header),
            evm::signed_env(&tx, sender),
            Rules::Mined,
        );
        let done = match done {
            Ok(done) => done,
            Err(reason) => {
                tracing::debug!(%hash, reason, "transaction left out of the block");
                return None;
            }
        };
        let gas_price = tx.effective_gas_price(Some(self.base_fee));
        let gas_used = done.result.tx_gas_used();
        let forced = self.revert_next > 0;
        let (success, created, logs, state) = if forced {
            self.revert_next -= 1;
            // Only what a reverted transaction leaves: the nonce and the cost.
            let mut state = done.state;
            let before = evm::account(&self.db, sender);
            state.retain(|address, _| *address == sender);
            if let Some(account) = state.get_mut(&sender) {
                account.storage.clear();
                account.info = before;
                account.info.nonce += 1;
                let cost = U256::from(gas_used).saturating_mul(U256::from(gas_price));
                account.info.balance = account.info.balance.saturating_sub(cost);
            }
            (false, None, Vec::new(), state)
        } else {
            match done.result {
                ExecutionResult::Success { logs, output, .. } => {
                    let created = match output {
                        Output::Create(_, address) => address,
                        Output::Call(_) => None,
                    };
                    (true, created, logs, done.state)
                }
                _ => (false, None, Vec::new(), done.state),
            }
        };
        let undo = evm::commit(&mut self.db, state);
        let previous = before.last();
        Some(MinedTx {
            tx,
            hash,
            success,
            gas_used,
            cumulative_gas: gas_used + previous.map_or(0, |tx| tx.cumulative_gas),
            gas_price,
            created,
            first_log: previous.map_or(0, |tx| tx.first_log + tx.logs.len() as u64),
            logs,
            undo,
        })
    }

    /// Appends a block and returns its number.
    fn seal(&mut self, mut header: Header, txs: Vec<MinedTx>) -> u64 {
        let hashes: Vec<u8> = txs.iter().flat_map(|tx| tx.hash.0).collect();
        header.gas_used = txs.last().map_or(0, |tx| tx.cumulative_gas);
        header.logs_bloom = logs_bloom(txs.iter().flat_map(|tx| &tx.logs));
        // Not the real tries, only values that depend on the content.
        header.transactions_root = keccak256(&hashes);
        header.receipts_root = keccak256(header.logs_bloom);
        header.state_root = keccak256([header.parent_hash.0, header.transactions_root.0].concat());
        let hash = header.hash_slow();
        let number = header.number;
        for (index, tx) in txs.iter().enumerate() {
            self.locations.insert(tx.hash, (number, index));
        }
        self.by_hash.insert(hash, number);
        self.blocks.push(Mined { header, hash, txs });
        number
    }

    /// Replaces the newest `depth` blocks (never the first) with as many others.
    pub(super) fn reorg(&mut self, depth: u64, fate: ReorgTxs) {
        let depth = depth.min(self.head());
        let kept = self.blocks.len().saturating_sub(depth as usize);
        let removed = self.blocks.split_off(kept);
        for block in removed.iter().rev() {
            self.by_hash.remove(&block.hash);
            for mined in block.txs.iter().rev() {
                self.locations.remove(&mined.hash);
                evm::revert(&mut self.db, &mined.undo);
            }
        }
        self.generation += 1;
        let shift = match fate {
            ReorgTxs::Remine { shift } => shift,
            ReorgTxs::Drop | ReorgTxs::Requeue => 0,
        };
        for block in removed {
            let mut header = self.next_header();
            header.timestamp = block.header.timestamp.saturating_add(shift);
            header.base_fee_per_gas = block.header.base_fee_per_gas;
            let mut txs = Vec::new();
            for mined in block.txs {
                let pending = self.pool.pending(mined.tx, mined.hash);
                match fate {
                    ReorgTxs::Drop => {}
                    ReorgTxs::Requeue => self.pool.put_back(pending),
                    ReorgTxs::Remine { .. } => txs.extend(self.run(&header, pending, &txs)),
                }
            }
            self.seal(header, txs);
        }
    }
}
