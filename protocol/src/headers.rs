//! Header names, and what an answer's headers say about money (protocol.md sections 5.5, 5.6, 6.2).

use alloy::primitives::Address;

use crate::text::one_line;
use crate::usdc::Usdc;
use crate::voucher::ChannelId;

/// The signed voucher of a request. Names are in lower case, as HTTP/2 and header maps want them.
pub const VOUCHER: &str = "x-drain-voucher";
/// Cost of this request, in base units.
pub const COST: &str = "x-drain-cost";
/// What the provider says it charged on this channel so far, in base units. Known to count the last cost twice.
pub const TOTAL: &str = "x-drain-total";
/// Deposit minus total, in base units.
pub const REMAINING: &str = "x-drain-remaining";
/// The channel that was charged.
pub const CHANNEL: &str = "x-drain-channel";
/// Seconds of audio (one provider).
pub const DURATION: &str = "x-drain-duration";
/// Code of a refusal.
pub const ERROR: &str = "x-drain-error";
/// What the refused request needs, in base units; not cumulative.
pub const REQUIRED: &str = "x-drain-required";
/// Voucher amount minus what was charged before, in base units; may be negative.
pub const PROVIDED: &str = "x-drain-provided";
/// Discovery: `drain-v2`.
pub const PAYMENT_PROTOCOL: &str = "x-payment-protocol";
/// Discovery: the provider's wallet.
pub const PAYMENT_PROVIDER: &str = "x-payment-provider";
/// Discovery: the contract.
pub const PAYMENT_CONTRACT: &str = "x-payment-contract";
/// Discovery: the chain's number.
pub const PAYMENT_CHAIN: &str = "x-payment-chain";
/// Discovery: where signing is described. Never followed.
pub const PAYMENT_SIGNING: &str = "x-payment-signing";
/// Discovery: the provider's instructions, relative to its address.
pub const PAYMENT_DOCS: &str = "x-payment-docs";

/// What an answer says about its cost. All of it is the provider's claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostHeaders {
    /// Cost of this request; correct in every version seen.
    pub cost: Option<Usdc>,
    /// Charged on the channel so far; a claim that old versions get wrong.
    pub total: Option<Usdc>,
    /// Left of the deposit; zero when the provider says less than zero.
    pub remaining: Option<Usdc>,
    /// The channel.
    pub channel: Option<ChannelId>,
    /// True when one of these was there and could not be read.
    pub garbage: bool,
}

impl CostHeaders {
    /// Reads them through `get`, which is called with the names of this module and gives a header's text.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let mut garbage = false;
        let mut units = |name: &str, below_zero: Option<Usdc>| {
            let text = get(name)?;
            let text = text.trim();
            let amount = match text.strip_prefix('-') {
                Some(digits) if is_digits(digits) => below_zero,
                _ => Usdc::parse_units(text).ok(),
            };
            garbage |= amount.is_none();
            amount
        };
        let (cost, total) = (units(COST, None), units(TOTAL, None));
        let remaining = units(REMAINING, Some(Usdc::ZERO));
        let channel_text = get(CHANNEL);
        let channel: Option<ChannelId> = channel_text.as_ref().and_then(|text| text.parse().ok());
        garbage |= channel_text.is_some() && channel.is_none();
        Self { cost, total, remaining, channel, garbage }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What a provider says about itself when a request has no voucher (protocol.md section 5.6). Compared with what we
/// know, never believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// `drain-v2`.
    pub protocol: Option<String>,
    /// The provider's wallet.
    pub provider: Option<Address>,
    /// The contract that it expects channels on.
    pub contract: Option<Address>,
    /// The chain.
    pub chain_id: Option<u64>,
    /// Where its instructions are; relative to its address.
    pub docs: Option<String>,
}

impl Discovery {
    /// Reads the `X-Payment-` headers through `get`; what is absent or unreadable is `None`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let line = |name: &str, max: usize| get(name).map(|text| one_line(&text, max)).filter(|text| !text.is_empty());
        let address = |name: &str| get(name).and_then(|text| text.trim().parse().ok());
        Self {
            protocol: line(PAYMENT_PROTOCOL, 60),
            provider: address(PAYMENT_PROVIDER),
            contract: address(PAYMENT_CONTRACT),
            chain_id: get(PAYMENT_CHAIN)
                .filter(|text| is_digits(text.trim()))
                .and_then(|text| text.trim().parse().ok()),
            docs: line(PAYMENT_DOCS, 500),
        }
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
