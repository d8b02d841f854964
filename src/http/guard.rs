//! Which host a request means, and which web page sends it: a page in a browser on this machine must not reach us by a
//! name that it made point here.

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};

use super::Refusal;
use crate::config::ServeConfig;

/// Names of this machine, which are always ours.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Hosts and pages that are let in.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<(String, Option<u16>)>,
    /// Scheme, host and port.
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(settings: &ServeConfig) -> Self {
        let own = OWN.iter().map(|name| ((*name).to_owned(), None));
        let named = settings.allowed_hosts.iter().map(|text| match text.parse::<Authority>() {
            Ok(authority) => split(&authority),
            // An IPv6 address without brackets.
            Err(_) => (text.clone(), None),
        });
        Self { hosts: own.chain(named).collect(), origins: settings.allowed_origins.clone() }
    }

    /// Lets a request through that means us, and comes from no page or from the one that it means: the console's own.
    pub(super) fn check_own(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let (name, port) = self.host(uri, headers)?;
        let own = |origin: &str| {
            let url = reqwest::Url::parse(origin).ok()?;
            let (secure, host) =
                (url.scheme() == "https", url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned());
            // A proxy with TLS in front passes on its own name.
            let usual = if secure { 443 } else { 80 };
            Some((host, url.port().unwrap_or(usual)) == (name.clone(), port.unwrap_or(usual)))
        };
        match one(headers, ORIGIN).map_err(|()| forbidden("Origin"))? {
            Some(origin) if own(origin) != Some(true) => Err(forbidden("Origin")),
            _ => Ok(()),
        }
    }

    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(String, Option<u16>), Refusal> {
        let (name, port) = meant(uri, headers).ok_or_else(|| forbidden("Host"))?;
        let known = |(own, only): &(String, Option<u16>)| *own == name && (only.is_none() || *only == port);
        if self.hosts.iter().any(known) { Ok((name, port)) } else { Err(forbidden("Host")) }
    }

    /// Lets a request through that means us, and comes from no page or from one that is allowed.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        self.host(uri, headers)?;
        match one(headers, ORIGIN).map_err(|()| forbidden("Origin"))? {
            None => Ok(()),
            Some(origin) if self.origins.iter().any(|allowed| Some(allowed) == full(origin).as_ref()) => Ok(()),
            Some(_) => Err(forbidden("Origin")),
        }
    }
}

/// Whether a request means this machine by a name that only itself uses: what a proxy passes on may keep the name of others.
pub(super) fn means_here(uri: &Uri, headers: &HeaderMap) -> bool {
    meant(uri, headers).is_some_and(|(name, _)| OWN.contains(&name.as_str()))
}

/// The host and port that a request means, where it names one.
fn meant(uri: &Uri, headers: &HeaderMap) -> Option<(String, Option<u16>)> {
    match one(headers, HOST).ok()? {
        Some(text) => text.parse().ok().as_ref().map(split),
        None => uri.authority().map(split),
    }
}

/// A header's one value.
fn one(headers: &HeaderMap, name: axum::http::HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

fn split(authority: &Authority) -> (String, Option<u16>) {
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    (name, authority.port_u16())
}

/// An origin with its port, as the configuration has it.
fn full(origin: &str) -> Option<String> {
    let url = reqwest::Url::parse(origin).ok()?;
    Some(format!("{}://{}:{}", url.scheme(), url.host_str()?, url.port_or_known_default()?))
}

fn forbidden(header: &str) -> Refusal {
    let way = if header == "Host" { "DRAIN_ALLOWED_HOSTS" } else { "DRAIN_ALLOWED_ORIGINS" };
    Refusal::new(StatusCode::FORBIDDEN, format!("This {header} is not allowed here ({way})."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn guard() -> Guard {
        let pairs = [
            ("HOME", "/nonexistent"),
            ("DRAIN_ALLOWED_HOSTS", "mcp.example.com, other.example:8443"),
            ("DRAIN_ALLOWED_ORIGINS", "https://app.example.com"),
        ];
        Guard::new(&Config::load(Sources::from_pairs(pairs)).unwrap().serve)
    }

    fn passes(headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        guard().check(&"/mcp".parse().unwrap(), &map).is_ok()
    }

    #[test]
    fn hosts_are_ours_or_named() {
        for good in [
            "localhost",
            "LOCALHOST:5858",
            "127.0.0.1:5858",
            "[::1]:5858",
            "[::1]",
            "mcp.example.com",
            "MCP.example.com:443",
            "other.example:8443",
        ] {
            assert!(passes(&[("host", good)]), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "mcp.example.com.evil",
            "other.example",
            "other.example:1",
            "127.0.0.2",
            "",
            "a b",
        ] {
            assert!(!passes(&[("host", bad)]), "{bad}");
        }
        assert!(!passes(&[]) && !passes(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn the_consoles_own_page_is_let_in_and_no_other() {
        let passes = |host: &str, origin: &str| {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap()), (ORIGIN, origin.parse().unwrap())]);
            guard().check_own(&"/console".parse().unwrap(), &headers).is_ok()
        };
        for (host, origin) in [
            ("127.0.0.1:5858", "http://127.0.0.1:5858"),
            ("[::1]:5858", "http://[::1]:5858"),
            ("mcp.example.com", "https://mcp.example.com"),
            ("localhost", "http://localhost"),
        ] {
            assert!(passes(host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("127.0.0.1:5858", "http://127.0.0.1:5859"),
            ("127.0.0.1:5858", "http://localhost:5858"),
            ("127.0.0.1:5858", "null"),
            ("127.0.0.1:5858", "https://app.example.com"),
            ("evil.example", "http://evil.example"),
        ] {
            assert!(!passes(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn pages_are_refused_unless_they_are_named() {
        let from = |origin: &str| passes(&[("host", "localhost"), ("origin", origin)]);
        for good in ["https://app.example.com", "https://app.example.com:443", "https://APP.example.com"] {
            assert!(from(good), "{good}");
        }
        for bad in [
            "https://evil.example",
            "http://app.example.com",
            "https://app.example.com:444",
            "http://localhost",
            "null",
            "x",
        ] {
            assert!(!from(bad), "{bad}");
        }
        let twice = [("host", "localhost"), ("origin", "https://app.example.com"), ("origin", "https://evil.example")];
        assert!(!passes(&twice));
    }
}
