//! Tempo's chain: what gas a transfer needs there, and what became of one.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Bytes, U64, U256};
use drain_protocol::tempo::{self, Gas};
use drain_protocol::{Address, B256, Usdc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::events::Receipt;
use super::pool::number;
use super::reads::{Head, plain};
use super::{Chain, ChainError};

/// A little more than what was estimated, as Tempo's own clients allow for the signature.
const MARGIN: u64 = 5_000;
/// What Tempo's own clients give on top of the base fee, for a unit of gas.
const TIP: u128 = 1_000_000_000;
/// How long before its end a payment was signed at most, in seconds: its time, what clocks may be apart, and a minute more.
const SEARCHED: u64 = tempo::LONGEST + tempo::CLOCKS_APART + 60;
/// More blocks than this are not so much of that chain's time.
const MOST_BLOCKS: u64 = 1_000;

/// What a transaction over Tempo did, at a block that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempoOutcome {
    /// Whether the transfer was made.
    pub success: bool,
    /// What its gas cost, in units of the token.
    pub gas: Usdc,
}

/// Which transaction is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The one of this hash.
    Hash(B256),
    /// An account's, with a transfer of this memo.
    Memo {
        /// Whose.
        from: Address,
        /// Its memo.
        memo: B256,
    },
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// A block holds it.
    At(B256),
    /// No block does, and its time is over.
    Nowhere,
    /// Nobody knows yet.
    NotYet,
}

/// A block's time and what it holds: hashes, or whole transactions.
#[derive(Deserialize)]
struct Block {
    timestamp: U64,
    transactions: Vec<Value>,
}

impl Chain {
    /// The gas that a call of a token needs in a transaction of Tempo's type whose nonce expires, at the price of this block.
    pub async fn tempo_gas(
        &self,
        head: Head,
        from: Address,
        token: Address,
        data: Bytes,
        valid_before: u64,
    ) -> Result<Gas, ChainError> {
        let call = json!([{
            "type": "0x76", "from": from, "feeToken": token, "calls": [{ "to": token, "value": "0x0", "input": data }],
            "nonceKey": U256::MAX, "nonce": "0x0", "validBefore": format!("{valid_before:#x}"),
        }]);
        let limit: u64 = self.pool().read("eth_estimateGas", &call, number).await?;
        let base = head.base_fee.ok_or_else(|| ChainError::malformed("a block of Tempo's without a base fee"))?;
        let price = base.saturating_mul(2).saturating_add(TIP);
        Ok(Gas { limit: limit.saturating_add(MARGIN), price, tip: TIP })
    }

    /// What became of a transaction as of a final block, by the word of two endpoints where there are two; `None` where none
    /// of them has it there. That alone is no proof: [`Chain::tempo_search`] is.
    pub async fn tempo_outcome(&self, hash: B256, block: u64) -> Result<Option<TempoOutcome>, ChainError> {
        let read = |value| Receipt::read(value, hash);
        let said = self.pool().ask_two("eth_getTransactionReceipt", &json!([hash]), Some(block), read).await?;
        let mut said =
            said.into_iter().map(|(_, receipt)| receipt.flatten().filter(|receipt| receipt.block_number <= block));
        let cost = |receipt: &Receipt| (receipt.gas_used, receipt.effective_gas_price);
        let first = said.next().flatten();
        let agreed = said.all(|other| match (&first, &other) {
            (None, None) => true,
            (Some(one), Some(other)) => one.agrees_with(other) && cost(one) == cost(other),
            _ => false,
        });
        if !agreed {
            let what = format!("the endpoints tell different things of the transaction {hash:#x}");
            return Err(ChainError::Disagreement { what });
        }
        let Some(receipt) = first else { return Ok(None) };
        Ok(Some(TempoOutcome {
            success: receipt.success,
            gas: tempo::cost(receipt.gas_used, receipt.effective_gas_price),
        }))
    }

    /// Whether this is the transaction that is looked for, by the word of two endpoints where there are two.
    pub async fn tempo_is(&self, wanted: Wanted, hash: B256) -> Result<bool, ChainError> {
        let said = self.pool().ask_two("eth_getTransactionByHash", &json!([hash]), None, Ok).await?;
        let mut all = true;
        for (_, transaction) in said {
            all &= match transaction {
                Some(found) if !found.is_null() => wanted.is(&found)? == Some(hash),
                _ => false,
            };
        }
        Ok(all)
    }

    /// Where a transaction is that was valid before this time: each block in which it could be is read, on two endpoints where
    /// there are two, up to the final block `last`. A node that lags or forgets gives no blocks, or says so of its receipts alone.
    pub async fn tempo_search(&self, wanted: Wanted, valid_before: u64, last: u64) -> Result<Search, ChainError> {
        let since = valid_before.saturating_sub(SEARCHED);
        let first = self.first_block_since(since, last).await?.saturating_sub(1);
        for number in first..=last.min(first.saturating_add(MOST_BLOCKS)) {
            let whole = matches!(wanted, Wanted::Memo { .. });
            let params = json!([BlockNumberOrTag::Number(number), whole]);
            let said = self.pool().ask_two("eth_getBlockByNumber", &params, Some(number), plain::<Block>).await?;
            let blocks: Vec<Block> = said.into_iter().filter_map(|(_, block)| block).collect();
            let times = || blocks.iter().map(|block| block.timestamp.to::<u64>());
            let mut found = Vec::new();
            for block in &blocks {
                let here: Result<Vec<_>, _> = block.transactions.iter().map(|one| wanted.is(one)).collect();
                found.push(here?.into_iter().flatten().next());
            }
            // One endpoint alone chooses neither where the search begins, nor which transaction it is that ends it.
            let apart = whole && found.iter().any(|other| Some(other) != found.first());
            if blocks.is_empty() || apart || number == first && number > 0 && times().any(|time| time >= since) {
                let what = format!("the endpoints tell of different blocks {number}");
                return Err(ChainError::Disagreement { what });
            }
            if let Some(hash) = found.into_iter().flatten().next() {
                return Ok(Search::At(hash));
            }
            if times().all(|time| time >= valid_before) {
                return Ok(Search::Nowhere);
            }
        }
        Ok(Search::NotYet)
    }
}

impl Wanted {
    /// The hash of a block's transaction, if it is the one. What cannot be read may be it: that is an error.
    pub(super) fn is(&self, transaction: &Value) -> Result<Option<B256>, ChainError> {
        let unreadable = || ChainError::malformed("a transaction in a block of Tempo's");
        let text = |of: &Value| of.as_str().map(str::to_ascii_lowercase).ok_or_else(unreadable);
        match self {
            Self::Hash(hash) => {
                let found: B256 = text(transaction)?.parse().map_err(|_| unreadable())?;
                Ok((found == *hash).then_some(found))
            }
            Self::Memo { from, memo } => {
                let sender: Address = text(&transaction["from"])?.parse().map_err(|_| unreadable())?;
                let found: B256 = text(&transaction["hash"])?.parse().map_err(|_| unreadable())?;
                if sender != *from || text(&transaction["type"])? != "0x76" {
                    return Ok(None);
                }
                let memo = format!("{memo:x}");
                for call in transaction["calls"].as_array().ok_or_else(unreadable)? {
                    let data = call.get("input").filter(|data| !data.is_null()).unwrap_or(&call["data"]);
                    if text(data)?.ends_with(&memo) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }
}
