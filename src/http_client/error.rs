//! What can go wrong with an exchange, and whether the request can have reached the server.

use std::error::Error;

use drain_protocol::text::quoted;

use super::policy::UrlError;

/// A failed exchange. Texts are short and clean; none holds a URL or a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No whole answer within the time.
    #[error("{}", if *.before_sent { "no connection within the time allowed" } else { "no complete answer within the time allowed" })]
    Timeout {
        /// True when it struck while connecting.
        before_sent: bool,
    },
    /// The answer is larger than what is read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The name does not resolve, or nothing listens there.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("no trustworthy TLS connection: {0}")]
    Tls(String),
    /// This machine has no root certificates, so that no https server can be trusted.
    #[error(
        "this machine has no CA certificates, so no https server can be verified; install them (Debian and Alpine: package ca-certificates) or set SSL_CERT_FILE"
    )]
    NoRoots,
    /// The connection broke off, or what came is not HTTP.
    #[error("the connection broke off: {0}")]
    Cut(String),
    /// The server points elsewhere; that is never followed.
    #[error("the server redirects (HTTP {status}), which is not followed")]
    Redirect {
        /// The status.
        status: u16,
    },
    /// The body is compressed although that was not asked for.
    #[error("the answer is encoded as {}, which was not asked for", quoted(.0, 40))]
    Encoding(String),
    /// The URL or the address behind it is not allowed.
    #[error("not allowed: {0}")]
    Refused(UrlError),
    /// Something else.
    #[error("{cause}")]
    Other {
        /// What.
        cause: String,
        /// Whether it happened before anything was sent.
        before_sent: bool,
    },
}

impl HttpError {
    /// True when the request cannot have reached the server: whatever it carried is still ours alone.
    pub const fn before_sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::NoRoots | Self::Refused(_) => true,
            Self::Timeout { before_sent } | Self::Other { before_sent, .. } => *before_sent,
            Self::TooLarge { .. } | Self::Cut(_) | Self::Redirect { .. } | Self::Encoding(_) => false,
        }
    }

    /// What an error of sending or reading means.
    pub(crate) fn from_reqwest(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(refused) = find::<UrlError>(&error) {
            return Self::Refused(refused.clone());
        }
        // Only failures to get a connection are "connect": after that, anything may have arrived.
        if error.is_connect() {
            return match find::<rustls::Error>(&error) {
                Some(tls) => Self::Tls(cause(tls)),
                None if error.is_timeout() => Self::Timeout { before_sent: true },
                None => Self::Connect(cause(&error)),
            };
        }
        if error.is_builder() {
            return Self::Other { cause: cause(&error), before_sent: true };
        }
        if error.is_timeout() { Self::Timeout { before_sent: false } } else { Self::Cut(cause(&error)) }
    }

    /// What an error of setting up the client means.
    pub(super) fn from_build(error: &reqwest::Error) -> Self {
        let cause = cause(error);
        // The text of rustls-platform-verifier, the only one that reads the system's certificates.
        if cause.contains("No CA certificates") { Self::NoRoots } else { Self::Other { cause, before_sent: true } }
    }
}

/// The innermost cause: the one that says something.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let deepest = chain(error).last().map(ToString::to_string).unwrap_or_default();
    drain_protocol::text::one_line(&deepest, 200)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref::<T>())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        // An io::Error's source() skips the error that it wraps.
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
