//! The built-in table of contracts and tokens (M8, protocol.md section 2.1).

use alloy::primitives::{Address, address};

use crate::contract::Generation;
use crate::voucher::Domain;

/// A channel contract that we know, with the token it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// V1 or V2.
    pub generation: Generation,
    /// The EIP-712 domain: chain and contract.
    pub domain: Domain,
    /// The token that `usdc()` must answer.
    pub usdc: Address,
}

impl Deployment {
    /// A deployment from its parts: the table's own, or an operator's.
    pub fn new(chain_id: u64, generation: Generation, contract: Address, usdc: Address) -> Self {
        Self { generation, domain: Domain::new(chain_id, contract), usdc }
    }

    /// The contract's address.
    pub const fn contract(&self) -> Address {
        self.domain.contract()
    }

    /// The chain.
    pub const fn chain_id(&self) -> u64 {
        self.domain.chain_id()
    }
}

/// Polygon.
pub const POLYGON: u64 = 137;
/// Polygon's test network, for which no verified deployment exists: an operator must name one.
pub const AMOY: u64 = 80_002;

/// Native USDC on Polygon.
pub const POLYGON_USDC: Address = address!("3c499c542cEF5E3811e1192ce70d8cC03d5c3359");
/// Bridged USDC.e on Polygon: looks like USDC in a wallet and counts for nothing here.
pub const POLYGON_USDC_E: Address = address!("2791Bca1f2de4661ED88A30C99A7a9449Aa84174");
/// Test USDC on Amoy.
pub const AMOY_USDC: Address = address!("41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582");
/// The live V2 contract on Polygon.
pub const POLYGON_V2: Address = address!("0C2B3aA1e80629D572b1f200e6DF3586B3946A8A");
/// The V1 contract on Polygon.
pub const POLYGON_V1: Address = address!("1C1918C99b6DcE977392E4131C91654d8aB71e64");

/// Every deployment that is built in for a chain; empty for a chain that needs an operator's word.
pub fn builtin(chain_id: u64) -> Vec<Deployment> {
    match chain_id {
        POLYGON => vec![
            Deployment::new(POLYGON, Generation::V2, POLYGON_V2, POLYGON_USDC),
            Deployment::new(POLYGON, Generation::V1, POLYGON_V1, POLYGON_USDC),
        ],
        _ => Vec::new(),
    }
}

/// The native USDC of a chain, where one is known.
pub const fn usdc(chain_id: u64) -> Option<Address> {
    match chain_id {
        POLYGON => Some(POLYGON_USDC),
        AMOY => Some(AMOY_USDC),
        _ => None,
    }
}
