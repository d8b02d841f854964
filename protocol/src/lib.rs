//! Wire facts of the DRAIN payment-channel protocol: amounts, vouchers, contracts, pricing and HTTP shapes.
//!
//! Pure: no I/O, no clock, no randomness. Everything that reads outside input returns an error instead of panicking.

pub mod chat;
pub mod close;
pub mod contract;
pub mod demand;
pub mod deployment;
pub mod directory;
pub mod duration;
pub mod headers;
pub mod marketplace;
pub mod pricing;
pub mod refusal;
pub mod shape;
pub mod sse;
pub mod tempo;
pub mod text;
pub mod transfer;
pub mod usdc;
pub mod voucher;

pub use alloy::primitives::{Address, B256, U256};
pub use contract::Generation;
pub use deployment::Deployment;
pub use shape::ShapeError;
pub use tempo::TempoTransfer;
pub use transfer::{Asset, PaymentOrder, Transfer};
pub use usdc::Usdc;
pub use voucher::{ChannelId, CloseAuthorization, Domain, Nonce, SignedVoucher, Voucher};
