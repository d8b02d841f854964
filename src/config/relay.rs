//! `drain-mcp` as a client of `drain-mcp serve`: which server, and as whom.

use std::time::Duration;

use reqwest::Url;

use super::error::{Bad, ConfigError};
use super::keys::Key;
use super::load::home;
use super::sources::{Layers, Sources};
use super::wallets::is_signer;
use super::{file, serve, values};
use crate::agents::token::Token;

/// The path of MCP on the server.
const PATH: &str = "/mcp";

/// Which server, as whom, and within which limits.
#[derive(Debug)]
pub struct RelayConfig {
    /// Where the server takes MCP: https, or http on this machine.
    pub url: Url,
    /// The agent's.
    pub token: Token,
    /// The largest message that is sent.
    pub max_body_bytes: usize,
    /// Requests under way at once.
    pub max_requests: usize,
    /// The longest that the server itself takes for a call.
    pub call_time: Duration,
    /// What is worth saying at start.
    pub warnings: Vec<String>,
}

impl RelayConfig {
    /// The settings of a process without a command, where a server is named. No key is read.
    ///
    /// # Errors
    /// Where one of URL and token is missing, or is none.
    pub fn load(sources: &Sources) -> Result<Option<Self>, ConfigError> {
        let (mut layers, mut warnings) = sources.layers()?;
        let mut signer = layers.layers.iter().find_map(key_of);
        let idle = without_effect(&layers);
        if let Some(parsed) = configured(sources, &mut layers)? {
            signer = signer.or_else(|| key_of(&parsed.layer));
            signer = signer.or_else(|| parsed.wallets.keys().next().map(|name| format!("[wallet.{name}]")));
            layers.layers.push(parsed.layer);
            warnings.extend(parsed.warnings);
        }
        let (url, token) = (Key::ServerUrl, Key::AgentToken);
        let (url, token) = match (layers.is_set(url), layers.is_set(token)) {
            (false, false) => return Ok(None),
            (true, false) => {
                return Err(missing(token, url, "Set it to the token that drain-mcp agents add showed"));
            }
            (false, true) => {
                return Err(missing(
                    url,
                    token,
                    "Set it to where drain-mcp serve is reached; for a wallet of this machine, unset the token",
                ));
            }
            (true, true) => (layers.get(url)?, layers.get(token)?),
        };
        let (Some(url), Some(token)) = (url, token) else { return Ok(None) };
        let settings = serve::settings(&mut layers)?;
        if let Some(key) = signer {
            warnings.push(format!(
                "{key} is not read: {} is set, and the server there pays; take the key away from here",
                Key::ServerUrl.spec().env
            ));
        }
        if !idle.is_empty() {
            // Above all a limit: whoever sets one here may rely on it.
            let (names, url) = (idle.join(", "), Key::ServerUrl.spec().env);
            warnings.push(format!(
                "without effect here: {names}; {url} is set, and the settings of the server there count"
            ));
        }
        warnings.append(&mut layers.warnings);
        Ok(Some(Self {
            url: url.parse(endpoint)?,
            token: token.parse(a_token)?,
            max_body_bytes: settings.max_body_bytes,
            max_requests: settings.max_requests,
            call_time: settings.call_time,
            warnings,
        }))
    }
}

/// What the configuration file says. A process that has neither a home nor a file named has none.
fn configured(sources: &Sources, layers: &mut Layers) -> Result<Option<file::Parsed>, ConfigError> {
    let names_one = sources.file.is_some() || layers.is_set(Key::ConfigFile) || layers.is_set(Key::Home);
    match home(layers) {
        Ok(home) => file::find(sources, layers, &home).map(Some),
        Err(_) if !names_one => Ok(None),
        Err(error) => Err(error),
    }
}

/// What flags and environment say that only a process with a wallet looks at.
fn without_effect(layers: &Layers) -> Vec<String> {
    let said = layers.layers.iter().flat_map(|layer| layer.values.iter().chain(&layer.files));
    let mut names: Vec<String> = said
        .filter(|(key, _)| !COUNTS.contains(key) && !NAMES_A_KEY.contains(key))
        .map(|(_, raw)| raw.name.clone())
        .collect();
    names.sort_unstable();
    names
}

/// Where a layer names a key that would sign.
fn key_of(layer: &super::sources::Layer) -> Option<String> {
    let names = |key: &Key| is_signer(*key) && NAMES_A_KEY.contains(key);
    layer.values.iter().chain(&layer.files).find(|(key, _)| names(key)).map(|(_, raw)| raw.name.clone())
}

/// Of `[signer]`, what names a key; the rest says how one is used.
const NAMES_A_KEY: [Key; 4] = [Key::PrivateKey, Key::Keystore, Key::KmsKeyId, Key::LedgerAddress];

/// What counts here.
const COUNTS: [Key; 10] = [
    Key::Home,
    Key::ConfigFile,
    Key::Log,
    Key::LogFormat,
    Key::LogContent,
    Key::ServerUrl,
    Key::AgentToken,
    Key::MaxBodyBytes,
    Key::MaxAgentRequests,
    Key::CallTime,
];

fn missing(this: Key, other: Key, fix: &str) -> ConfigError {
    Bad::new(format!("it is not set, and {} is", other.spec().env), fix).at(this.spec().env)
}

/// The address of MCP, whether the path of it is written or not.
fn endpoint(text: &str) -> Result<Url, Bad> {
    let mut url = values::plain_url(text)?;
    if url.scheme() != "https" && !values::is_loopback(&url) {
        return Err(Bad::new(
            "it is not encrypted, and the token would be read on the way",
            "Write an https URL; http is for a server on this machine",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Bad::new("it has a query or a fragment", "Write for example https://mcp.example.com"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&if path.ends_with(PATH) { path } else { path + PATH });
    Ok(url)
}

fn a_token(text: &str) -> Result<Token, Bad> {
    Token::parse(text).ok_or_else(|| {
        Bad::new("it is no token of drain-mcp agents add", "Write what that showed: drain_ and 43 characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: (&str, &str) = ("DRAIN_SERVER_URL", "https://mcp.example.com");
    const HOME: (&str, &str) = ("HOME", "/nonexistent");

    fn load(pairs: &[(&str, &str)]) -> Result<Option<RelayConfig>, ConfigError> {
        RelayConfig::load(&Sources::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn it_is_for_who_sets_both() {
        let token = Token::new();
        let token = ("DRAIN_AGENT_TOKEN", token.expose());
        assert!(load(&[HOME]).unwrap().is_none() && load(&[]).unwrap().is_none());
        let both = load(&[HOME, URL, token]).unwrap().unwrap();
        assert_eq!((both.url.as_str(), both.token.expose()), ("https://mcp.example.com/mcp", token.1));
        assert_eq!(both.warnings, Vec::<String>::new());
        assert!(!format!("{both:?}").contains(&token.1[6..]));
        // Clients hand over few variables.
        assert!(load(&[URL, token]).unwrap().is_some());
        assert_eq!(load(&[HOME, URL]).unwrap_err().name, "DRAIN_AGENT_TOKEN");
        assert_eq!(load(&[HOME, token]).unwrap_err().name, "DRAIN_SERVER_URL");
        let key = ("DRAIN_PRIVATE_KEY", "what is no key is not even looked at");
        let warned = load(&[HOME, URL, token, key, ("DRAIN_CALL_TIME", "5m")]).unwrap().unwrap().warnings;
        assert!(warned.len() == 1 && warned[0].starts_with("DRAIN_PRIVATE_KEY is not read"), "{warned:?}");
        // A limit that somebody may rely on.
        let warned = load(&[HOME, URL, token, ("DRAIN_MAX_PER_DAY", "1")]).unwrap().unwrap().warnings;
        assert!(warned.len() == 1 && warned[0].contains("without effect here: DRAIN_MAX_PER_DAY;"), "{warned:?}");
    }

    #[test]
    fn urls_are_encrypted_or_of_this_machine() {
        let token = Token::new();
        let at = |url: &str| load(&[HOME, ("DRAIN_SERVER_URL", url), ("DRAIN_AGENT_TOKEN", token.expose())]);
        for (url, meant) in [
            ("mcp.example.com", "https://mcp.example.com/mcp"),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
            ("https://example.com/drain/", "https://example.com/drain/mcp"),
            ("http://127.0.0.1:5858/mcp/", "http://127.0.0.1:5858/mcp"),
            ("http://localhost:5858", "http://localhost:5858/mcp"),
            ("http://[::1]:5858", "http://[::1]:5858/mcp"),
        ] {
            assert_eq!(at(url).unwrap().unwrap().url.as_str(), meant);
        }
        for bad in [
            "http://mcp.example.com",
            "http://10.0.0.1:5858",
            "https://ann:secret@mcp.example.com",
            "https://mcp.example.com/?token=secret",
            "ftp://mcp.example.com",
            "https://",
        ] {
            let refused = at(bad).unwrap_err();
            assert!(refused.name == "DRAIN_SERVER_URL" && !refused.to_string().contains("secret"), "{refused}");
        }
    }

    #[test]
    fn m12_a_token_that_is_none_is_not_repeated() {
        for bad in ["drain_x", "not-a-token-but-secret", &format!("drain_{}", "a".repeat(42))] {
            let refused = load(&[HOME, URL, ("DRAIN_AGENT_TOKEN", bad)]).unwrap_err();
            assert!(refused.name == "DRAIN_AGENT_TOKEN" && !refused.to_string().contains(bad), "{refused}");
        }
    }
}
