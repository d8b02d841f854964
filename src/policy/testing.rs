//! Limits for tests.

use drain_protocol::Usdc;

use super::approvals::Thresholds;
use super::limits::{Limits, Parties};

/// The defaults.
pub fn limits() -> Limits {
    Limits {
        per_request: Usdc::new(250_000),
        per_channel: Usdc::new(5_000_000),
        per_hour: Usdc::new(5_000_000),
        per_day: Usdc::new(20_000_000),
        per_provider: Usdc::new(10_000_000),
        per_agent: Usdc::new(20_000_000),
        newcomers: Usdc::new(1_000_000),
        locked: Usdc::new(20_000_000),
        open_channels: 20,
        opens_per_hour: 20,
        unlimited_allowance: false,
        session_fee: Usdc::new(10_000),
        max_duration: "30d".parse().unwrap(),
        gas_per_transaction: "0.5".parse().unwrap(),
        gas_per_day: "2".parse().unwrap(),
        parties: Parties::default(),
        approve: Thresholds::default(),
        frozen: false,
    }
}
