//! Amounts of USDC as integers of six decimals. No float touches money.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use alloy::primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Base units in one USDC.
const UNITS_PER_USDC: u64 = 1_000_000;
const DECIMALS: usize = 6;

/// An amount of USDC in base units (1 USDC = 1,000,000 units).
///
/// Never above [`Usdc::MAX`], so that it fits a signed 64-bit database column. Displays and parses as a decimal
/// number of USDC (`"1.5"`); serialises as the same string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usdc(u64);

/// Why a text or a chain value is not an amount of USDC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Nothing but blanks.
    #[error("the amount is empty; write USDC as a decimal number, for example \"1.50\"")]
    Empty,
    /// Not a plain decimal number.
    #[error(
        "the amount is not a plain decimal number of USDC (no sign, no exponent, no separators), for example \"1.50\""
    )]
    NotANumber,
    /// More than six decimals would be lost.
    #[error("USDC has six decimals; the amount has more")]
    TooPrecise,
    /// Above [`Usdc::MAX`].
    #[error("the amount is larger than any amount of USDC that exists")]
    TooLarge,
}

impl Usdc {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The largest amount that this type holds (9.2 trillion USDC).
    pub const MAX: Self = Self(i64::MAX as u64);

    /// From base units; `None` above [`Usdc::MAX`].
    pub const fn from_units(units: u64) -> Option<Self> {
        if units <= Self::MAX.0 { Some(Self(units)) } else { None }
    }

    /// From base units of 32 bits, which always fit.
    pub const fn new(units: u32) -> Self {
        Self(units as u64)
    }

    /// The amount in base units.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// The amount in base units, for a signed database column.
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }

    /// Sum, or `None` above [`Usdc::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_units)
    }

    /// Sum, at most [`Usdc::MAX`]. For exposure, where "more than everything" is refused by every limit anyway.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(Self::MAX.0))
    }

    /// Difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Difference, at least zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// True for no money.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The amount as the contract's 256-bit word.
    pub fn to_u256(self) -> U256 {
        U256::from(self.0)
    }

    /// Parses decimal base units as headers carry them (`"150000"`), without sign or blanks inside.
    pub fn parse_units(text: &str) -> Result<Self, AmountError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AmountError::Empty);
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::NotANumber);
        }
        let units = text.parse::<u64>().map_err(|_| AmountError::TooLarge)?;
        Self::from_units(units).ok_or(AmountError::TooLarge)
    }
}

impl TryFrom<U256> for Usdc {
    type Error = AmountError;

    fn try_from(value: U256) -> Result<Self, AmountError> {
        u64::try_from(value).ok().and_then(Self::from_units).ok_or(AmountError::TooLarge)
    }
}

impl TryFrom<i64> for Usdc {
    type Error = AmountError;

    fn try_from(value: i64) -> Result<Self, AmountError> {
        u64::try_from(value).map(Self).map_err(|_| AmountError::NotANumber)
    }
}

impl FromStr for Usdc {
    type Err = AmountError;

    /// A plain decimal number of USDC: `"5"`, `"0.10"`, `".5"`. Surrounding blanks are ignored.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AmountError::Empty);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(AmountError::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > DECIMALS {
            return Err(AmountError::TooPrecise);
        }
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| AmountError::TooLarge)? };
        let fraction = format!("{fraction:0<DECIMALS$}").parse::<u64>().map_err(|_| AmountError::NotANumber)?;
        whole
            .checked_mul(UNITS_PER_USDC)
            .and_then(|units| units.checked_add(fraction))
            .and_then(Self::from_units)
            .ok_or(AmountError::TooLarge)
    }
}

impl fmt::Display for Usdc {
    /// USDC without trailing zeros, but with at least two decimals: `0.00`, `1.50`, `0.000099`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % UNITS_PER_USDC);
        let kept = fraction.trim_end_matches('0').len().max(2);
        f.pad(&format!("{}.{}", self.0 / UNITS_PER_USDC, &fraction[..kept]))
    }
}

impl Sum for Usdc {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

impl Serialize for Usdc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usdc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_plain_decimals() {
        for (text, units) in [
            ("5", 5_000_000),
            ("0.10", 100_000),
            (".5", 500_000),
            ("1.", 1_000_000),
            (" 0.000001 ", 1),
            ("007", 7_000_000),
            ("1.5000000000", 1_500_000),
        ] {
            assert_eq!(text.parse::<Usdc>().map(Usdc::units), Ok(units), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        use AmountError::*;
        let two_to_256 = (U256::MAX.to_string(), TooLarge);
        for (text, error) in [
            ("", Empty),
            ("  ", Empty),
            ("-1", NotANumber),
            ("+1", NotANumber),
            ("abc", NotANumber),
            ("1e3", NotANumber),
            ("0x10", NotANumber),
            (".", NotANumber),
            ("1,5", NotANumber),
            ("1 5", NotANumber),
            ("1.2.3", NotANumber),
            ("0.0000001", TooPrecise),
            ("9223372036854.775808", TooLarge),
            (two_to_256.0.as_str(), TooLarge),
            ("１", NotANumber),
        ] {
            assert_eq!(text.parse::<Usdc>(), Err(error), "{text}");
        }
    }

    #[test]
    fn shows_two_to_six_decimals() {
        for (units, text) in [
            (0, "0.00"),
            (1, "0.000001"),
            (1_500_000, "1.50"),
            (99, "0.000099"),
            (5_000_000, "5.00"),
            (1_234_567, "1.234567"),
        ] {
            assert_eq!(Usdc(units).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(units in 0..=Usdc::MAX.0) {
            let amount = Usdc(units);
            prop_assert_eq!(amount.to_string().parse::<Usdc>(), Ok(amount));
            prop_assert_eq!(Usdc::parse_units(&units.to_string()), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Usdc>();
            let _ = Usdc::parse_units(&text);
        }
    }
}
