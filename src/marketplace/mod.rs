//! HTTP to the marketplace: the catalogue, and the calls around it (protocol.md section 10).
//!
//! The marketplace is not in the payment path. What it says is returned as data; addresses and calldata in it are
//! compared with ours, never used (M8).

mod client;
mod error;
#[cfg(test)]
mod tests;

pub use client::MarketplaceClient;
pub use error::MarketplaceError;
