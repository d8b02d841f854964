//! Where requests may go (M14): judged on the URL before, and on the resolved address while connecting.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressClass, classify};

/// What is allowed beyond https to public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlPolicy {
    /// http, and addresses that are not public. True exactly when the directory itself is on loopback, or by the
    /// operator's word.
    pub allow_insecure: bool,
}

impl UrlPolicy {
    /// The policy that follows from where the directory is and from the operator's word.
    pub fn new(directory: &Url, operator_allows: bool) -> Self {
        Self { allow_insecure: operator_allows || is_loopback(directory) }
    }
}

/// Why a URL is not contacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not https.
    #[error("only https is allowed, not {0}")]
    Scheme(String),
    /// A user name or password in the URL.
    #[error("the URL carries a user name or password")]
    Credentials,
    /// Nothing to connect to.
    #[error("the URL names no host")]
    NoHost,
    /// The address, written out or resolved, is not on the public internet.
    #[error("its address {address} is {class}, not public")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is.
        class: AddressClass,
    },
}

/// Whether `url` may be contacted. Names are judged again when they are resolved.
pub fn check_url(url: &Url, policy: UrlPolicy) -> Result<(), UrlError> {
    match url.scheme() {
        "https" => {}
        "http" if policy.allow_insecure => {}
        other => return Err(UrlError::Scheme(other.chars().take(20).collect())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credentials);
    }
    match literal(url) {
        Some(address) => check_address(address, policy),
        None if url.host_str().unwrap_or_default().is_empty() => Err(UrlError::NoHost),
        None => Ok(()),
    }
}

/// A URL's host as lists and records have it: lower case, with its port where that is not the usual one.
pub fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether `url` stays on this host: a loopback address, or the name localhost.
pub fn is_loopback(url: &Url) -> bool {
    match literal(url) {
        Some(address) => classify(address) == AddressClass::Loopback,
        None => url.host_str().is_some_and(|host| host == "localhost" || host.ends_with(".localhost")),
    }
}

// The URL parser has already made 127.1, 0x7f000001 and 2130706433 into 127.0.0.1.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn check_address(address: IpAddr, policy: UrlPolicy) -> Result<(), UrlError> {
    match classify(address) {
        AddressClass::Public => Ok(()),
        _ if policy.allow_insecure => Ok(()),
        class => Err(UrlError::Address { address, class }),
    }
}

/// Resolves names and refuses those with any address that is not public, so that a name which answers differently the
/// second time (DNS rebinding) gains nothing: what was checked is what is connected to.
#[derive(Debug)]
pub(super) struct Guard {
    policy: UrlPolicy,
}

impl Guard {
    pub(super) const fn new(policy: UrlPolicy) -> Self {
        Self { policy }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, host) = (self.policy, name.as_str().to_owned());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            for address in &found {
                check_address(address.ip(), policy)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
