//! What an operator decides: defaults < file < environment < flags.
//!
//! [`keys`] is the table of everything that can be set; [`Config::load`] resolves it; `docs/configuration.md` is
//! written from it.

mod chain;
pub mod docs;
mod error;
mod file;
mod journal;
pub mod keys;
mod kms;
mod ledger;
mod load;
mod log;
mod nearest;
mod relay;
mod serve;
mod sources;
#[cfg(test)]
mod tests;
mod tools;
mod treasury;
mod values;
mod wallets;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, Deployment, Generation, Usdc};
use drain_signers::secret::Secret;
use drain_signers::{KmsSettings, LedgerSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub use error::ConfigError;
pub use journal::JournalConfig;
pub use keys::Key;
pub use log::{LogConfig, LogFormat};
pub use relay::RelayConfig;
pub use serve::{ServeConfig, agent_parties};
pub use sources::Sources;
pub use tools::Toolset;
pub use treasury::TreasuryConfig;
pub use values::{is_loopback, shown_url};
pub use wallets::DEFAULT as DEFAULT_WALLET;

use crate::policy::Limits;
use crate::policy::approvals::Via;
use crate::policy::refund::Settings;

/// Whether others than its owner can look into a file of ours, or change it. Where root owns it, a group may read it: that is
/// how orchestrators hand files to a process that is not root.
pub(crate) fn others_than_owner_can(meta: &std::fs::Metadata) -> bool {
    sources::is_loose(meta)
}

/// Everything that can be set, resolved and checked. Immutable while a runtime runs (M5).
#[derive(Debug)]
pub struct Config {
    /// Where lock, keystore, configuration file and, by default, the journal live.
    pub home: PathBuf,
    /// Where the journal lies, where that is not a file in `home`.
    pub journal: JournalConfig,
    /// The chain.
    pub chain: ChainConfig,
    /// Tempo's chain, where requests are paid over it too.
    pub tempo: Option<ChainConfig>,
    /// The marketplace.
    pub marketplace: MarketplaceConfig,
    /// The wallet's name, where there are several.
    pub wallet: String,
    /// Which key, if any.
    pub signer: SignerConfig,
    /// Only where a person presses for each signature: a tool call that still waits after so long is answered, and goes on.
    pub device_wait: Option<Duration>,
    /// Where the operator's own money is, if it is named.
    pub treasury: Option<TreasuryConfig>,
    /// The agent's name, for its budget and its records.
    pub agent: String,
    /// Which tools MCP clients are given.
    pub tools: Toolset,
    /// What only a person raises.
    pub limits: Arc<Limits>,
    /// How a person is asked.
    pub approvals: ApprovalConfig,
    /// Who is told of events.
    pub notify: NotifyConfig,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// When unspent money comes back by itself.
    pub refunds: RefundConfig,
    /// How requests to providers behave.
    pub requests: RequestConfig,
    /// Providers that a person listed, beside the directory's.
    pub providers: Vec<ListedProvider>,
    /// What the fleet's server listens on.
    pub serve: ServeConfig,
    /// Everything here is play money: every answer says so.
    pub play_money: bool,
    /// Unknown keys of the file and other things worth saying at start.
    pub warnings: Vec<String>,
}

/// The chain and how it is reached.
#[derive(Clone)]
pub struct ChainConfig {
    /// 137 by default.
    pub chain_id: u64,
    /// In order of preference. Only these are contacted. May hold credentials: never shown whole (M12).
    pub rpc_urls: Vec<reqwest::Url>,
    /// The contracts that count on this chain: the built-in table, or the operator's own (M8).
    pub deployments: Vec<Deployment>,
    /// The generation to use whatever providers say; `None` asks them (design section 6).
    pub generation: Option<Generation>,
    /// Longest wait for one RPC answer.
    pub rpc_timeout: Duration,
    /// Blocks on top of a transaction before it is final, where the node knows no `finalized` block.
    pub confirmations: u64,
    /// How often head and events are read while channels are open.
    pub poll_interval: Duration,
    /// How long an open, approve or close waits for finality before it answers "pending".
    pub transaction_timeout: Duration,
    /// How long a transaction may stay unmined before it is replaced in its slot with a higher fee (M7).
    pub replace_after: Duration,
}

/// The marketplace.
#[derive(Clone)]
pub struct MarketplaceConfig {
    /// The catalogue, as the operator spelled it or the default.
    pub directory_url: reqwest::Url,
    /// Base of config, channel status, gas station, telemetry and feedback.
    pub base_url: reqwest::Url,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Age up to which a catalogue is served without asking again.
    pub max_age: Duration,
    /// Send latency, status and cost of paid requests to the marketplace. Off by default.
    pub telemetry: bool,
}

/// Which key signs.
#[derive(Debug)]
pub enum SignerConfig {
    /// None: discovery and docs work.
    None,
    /// A private key from environment or file.
    Local(Secret),
    /// An encrypted keystore.
    Keystore {
        /// The JSON file.
        path: PathBuf,
        /// Where its password comes from; without one it is asked for on a terminal.
        password: Option<PasswordFrom>,
    },
    /// A key in AWS KMS. Only in builds with the feature `aws`.
    AwsKms(KmsSettings),
    /// A key in a Ledger device. Only in builds with the feature `ledger`.
    Ledger(LedgerSettings),
}

/// How a person is asked (M5). Above which amounts is [`Limits::approve`].
#[derive(Debug, Clone)]
pub struct ApprovalConfig {
    /// Ways by which an answer counts.
    pub via: Vec<Via>,
    /// How long a call waits for one.
    pub wait: Duration,
    /// How long a question can be answered and a yes be used.
    pub valid: Duration,
}

/// Who is told of events. Both may hold credentials: never shown.
#[derive(Clone, Default)]
pub struct NotifyConfig {
    /// Run by a shell, with the event on its standard input.
    pub command: Option<String>,
    /// Posted to.
    pub webhook: Option<reqwest::Url>,
}

impl fmt::Debug for NotifyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifyConfig")
            .field("command", &self.command.is_some())
            .field("webhook", &self.webhook.as_ref().map(shown_url))
            .finish()
    }
}

/// When unspent money comes back by itself (M10).
#[derive(Debug, Clone, Copy)]
pub struct RefundConfig {
    /// Whether this process closes channels by itself: one that serves does, a command that does one thing does not.
    pub automatic: bool,
    /// The operator's word.
    pub settings: Settings,
}

/// How requests to providers behave.
#[derive(Debug, Clone, Copy)]
pub struct RequestConfig {
    /// max_tokens of a request that names none. Without it every bound would be a whole context window.
    pub default_max_tokens: u32,
    /// What a request may cost where the price is not by token and the caller names no maxCost.
    pub default_max_cost: Usdc,
    /// Longest wait for a provider's whole answer.
    pub timeout: Duration,
    /// Answers of LLMs are asked for as a stream where somebody listens.
    pub stream: bool,
    /// Largest answer.
    pub max_answer_bytes: usize,
    /// Largest conversation that is sent.
    pub max_request_bytes: usize,
    /// Requests that may wait on one channel.
    pub queue: usize,
    /// How long a caller's own name for a request counts.
    pub request_id_time: Duration,
    /// Which answers are kept.
    pub keep: Keep,
    /// Highest rise of a pinned price that needs no person, in percent.
    pub price_tolerance_percent: u32,
    /// http and private addresses are allowed although the directory is not on loopback (M14).
    pub allow_insecure: bool,
    /// How long a new channel is open when nobody says.
    pub default_duration: ChannelDuration,
}

/// Which paid answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// For how long; zero keeps none.
    pub time: Duration,
    /// How many bytes of them.
    pub bytes: u64,
}

/// A provider that a person listed in the configuration.
#[derive(Clone)]
pub struct ListedProvider {
    /// Its id.
    pub id: String,
    /// Where it is reached.
    pub api_url: reqwest::Url,
    /// Its wallet.
    pub wallet: Address,
    /// Its category.
    pub category: String,
}

/// Where a keystore's password comes from.
#[derive(Clone)]
pub enum PasswordFrom {
    /// The operator set it, in a variable or in a file.
    Given(Password),
    /// A shell command writes it: an operating system's keyring. May hold credentials: never shown.
    Command(String),
}

impl fmt::Debug for PasswordFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "[secret]",
            Self::Command(_) => "[command]",
        })
    }
}

/// A keystore's password. Erased on drop; shows nothing of itself.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password; the caller erases the text.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_string()))
    }

    /// The text, for the keystore. Never log, store or send it (M12).
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Over the socket to the process that holds the wallet, and nowhere else.
impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainConfig")
            .field("chain_id", &self.chain_id)
            .field("rpc_urls", &self.rpc_urls.iter().map(shown_url).collect::<Vec<_>>())
            .field("deployments", &self.deployments)
            .field("generation", &self.generation)
            .field("rpc_timeout", &self.rpc_timeout)
            .field("confirmations", &self.confirmations)
            .field("poll_interval", &self.poll_interval)
            .field("transaction_timeout", &self.transaction_timeout)
            .field("replace_after", &self.replace_after)
            .finish()
    }
}

impl fmt::Debug for MarketplaceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarketplaceConfig")
            .field("directory_url", &shown_url(&self.directory_url))
            .field("base_url", &shown_url(&self.base_url))
            .field("timeout", &self.timeout)
            .field("max_age", &self.max_age)
            .field("telemetry", &self.telemetry)
            .finish()
    }
}

impl fmt::Debug for ListedProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedProvider")
            .field("id", &self.id)
            .field("api_url", &shown_url(&self.api_url))
            .field("wallet", &self.wallet)
            .field("category", &self.category)
            .finish()
    }
}
