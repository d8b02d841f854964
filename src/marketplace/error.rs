//! How a failed exchange with the marketplace reads for people and agents.

use crate::error::{Code, Failure};
use crate::http_client::{CallError, CallErrorReason, HttpError};

/// A call to the marketplace failed.
pub type MarketplaceError = CallError;

impl CallError {
    /// The failure of a call to the marketplace.
    pub fn into_marketplace_failure(self) -> Failure {
        let (code, next) = match &self.reason {
            CallErrorReason::Http(HttpError::Refused(_)) => (
                Code::InvalidConfig,
                "Give the directory an https URL; http is for a directory on loopback, or by DRAIN_ALLOW_INSECURE.",
            ),
            CallErrorReason::Http(HttpError::NoRoots) => {
                (Code::DirectoryUnavailable, "Install the CA certificates on this machine.")
            }
            CallErrorReason::Http(HttpError::Redirect { .. }) => {
                (Code::DirectoryUnavailable, "Set DRAIN_DIRECTORY_URL to the address to which the marketplace moved.")
            }
            _ => (Code::DirectoryUnavailable, "Try again later; open channels go on working without the directory."),
        };
        Failure::unspent(code, format!("Marketplace: {self}."), next)
    }
}
