//! A call that gave no usable answer: what for, to whom, why.

use drain_protocol::ShapeError;
use drain_protocol::close::CloseAnswerError;
use drain_protocol::refusal::Refusal;
use drain_protocol::text::quoted;
use reqwest::Url;

use super::{Fetched, HttpError};

/// A call to a provider or to the marketplace failed. Its text names scheme and host of the URL and nothing more of
/// it, and whatever others wrote is clean and bounded (M12, M13).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} from {origin}: {reason}")]
pub struct CallError {
    /// What was asked for: "prices".
    pub what: &'static str,
    /// Scheme, host and port.
    pub origin: String,
    /// Why it failed.
    pub reason: CallErrorReason,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallErrorReason {
    /// No whole answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer with another status than a success.
    #[error("HTTP {status}, it says {}", quoted(.message, 300))]
    Status {
        /// The status.
        status: u16,
        /// The beginning of what it says, in one line.
        message: String,
    },
    /// An answer that is not what the protocol describes.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A close answer that cannot be used.
    #[error(transparent)]
    Close(#[from] CloseAnswerError),
}

impl CallError {
    pub(crate) fn new(what: &'static str, url: &Url, reason: impl Into<CallErrorReason>) -> Self {
        Self { what, origin: origin(url), reason: reason.into() }
    }

    /// An answer with another status than a success.
    pub(crate) fn refused(what: &'static str, url: &Url, fetched: &Fetched) -> Self {
        let status = fetched.status.as_u16();
        // The words of a refusal are found the same way whoever speaks them.
        let message = Refusal::parse(status, |_| None, &fetched.body).message;
        Self::new(what, url, CallErrorReason::Status { status, message })
    }

    /// True when the request cannot have reached the other side.
    pub const fn before_sent(&self) -> bool {
        match &self.reason {
            CallErrorReason::Http(error) => error.before_sent(),
            _ => false,
        }
    }

    /// The status of an answer that is no success.
    pub const fn http_status(&self) -> Option<u16> {
        match &self.reason {
            CallErrorReason::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Scheme, host and port of a URL: all of it that messages show.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `base` with `path` (that begins with `/`) after its own; a slash at its end, query and fragment fall away.
pub fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}
