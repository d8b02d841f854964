//! A private key on its way in.

use std::fmt;

use drain_protocol::Address;
use secp256k1::{SECP256K1, SecretKey};
use zeroize::Zeroizing;

use crate::error::SignerError;

/// A private key, valid on the curve. Erased on drop; shows nothing of itself; has no way out of this crate.
pub struct Secret(Box<SecretKey>);

impl Secret {
    /// Reads 64 hexadecimal digits with or without 0x; surrounding blanks, line ends and byte order marks are ignored.
    /// Errors hold nothing of the text. The caller erases the text.
    pub fn parse(text: &str) -> Result<Self, SignerError> {
        let invalid = |problem| SignerError::InvalidKey { problem };
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.is_empty() {
            return Err(invalid("it is empty"));
        }
        if digits.len() != 64 {
            return Err(invalid("it has another length"));
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        alloy::hex::decode_to_slice(digits, &mut *bytes).map_err(|_| invalid("it holds other characters"))?;
        Self::from_bytes(&bytes)
    }

    /// From the key's 32 bytes; refuses 0 and what is not below the group's order. The caller erases the bytes.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SignerError> {
        SecretKey::from_byte_array(bytes)
            .map(|key| Self(Box::new(key)))
            .map_err(|_| SignerError::InvalidKey { problem: "it is zero or outside the curve's range" })
    }

    pub(crate) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret_bytes())
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.0
    }

    /// The account of this key.
    pub fn address(&self) -> Address {
        // Without the tag byte of an uncompressed point.
        let point = self.0.public_key(SECP256K1).serialize_uncompressed();
        Address::from_raw_public_key(&point[1..])
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Volatile writes; "non-secure" in its name is about copies made elsewhere.
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Bytes from the operating system's random source.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], SignerError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| SignerError::Unavailable { problem: format!("the system's random source failed: {e}") })?;
    Ok(bytes)
}
