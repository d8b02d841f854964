//! A payment of its own, without a channel: a transfer that its owner signs and its recipient sends, of USDC (EIP-3009) or over
//! Tempo.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::{Eip712Domain, SolStruct};

use crate::deployment::{AMOY, AMOY_USDC, POLYGON, POLYGON_USDC};
use crate::tempo::{self, TempoTransfer};
use crate::usdc::Usdc;

// The token's names: they are part of the signed hash.
mod typed {
    alloy::sol! {
        #[derive(Debug)]
        struct TransferWithAuthorization {
            address from;
            address to;
            uint256 value;
            uint256 validAfter;
            uint256 validBefore;
            bytes32 nonce;
        }
    }
}

/// A token that is paid with: where it is, and how it names itself in what is signed. Nobody else's word counts for
/// that (M8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The chain.
    pub chain_id: u64,
    /// The token's contract.
    pub token: Address,
    /// Its EIP-712 name.
    pub name: &'static str,
    /// Its EIP-712 version.
    pub version: &'static str,
}

impl Asset {
    /// USDC of a chain at this address. Where the chain's own native USDC is another one, it is an operator's, which
    /// names itself as Circle's contracts do.
    pub fn usdc(chain_id: u64, token: Address) -> Self {
        let name = if (chain_id, token) == (AMOY, AMOY_USDC) { "USDC" } else { "USD Coin" };
        Self { chain_id, token, name, version: "2" }
    }

    /// Native USDC of the chains that are known.
    pub fn builtin() -> [Self; 2] {
        [Self::usdc(POLYGON, POLYGON_USDC), Self::usdc(AMOY, AMOY_USDC)]
    }

    /// The domain as alloy's type, for signers that show its fields.
    pub fn eip712(&self) -> Eip712Domain {
        Eip712Domain::new(
            Some(self.name.into()),
            Some(self.version.into()),
            Some(U256::from(self.chain_id)),
            Some(self.token),
            None,
        )
    }

    /// The domain separator, as the token's `DOMAIN_SEPARATOR()` gives it.
    pub fn separator(&self) -> B256 {
        self.eip712().separator()
    }
}

/// What is signed: exactly `value`, to exactly `to`, once, within its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whose money it is.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// How much.
    pub value: Usdc,
    /// The chain's time must be above it, in Unix seconds.
    pub valid_after: u64,
    /// The chain's time must be below it.
    pub valid_before: u64,
    /// The token takes each of an account's nonces once, in any order.
    pub nonce: B256,
}

impl Transfer {
    /// The typed data that is signed.
    pub fn struct_hash(&self) -> B256 {
        typed::TransferWithAuthorization {
            from: self.from,
            to: self.to,
            value: self.value.to_u256(),
            validAfter: U256::from(self.valid_after),
            validBefore: U256::from(self.valid_before),
            nonce: self.nonce,
        }
        .eip712_hash_struct()
    }
}

/// What is signed to pay for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentOrder {
    /// An authorization of the token's own (EIP-3009): whoever sends it pays its gas.
    Authorization {
        /// Chain and token.
        asset: Asset,
        /// What is paid to whom, and until when.
        transfer: Transfer,
    },
    /// A transaction of Tempo's: its gas is paid with it.
    Tempo(TempoTransfer),
}

impl PaymentOrder {
    /// What is paid to whom, and until when.
    pub const fn transfer(&self) -> &Transfer {
        match self {
            Self::Authorization { transfer, .. } => transfer,
            Self::Tempo(order) => &order.transfer,
        }
    }

    /// On which chain.
    pub const fn chain_id(&self) -> u64 {
        match self {
            Self::Authorization { asset, .. } => asset.chain_id,
            Self::Tempo(order) => order.chain_id,
        }
    }

    /// With which token.
    pub const fn token(&self) -> Address {
        match self {
            Self::Authorization { asset, .. } => asset.token,
            Self::Tempo(order) => order.token,
        }
    }

    /// What a person says yes to: the same from one try to the next, whatever gas costs meanwhile.
    pub fn asked_for(&self) -> Usdc {
        match self {
            Self::Authorization { transfer, .. } => transfer.value,
            Self::Tempo(order) if order.sponsored => order.transfer.value,
            Self::Tempo(order) => order.transfer.value.saturating_add(tempo::MOST_GAS),
        }
    }

    /// The most that it can cost, gas included.
    pub fn at_most(&self) -> Usdc {
        match self {
            Self::Authorization { transfer, .. } => transfer.value,
            Self::Tempo(order) => order.at_most(),
        }
    }
}
