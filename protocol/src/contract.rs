//! The contracts: bindings, generations and what their reverts mean (protocol.md section 2).

use std::fmt;
use std::str::FromStr;

use alloy::primitives::Bytes;
use alloy::sol_types::{Panic, Revert, SolError, SolInterface};
use serde::{Deserialize, Serialize};

use crate::text::one_line;
use crate::usdc::Usdc;

/// Which of the two contract generations a channel lives on (protocol.md section 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// Session fee at opening, no protocol fee, close only after expiry.
    V1,
    /// Protocol fee on payouts, cooperative close.
    V2,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl FromStr for Generation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "v1" | "1" => Ok(Self::V1),
            "v2" | "2" => Ok(Self::V2),
            _ => Err("a contract generation is \"v1\" or \"v2\"".into()),
        }
    }
}

/// Generated bindings of the channel contracts and of USDC.
#[allow(missing_docs)]
pub mod bindings {
    alloy::sol! {
        /// The channel contract; V1 lacks what is marked V2.
        #[derive(Debug, PartialEq, Eq)]
        interface DrainChannel {
            event ChannelOpened(bytes32 indexed channelId, address indexed consumer, address indexed provider, uint256 deposit, uint256 expiry);
            event ChannelClaimed(bytes32 indexed channelId, address indexed provider, uint256 amount);
            event ChannelClosed(bytes32 indexed channelId, address indexed consumer, uint256 refund);
            // V2
            event FeePaid(bytes32 indexed channelId, address indexed recipient, uint256 amount);
            event FeeUpdated(address indexed feeRecipient, uint256 feeBps);
            event Swept(address indexed to, uint256 amount);
            event USDCUpdated(address indexed oldUsdc, address indexed newUsdc);
            event OwnershipRenounced(address indexed owner);

            error NotOwner();
            error NoOwner();
            error ZeroAddress();
            error ChannelExists();
            error ChannelNotFound();
            error NotProvider();
            error NotConsumer();
            error NotExpired();
            error InvalidSignature();
            error InvalidAmount();
            error TransferFailed();
            error FeeTooHigh();
            error NoExcess();

            function open(address provider, uint256 amount, uint256 duration) external returns (bytes32);
            function close(bytes32 channelId) external;
            function claim(bytes32 channelId, uint256 amount, uint256 nonce, bytes signature) external;
            function cooperativeClose(bytes32 channelId, uint256 finalAmount, bytes providerSignature) external;
            function getChannel(bytes32 channelId) external view returns (address consumer, address provider, uint256 deposit, uint256 claimed, uint256 expiry);
            function getBalance(bytes32 channelId) external view returns (uint256);
            function channels(bytes32 channelId) external view returns (address consumer, address provider, uint256 deposit, uint256 claimed, uint256 expiry);
            function nonces(address consumer) external view returns (uint256);
            function totalLocked() external view returns (uint256);
            function feeBps() external view returns (uint256);
            function feeRecipient() external view returns (address);
            function owner() external view returns (address);
            function usdc() external view returns (address);
            function isImmutable() external view returns (bool);
            function DOMAIN_SEPARATOR() external view returns (bytes32);
            function DOMAIN_TYPEHASH() external view returns (bytes32);
            function VOUCHER_TYPEHASH() external view returns (bytes32);
            function CLOSE_TYPEHASH() external view returns (bytes32);
            function setUSDC(address newUsdc) external;
            function renounceOwnership() external;
            function setFee(address recipient, uint256 bps) external;
            function sweep() external;
        }

        /// USDC, as far as we need it.
        #[derive(Debug, PartialEq, Eq)]
        interface Erc20 {
            event Transfer(address indexed from, address indexed to, uint256 value);
            event Approval(address indexed owner, address indexed spender, uint256 value);
            function approve(address spender, uint256 amount) external returns (bool);
            function transfer(address to, uint256 amount) external returns (bool);
            function transferFrom(address from, address to, uint256 amount) external returns (bool);
            function balanceOf(address account) external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
        }
    }
}

pub use bindings::{DrainChannel, Erc20};

/// What revert data says, in a few words: the contract's error by name, USDC's text, or the data's first bytes.
///
/// Texts come from a contract and are data: control characters are removed and the length is bounded (M13).
pub fn revert_reason(data: &Bytes) -> String {
    use DrainChannel::DrainChannelErrors as E;
    if let Ok(error) = E::abi_decode(data) {
        return match error {
            E::NotOwner(_) => "NotOwner",
            E::NoOwner(_) => "NoOwner",
            E::ZeroAddress(_) => "ZeroAddress",
            E::ChannelExists(_) => "ChannelExists",
            E::ChannelNotFound(_) => "ChannelNotFound",
            E::NotProvider(_) => "NotProvider",
            E::NotConsumer(_) => "NotConsumer",
            E::NotExpired(_) => "NotExpired",
            E::InvalidSignature(_) => "InvalidSignature",
            E::InvalidAmount(_) => "InvalidAmount",
            E::TransferFailed(_) => "TransferFailed",
            E::FeeTooHigh(_) => "FeeTooHigh",
            E::NoExcess(_) => "NoExcess",
        }
        .into();
    }
    if let Ok(Revert { reason }) = Revert::abi_decode(data) {
        return one_line(&reason, 200);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return format!("panic {:#x}", panic.code);
    }
    match data.get(..4) {
        Some(selector) => format!("unknown error 0x{}", alloy::hex::encode(selector)),
        None => "no reason given".into(),
    }
}

/// V2's fee on a payout, in base units: `payout * fee_bps / 10_000`, rounded down (protocol.md section 2.5). At most the
/// payout, whatever the rate.
pub fn claim_fee(payout: Usdc, fee_bps: u64) -> Usdc {
    let fee = u128::from(payout.units()) * u128::from(fee_bps) / 10_000;
    u64::try_from(fee).ok().and_then(Usdc::from_units).map_or(payout, |fee| fee.min(payout))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_reverts() {
        let reason = |data: Vec<u8>| revert_reason(&Bytes::from(data));
        assert_eq!(reason(DrainChannel::NotExpired {}.abi_encode()), "NotExpired");
        let said = Revert { reason: format!("ERC20: transfer\n amount exceeds{}", "x".repeat(500)) };
        let said = reason(said.abi_encode());
        assert!(said.starts_with("ERC20: transfer amount exceeds") && said.chars().count() == 200, "{said}");
        assert_eq!(reason(Panic { code: U256::from(0x11) }.abi_encode()), "panic 0x11");
        assert_eq!(reason(vec![1, 2, 3, 4, 5]), "unknown error 0x01020304");
        assert_eq!(reason(vec![1, 2]), "no reason given");
        assert_eq!(reason(vec![]), "no reason given");
    }

    #[test]
    fn generations_read_back() {
        for generation in [Generation::V1, Generation::V2] {
            assert_eq!(generation.to_string().parse(), Ok(generation));
        }
        assert!("v3".parse::<Generation>().is_err());
    }

    proptest! {
        #[test]
        fn no_revert_data_panics(data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(revert_reason(&Bytes::from(data)).chars().count() <= 200);
        }

        #[test]
        fn a_fee_is_a_part(payout in 0..=Usdc::MAX.units(), bps in any::<u64>()) {
            let payout = Usdc::from_units(payout).unwrap_or_default();
            prop_assert!(claim_fee(payout, bps) <= payout);
            prop_assert_eq!(claim_fee(payout, 10_000), payout);
            prop_assert_eq!(claim_fee(payout, 0), Usdc::ZERO);
        }
    }
}
