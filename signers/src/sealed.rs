//! The encryption inside a keystore file: Web3 Secret Storage, version 3.
//!
//! Composed here from the crates that alloy's `eth-keystore` is made of, since that crate panics on odd lengths, takes any
//! cost that a file demands, writes a weak one (scrypt n = 2^13), and reads the file itself. The tests hold the two to
//! each other.

use aes::cipher::{KeyIvInit, StreamCipher};
use alloy::hex;
use alloy::primitives::Keccak256;
use drain_protocol::Address;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::SignerError;
use crate::secret::{Secret, random_bytes};

/// A little above the 256 MiB that geth's standard files need.
const MAX_SCRYPT_MEMORY: u64 = 257 << 20;
/// n * r * p of four times geth's standard: some seconds.
const MAX_SCRYPT_WORK: u64 = 4 << 21;
/// Some seconds.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// How hard a password is to guess: scrypt's parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub log_n: u8,
    pub r: u32,
    pub p: u32,
}

impl Cost {
    /// What OWASP recommends: 128 MiB and about a second.
    pub(crate) const STANDARD: Self = Self { log_n: 17, r: 8, p: 1 };
}

/// Why a keystore does not open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    WrongPassword,
    Corrupt(String),
}

fn corrupt(problem: impl Into<String>) -> OpenError {
    OpenError::Corrupt(problem.into())
}

/// The file's JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sealed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    #[serde(with = "plain_hex")]
    ciphertext: Vec<u8>,
    #[serde(flatten)]
    kdf: Kdf,
    #[serde(with = "plain_hex")]
    mac: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    #[serde(with = "plain_hex")]
    iv: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        dklen: u64,
        n: u64,
        r: u32,
        p: u32,
        #[serde(with = "plain_hex")]
        salt: Vec<u8>,
    },
    Pbkdf2 {
        dklen: u64,
        c: u32,
        prf: String,
        #[serde(with = "plain_hex")]
        salt: Vec<u8>,
    },
}

impl Kdf {
    /// The derived key: half of it encrypts, half of it authenticates. Cost and lengths are checked before any work.
    fn derive(&self, password: &str) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        let (Self::Scrypt { dklen, .. } | Self::Pbkdf2 { dklen, .. }) = self;
        if *dklen != 32 {
            return Err(corrupt("its derived key is not 32 bytes long"));
        }
        let mut key = Zeroizing::new([0u8; 32]);
        match self {
            Self::Scrypt { n, r, p, salt, .. } => {
                let (wide_r, wide_p) = (u64::from(*r), u64::from(*p));
                let memory = n.saturating_add(wide_p).saturating_mul(wide_r).saturating_mul(128);
                let work = n.saturating_mul(wide_r).saturating_mul(wide_p);
                if memory > MAX_SCRYPT_MEMORY || work > MAX_SCRYPT_WORK {
                    return Err(corrupt("it demands more memory or work than any wallet's file"));
                }
                // Below 2^64, so the logarithm fits.
                let log_n = n.trailing_zeros() as u8;
                let params = scrypt::Params::new(log_n, *r, *p)
                    .ok()
                    .filter(|_| n.is_power_of_two() && *n > 1)
                    .ok_or_else(|| corrupt("its scrypt parameters make no sense"))?;
                scrypt::scrypt(password.as_bytes(), salt, &params, &mut *key)
                    .map_err(|_| corrupt("its scrypt parameters make no sense"))?;
            }
            Self::Pbkdf2 { c, prf, salt, .. } => {
                if prf != "hmac-sha256" || !(1..=MAX_PBKDF2_ROUNDS).contains(c) {
                    return Err(corrupt("its pbkdf2 parameters are not supported"));
                }
                pbkdf2::pbkdf2::<hmac::Hmac<sha2::Sha256>>(password.as_bytes(), salt, *c, &mut *key);
            }
        }
        Ok(key)
    }
}

/// AES-128 in counter mode: the same to encrypt and to decrypt.
fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], data: &mut [u8; 32]) {
    let mut key = Zeroizing::new([0u8; 16]);
    key.copy_from_slice(&derived[..16]);
    ctr::Ctr128BE::<aes::Aes128>::new((&*key).into(), iv.into()).apply_keystream(data);
}

fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.update(&derived[16..]);
    hasher.update(ciphertext);
    hasher.finalize().0
}

impl Sealed {
    /// Encrypts a key.
    pub(crate) fn seal(secret: &Secret, password: &str, cost: Cost) -> Result<Self, SignerError> {
        let kdf = Kdf::Scrypt {
            dklen: 32,
            n: 1u64 << cost.log_n.min(63),
            r: cost.r,
            p: cost.p,
            salt: random_bytes::<32>()?.into(),
        };
        let derived = kdf.derive(password).map_err(|_| SignerError::Unavailable {
            problem: "the keystore's encryption cost is outside its bounds".into(),
        })?;
        let iv = random_bytes::<16>()?;
        let mut data = secret.bytes();
        apply_cipher(&derived, &iv, &mut data);
        Ok(Self {
            address: Some(hex::encode(secret.address())),
            crypto: Crypto {
                cipher: "aes-128-ctr".into(),
                cipherparams: CipherParams { iv: iv.into() },
                ciphertext: data.to_vec(),
                kdf,
                mac: mac(&derived, &*data).into(),
            },
            id: random_uuid()?,
            version: 3,
        })
    }

    /// Reads the JSON. Errors hold no content: a person may have pointed at a file with a bare key in it.
    pub(crate) fn parse(text: &str) -> Result<Self, OpenError> {
        let sealed: Self = serde_json::from_str(text).map_err(|e| {
            corrupt(format!("it is not a keystore's JSON, see line {} column {}", e.line(), e.column()))
        })?;
        if sealed.version != 3 {
            return Err(corrupt(format!("its version is {}, not 3", sealed.version)));
        }
        if sealed.crypto.cipher != "aes-128-ctr" {
            return Err(corrupt("its cipher is not aes-128-ctr"));
        }
        Ok(sealed)
    }

    /// The JSON.
    pub(crate) fn to_json(&self) -> Result<String, SignerError> {
        serde_json::to_string(self).map_err(|e| SignerError::Unavailable { problem: format!("no JSON: {e}") })
    }

    /// The account that the file claims to hold, if it says so. A claim until the file is opened.
    pub(crate) fn address(&self) -> Result<Option<Address>, OpenError> {
        self.address.as_deref().map(|text| text.parse().map_err(|_| corrupt("its address is malformed"))).transpose()
    }

    /// Decrypts the key.
    pub(crate) fn unseal(&self, password: &str) -> Result<Secret, OpenError> {
        let length = |what: &str| corrupt(format!("its {what} has another length"));
        let claimed = self.address()?;
        let iv = self.crypto.cipherparams.iv.as_slice().try_into().map_err(|_| length("iv"))?;
        let mut data =
            Zeroizing::new(<[u8; 32]>::try_from(self.crypto.ciphertext.as_slice()).map_err(|_| length("ciphertext"))?);
        let expected = <[u8; 32]>::try_from(self.crypto.mac.as_slice()).map_err(|_| length("mac"))?;

        let derived = self.crypto.kdf.derive(password)?;
        if mac(&derived, &*data) != expected {
            return Err(OpenError::WrongPassword);
        }
        apply_cipher(&derived, iv, &mut data);
        let secret = Secret::from_bytes(&data).map_err(|_| corrupt("what it holds is not a private key"))?;
        match claimed {
            Some(address) if address != secret.address() => Err(corrupt("it holds another key than its address says")),
            _ => Ok(secret),
        }
    }
}

/// A random UUID (version 4), which the format wants and nobody uses.
fn random_uuid() -> Result<String, SignerError> {
    let mut bytes = random_bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

/// Hexadecimal digits; written without 0x, as the format has them.
mod plain_hex {
    use alloy::hex;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(|_| D::Error::custom("not hexadecimal"))
    }
}
