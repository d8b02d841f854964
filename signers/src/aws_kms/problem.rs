//! What goes wrong with AWS KMS, and what a person does about it.
//!
//! Of what the service says, only its error code is repeated: its texts may hold parts of a request, and so of a
//! temporary credential (M12).

use std::time::Duration;

use drain_protocol::Address;

/// Why AWS KMS gave no signature. Nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KmsProblem {
    /// The key is switched off.
    #[error("the KMS key {key} is disabled; enable it (aws kms enable-key --key-id {key}), or use another one")]
    KeyDisabled {
        /// The key.
        key: String,
    },
    /// The key will be deleted, and the account with it.
    #[error(
        "the KMS key {key} is pending deletion: with it the account's money would be lost; cancel that now (aws kms cancel-key-deletion --key-id {key}, then aws kms enable-key --key-id {key})"
    )]
    KeyPendingDeletion {
        /// The key.
        key: String,
    },
    /// Another state in which a key signs nothing.
    #[error("the KMS key {key} is in a state in which it signs nothing; look with aws kms describe-key --key-id {key}")]
    KeyUnusable {
        /// The key.
        key: String,
    },
    /// No such key there.
    #[error("AWS KMS ({place}) has no key {key}; correct DRAIN_KMS_KEY_ID, DRAIN_KMS_REGION or the AWS account")]
    NoSuchKey {
        /// The key.
        key: String,
        /// The region or endpoint that was asked.
        place: String,
    },
    /// The credentials may not do this.
    #[error(
        "the AWS credentials may not do {action} on {key}; allow it in their IAM policy or in the key's policy (docs/signers.md has the whole policy)"
    )]
    Denied {
        /// `kms:GetPublicKey` or `kms:Sign`.
        action: &'static str,
        /// The key.
        key: String,
    },
    /// Not a key for Ethereum.
    #[error(
        "the KMS key {key} is of another kind; Ethereum needs the key spec ECC_SECG_P256K1 with the usage SIGN_VERIFY, and a key's kind cannot be changed: make a new one"
    )]
    WrongKeyType {
        /// The key.
        key: String,
    },
    /// Another key than the operator expects.
    #[error(
        "the KMS key {key} belongs to {found}, not to {expected}; correct DRAIN_KMS_KEY_ID or DRAIN_KMS_ADDRESS, whichever is wrong"
    )]
    WrongAddress {
        /// The key.
        key: String,
        /// Whose it is.
        found: Address,
        /// Whose it should be.
        expected: Address,
    },
    /// Nobody says where the key is.
    #[error("no AWS region is set; set DRAIN_KMS_REGION, or give the key's whole ARN as DRAIN_KMS_KEY_ID")]
    NoRegion,
    /// AWS's credential chain found nothing.
    #[error(
        "no AWS credentials were found ({problem}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with an instance or task role"
    )]
    NoCredentials {
        /// What the chain met.
        problem: &'static str,
    },
    /// The service does not take the credentials.
    #[error("AWS does not take the credentials ({code}); renew them, and check that this machine's clock is right")]
    BadCredentials {
        /// The service's error code.
        code: String,
    },
    /// No connection.
    #[error(
        "AWS KMS ({place}) cannot be reached: {cause}; check the network, DRAIN_KMS_REGION and DRAIN_KMS_ENDPOINT, then try again"
    )]
    Unreachable {
        /// The region or endpoint that was asked.
        place: String,
        /// What the connection met.
        cause: String,
    },
    /// Too many requests, until the time was over.
    #[error(
        "AWS KMS throttled every try for {}; try again later, lower DRAIN_KMS_CONCURRENCY, or ask AWS for a higher quota", humane(*waited)
    )]
    Throttled {
        /// The time limit.
        waited: Duration,
    },
    /// Errors on the service's side, until the time was over.
    #[error(
        "AWS KMS failed at every try for {} ({code}); try again later, and look at the region's AWS health page", humane(*waited)
    )]
    Failing {
        /// The time limit.
        waited: Duration,
        /// The service's error code or HTTP status.
        code: String,
    },
    /// No answer.
    #[error("AWS KMS did not answer within {}; try again, or raise DRAIN_KMS_TIMEOUT", humane(*waited))]
    TimedOut {
        /// The time limit.
        waited: Duration,
    },
    /// The turn did not come.
    #[error(
        "all {concurrency} turns at AWS KMS were taken for {}; try again later, or raise DRAIN_KMS_CONCURRENCY", humane(*waited)
    )]
    Busy {
        /// The time limit.
        waited: Duration,
        /// How many at once.
        concurrency: usize,
    },
    /// Another answer.
    #[error("AWS KMS refused {action} ({code}); look the code up in the AWS KMS API reference and correct the set-up")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The service's error code or HTTP status.
        code: String,
    },
}

impl KmsProblem {
    /// A stable name, for metrics, logs and callers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::KeyDisabled { .. } => "kms_key_disabled",
            Self::KeyPendingDeletion { .. } => "kms_key_pending_deletion",
            Self::KeyUnusable { .. } => "kms_key_unusable",
            Self::NoSuchKey { .. } => "kms_no_such_key",
            Self::Denied { .. } => "kms_denied",
            Self::WrongKeyType { .. } => "kms_wrong_key_type",
            Self::WrongAddress { .. } => "kms_wrong_address",
            Self::NoRegion => "kms_no_region",
            Self::NoCredentials { .. } => "kms_no_credentials",
            Self::BadCredentials { .. } => "kms_bad_credentials",
            Self::Unreachable { .. } => "kms_unreachable",
            Self::Throttled { .. } => "kms_throttled",
            Self::Failing { .. } => "kms_failing",
            Self::TimedOut { .. } => "kms_timed_out",
            Self::Busy { .. } => "kms_busy",
            Self::Refused { .. } => "kms_refused",
        }
    }
}

fn humane(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}
