//! What a server that wants to be paid starts with.

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::Usdc;

use crate::contracts::USDC;

/// What is fixed for the life of a [`Paid`](crate::Paid).
#[derive(Clone, Debug)]
pub struct PaidConfig {
    /// Who is paid.
    pub payee: Address,
    /// What every request costs.
    pub price: Usdc,
    /// MPP's realm.
    pub realm: String,
    /// The token.
    pub asset: Address,
    /// The account that settles, of its own: two servers with one account would take each other's nonces.
    pub key: PrivateKeySigner,
    /// What MPP's challenge ids are made with.
    pub secret: String,
    /// Seconds until an MPP challenge expires.
    pub mpp_lifetime: u32,
    /// x402's `maxTimeoutSeconds`.
    pub x402_timeout: u32,
}

impl PaidConfig {
    /// With a settling account that nobody else has, and the lifetimes of the deployed servers.
    pub fn new(payee: Address, price: Usdc) -> Self {
        Self {
            payee,
            price,
            realm: "paid.sandbox".into(),
            asset: USDC,
            key: PrivateKeySigner::random(),
            secret: "no secret: everybody may issue the sandbox's challenges".into(),
            mpp_lifetime: 300,
            x402_timeout: 60,
        }
    }
}
