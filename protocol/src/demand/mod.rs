//! What an HTTP 402 asks for: a payment by DRAIN, MPP or x402, read from headers and body of the answer.
//!
//! Several ways to pay in one answer are alternatives for one price: exactly one of them is used.

mod mpp;
mod x402;

#[cfg(test)]
mod tempo_tests;
#[cfg(test)]
mod tests;

use std::fmt;

use alloy::primitives::{Address, B256};
use serde::Serialize;

use crate::tempo;
use crate::text::one_line;
use crate::transfer::{Asset, PaymentOrder, Transfer};
use crate::usdc::Usdc;

/// More offers than this in one answer are not read.
const MOST_OFFERS: usize = 20;
/// No header with a demand is longer.
const LONGEST_HEADER: usize = 64 * 1024;

/// A way to pay for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The "Payment" authentication scheme, method `evm`.
    Mpp,
    /// The same scheme, method `tempo`.
    MppTempo,
    /// x402, first version.
    X402V1,
    /// x402, second version.
    X402V2,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mpp, Self::MppTempo, Self::X402V1, Self::X402V2];

    /// Its name in metrics, records and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mpp => "mpp",
            Self::MppTempo => "mpp_tempo",
            Self::X402V1 => "x402v1",
            Self::X402V2 => "x402v2",
        }
    }

    /// The protocol of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mpp => "MPP",
            Self::MppTempo => "MPP over Tempo",
            Self::X402V1 => "x402 v1",
            Self::X402V2 => "x402 v2",
        })
    }
}

/// What an answer with status 402 speaks.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Payment channels: not paid for by a single payment.
    Drain,
    /// Single payments.
    Payment(Vec<Result<Offer, NotPayable>>),
    /// Nothing that is known.
    Unknown,
}

/// A way to pay that can be read and may be paid. Every word of it is the server's.
#[derive(Clone, Debug)]
pub struct Offer {
    /// How.
    pub protocol: Protocol,
    /// On which chain.
    pub chain_id: u64,
    /// With which token.
    pub token: Address,
    /// To whom.
    pub payee: Address,
    /// Exactly how much.
    pub amount: Usdc,
    time: Time,
    terms: Terms,
}

/// Until when a payment is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// Unix seconds.
    Until(u64),
    /// Unix seconds at most; sooner is as good.
    By(u64),
    /// Seconds from now.
    Within(u64),
}

/// What the credential repeats.
#[derive(Clone, Debug)]
enum Terms {
    Mpp(mpp::Challenge),
    V1(x402::TermsV1),
    V2(x402::TermsV2),
}

/// Why a demand, or one offer in it, is not payable. What others wrote in it is clean and bounded (M13).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{protocol}: {reason}")]
pub struct NotPayable {
    /// By which protocol it is offered.
    pub protocol: Protocol,
    /// What stands against it.
    pub reason: String,
}

impl NotPayable {
    fn new(protocol: Protocol, reason: impl AsRef<str>) -> Self {
        Self { protocol, reason: one_line(reason.as_ref(), 200) }
    }
}

/// A transfer as both protocols write it: decimal digits and hexadecimal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

impl Authorization {
    fn of(transfer: &Transfer) -> Self {
        Self {
            from: transfer.from.to_string(),
            to: transfer.to.to_string(),
            value: transfer.value.units().to_string(),
            valid_after: transfer.valid_after.to_string(),
            valid_before: transfer.valid_before.to_string(),
            nonce: format!("{:#x}", transfer.nonce),
        }
    }
}

/// The header that carries a payment.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The header's name, in lower case.
    pub header: &'static str,
    /// Its value: whoever sees it can use the payment once.
    pub value: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("header", &self.header).finish_non_exhaustive()
    }
}

/// What a server says became of a payment. A claim: the chain knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentReceipt {
    /// That it took the money.
    pub success: bool,
    /// The transaction that it names.
    pub transaction: Option<B256>,
}

/// Reads what an answer with status 402 asks for. `headers` gives every value of a header by its lower-case name.
///
/// An unreadable demand of a protocol is an error: a weaker form beside it is not looked for.
pub fn read<'a>(headers: impl Fn(&str) -> Vec<&'a str>, body: &[u8]) -> Result<Demand, NotPayable> {
    if headers("x-payment-protocol").iter().any(|value| value.trim().eq_ignore_ascii_case("drain-v2"))
        || !headers("x-drain-error").is_empty()
    {
        return Ok(Demand::Drain);
    }
    let mut offers = mpp::offers(&headers("www-authenticate"))?;
    offers.extend(x402::offers_v2(&headers("payment-required"))?);
    if offers.is_empty() {
        offers = x402::offers_v1(body)?;
    }
    offers.truncate(MOST_OFFERS);
    Ok(if offers.is_empty() { Demand::Unknown } else { Demand::Payment(offers) })
}

/// What a server says of a payment, in the header of its protocol. Read on every status: money may be gone on any.
pub fn receipt<'a>(protocol: Protocol, headers: impl Fn(&str) -> Vec<&'a str>) -> Option<PaymentReceipt> {
    match protocol {
        Protocol::Mpp | Protocol::MppTempo => mpp::receipt(&headers("payment-receipt")),
        Protocol::X402V1 => x402::receipt(&headers("x-payment-response")),
        Protocol::X402V2 => x402::receipt(&headers("payment-response")),
    }
}

impl Offer {
    /// What stands against paying with `asset`, whatever the amount: it is another token, or the server gives it another
    /// name, so that its signature would be for another contract. Over Tempo its own table is what counts.
    pub fn check_asset(&self, asset: &Asset) -> Result<(), NotPayable> {
        if self.protocol == Protocol::MppTempo {
            return match tempo::tokens(self.chain_id).contains(&self.token) {
                true => Ok(()),
                false => Err(self.refused(format!(
                    "it asks for the token {} on chain {}, which is no dollar that is known there",
                    self.token, self.chain_id
                ))),
            };
        }
        if (self.chain_id, self.token) != (asset.chain_id, asset.token) {
            return Err(self.refused(format!(
                "it asks for the token {} on chain {}; paid is with {} on chain {} alone",
                self.token, self.chain_id, asset.token, asset.chain_id
            )));
        }
        let named = match &self.terms {
            Terms::Mpp(_) => None,
            Terms::V1(terms) => terms.domain.as_ref(),
            Terms::V2(terms) => terms.domain.as_ref(),
        };
        match named {
            Some((name, version)) if name != asset.name || version != asset.version => Err(self.refused(format!(
                "it calls the token {name:?} version {version:?}; it is {:?} version {:?}",
                asset.name, asset.version
            ))),
            _ => Ok(()),
        }
    }

    /// Seconds that are left to pay, where a payment may be valid for `longest` seconds; zero when it is too late. `None`
    /// where it must be valid for longer: x402 takes one that is valid for less, MPP says the moment.
    pub fn seconds_left(&self, now: u64, longest: u64) -> Option<u64> {
        match self.time {
            Time::Until(at) => Some(at.saturating_sub(now)).filter(|left| *left <= longest),
            Time::By(at) => Some(at.saturating_sub(now).min(longest)),
            Time::Within(seconds) => Some(seconds.min(longest)),
        }
    }

    /// What would be signed, valid for `longest` seconds at most where [`Offer::seconds_left`] says so. `random` is a nonce
    /// that nobody has used; MPP binds its own to the challenge.
    pub fn transfer(&self, from: Address, now: u64, longest: u64, random: B256) -> Transfer {
        let nonce = match &self.terms {
            Terms::Mpp(challenge) if self.protocol == Protocol::MppTempo => challenge.memo(),
            Terms::Mpp(challenge) => challenge.nonce(),
            Terms::V1(_) | Terms::V2(_) => random,
        };
        let valid_before = match self.time {
            Time::Until(at) => at,
            Time::By(at) => at.min(now.saturating_add(longest)),
            Time::Within(seconds) => now.saturating_add(seconds.min(longest)),
        };
        Transfer { from, to: self.payee, value: self.amount, valid_after: 0, valid_before, nonce }
    }

    /// Whether the server pays the gas of a payment over Tempo.
    pub const fn is_sponsored(&self) -> bool {
        matches!(&self.terms, Terms::Mpp(challenge) if challenge.sponsored)
    }

    /// The header that pays with a signed order.
    pub fn credential(&self, order: &PaymentOrder, signature: &[u8; 65]) -> Credential {
        match &self.terms {
            Terms::Mpp(challenge) => challenge.credential(order, signature),
            Terms::V1(terms) => terms.credential(order.transfer(), signature),
            Terms::V2(terms) => terms.credential(order.transfer(), signature),
        }
    }

    /// The header that [`Offer::credential`] will use, in lower case.
    pub const fn credential_header(&self) -> &'static str {
        match &self.terms {
            Terms::Mpp(challenge) => challenge.header,
            Terms::V1(_) => x402::HEADER_V1,
            Terms::V2(_) => x402::HEADER_V2,
        }
    }

    fn refused(&self, reason: String) -> NotPayable {
        NotPayable::new(self.protocol, reason)
    }
}

/// An amount as a demand writes it: base units in decimal digits, and more than nothing.
fn amount(protocol: Protocol, text: &str) -> Result<Usdc, NotPayable> {
    match Usdc::parse_units(text) {
        Ok(amount) if !amount.is_zero() => Ok(amount),
        Ok(_) => Err(NotPayable::new(protocol, "it asks for an amount of zero")),
        Err(error) => Err(NotPayable::new(protocol, format!("its amount cannot be read: {error}"))),
    }
}

fn address(protocol: Protocol, what: &str, text: &str) -> Result<Address, NotPayable> {
    match text.parse::<Address>() {
        Ok(address) if !address.is_zero() => Ok(address),
        _ => Err(NotPayable::new(protocol, format!("its {what} is no address"))),
    }
}

/// A header of which there is one, and not a long one.
fn single<'a>(protocol: Protocol, values: &[&'a str]) -> Result<Option<&'a str>, NotPayable> {
    match values {
        [] => Ok(None),
        [value] if value.len() <= LONGEST_HEADER => Ok(Some(value.trim())),
        [_] => Err(NotPayable::new(protocol, "its header is too long")),
        _ => Err(NotPayable::new(protocol, "its header comes more than once")),
    }
}
