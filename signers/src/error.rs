//! What goes wrong in a signer. No text here ever holds a key, a phrase or a password (M12).

use std::path::PathBuf;

use drain_protocol::Address;

use crate::aws_kms::KmsProblem;
use crate::ledger::DeviceProblem;
use crate::rules::Refusal;

/// Why there is no signature, or no signer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// A rule of [`crate::Policy`] forbids it. Nothing was signed.
    #[error("the signer refused: {reason}; nothing was signed")]
    Refused {
        /// Which rule, with the values that broke it.
        #[from]
        reason: Refusal,
    },
    /// Not a private key.
    #[error("this is not a private key ({problem}); give 64 hexadecimal digits, with or without 0x")]
    InvalidKey {
        /// What is wrong, without any of the input.
        problem: &'static str,
    },
    /// Not a BIP-39 phrase.
    #[error(
        "this is not a recovery phrase ({problem}); give the 12 to 24 English words in their order, one blank between them"
    )]
    InvalidPhrase {
        /// What is wrong, by position, without any of the words.
        problem: String,
    },
    /// The keystore's authentication code does not fit the password.
    #[error("the password does not open the keystore {}; type it again (if it is certainly right, the file was altered: restore it from a backup)", path.display())]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// An empty password would leave the key as good as unencrypted.
    #[error("the keystore's password is empty; choose one of at least one character, better twelve")]
    EmptyPassword,
    /// There is no such file.
    #[error("there is no keystore at {}; create one, or correct the path", path.display())]
    KeystoreMissing {
        /// The file.
        path: PathBuf,
    },
    /// A keystore is never overwritten: it may be the only copy of a key that holds money.
    #[error("{} exists already and is not overwritten; choose another path, or move that file away after making sure that its key is backed up", path.display())]
    KeystoreExists {
        /// The file.
        path: PathBuf,
    },
    /// Not a Web3 Secret Storage file of version 3, or one that demands absurd resources.
    #[error("{} is not a usable keystore ({problem}); restore it from a backup, or import the key again from its phrase", path.display())]
    KeystoreCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, without any of the content.
        problem: String,
    },
    /// The system below did not deliver: a disk, a random source, a device, a service.
    #[error("the signer is unavailable: {problem}; remove the cause and try again, nothing was signed")]
    Unavailable {
        /// What did not work.
        problem: String,
    },
    /// A device that a person holds did not sign.
    #[error("{0}; nothing was signed")]
    Device(#[from] DeviceProblem),
    /// AWS KMS gave no signature; its text says what to do. Nothing was signed.
    #[error(transparent)]
    Service(#[from] KmsProblem),
    /// The backend answered with something that the asked account did not sign. Do not use it further.
    #[error(
        "the {kind} signer answered with a signature that is not of {expected} over what was asked ({problem}); it was thrown away: check which key the backend uses"
    )]
    BadSignature {
        /// The backend's kind.
        kind: &'static str,
        /// Whose signature it should be.
        expected: Address,
        /// What is wrong with it.
        problem: String,
    },
}

impl SignerError {
    /// A stable name, for metrics, logs and callers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::InvalidKey { .. } => "invalid_key",
            Self::InvalidPhrase { .. } => "invalid_phrase",
            Self::WrongPassword { .. } => "wrong_password",
            Self::EmptyPassword => "empty_password",
            Self::KeystoreMissing { .. } => "keystore_missing",
            Self::KeystoreExists { .. } => "keystore_exists",
            Self::KeystoreCorrupt { .. } => "keystore_corrupt",
            Self::Unavailable { .. } => "unavailable",
            Self::Device(problem) => problem.code(),
            Self::Service(problem) => problem.code(),
            Self::BadSignature { .. } => "bad_signature",
        }
    }
}
