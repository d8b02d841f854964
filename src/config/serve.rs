//! What `drain-mcp serve` listens on, and how much it takes on at once.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use drain_protocol::text::may_be_key;
use reqwest::Url;

use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::sources::Layers;
use super::{Password, values};
use crate::policy::limits::Parties;

/// The fleet's server.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where it listens. Without TLS: that is a proxy's business.
    pub listen: SocketAddr,
    /// Where other replicas reach it.
    pub replica_url: Option<Url>,
    /// Names by which clients may call it, beside this machine's own.
    pub allowed_hosts: Vec<String>,
    /// Web pages that may call it, as scheme, host and port.
    pub allowed_origins: Vec<String>,
    /// What a scraper of the metrics shows; without one only this machine sees them.
    pub metrics_token: Option<Password>,
    /// What opens the console; without one there is none.
    pub console_token: Option<Password>,
    /// How long calls that run may go on after the wish to end.
    pub drain_time: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Calls of one agent at once.
    pub max_requests: usize,
    /// Sessions of one agent at once.
    pub max_sessions: usize,
    /// How long a session may be unused.
    pub session_idle: Duration,
    /// The largest body.
    pub max_body_bytes: usize,
    /// The longest that a call may take.
    pub call_time: Duration,
    /// Channels of one agent to one provider at most that the gateway opens, where requests overlap.
    pub gateway_channels: u32,
}

impl ServeConfig {
    /// A name by which other machines call it, if the operator named one.
    pub fn public_name(&self) -> Option<&str> {
        let own = self.listen.ip().to_string();
        self.allowed_hosts.iter().map(String::as_str).find(|host| **host != own)
    }
}

/// Lists of an agent's own, as flags say them.
///
/// # Errors
/// When one holds no name, or what may be a private key.
pub fn agent_parties(
    [allow_providers, deny_providers]: [(&'static str, Option<Vec<String>>); 2],
    [allow_categories, deny_categories]: [(&'static str, Option<Vec<String>>); 2],
) -> Result<Parties, ConfigError> {
    let names = |(flag, items): (&'static str, Option<Vec<String>>)| {
        let Some(items) = items else { return Ok(None) };
        let items: Vec<&str> = items.iter().flat_map(|item| values::words(item)).collect();
        if items.iter().any(|item| may_be_key(item)) {
            return Err(Bad::new("one of them is as long as a private key", "Write names").at(flag));
        }
        values::names(&items).map(Some).map_err(|bad| bad.at(flag))
    };
    Ok(Parties {
        allow_providers: names(allow_providers)?,
        deny_providers: names(deny_providers)?.unwrap_or_default(),
        allow_categories: names(allow_categories)?,
        deny_categories: names(deny_categories)?.unwrap_or_default(),
    })
}

pub(super) fn settings(layers: &mut Layers) -> Result<ServeConfig, ConfigError> {
    let listen = layers.or_table(Key::Listen, address)?;
    let public = layers.or_table(Key::ListenPublic, values::switch)?;
    if !listen.ip().is_loopback() && !public {
        return Err(Bad::new(
            format!("{listen} can be reached from other machines, and nothing on it is encrypted"),
            "Listen on 127.0.0.1 behind a proxy that speaks TLS; or, where only that proxy reaches the address, set DRAIN_LISTEN_PUBLIC=on",
        )
        .at(Key::Listen.spec().env));
    }
    let mut allowed_hosts = several(layers, Key::AllowedHosts, host)?;
    if !listen.ip().is_unspecified() {
        allowed_hosts.push(bare(listen.ip()));
    }
    Ok(ServeConfig {
        listen,
        replica_url: layers.get(Key::ReplicaUrl)?.map(|raw| raw.parse(values::plain_url)).transpose()?,
        allowed_hosts,
        allowed_origins: several(layers, Key::AllowedOrigins, origin)?,
        metrics_token: layers.get(Key::MetricsToken)?.map(|raw| raw.parse(token)).transpose()?,
        console_token: layers.get(Key::ConsoleToken)?.map(|raw| raw.parse(token)).transpose()?,
        drain_time: layers.or_table(Key::DrainTime, values::wait)?,
        max_connections: layers.or_table(Key::MaxConnections, |text| values::number(text, 1, 65_536))?,
        max_requests: layers.or_table(Key::MaxAgentRequests, |text| values::number(text, 1, 10_000))?,
        max_sessions: layers.or_table(Key::MaxAgentSessions, |text| values::number(text, 1, 10_000))?,
        session_idle: layers.or_table(Key::SessionIdle, values::wait)?,
        max_body_bytes: layers.or_table(Key::MaxBodyBytes, |text| values::number(text, 1_024, 1 << 30))?,
        call_time: layers.or_table(Key::CallTime, values::wait)?,
        gateway_channels: layers.or_table(Key::GatewayChannels, |text| values::number(text, 1, 64))?,
    })
}

fn several<T>(layers: &mut Layers, key: Key, parse: impl Fn(&str) -> Result<T, Bad>) -> Result<Vec<T>, ConfigError> {
    let Some(raw) = layers.get(key)? else { return Ok(Vec::new()) };
    let items = raw.items();
    if items.is_empty() {
        return Err(Bad::new("it names nothing", "Write at least one, or remove it").at(&raw.name));
    }
    items.into_iter().map(|item| parse(item).map_err(|bad| bad.at(&raw.name))).collect()
}

fn address(text: &str) -> Result<SocketAddr, Bad> {
    values::listen(text)?.ok_or_else(|| Bad::new("it is off", "Write for example 127.0.0.1:5858"))
}

/// As it stands in a Host header, without brackets.
fn bare(ip: IpAddr) -> String {
    ip.to_string()
}

/// A name by which clients call, with or without a port.
fn host(text: &str) -> Result<String, Bad> {
    let odd = || {
        Bad::new(
            format!("{} is not a host", quoted(text)),
            "Write for example mcp.example.com, or with its port mcp.example.com:8443",
        )
    };
    let authority: axum::http::uri::Authority = text.parse().map_err(|_| odd())?;
    if authority.host().is_empty() || text.contains('@') || text.contains('*') {
        return Err(odd());
    }
    Ok(text.to_ascii_lowercase())
}

/// An origin with its port.
fn origin(text: &str) -> Result<String, Bad> {
    let odd = || {
        Bad::new(
            format!("{} is not an origin", quoted(text)),
            "Write for example https://app.example.com or http://localhost:6274",
        )
    };
    let url = Url::parse(text).map_err(|_| odd())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match (url.scheme(), url.host_str(), url.port_or_known_default()) {
        ("http" | "https", Some(host), Some(port)) if bare && url.username().is_empty() => {
            Ok(format!("{}://{host}:{port}", url.scheme()))
        }
        _ => Err(odd()),
    }
}

/// As it stands in a header: long enough not to be guessed.
fn token(text: &str) -> Result<Password, Bad> {
    let good = |c: char| c.is_ascii_graphic();
    if text.len() < 16 || text.len() > 512 || !text.chars().all(good) {
        return Err(Bad::new(
            "it is no token",
            "Write 16 characters or more without blanks, for example: openssl rand -hex 32",
        ));
    }
    Ok(Password::new(text))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources};
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
        let pairs = [("HOME", "/nonexistent")].into_iter().chain(pairs.iter().copied());
        Config::load(Sources::from_pairs(pairs)).map(|config| config.serve)
    }

    #[test]
    fn it_listens_on_this_machine_unless_the_operator_says_otherwise() {
        let plain = with(&[]).unwrap();
        assert!(plain.listen.ip().is_loopback() && plain.metrics_token.is_none());
        assert!(with(&[("DRAIN_LISTEN", "[::1]:0")]).is_ok());
        for open in ["0.0.0.0:5858", "10.1.2.3:80", "[::]:1"] {
            let refused = with(&[("DRAIN_LISTEN", open)]).unwrap_err();
            assert!(refused.fix.contains("DRAIN_LISTEN_PUBLIC"), "{refused}");
            assert!(with(&[("DRAIN_LISTEN", open), ("DRAIN_LISTEN_PUBLIC", "on")]).is_ok(), "{open}");
        }
        for bad in ["off", "localhost", "example.com:5858", "127.0.0.1", "http://127.0.0.1:1"] {
            assert!(with(&[("DRAIN_LISTEN", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_origins_are_what_headers_hold() {
        let named = with(&[
            ("DRAIN_ALLOWED_HOSTS", "MCP.example.com, mcp.example.com:8443"),
            ("DRAIN_ALLOWED_ORIGINS", "https://app.example.com http://localhost:6274/"),
        ]);
        let named = named.unwrap();
        assert_eq!(named.allowed_hosts, ["mcp.example.com", "mcp.example.com:8443", "127.0.0.1"]);
        assert_eq!(named.allowed_origins, ["https://app.example.com:443", "http://localhost:6274"]);
        for bad in ["https://mcp.example.com", "a/b", "user@host", "*", "*.example.com"] {
            assert!(with(&[("DRAIN_ALLOWED_HOSTS", bad)]).is_err(), "{bad}");
        }
        for bad in ["app.example.com", "*", "null", "https://app.example.com/x", "ftp://x", "https://u@x"] {
            assert!(with(&[("DRAIN_ALLOWED_ORIGINS", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_metrics_token_is_long_and_never_shown() {
        let token = "0123456789abcdef-secret";
        let shown = format!("{:?}", with(&[("DRAIN_METRICS_TOKEN", token)]).unwrap());
        assert!(!shown.contains("secret\"") && !shown.contains(token), "{shown}");
        for bad in ["short", "with blanks in it and long", "é0123456789abcdef0"] {
            let refused = with(&[("DRAIN_METRICS_TOKEN", bad)]).unwrap_err();
            assert!(!refused.to_string().contains(bad), "{refused}");
        }
    }
}
