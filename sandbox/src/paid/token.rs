//! Transfers by signature (EIP-3009): what a payer signs, and what is wrong with it.

use alloy::primitives::{Address, B256, Bytes, Signature, U256};
use alloy::sol_types::{Eip712Domain, SolCall, SolStruct};
use serde_json::Value;

use super::log::Credential;
use super::terms::{DOMAIN, Terms, decimal};

mod typed {
    alloy::sol! {
        struct TransferWithAuthorization {
            address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
        }
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            uint8 v, bytes32 r, bytes32 s
        ) external;
    }
}

/// What a credential of any protocol is about.
#[derive(Clone, Debug)]
pub(crate) struct Authorization {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) valid_after: U256,
    pub(crate) valid_before: U256,
    pub(crate) nonce: B256,
    pub(crate) signature: Bytes,
}

/// The first thing found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Amount,
    Payee,
    NotYet,
    Expired,
    Signature,
}

impl Authorization {
    /// Reads the six fields and the signature: numbers as decimal text, everything else as text with 0x.
    pub(crate) fn parse(fields: &Value, signature: &Value) -> Option<Self> {
        let text = |name: &str| fields.get(name)?.as_str();
        let hex = |name: &str| text(name).filter(|text| text.starts_with("0x"));
        Some(Self {
            from: hex("from")?.parse().ok()?,
            to: hex("to")?.parse().ok()?,
            value: decimal(text("value")?)?,
            valid_after: decimal(text("validAfter")?)?,
            valid_before: decimal(text("validBefore")?)?,
            nonce: hex("nonce")?.parse().ok()?,
            signature: signature.as_str().filter(|text| text.starts_with("0x"))?.parse().ok()?,
        })
    }

    /// What the token takes: 65 bytes, low s, v of 27 or 28.
    fn signer(&self, terms: &Terms) -> Option<Address> {
        let raw: &[u8; 65] = self.signature.as_ref().try_into().ok()?;
        if !matches!(raw[64], 27 | 28) {
            return None;
        }
        let signature = Signature::from_raw_array(raw).ok().filter(|signature| signature.normalize_s().is_none())?;
        let message = typed::TransferWithAuthorization {
            from: self.from,
            to: self.to,
            value: self.value,
            validAfter: self.valid_after,
            validBefore: self.valid_before,
            nonce: self.nonce,
        };
        let (name, version) = DOMAIN;
        let chain = U256::from(terms.chain_id);
        let domain = Eip712Domain::new(Some(name.into()), Some(version.into()), Some(chain), Some(terms.asset), None);
        signature.recover_address_from_prehash(&message.eip712_signing_hash(&domain)).ok()
    }

    /// Whether it is what is asked, now.
    pub(crate) fn flaw(&self, terms: &Terms) -> Option<Flaw> {
        let now = U256::from(terms.now);
        if terms.value() != Some(self.value) {
            Some(Flaw::Amount)
        } else if self.to != terms.payee {
            Some(Flaw::Payee)
        } else if now >= self.valid_before {
            Some(Flaw::Expired)
        } else if now <= self.valid_after {
            Some(Flaw::NotYet)
        } else if self.signer(terms) != Some(self.from) {
            Some(Flaw::Signature)
        } else {
            None
        }
    }

    /// The call that takes the money. A signature of another length was refused before.
    pub(crate) fn call(&self) -> Vec<u8> {
        let word = |from: usize| B256::left_padding_from(self.signature.get(from..from + 32).unwrap_or_default());
        let call = typed::transferWithAuthorizationCall {
            from: self.from,
            to: self.to,
            value: self.value,
            validAfter: self.valid_after,
            validBefore: self.valid_before,
            nonce: self.nonce,
            v: self.signature.get(64).copied().unwrap_or_default(),
            r: word(0),
            s: word(32),
        };
        call.abi_encode()
    }
}

impl From<&Credential> for Authorization {
    fn from(credential: &Credential) -> Self {
        Self {
            from: credential.from,
            to: credential.to,
            value: credential.value,
            valid_after: credential.valid_after,
            valid_before: credential.valid_before,
            nonce: credential.nonce,
            signature: credential.signature.clone(),
        }
    }
}
