//! What to pay for gas (EIP-1559).

use drain_protocol::U256;
use drain_protocol::deployment::POLYGON;
use serde_json::json;

use super::{Chain, ChainError, reads};

const GWEI: u128 = 1_000_000_000;
/// Polygon's nodes refuse lower tips, whatever they suggest.
const POLYGON_LEAST_TIP: u128 = 30 * GWEI;
/// More than any busy hour asks for: the tip is paid in full, so a lying node must not be able to name it.
const MOST_TIP: u128 = 1_000 * GWEI;

/// A transaction that offers so many times today's fees is not outbid: a chain that stands still is not moved by money.
const MOST_OUTBID: u128 = 4;

/// What a transaction offers for a unit of gas, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The most, tip included.
    pub max_fee_per_gas: u128,
    /// The tip.
    pub max_priority_fee_per_gas: u128,
}

impl Fees {
    /// Twice the base fee, so that a transaction survives several full blocks, plus the suggested tip within bounds.
    pub fn new(chain_id: u64, base_fee: u128, suggested_tip: u128) -> Self {
        let least = if chain_id == POLYGON { POLYGON_LEAST_TIP } else { 0 };
        let tip = suggested_tip.clamp(least, MOST_TIP);
        Self { max_fee_per_gas: base_fee.saturating_mul(2).saturating_add(tip), max_priority_fee_per_gas: tip }
    }

    /// Fees that may replace a transaction with these in the same slot: nodes want a tenth more of both; this is an
    /// eighth.
    pub fn bumped(self) -> Self {
        let more = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
        Self {
            max_fee_per_gas: more(self.max_fee_per_gas),
            max_priority_fee_per_gas: more(self.max_priority_fee_per_gas),
        }
    }

    /// What replaces a transaction with these in its slot: enough for the nodes, today's fees if they are higher, never
    /// above the ceiling for a unit of gas. `None` where no such fees are, or where these are several times today's: then it
    /// is not the fee that keeps the transaction.
    pub fn outbidding(self, today: Self, ceiling: u128) -> Option<Self> {
        let least = self.bumped();
        let most = |today: u128| today.saturating_mul(MOST_OUTBID);
        let in_vain = least.max_fee_per_gas > most(today.max_fee_per_gas)
            || least.max_priority_fee_per_gas > most(today.max_priority_fee_per_gas);
        if in_vain || least.max_fee_per_gas > ceiling {
            return None;
        }
        let Self { max_fee_per_gas, max_priority_fee_per_gas } = today.max(least);
        let max_fee_per_gas = max_fee_per_gas.min(ceiling);
        Some(Self { max_fee_per_gas, max_priority_fee_per_gas: max_priority_fee_per_gas.min(max_fee_per_gas) })
    }

    /// The higher of both, value by value.
    pub fn max(self, other: Self) -> Self {
        Self {
            max_fee_per_gas: self.max_fee_per_gas.max(other.max_fee_per_gas),
            max_priority_fee_per_gas: self.max_priority_fee_per_gas.max(other.max_priority_fee_per_gas),
        }
    }

    /// What a unit of gas costs at today's base fee, tip included: what to tell people, not what to set aside.
    pub const fn expected_per_gas(&self) -> u128 {
        self.max_fee_per_gas.midpoint(self.max_priority_fee_per_gas)
    }

    /// The most that this much gas can cost.
    pub fn gas_cost_wei(&self, gas_limit: u64) -> U256 {
        U256::from(self.max_fee_per_gas).saturating_mul(U256::from(gas_limit))
    }
}

impl Chain {
    /// Fees for a transaction that is sent now.
    pub async fn fees(&self) -> Result<Fees, ChainError> {
        let head = self.head().await?;
        let base_fee = match head.base_fee {
            Some(base_fee) => base_fee,
            // A chain without base fee still has a price.
            None => self.pool().read("eth_gasPrice", &json!([]), reads::quantity).await?,
        };
        // Not every node has the method; the floor does without it.
        let tip = match self.pool().read("eth_maxPriorityFeePerGas", &json!([]), reads::quantity).await {
            Ok(tip) => tip,
            Err(error) => {
                tracing::debug!(%error, "no suggested tip");
                0
            }
        };
        Ok(Fees::new(self.chain_id(), base_fee, tip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polygon_has_a_floor_and_other_chains_have_none() {
        let fees = Fees::new(POLYGON, 100 * GWEI, GWEI);
        assert_eq!(fees, Fees { max_fee_per_gas: 230 * GWEI, max_priority_fee_per_gas: 30 * GWEI });
        assert_eq!(fees.expected_per_gas(), 130 * GWEI);
        assert_eq!(Fees::new(POLYGON, 0, 45 * GWEI).max_priority_fee_per_gas, 45 * GWEI);
        assert_eq!(Fees::new(31_337, 7, 0), Fees { max_fee_per_gas: 14, max_priority_fee_per_gas: 0 });
    }

    #[test]
    fn no_node_can_name_an_absurd_tip_or_overflow() {
        assert_eq!(Fees::new(POLYGON, GWEI, u128::MAX).max_priority_fee_per_gas, MOST_TIP);
        assert_eq!(Fees::new(1, u128::MAX, 1).max_fee_per_gas, u128::MAX);
    }

    #[test]
    fn a_bump_is_more_than_a_tenth() {
        let fees = Fees::new(POLYGON, 100 * GWEI, 0);
        let bumped = fees.bumped();
        assert!(bumped.max_fee_per_gas * 10 > fees.max_fee_per_gas * 11);
        assert!(bumped.max_priority_fee_per_gas * 10 > fees.max_priority_fee_per_gas * 11);
        assert_eq!(fees.max(bumped), bumped);
    }

    #[test]
    fn a_replacement_is_within_the_ceiling_and_a_few_times_todays_fees() {
        let fees = |fee, tip| Fees { max_fee_per_gas: fee * GWEI, max_priority_fee_per_gas: tip * GWEI };
        let (sent, ceiling) = (fees(80, 30), 5_000 * GWEI);
        // Today's where they are higher, else an eighth more.
        assert_eq!(sent.outbidding(fees(400, 40), ceiling), Some(fees(400, 40)));
        assert_eq!(sent.outbidding(fees(80, 30), ceiling), Some(sent.bumped()));
        assert_eq!(sent.outbidding(fees(10_000, 30), ceiling).unwrap().max_fee_per_gas, ceiling);
        // At the ceiling, or far above today's already: nothing.
        assert_eq!(fees(4_900, 30).outbidding(fees(10_000, 30), ceiling), None);
        assert_eq!(sent.outbidding(fees(20, 30), ceiling), None);
        assert_eq!(sent.outbidding(fees(80, 8), ceiling), None);
        let tip_alone = fees(90, 80).outbidding(fees(30, 30), 100 * GWEI);
        assert_eq!(tip_alone, None);
    }

    #[test]
    fn gas_cost_is_the_most_it_can_be() {
        let fees = Fees { max_fee_per_gas: 230 * GWEI, max_priority_fee_per_gas: 30 * GWEI };
        assert_eq!(fees.gas_cost_wei(150_000), U256::from(34_500_000_000_000_000u64));
    }
}
