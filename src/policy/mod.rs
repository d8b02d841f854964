//! Where money is decided. Pure: amounts in, decision out; no clock, no I/O.
//!
//! `books` decides what the next voucher of a channel is and what an answer costs, `learn` the default length of an
//! answer, `prices` when a rise is a question for a person. The journal calls them inside the transaction that records the decision.

pub mod books;
pub mod learn;
pub mod prices;

pub use books::{Books, Settlement};
