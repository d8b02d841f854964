//! Where money is decided. Pure: amounts in, decision out; no clock, no I/O.
//!
//! `books` decides what the next voucher of a channel is and what an answer costs, `limits` and `budgets` whether it fits
//! under the operator's upper bounds, `approvals` when a person is asked, `choice` which
//! open channel pays, `learn` the default length of an answer, `prices`
//! when a rise is a question for a person, `ranking` in which order providers are shown, `refund` when unspent money comes back by itself,
//! `repeat` which requests are the same,
//! `score` what a provider's record says of it. The journal calls them inside the
//! transaction that records the decision.

pub mod approvals;
pub mod books;
pub mod budgets;
mod caller;
pub mod choice;
pub mod learn;
pub mod limits;
mod pol;
pub mod prices;
pub mod ranking;
pub mod refund;
pub mod repeat;
pub mod score;
pub mod sharing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod testing;
pub mod treasury;

pub use books::{Books, Settlement};
pub use caller::{Asked, Caller, FleetAgent, RequestId, Sees};
pub use limits::Limits;
pub use pol::{NotPol, Pol};
