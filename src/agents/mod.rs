//! The agents of a fleet: who may call `drain-mcp serve`, by which token, on which wallet, within which limits.
//!
//! `DRAIN_HOME/agents.toml` is the whole record ([`book`]); `drain-mcp agents` writes it, `serve` reads it again when it
//! changed ([`reader`]). What an agent may do only tightens what its wallet's operator allows (M5).

pub mod book;
mod file;
pub mod reader;
pub mod token;

use drain_protocol::Usdc;
use serde::{Deserialize, Serialize};

use crate::config::Toolset;
use crate::policy::Limits;
use crate::policy::limits::Parties;
use token::TokenHash;

/// Agents that one file may hold: each request is compared with all of them.
pub const MOST: usize = 1_000;

/// One agent, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The wallet that pays for it, by its name in the configuration.
    pub wallet: String,
    /// What is kept of its token.
    #[serde(with = "text")]
    pub token_sha256: TokenHash,
    /// When it was made, in RFC 3339.
    pub created_at: String,
    /// The most USDC newly signed for it in any 24 hours.
    pub budget: Usdc,
    /// The most that one of its requests may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_request: Option<Usdc>,
    /// The most that the vouchers of one of its channels may reach, and its highest deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_channel: Option<Usdc>,
    /// What one of its requests may lock by itself in a new channel; it never raises its wallet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_open: Option<Usdc>,
    /// Which tools it is given; never more than the server gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Toolset>,
    /// It pays these providers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_providers: Option<Vec<String>>,
    /// It never pays these providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_providers: Vec<String>,
    /// It pays providers of these categories only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_categories: Option<Vec<String>>,
    /// It never pays providers of these categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny_categories: Vec<String>,
    /// It shares channels with other agents of its wallet that do so too.
    #[serde(default, skip_serializing_if = "is_off")]
    pub share_channels: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_off(switch: &bool) -> bool {
    !*switch
}

impl Agent {
    /// The wallet's limits as they count for this agent: each the tighter of both (M5).
    pub fn limits(&self, wallet: &Limits) -> Limits {
        wallet.tightened(&Limits {
            per_agent: self.budget,
            per_request: self.max_per_request.unwrap_or(wallet.per_request),
            per_channel: self.max_per_channel.unwrap_or(wallet.per_channel),
            auto_open: self.auto_open.or(wallet.auto_open),
            parties: Parties {
                allow_providers: self.allow_providers.clone(),
                deny_providers: self.deny_providers.clone(),
                allow_categories: self.allow_categories.clone(),
                deny_categories: self.deny_categories.clone(),
            },
            ..wallet.clone()
        })
    }
}

/// A value as its text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing {
    use super::*;

    /// An agent that nothing more is said of.
    pub(crate) fn agent(token: &token::Token) -> Agent {
        Agent {
            wallet: "default".into(),
            token_sha256: token.hash(),
            created_at: "2026-11-26T00:00:00Z".into(),
            budget: "5".parse().unwrap(),
            max_per_request: None,
            max_per_channel: None,
            auto_open: None,
            tools: None,
            allow_providers: None,
            deny_providers: vec![],
            allow_categories: None,
            deny_categories: vec![],
            share_channels: false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn usdc(text: &str) -> Usdc {
        text.parse().unwrap()
    }

    /// M5: whatever the file says, an agent never gets more than its wallet's operator allows.
    #[test]
    fn m5_an_agents_limits_only_tighten() {
        let wallet = Config::load(Sources::from_pairs([("HOME", "/nonexistent"), ("DRAIN_DENY_PROVIDERS", "bad")]));
        let wallet = wallet.unwrap().limits.as_ref().clone();
        let plain = testing::agent(&token::Token::new());
        assert_eq!(plain.limits(&wallet), Limits { per_agent: usdc("5"), ..wallet.clone() });

        let greedy = Agent {
            budget: usdc("1000"),
            max_per_request: Some(usdc("1000")),
            max_per_channel: Some(usdc("1000")),
            ..plain.clone()
        };
        assert_eq!(greedy.limits(&wallet), wallet);

        assert_eq!(Agent { auto_open: Some(usdc("1")), ..plain.clone() }.limits(&wallet).auto_open, None);
        let opens = Limits { auto_open: Some(usdc("1")), ..wallet.clone() };
        assert_eq!(plain.limits(&opens).auto_open, opens.auto_open);
        for (own, counts) in [("0.5", "0.5"), ("2", "1")] {
            let agent = Agent { auto_open: Some(usdc(own)), ..plain.clone() };
            assert_eq!(agent.limits(&opens).auto_open, Some(usdc(counts)));
        }

        let modest = Agent {
            max_per_request: Some(usdc("0.01")),
            max_per_channel: Some(usdc("0.5")),
            allow_providers: Some(vec!["good".into()]),
            deny_providers: vec!["worse".into()],
            deny_categories: vec!["image".into()],
            ..plain
        };
        let limits = modest.limits(&wallet);
        assert_eq!((limits.per_request, limits.per_channel), (usdc("0.01"), usdc("0.5")));
        assert_eq!(limits.parties.allow_providers, Some(vec!["good".into()]));
        assert_eq!(limits.parties.deny_providers, ["bad", "worse"]);
        assert_eq!(limits.parties.deny_categories, ["image"]);
    }
}
