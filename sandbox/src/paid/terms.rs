//! What is asked for a request, with what the faults make of it.

use alloy::primitives::{Address, U256};

use super::{PaidFaults, Shared};

/// The token's own name and version: what its signatures are for.
pub(crate) const DOMAIN: (&str, &str) = ("USD Coin", "2");
/// The latest that an expiry is written with: the last second of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// The terms of one moment.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Base units, as text so that they can be wrong.
    pub(crate) amount: String,
    pub(crate) payee: Address,
    pub(crate) asset: Address,
    /// The chain that is named over MPP.
    pub(crate) named_chain: u64,
    /// Over x402 v2.
    pub(crate) network: String,
    /// Over x402 v1.
    pub(crate) network_v1: String,
    /// The chain that signatures count on.
    pub(crate) chain_id: u64,
    /// The chain's clock.
    pub(crate) now: u64,
    /// When an MPP challenge of now expires.
    pub(crate) expires: u64,
    pub(crate) timeout: i64,
}

impl Terms {
    pub(crate) fn new(shared: &Shared, faults: &PaidFaults, now: u64) -> Self {
        let (config, chain_id) = (&shared.config, shared.chain_id);
        let lifetime = faults.expires_in.unwrap_or(i64::from(config.mpp_lifetime));
        Self {
            amount: faults.price.clone().unwrap_or_else(|| config.price.to_u256().to_string()),
            payee: faults.payee.unwrap_or(config.payee),
            asset: faults.asset.unwrap_or(config.asset),
            named_chain: faults.network.as_deref().map_or(chain_id, |text| number_at_the_end(text).unwrap_or_default()),
            network: faults.network.clone().unwrap_or_else(|| format!("eip155:{chain_id}")),
            network_v1: faults.network.clone().unwrap_or_else(|| name_v1(chain_id)),
            chain_id,
            now,
            expires: now.saturating_add_signed(lifetime).min(LATEST),
            timeout: faults.expires_in.unwrap_or(i64::from(config.x402_timeout)),
        }
    }

    /// The amount, where it is one.
    pub(crate) fn value(&self) -> Option<U256> {
        decimal(&self.amount)
    }
}

/// A number in plain decimal digits.
pub(crate) fn decimal(text: &str) -> Option<U256> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { U256::from_str_radix(text, 10).ok() } else { None }
}

fn number_at_the_end(text: &str) -> Option<u64> {
    let start = text.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    text.get(start..)?.parse().ok()
}

/// The names of x402's first version.
fn name_v1(chain_id: u64) -> String {
    match chain_id {
        137 => "polygon".into(),
        80_002 => "polygon-amoy".into(),
        8_453 => "base".into(),
        84_532 => "base-sepolia".into(),
        other => format!("eip155:{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number_at_the_end("eip155:8453"), Some(8453));
        assert_eq!(number_at_the_end("137"), Some(137));
        assert_eq!(number_at_the_end("base"), None);
        assert_eq!(decimal("10000"), Some(U256::from(10_000)));
        for bad in ["", "-1", "+1", "1e3", "0x10", "1_000", " 1", "1.0"] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
    }
}
