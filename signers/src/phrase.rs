//! Recovery phrases (BIP-39): twelve words on paper are a backup that needs no file.

use std::fmt;

use alloy::signers::local::MnemonicBuilder;
use alloy::signers::local::coins_bip39::{English, Entropy, Mnemonic, Wordlist};
use zeroize::{Zeroize, Zeroizing};

use crate::error::SignerError;
use crate::secret::{Secret, random_bytes};

/// A recovery phrase. Erased on drop; shown only through [`Phrase::words`].
pub struct Phrase(Zeroizing<String>);

impl Phrase {
    /// The words, for the one time that a person writes them down. Never log, store or send them (M12).
    pub fn words(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[phrase]")
    }
}

/// Twelve words from the operating system's randomness.
pub fn new_phrase() -> Result<Phrase, SignerError> {
    let entropy = Zeroizing::new(random_bytes::<16>()?);
    let mnemonic = Mnemonic::<English>::new_from_entropy(Entropy::from(*entropy));
    Ok(Phrase(Zeroizing::new(mnemonic.to_phrase())))
}

/// The key of account `index` (path `m/44'/60'/0'/0/index`, as every Ethereum wallet has it). Errors name no word.
pub fn key_from_phrase(phrase: &str, index: u32) -> Result<Secret, SignerError> {
    let phrase = Zeroizing::new(phrase.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    let invalid = |problem: String| SignerError::InvalidPhrase { problem };

    let count = phrase.split(' ').filter(|word| !word.is_empty()).count();
    if !matches!(count, 12 | 15 | 18 | 21 | 24) {
        return Err(invalid(format!("it has {count} words")));
    }
    if let Some(position) = phrase.split(' ').position(|word| English::get_index(word).is_err()) {
        return Err(invalid(format!("word {} is not in the English list", position + 1)));
    }
    // The library's errors may hold the phrase: they end here.
    let signer = MnemonicBuilder::<English>::default()
        .phrase(phrase.as_str())
        .index(index)
        .map_err(|_| invalid(format!("no account {index} can be derived")))?
        .build()
        .map_err(|_| invalid("its checksum does not fit: a word is wrong or out of order".into()))?;
    let mut bytes = signer.to_bytes();
    let secret = Secret::from_bytes(&bytes.0);
    bytes.0.zeroize();
    secret
}
