//! Which requests are one and the same: a caller's own name for a request, and a hash of what it asks.

use std::fmt;
use std::str::FromStr;

use drain_protocol::B256;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Characters of a name.
const LONGEST: usize = 100;

/// A caller's own name for a request: 1 to 100 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be 1 to 100 characters without control characters")]
pub struct BadKey;

impl IdempotencyKey {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        let good = !text.is_empty() && text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
        if good { Ok(Self(text.to_owned())) } else { Err(BadKey) }
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        text.parse()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that has a name, as the record knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Its name.
    pub id: IdempotencyKey,
    /// SHA-256 of what it asks.
    pub body: B256,
    /// Seconds for which the name stands for that request.
    pub valid: u64,
}

/// SHA-256 of a text or of bytes.
pub fn sha256(bytes: impl AsRef<[u8]>) -> B256 {
    B256::new(Sha256::digest(bytes).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_short_and_visible() {
        for bad in ["", "  ", "a\nb", "\u{7}", &"x".repeat(101)] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(BadKey), "{bad:?}");
        }
        assert_eq!(" order 17 ".parse::<IdempotencyKey>().unwrap().as_str(), "order 17");
        assert!("é".repeat(100).parse::<IdempotencyKey>().is_ok());
        // What comes over the socket is held to the same.
        assert!(serde_json::from_str::<IdempotencyKey>("\"a\\nb\"").is_err());
    }

    #[test]
    fn the_hash_is_the_fields_own() {
        let abc = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(format!("{:#x}", sha256("abc")), abc);
    }

    proptest! {
        #[test]
        fn a_name_survives_the_way_over_the_socket(text in "\\PC{0,120}") {
            if let Ok(key) = text.parse::<IdempotencyKey>() {
                let sent = serde_json::to_string(&key).unwrap();
                prop_assert_eq!(serde_json::from_str::<IdempotencyKey>(&sent).unwrap(), key);
            }
        }
    }
}
