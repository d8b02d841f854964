//! The secret that an agent shows: made here, shown once, kept as a hash.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::B256;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What each token begins with, so that scanners for leaked secrets and people know one.
pub const PREFIX: &str = "drain_";

/// Characters after that: 32 bytes in base64.
const DIGITS: usize = 43;

/// A token: 256 random bits. Erased on drop; shows nothing of itself.
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new one.
    pub fn new() -> Self {
        let bytes = Zeroizing::new(B256::random().0);
        let digits = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        Self(Zeroizing::new(format!("{PREFIX}{}", digits.as_str())))
    }

    /// One that an operator handed out, as the agent's configuration has it. `None` for what is no token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (digits.len() == DIGITS && digits.bytes().all(good)).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for the one time that it is shown. Never log or store it (M12).
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// SHA-256 of a token. A slow hash would add nothing: nobody searches 256 random bits.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of what somebody shows.
    pub fn of(shown: &str) -> Self {
        Self(Sha256::digest(shown.as_bytes()).into())
    }
}

/// In constant time: how long it takes says nothing of where two differ.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash of a token]")
    }
}

/// Not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token_sha256 is not 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.parse::<B256>().ok().filter(|_| hex).map(|hash| Self(hash.0)).ok_or(NotAHash)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", alloy::primitives::hex::encode(self.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_differ_and_are_known_by_their_hash_alone() {
        let token = Token::new();
        assert_eq!(token.expose().len(), PREFIX.len() + DIGITS);
        assert!(token.expose().starts_with(PREFIX));
        assert_ne!(token.expose(), Token::new().expose());
        assert_eq!(token.hash(), TokenHash::of(token.expose()));
        assert!(token.hash() != Token::new().hash());
        let kept = token.hash().to_string();
        assert_eq!(kept.parse(), Ok(token.hash()));
        assert!(!kept.contains(&token.expose()[PREFIX.len()..]));
        assert!(!format!("{token:?}{:?}", token.hash()).contains(&kept[..8]));
        for odd in
            ["", "ab", &kept[1..], &format!("0x{kept}"), &format!("0x{}", &kept[2..]), &kept.replace(&kept[..1], "g")]
        {
            assert_eq!(odd.parse::<TokenHash>(), Err(NotAHash), "{odd}");
        }
        assert_eq!(Token::parse(token.expose()).unwrap().hash(), token.hash());
        let short = &token.expose()[..PREFIX.len() + DIGITS - 1];
        for odd in ["", PREFIX, short, &format!("{short}="), &format!("{short}é"), &format!("{}x", token.expose())] {
            assert!(Token::parse(odd).is_none(), "{odd}");
        }
        // A known answer: sha256("abc").
        assert!(TokenHash::of("abc").to_string().starts_with("ba7816bf8f01cfea"));
    }
}
