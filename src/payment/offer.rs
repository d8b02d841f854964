//! Which of several ways to pay is used. They are alternatives for one price: exactly one is.

use drain_protocol::demand::{NotPayable, Offer, Protocol};
use drain_protocol::{Address, Asset, Usdc, tempo};

use super::request::WebRequest;
use super::{feature, is_built, longest};

/// Less time than this is not worth signing for.
const SHORTEST: u64 = 5;

/// What is paid, or why nothing is.
#[derive(Debug)]
pub struct Choice {
    /// The cheapest that can be paid, gas included; of equal ones MPP, whose payment is bound to its challenge, then the newer x402.
    pub offer: Option<Offer>,
    /// What stands against the others.
    pub refused: Vec<NotPayable>,
}

/// What a payment is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The token that is paid with.
    pub asset: &'a Asset,
    /// Tempo's chain, or why nothing is paid over it.
    pub tempo: Result<u64, &'static str>,
    /// The account that pays.
    pub own: Address,
    /// The chain's time.
    pub now: u64,
    /// By MPP alone.
    pub mpp_only: bool,
}

/// Chooses among what a 402 offers.
pub fn choose(offers: Vec<Result<Offer, NotPayable>>, request: &WebRequest, judged: Judged<'_>) -> Choice {
    let mut choice = Choice { offer: None, refused: Vec::new() };
    for offer in offers {
        match offer.and_then(|offer| payable(offer, request, judged)) {
            Ok(offer) if choice.offer.as_ref().is_none_or(|before| rank(&offer) < rank(before)) => {
                choice.offer = Some(offer);
            }
            Ok(_) => {}
            Err(reason) => choice.refused.push(reason),
        }
    }
    choice
}

fn rank(offer: &Offer) -> (Usdc, u8) {
    match offer.protocol {
        Protocol::Mpp => (offer.amount, 0),
        Protocol::X402V2 => (offer.amount, 1),
        Protocol::X402V1 => (offer.amount, 2),
        Protocol::MppTempo if offer.is_sponsored() => (offer.amount, 3),
        // Gas comes on top.
        Protocol::MppTempo => (offer.amount.saturating_add(tempo::MOST_GAS), 3),
    }
}

fn payable(offer: Offer, request: &WebRequest, judged: Judged<'_>) -> Result<Offer, NotPayable> {
    let not = |reason: String| Err(NotPayable { protocol: offer.protocol, reason });
    if !is_built(offer.protocol) {
        let feature = feature(offer.protocol);
        return not(format!("this drain-mcp is built without {feature}; build with --features {feature}"));
    }
    if judged.mpp_only && !matches!(offer.protocol, Protocol::Mpp | Protocol::MppTempo) {
        return not("only MPP was asked for".into());
    }
    if offer.protocol == Protocol::MppTempo {
        match judged.tempo {
            Err(why) => return not(why.into()),
            Ok(chain_id) if chain_id != offer.chain_id => {
                return not(format!("it is on chain {}; paid is on Tempo's chain {chain_id}", offer.chain_id));
            }
            Ok(_) => {}
        }
    }
    offer.check_asset(judged.asset)?;
    if offer.payee == judged.own || offer.payee == offer.token {
        return not(format!("{} cannot be paid: it is this wallet, or the token itself", offer.payee));
    }
    if request.has(offer.credential_header()) {
        return not(format!(
            "it takes the payment in the header {}, which the request has for itself",
            offer.credential_header()
        ));
    }
    let longest = longest(offer.protocol);
    let left = offer.seconds_left(judged.now, longest);
    if left.is_none_or(|left| left < SHORTEST) {
        return not(match left {
            Some(left) => format!("{left} s are left to pay, which is too little"),
            None => format!("it would be valid for more than {longest} s"),
        });
    }
    Ok(offer)
}
