//! What consumer and provider sign: vouchers and close authorizations (EIP-712), protocol.md section 3.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{Address, B256, Signature, U256, keccak256};
use alloy::sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Deserializer, Serialize};

use crate::usdc::Usdc;

// The contract's names: they are part of the signed hash.
mod typed {
    alloy::sol! {
        #[derive(Debug)]
        struct Voucher { bytes32 channelId; uint256 amount; uint256 nonce; }
        #[derive(Debug)]
        struct CloseAuthorization { bytes32 channelId; uint256 finalAmount; }
    }
}

/// A channel's on-chain id. Shown and sent in lower case, as providers use the spelling as a key (protocol.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelId(pub B256);

/// A text that is not a channel id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel id is 0x followed by 64 hexadecimal digits")]
pub struct ChannelIdError;

impl ChannelId {
    /// The id that the contract gives a channel (protocol.md section 2.3). `timestamp` is that of the mined block and
    /// `nonce` the consumer's channel count before the opening.
    pub fn derive(consumer: Address, provider: Address, timestamp: U256, nonce: U256) -> Self {
        let mut packed = [0u8; 104];
        packed[..20].copy_from_slice(consumer.as_slice());
        packed[20..40].copy_from_slice(provider.as_slice());
        packed[40..72].copy_from_slice(&timestamp.to_be_bytes::<32>());
        packed[72..].copy_from_slice(&nonce.to_be_bytes::<32>());
        Self(keccak256(packed))
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}", self.0))
    }
}

impl FromStr for ChannelId {
    type Err = ChannelIdError;

    fn from_str(text: &str) -> Result<Self, ChannelIdError> {
        let text = text.trim();
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or(ChannelIdError)?;
        if digits.len() != 64 {
            return Err(ChannelIdError);
        }
        digits.parse().map(Self).map_err(|_| ChannelIdError)
    }
}

/// A voucher's number. Grows with every voucher of a channel; fits a signed 64-bit column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Nonce(u64);

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom("the nonce is above the largest signed 64-bit number"))
    }
}

impl Nonce {
    /// Before the first voucher.
    pub const ZERO: Self = Self(0);

    /// From a number; `None` above `i64::MAX`.
    pub const fn new(value: u64) -> Option<Self> {
        if value <= i64::MAX as u64 { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number, for a signed database column.
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }

    /// The next number, or `None` at the end of the range.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).and_then(Self::new)
    }
}

/// The EIP-712 domain of one contract on one chain, with its separator computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    chain_id: u64,
    contract: Address,
    separator: B256,
}

impl Domain {
    /// Name and version are the same in V1 and V2; only chain and contract differ (protocol.md section 3).
    pub fn new(chain_id: u64, contract: Address) -> Self {
        let domain = Self::eip712_of(chain_id, contract);
        Self { chain_id, contract, separator: domain.separator() }
    }

    fn eip712_of(chain_id: u64, contract: Address) -> Eip712Domain {
        Eip712Domain::new(
            Some("DrainChannel".into()),
            Some("1".into()),
            Some(U256::from(chain_id)),
            Some(contract),
            None,
        )
    }

    /// The domain as alloy's type, for signers that show its fields.
    pub fn eip712(&self) -> Eip712Domain {
        Self::eip712_of(self.chain_id, self.contract)
    }

    /// The chain.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The verifying contract.
    pub const fn contract(&self) -> Address {
        self.contract
    }

    /// The domain separator, as the contract's `DOMAIN_SEPARATOR()` gives it.
    pub const fn separator(&self) -> B256 {
        self.separator
    }

    fn digest(&self, struct_hash: B256) -> B256 {
        let mut bytes = [0u8; 66];
        bytes[..2].copy_from_slice(&[0x19, 0x01]);
        bytes[2..34].copy_from_slice(self.separator.as_slice());
        bytes[34..].copy_from_slice(struct_hash.as_slice());
        keccak256(bytes)
    }
}

/// A consumer's promise: the provider may claim up to `amount` of the channel in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// Which channel.
    pub channel_id: ChannelId,
    /// Cumulative for the channel's life.
    pub amount: Usdc,
    /// Strictly increasing, checked by providers off chain only.
    pub nonce: Nonce,
}

impl Voucher {
    /// The typed data that is signed.
    pub fn struct_hash(&self) -> B256 {
        typed::Voucher {
            channelId: self.channel_id.0,
            amount: self.amount.to_u256(),
            nonce: U256::from(self.nonce.get()),
        }
        .eip712_hash_struct()
    }

    /// The hash that is signed.
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.digest(self.struct_hash())
    }
}

/// A provider's consent to close a channel now at `final_amount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseAuthorization {
    /// Which channel.
    pub channel_id: ChannelId,
    /// What the provider takes in total.
    pub final_amount: Usdc,
}

impl CloseAuthorization {
    /// The hash that is signed.
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.digest(
            typed::CloseAuthorization { channelId: self.channel_id.0, finalAmount: self.final_amount.to_u256() }
                .eip712_hash_struct(),
        )
    }
}

/// A signature that the contract would refuse, or that is of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 65 bytes of hexadecimal digits.
    #[error("the signature is not 65 bytes of hexadecimal digits")]
    Malformed,
    /// s above n/2, or v other than 27 and 28 (protocol.md section 2.8).
    #[error("the signature is not in the form that the contract accepts (low s, v 27 or 28)")]
    NotCanonical,
    /// Recovers to nobody, or to another address.
    #[error("the signature was not made by {expected}")]
    WrongSigner {
        /// Who should have signed.
        expected: Address,
    },
}

/// Parses 65 bytes r||s||v from hexadecimal digits with or without 0x (protocol.md section 8: some providers send none).
pub fn parse_signature(text: &str) -> Result<[u8; 65], SignatureError> {
    let text = text.trim();
    // The decoder takes digits with or without 0x.
    let mut bytes = [0u8; 65];
    alloy::hex::decode_to_slice(text, &mut bytes).map_err(|_| SignatureError::Malformed)?;
    Ok(bytes)
}

/// Checks what the contract checks: form, low s, v 27/28 and the signer's address.
pub fn verify_signature(digest: B256, bytes: &[u8; 65], expected: Address) -> Result<Signature, SignatureError> {
    if !matches!(bytes[64], 27 | 28) {
        return Err(SignatureError::NotCanonical);
    }
    let signature = Signature::from_raw_array(bytes).map_err(|_| SignatureError::Malformed)?;
    if signature.normalize_s().is_some() {
        return Err(SignatureError::NotCanonical);
    }
    match signature.recover_address_from_prehash(&digest) {
        Ok(signer) if signer == expected => Ok(signature),
        _ => Err(SignatureError::WrongSigner { expected }),
    }
}

/// A voucher with its consumer's signature, as it travels in `X-DRAIN-Voucher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedVoucher {
    /// What was signed.
    pub voucher: Voucher,
    /// r||s||v with low s and v 27/28.
    pub signature: [u8; 65],
}

/// The header's JSON, all four values strings (protocol.md section 4).
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "channelId")]
    channel_id: String,
    amount: String,
    nonce: String,
    signature: String,
}

/// A header that is not a voucher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the voucher header is malformed: {0}")]
pub struct HeaderError(String);

impl SignedVoucher {
    /// The value of the `X-DRAIN-Voucher` header: one line, decimal strings, lower-case id.
    pub fn to_header(&self) -> String {
        // Four plain strings: formatted here, so that no serialiser error needs a place to go.
        format!(
            r#"{{"channelId":"{}","amount":"{}","nonce":"{}","signature":"0x{}"}}"#,
            self.voucher.channel_id,
            self.voucher.amount.units(),
            self.voucher.nonce.get(),
            alloy::hex::encode(self.signature)
        )
    }

    /// Reads a header as a strict provider does.
    pub fn from_header(text: &str) -> Result<Self, HeaderError> {
        let header: Header = serde_json::from_str(text).map_err(|e| HeaderError(e.to_string()))?;
        let bad = |what: &str, e: &dyn fmt::Display| HeaderError(format!("{what}: {e}"));
        let nonce = header
            .nonce
            .parse::<u64>()
            .ok()
            .and_then(Nonce::new)
            .ok_or_else(|| HeaderError("nonce: not a decimal number".into()))?;
        Ok(Self {
            voucher: Voucher {
                channel_id: header.channel_id.parse().map_err(|e| bad("channelId", &e))?,
                amount: Usdc::parse_units(&header.amount).map_err(|e| bad("amount", &e))?,
                nonce,
            },
            signature: parse_signature(&header.signature).map_err(|e| bad("signature", &e))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = r#"{"channelId":"0x82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c","amount":"150000","nonce":"1","signature":"0x5ba7794c7cab1aef97164a07cefffa5e32b0fc5e7a00673b948f136e3b7b3fb373c1480344af251ea3980ea13d7af371c7368047001a5c6c7109254b103634801c"}"#;

    #[test]
    fn the_header_is_one_line_of_strings() {
        let signed = SignedVoucher::from_header(HEADER);
        assert_eq!(signed.map(|signed| signed.to_header()), Ok(HEADER.to_owned()));
        for (from, to) in [
            (r#""150000""#, "150000"),
            (r#""150000""#, r#""0x10""#),
            (r#""150000""#, r#""-1""#),
            (r#""1""#, r#""9223372036854775808""#),
            (r#""1""#, r#""""#),
            ("801c", "801"),
            ("0x82a9", "82a9"),
            (r#","nonce":"1""#, ""),
            ("}", ""),
        ] {
            assert!(SignedVoucher::from_header(&HEADER.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn ids_are_shown_in_lower_case() {
        let upper = format!("0X{}", "AB".repeat(32));
        assert_eq!(upper.parse::<ChannelId>().map(|id| id.to_string()), Ok(upper.to_lowercase()));
        for bad in ["", "0x", "0x12", &"ab".repeat(32), &format!("0x0x{}", "ab".repeat(31)), &"0xé".repeat(20)] {
            assert_eq!(bad.parse::<ChannelId>(), Err(ChannelIdError), "{bad}");
        }
    }

    #[test]
    fn nonces_stay_in_range() {
        let last = Nonce::new(i64::MAX as u64);
        assert_eq!(last.and_then(Nonce::next), None);
        assert_eq!(Nonce::ZERO.next(), Nonce::new(1));
        assert!(serde_json::from_str::<Nonce>("9223372036854775808").is_err());
        assert_eq!(serde_json::from_str::<Nonce>("9223372036854775807").ok(), last);
        assert_eq!(parse_signature("0x"), Err(SignatureError::Malformed));
        assert_eq!(parse_signature(&format!("0x0x{}", "00".repeat(65))), Err(SignatureError::Malformed));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>(), digest in any::<[u8; 32]>(), bytes in prop::collection::vec(any::<u8>(), 65)) {
            let _ = SignedVoucher::from_header(&text);
            let _ = text.parse::<ChannelId>();
            let _ = parse_signature(&text);
            let mut signature = [0u8; 65];
            signature.copy_from_slice(&bytes);
            for v in [bytes[64], 27, 28] {
                signature[64] = v;
                prop_assert!(verify_signature(B256::from(digest), &signature, Address::ZERO).is_err());
            }
        }
    }
}
