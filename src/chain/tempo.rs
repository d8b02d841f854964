//! Tempo's chain: what gas a transfer needs there, and what became of one.

use alloy::primitives::{Bytes, U256};
use drain_protocol::tempo::{self, Gas};
use drain_protocol::{Address, B256, Usdc};
use serde_json::json;

use super::events::Receipt;
use super::pool::number;
use super::{Chain, ChainError};

/// A little more than what was estimated, as Tempo's own clients allow for the signature.
const MARGIN: u64 = 5_000;

/// What a transaction over Tempo did, at a block that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempoOutcome {
    /// Whether the transfer was made.
    pub success: bool,
    /// What its gas cost, in units of the token.
    pub gas: Usdc,
}

impl Chain {
    /// The gas that a call of a token needs in a transaction of Tempo's type whose nonce expires, and its price now.
    pub async fn tempo_gas(
        &self,
        from: Address,
        token: Address,
        data: Bytes,
        valid_before: u64,
    ) -> Result<Gas, ChainError> {
        let call = json!([{
            "type": "0x76", "from": from, "feeToken": token, "calls": [{ "to": token, "value": "0x0", "input": data }],
            "nonceKey": U256::MAX, "nonce": "0x0", "validBefore": format!("{valid_before:#x}"),
        }]);
        let (limit, fees) = futures::join!(self.pool().read("eth_estimateGas", &call, number), self.fees());
        let fees = fees?;
        Ok(Gas {
            limit: limit?.saturating_add(MARGIN),
            price: fees.max_fee_per_gas,
            tip: fees.max_priority_fee_per_gas,
        })
    }

    /// What became of a transaction as of a final block, by the word of two endpoints where there are two; `None` where none
    /// of them has it there.
    pub async fn tempo_outcome(&self, hash: B256, block: u64) -> Result<Option<TempoOutcome>, ChainError> {
        let read = |value| Receipt::read(value, hash);
        let said = self.pool().ask_two("eth_getTransactionReceipt", &json!([hash]), Some(block), read).await?;
        let mut said =
            said.into_iter().map(|(_, receipt)| receipt.flatten().filter(|receipt| receipt.block_number <= block));
        let first = said.next().flatten();
        let agreed = said.all(|other| match (&first, &other) {
            (None, None) => true,
            (Some(one), Some(other)) => one.agrees_with(other),
            _ => false,
        });
        if !agreed {
            let what = format!("the endpoints tell different things of the transaction {hash:#x}");
            return Err(ChainError::Disagreement { what });
        }
        Ok(first.map(|receipt| TempoOutcome {
            success: receipt.success,
            gas: tempo::cost(receipt.gas_used, receipt.effective_gas_price),
        }))
    }
}
