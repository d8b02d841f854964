//! Transactions on their way into a block: what a node accepts and in which
//! order it mines. Error texts are those of Polygon's nodes (bor, geth).

use std::collections::HashMap;

use alloy::consensus::transaction::{Recovered, SignerRecoverable as _};
use alloy::consensus::{Transaction as _, TxEnvelope, Typed2718 as _};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, B256, U256};
use revm::database::InMemoryDB;

use super::evm;
use super::rpc::RpcError;
use super::state::Chain;

/// A replacement must offer this many percent of the fees it replaces.
const REPLACEMENT_PERCENT: u128 = 110;

/// An accepted transaction that no block holds yet.
pub(super) struct Pending {
    pub(super) tx: Recovered<TxEnvelope>,
    pub(super) hash: B256,
    arrival: u64,
}

/// The pending transactions, at most one per sender and nonce.
#[derive(Default)]
pub(super) struct Pool {
    by_slot: HashMap<(Address, u64), Pending>,
    arrivals: u64,
}

impl Pool {
    pub(super) fn pending(&mut self, tx: Recovered<TxEnvelope>, hash: B256) -> Pending {
        self.arrivals += 1;
        Pending { tx, hash, arrival: self.arrivals }
    }

    pub(super) fn put_back(&mut self, pending: Pending) {
        let slot = (pending.tx.signer(), pending.tx.nonce());
        self.by_slot.insert(slot, pending);
    }

    pub(super) fn get(&self, hash: B256) -> Option<&Pending> {
        self.by_slot.values().find(|pending| pending.hash == hash)
    }

    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(super) fn remove(&mut self, hash: B256) -> Option<Pending> {
        let slot = self.by_slot.iter().find_map(|(slot, pending)| (pending.hash == hash).then_some(*slot))?;
        self.by_slot.remove(&slot)
    }

    pub(super) fn clear(&mut self) {
        self.by_slot.clear();
    }

    /// The earliest arrived transaction that can run now. One below the base
    /// fee or behind a nonce gap waits.
    pub(super) fn next(&mut self, db: &InMemoryDB, base_fee: u64) -> Option<B256> {
        // A nonce that the state has passed (set by hand) can never run.
        self.by_slot.retain(|(sender, nonce), _| *nonce >= evm::account(db, *sender).nonce);
        self.by_slot
            .iter()
            .filter(|((sender, nonce), pending)| {
                *nonce == evm::account(db, *sender).nonce && pending.tx.max_fee_per_gas() >= u128::from(base_fee)
            })
            .min_by_key(|(_, pending)| pending.arrival)
            .map(|(_, pending)| pending.hash)
    }

    /// The nonce after the sender's uninterrupted pending transactions.
    pub(super) fn next_nonce(&self, sender: Address, mut nonce: u64) -> u64 {
        while self.by_slot.contains_key(&(sender, nonce)) {
            nonce += 1;
        }
        nonce
    }

    /// Puts a checked transaction in, perhaps in place of a cheaper one.
    fn insert(&mut self, pending: Pending) -> Result<(), RpcError> {
        let slot = (pending.tx.signer(), pending.tx.nonce());
        if let Some(old) = self.by_slot.get(&slot) {
            if old.hash == pending.hash {
                return Err(RpcError::server("already known"));
            }
            let enough = |new: u128, old: u128| new.saturating_mul(100) >= old.saturating_mul(REPLACEMENT_PERCENT);
            if !enough(pending.tx.max_fee_per_gas(), old.tx.max_fee_per_gas())
                || !enough(tip_cap(&pending.tx), tip_cap(&old.tx))
            {
                return Err(RpcError::server("replacement transaction underpriced"));
            }
        }
        self.by_slot.insert(slot, pending);
        Ok(())
    }
}

fn tip_cap(tx: &TxEnvelope) -> u128 {
    tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas())
}

/// What a transaction costs before any code runs.
fn intrinsic_gas(tx: &TxEnvelope) -> u64 {
    let data: u64 = tx.input().iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum();
    let create = if tx.is_create() { 32_000 } else { 0 };
    21_000 + create + data
}

impl Chain {
    /// Reads a raw transaction and checks its form and signature.
    pub(super) fn decode(&self, mut raw: &[u8]) -> Result<Pending, RpcError> {
        let invalid = |what: String| RpcError::server(what);
        let tx = TxEnvelope::decode_2718(&mut raw).map_err(|error| invalid(format!("rlp: {error}")))?;
        if !raw.is_empty() {
            return Err(invalid("rlp: trailing bytes".to_owned()));
        }
        if tx.ty() > 2 {
            return Err(invalid("transaction type not supported".to_owned()));
        }
        if let Some(id) = tx.chain_id()
            && id != self.config.chain_id
        {
            let want = self.config.chain_id;
            return Err(invalid(format!("invalid sender: invalid chain id for signer: have {id} want {want}")));
        }
        let hash = *tx.tx_hash();
        let sender = tx.recover_signer().map_err(|_| invalid("invalid sender".to_owned()))?;
        Ok(Pending { tx: Recovered::new_unchecked(tx, sender), hash, arrival: 0 })
    }

    /// Takes a transaction into the pool if a node would.
    pub(super) fn admit(&mut self, mut pending: Pending) -> Result<B256, RpcError> {
        let tx = &pending.tx;
        let hash = pending.hash;
        if self.pool.get(hash).is_some() {
            return Err(RpcError::server("already known"));
        }
        let (limit, tip) = (tx.gas_limit(), tip_cap(tx));
        let refusal = if limit > self.config.gas_limit {
            Some("exceeds block gas limit".to_owned())
        } else if tip > tx.max_fee_per_gas() {
            Some("max priority fee per gas higher than max fee per gas".to_owned())
        } else if tip < u128::from(self.config.min_priority_fee) {
            let least = self.config.min_priority_fee;
            Some(format!("transaction underpriced: gas tip cap {tip}, minimum needed {least}"))
        } else if limit < intrinsic_gas(tx) {
            let least = intrinsic_gas(tx);
            Some(format!("intrinsic gas too low: gas {limit}, minimum needed {least}"))
        } else {
            self.unaffordable(tx)
        };
        if let Some(reason) = refusal {
            return Err(RpcError::server(reason));
        }
        self.pool.arrivals += 1;
        pending.arrival = self.pool.arrivals;
        self.pool.insert(pending)?;
        self.mine_ready();
        Ok(hash)
    }

    /// Why the sender's account does not allow the transaction.
    fn unaffordable(&self, tx: &Recovered<TxEnvelope>) -> Option<String> {
        let info = evm::account(&self.db, tx.signer());
        let (state, nonce) = (info.nonce, tx.nonce());
        if nonce < state {
            return Some(format!("nonce too low: next nonce {state}, tx nonce {nonce}"));
        }
        if nonce == u64::MAX {
            return Some("nonce has max value".to_owned());
        }
        let cost =
            U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas())).saturating_add(tx.value());
        (cost > info.balance).then(|| {
            let (balance, short) = (info.balance, cost - info.balance);
            format!("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {short}")
        })
    }
}
