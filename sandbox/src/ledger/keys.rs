//! The device's accounts.

use alloy::primitives::{B256, Signature};
use alloy::signers::SignerSync;
use alloy::signers::local::coins_bip39::English;
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};

/// The public test words that the recordings were made with.
pub const TEST_PHRASE: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

/// Where the accounts come from. Public test keys only.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Recovery words.
    Phrase(String),
    /// One key, at every path.
    One(B256),
}

impl Keys {
    /// The account at a path; `None` for a path that is none.
    pub(super) fn at(&self, path: &[u32]) -> Option<PrivateKeySigner> {
        match self {
            Self::One(key) => PrivateKeySigner::from_bytes(key).ok(),
            Self::Phrase(words) => {
                let text = path.iter().fold("m".to_owned(), |text, step| {
                    format!("{text}/{}{}", step & 0x7fff_ffff, if step >> 31 == 1 { "'" } else { "" })
                });
                MnemonicBuilder::<English>::default().phrase(words.as_str()).derivation_path(text).ok()?.build().ok()
            }
        }
    }
}

/// v (27 or 28, less `less`), r, s, as the app answers.
pub(super) fn sign(key: &PrivateKeySigner, hash: B256, less: u8) -> Option<Vec<u8>> {
    let signature: Signature = key.sign_hash_sync(&hash).ok()?;
    let bytes = signature.as_bytes();
    Some([&[bytes[64] - less], &bytes[..64]].concat())
}
