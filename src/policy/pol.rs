//! Amounts of POL, the coin that gas is paid in, as integers of nine decimals.

use std::fmt;
use std::str::FromStr;

use drain_protocol::U256;
use serde::{Deserialize, Serialize};

const WEI_PER_GWEI: u64 = 1_000_000_000;
const DECIMALS: u8 = 9;

/// An amount of POL in gwei (1 POL = 1,000,000,000 gwei): fine enough for limits, and it fits a signed database column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pol(u64);

impl Pol {
    /// None.
    pub const ZERO: Self = Self(0);
    /// The most that this type holds.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// From gwei; at most [`Pol::MAX`].
    pub const fn from_gwei(gwei: u64) -> Self {
        if gwei > Self::MAX.0 { Self::MAX } else { Self(gwei) }
    }

    /// From wei, rounded up: a limit counts what was begun.
    pub fn from_wei(wei: U256) -> Self {
        let gwei = wei.div_ceil(U256::from(WEI_PER_GWEI));
        u64::try_from(gwei).map_or(Self::MAX, Self::from_gwei)
    }

    /// In wei, exactly.
    pub fn to_wei(self) -> U256 {
        U256::from(self.0).saturating_mul(U256::from(WEI_PER_GWEI))
    }

    /// In gwei.
    pub const fn gwei(self) -> u64 {
        self.0
    }

    /// Sum, at most [`Pol::MAX`].
    pub const fn saturating_add(self, other: Self) -> Self {
        Self::from_gwei(self.0.saturating_add(other.0))
    }

    /// Difference, at least zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Not a plain decimal number of POL with at most nine decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plain decimal number of POL with at most nine decimals")]
pub struct NotPol;

impl FromStr for Pol {
    type Err = NotPol;

    /// A plain decimal number: `"0.5"`, `"2"`.
    fn from_str(text: &str) -> Result<Self, NotPol> {
        let text = text.trim();
        let digits = |b: u8| b.is_ascii_digit() || b == b'.';
        let plain = text.bytes().all(digits) && text.bytes().any(|b| b.is_ascii_digit()) && text.len() <= 40;
        if !plain || text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > usize::from(DECIMALS)) {
            return Err(NotPol);
        }
        let gwei: U256 = alloy::primitives::utils::parse_units(text, DECIMALS).map_err(|_| NotPol)?.into();
        u64::try_from(gwei).ok().filter(|gwei| *gwei <= Self::MAX.0).map(Self).ok_or(NotPol)
    }
}

impl fmt::Display for Pol {
    /// POL without trailing zeros: `0.5`, `2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / WEI_PER_GWEI, self.0 % WEI_PER_GWEI);
        if rest == 0 {
            return f.pad(&whole.to_string());
        }
        let fraction = format!("{rest:09}");
        f.pad(&format!("{whole}.{}", fraction.trim_end_matches('0')))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_decimals() {
        for (text, gwei, shown) in
            [("0.5", 500_000_000, "0.5"), ("2", 2_000_000_000, "2"), (".000000001", 1, "0.000000001"), ("0", 0, "0")]
        {
            let pol: Pol = text.parse().unwrap();
            assert_eq!((pol.gwei(), pol.to_string().as_str()), (gwei, shown), "{text}");
        }
        for bad in ["", ".", "-1", "1e3", "0.0000000001", "1.2.3", "abc", "99999999999999999999"] {
            assert_eq!(bad.parse::<Pol>(), Err(NotPol), "{bad}");
        }
    }

    #[test]
    fn wei_are_rounded_up() {
        assert_eq!(Pol::from_wei(U256::from(1)).gwei(), 1);
        assert_eq!(Pol::from_wei(U256::from(2_000_000_000u64)).gwei(), 2);
        assert_eq!(Pol::from_wei(U256::MAX), Pol::MAX);
    }
}
