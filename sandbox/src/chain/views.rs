//! Blocks, transactions, receipts and logs in the form JSON-RPC shows them.

use alloy::consensus::{
    Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction as _, TxEnvelope, TxType, transaction::Recovered,
};
use alloy::primitives::{B256, U256, logs_bloom};
use alloy::rpc::types::{
    Block, BlockTransactions, Filter, FilterBlockOption, Header, Log, Transaction, TransactionReceipt,
};
use serde_json::Value;

use super::rpc::{RpcError, to_json};
use super::state::{Chain, Mined, MinedTx};

fn transaction(block: Option<(&Mined, usize)>, tx: &Recovered<TxEnvelope>) -> Transaction {
    let base_fee = block.and_then(|(mined, _)| mined.header.base_fee_per_gas);
    Transaction {
        inner: tx.clone(),
        block_hash: block.map(|(mined, _)| mined.hash),
        block_number: block.map(|(mined, _)| mined.header.number),
        transaction_index: block.map(|(_, index)| index as u64),
        effective_gas_price: Some(tx.effective_gas_price(base_fee)),
        block_timestamp: block.map(|(mined, _)| mined.header.timestamp),
    }
}

fn logs<'a>(block: &'a Mined, index: usize, tx: &'a MinedTx) -> impl Iterator<Item = Log> + 'a {
    tx.logs.iter().zip(tx.first_log..).map(move |(log, at)| Log {
        inner: log.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(tx.hash),
        transaction_index: Some(index as u64),
        log_index: Some(at),
        removed: false,
    })
}

/// A block with hashes only, or with whole transactions.
pub(super) fn block(mined: &Mined, full: bool) -> Result<Value, RpcError> {
    let transactions = if full {
        let whole = mined.txs.iter().enumerate();
        BlockTransactions::Full(whole.map(|(index, tx)| transaction(Some((mined, index)), &tx.tx)).collect())
    } else {
        BlockTransactions::Hashes(mined.txs.iter().map(|tx| tx.hash).collect())
    };
    to_json(&Block {
        header: Header {
            hash: mined.hash,
            inner: mined.header.clone(),
            total_difficulty: Some(U256::ZERO),
            size: Some(U256::from(1000)),
        },
        uncles: Vec::new(),
        transactions,
        withdrawals: None,
    })
}

impl Chain {
    fn locate(&self, hash: B256) -> Option<(&Mined, usize, &MinedTx)> {
        let (number, index) = *self.locations.get(&hash)?;
        let block = self.block(number)?;
        Some((block, index, block.txs.get(index)?))
    }

    /// A mined or pending transaction, as a node at this height knows it.
    pub(super) fn transaction_json(&self, hash: B256, head: u64) -> Result<Value, RpcError> {
        if let Some((block, index, tx)) = self.locate(hash) {
            let block = (block.header.number <= head).then_some((block, index));
            return to_json(&transaction(block, &tx.tx));
        }
        self.pool.get(hash).map_or(Ok(Value::Null), |pending| to_json(&transaction(None, &pending.tx)))
    }

    /// The receipt, if the transaction is mined at or below this height.
    pub(super) fn receipt_json(&self, hash: B256, head: u64) -> Result<Value, RpcError> {
        let found = self.locate(hash);
        let Some((block, index, tx)) = found.filter(|found| found.0.header.number <= head) else {
            return Ok(Value::Null);
        };
        let receipt = ReceiptWithBloom {
            receipt: Receipt {
                status: tx.success.into(),
                cumulative_gas_used: tx.cumulative_gas,
                logs: logs(block, index, tx).collect(),
            },
            logs_bloom: logs_bloom(&tx.logs),
        };
        let kind = match &*tx.tx {
            TxEnvelope::Legacy(_) => TxType::Legacy,
            TxEnvelope::Eip2930(_) => TxType::Eip2930,
            _ => TxType::Eip1559,
        };
        to_json(&TransactionReceipt {
            inner: ReceiptEnvelope::from_typed(kind, receipt),
            transaction_hash: hash,
            transaction_index: Some(index as u64),
            block_hash: Some(block.hash),
            block_number: Some(block.header.number),
            gas_used: tx.gas_used,
            effective_gas_price: tx.gas_price,
            blob_gas_used: None,
            blob_gas_price: None,
            from: tx.tx.signer(),
            to: tx.tx.to(),
            contract_address: tx.created,
        })
    }

    /// Logs that match, seen from a node at this height.
    pub(super) fn logs_json(&self, filter: &Filter, head: u64) -> Result<Value, RpcError> {
        let (from, to) = match &filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = self.by_hash.get(hash).copied();
                let number = number.filter(|number| *number <= head);
                let number = number.ok_or_else(|| RpcError::server("unknown block"))?;
                (number, number)
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let from = self.tag(from_block.unwrap_or_default(), head);
                let to = self.tag(to_block.unwrap_or_default(), head);
                if from > to {
                    return Err(RpcError::invalid_params("invalid block range params"));
                }
                if let Some(most) = self.config.max_log_range
                    && to - from >= most
                {
                    return Err(RpcError::new(-32005, format!("query exceeds max block range {most}")));
                }
                (from, to.min(head))
            }
        };
        let range = (from..=to).filter_map(|number| self.block(number));
        let found: Vec<Log> = range
            .flat_map(|block| {
                let txs = block.txs.iter().enumerate();
                txs.flat_map(move |(index, tx)| logs(block, index, tx))
            })
            .filter(|log| filter.matches(&log.inner))
            .collect();
        to_json(&found)
    }
}
