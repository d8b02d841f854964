//! Where money is decided. Pure: amounts in, decision out; no clock, no I/O.
//!
//! `books` decides what the next voucher of a channel is and what an answer costs, `learn` the default length of an
//! answer. The journal calls them inside the transaction that records the decision.

pub mod books;
pub mod learn;

pub use books::{Books, Settlement};
