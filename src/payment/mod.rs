//! HTTP to whoever wants to be paid by a single payment (MPP, x402): a caller's request as it may be sent, its answer, and
//! which of the ways to pay that a 402 offers is used. No money moves here.

pub mod offer;
pub mod request;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use offer::{Choice, choose};
pub use request::{Answer, WebRequest};

use drain_protocol::demand::Protocol;
use drain_protocol::tempo;
use drain_signers::Policy;

/// Whether this build pays by a protocol.
pub const fn is_built(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Mpp => cfg!(feature = "mpp"),
        Protocol::MppTempo => cfg!(feature = "tempo"),
        Protocol::X402V1 | Protocol::X402V2 => cfg!(feature = "x402"),
    }
}

/// The feature that a protocol needs.
pub const fn feature(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Mpp => "mpp",
        Protocol::MppTempo => "tempo",
        Protocol::X402V1 | Protocol::X402V2 => "x402",
    }
}

/// The longest that a payment is valid, in seconds.
pub const fn longest(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::MppTempo => tempo::LONGEST,
        Protocol::Mpp | Protocol::X402V1 | Protocol::X402V2 => Policy::MAX_TRANSFER_TIME,
    }
}

/// The most that can be lost by one payment, and how: nothing above it can be taken.
pub const fn worst_case(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Mpp => {
            "exactly the price, once, by the payee, within the challenge's time; it is taken before the answer is made, so the answer may fail all the same"
        }
        Protocol::MppTempo => {
            "the price, in which gas is counted as high as it may be, once, within half a minute; it is taken before the answer is made, so the answer may fail all the same"
        }
        Protocol::X402V1 | Protocol::X402V2 => {
            "exactly the price, once, by the payee, within the time; whoever sees the payment may use it for another request of the same price there, and it can be taken although the answer failed"
        }
    }
}
