//! A key in AWS KMS (feature `aws`): made there, used there, in nobody's memory.
//!
//! [`KmsBackend`] asks `kms:GetPublicKey` once, which says the account, and `kms:Sign` for each signature. `client` holds
//! how the service is reached, `answers` what its errors mean, `patience` what is tried again and for how long.
//! [`KmsSettings`] and [`KmsProblem`] are there without the feature too: a configuration can be read, and its refusal be
//! told, by every build.

#[cfg(feature = "aws")]
mod answers;
#[cfg(feature = "aws")]
mod backend;
#[cfg(feature = "aws")]
mod client;
#[cfg(feature = "aws")]
mod patience;
mod problem;

use std::time::Duration;

use drain_protocol::Address;

#[cfg(feature = "aws")]
pub use backend::KmsBackend;
pub use problem::KmsProblem;

/// Which key, and how it is asked. Holds nothing secret: credentials come from AWS's own chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsSettings {
    /// The key's id or ARN. Not an alias: that can be pointed at another key, which is another account.
    pub key: String,
    /// Where the key is; else as AWS's own settings say.
    pub region: Option<String>,
    /// In place of the region's own endpoint.
    pub endpoint: Option<String>,
    /// How many signatures are asked for at the same time; more wait their turn.
    pub concurrency: usize,
    /// The longest that a signature may take, turn and new tries included.
    pub limit: Duration,
    /// The account, where the operator knows it: then nobody is asked until the first signature.
    pub address: Option<Address>,
}

impl KmsSettings {
    /// The region that a key's ARN names.
    pub fn region_of(key: &str) -> Option<&str> {
        let mut parts = key.split(':');
        let named = (parts.next() == Some("arn"), parts.nth(1) == Some("kms"));
        parts.next().filter(|region| named == (true, true) && !region.is_empty())
    }
}
