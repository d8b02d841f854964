//! What only a person raises (M5): the upper bounds on money, and whom it may go to at all.

use std::fmt;

use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, Usdc};
use serde::{Deserialize, Serialize};

use super::Pol;
use super::approvals::Thresholds;

/// The operator's limits. Each bounds what is newly signed or locked; none is ever raised by a tool (M5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most that one request may cost. `DRAIN_MAX_PER_REQUEST`.
    pub per_request: Usdc,
    /// The most that one payment without a channel (MPP, x402) may be. `DRAIN_MPP_MAX_DEPOSIT`.
    pub per_payment: Usdc,
    /// Hosts that a person allowed to be paid without a channel, lower case; what the directory lists is allowed beside them,
    /// and any other is a question for a person. `DRAIN_PAY_HOSTS`.
    pub pay_hosts: Vec<String>,
    /// Highest amount that vouchers of one channel may reach, and the highest deposit (M3). `DRAIN_MAX_PER_CHANNEL`.
    pub per_channel: Usdc,
    /// The most newly signed in any hour. `DRAIN_MAX_PER_HOUR`.
    pub per_hour: Usdc,
    /// The most newly signed in any 24 hours. `DRAIN_MAX_PER_DAY`.
    pub per_day: Usdc,
    /// The same for one provider, by wallet and host. `DRAIN_MAX_PER_PROVIDER`.
    pub per_provider: Usdc,
    /// The same for one agent. `DRAIN_MAX_PER_AGENT`.
    pub per_agent: Usdc,
    /// The same for all providers without history together. `DRAIN_MAX_NEWCOMERS`.
    pub newcomers: Usdc,
    /// Highest sum of deposits in open channels, and of the allowance (M9). `DRAIN_MAX_LOCKED`.
    pub locked: Usdc,
    /// Channels that may be open at once. `DRAIN_MAX_OPEN_CHANNELS`.
    pub open_channels: u32,
    /// Channels that may be opened in any hour. `DRAIN_MAX_OPENS_PER_HOUR`.
    pub opens_per_hour: u32,
    /// An allowance without bound, by the operator's explicit word (M9).
    pub unlimited_allowance: bool,
    /// Highest V1 session fee. `DRAIN_MAX_SESSION_FEE`.
    pub session_fee: Usdc,
    /// The longest that a channel's deposit may be locked. `DRAIN_MAX_DURATION`.
    pub max_duration: ChannelDuration,
    /// The most gas money for one transaction. `DRAIN_MAX_GAS_PER_TRANSACTION`.
    pub gas_per_transaction: Pol,
    /// The most gas money in any 24 hours; closes, which bring money back, are exempt. `DRAIN_MAX_GAS_PER_DAY`.
    pub gas_per_day: Pol,
    /// Whom money may go to.
    pub parties: Parties,
    /// Above which amounts a person is asked.
    pub approve: Thresholds,
    /// What a paid request may lock by itself in a new channel; `None` is nothing. `DRAIN_AUTO_OPEN`.
    #[serde(default)]
    pub auto_open: Option<Usdc>,
    /// Nothing more is promised; what brings money back goes on. `DRAIN_FREEZE`.
    pub frozen: bool,
}

impl Limits {
    /// The tighter of both, limit by limit: what counts for a client that shares another process' runtime (M5).
    pub fn tightened(&self, other: &Self) -> Self {
        Self {
            per_request: self.per_request.min(other.per_request),
            per_payment: self.per_payment.min(other.per_payment),
            pay_hosts: self.pay_hosts.iter().filter(|host| other.pay_hosts.contains(host)).cloned().collect(),
            per_channel: self.per_channel.min(other.per_channel),
            per_hour: self.per_hour.min(other.per_hour),
            per_day: self.per_day.min(other.per_day),
            per_provider: self.per_provider.min(other.per_provider),
            per_agent: self.per_agent.min(other.per_agent),
            newcomers: self.newcomers.min(other.newcomers),
            locked: self.locked.min(other.locked),
            open_channels: self.open_channels.min(other.open_channels),
            opens_per_hour: self.opens_per_hour.min(other.opens_per_hour),
            unlimited_allowance: self.unlimited_allowance && other.unlimited_allowance,
            session_fee: self.session_fee.min(other.session_fee),
            max_duration: self.max_duration.min(other.max_duration),
            gas_per_transaction: self.gas_per_transaction.min(other.gas_per_transaction),
            gas_per_day: self.gas_per_day.min(other.gas_per_day),
            parties: self.parties.tightened(&other.parties),
            approve: self.approve.tightened(&other.approve),
            auto_open: self.auto_open.zip(other.auto_open).map(|(one, other)| one.min(other)),
            frozen: self.frozen || other.frozen,
        }
    }
}

impl fmt::Display for Limits {
    /// One line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frozen {
            f.write_str("FROZEN (DRAIN_FREEZE): nothing is paid or opened; ")?;
        }
        let Self {
            per_request, per_channel, per_hour, per_day, per_provider, newcomers, locked, open_channels, ..
        } = self;
        write!(
            f,
            "at most {per_request} USDC a request, {per_channel} a channel, {per_hour} an hour, {per_day} a day, of that {per_provider} \
             for one provider and {newcomers} for providers without history; {locked} locked in {open_channels} channels; {} POL of gas a day",
            self.gas_per_day
        )
    }
}

/// A provider as the lists know it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its id in the directory.
    pub id: &'a str,
    /// Its wallet.
    pub wallet: Address,
    /// The host of its URL.
    pub host: &'a str,
    /// Its category.
    pub category: &'a str,
}

/// Why a provider may not be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// It is on the operator's list of those who are not paid.
    DeniedProvider,
    /// The operator allows some providers only, and it is none of them.
    NotAnAllowedProvider,
    /// Its category is not paid.
    DeniedCategory,
    /// The operator allows some categories only.
    NotAnAllowedCategory,
}

impl NotAllowed {
    /// The variable that a person would change.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::DeniedProvider => "DRAIN_DENY_PROVIDERS",
            Self::NotAnAllowedProvider => "DRAIN_ALLOW_PROVIDERS",
            Self::DeniedCategory => "DRAIN_DENY_CATEGORIES",
            Self::NotAnAllowedCategory => "DRAIN_ALLOW_CATEGORIES",
        }
    }
}

/// Whom money may go to: names of providers are ids, wallets or hosts. Nothing allowed by name means everybody. Lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// Only these.
    pub allow_providers: Option<Vec<String>>,
    /// Never these.
    pub deny_providers: Vec<String>,
    /// Only these categories.
    pub allow_categories: Option<Vec<String>>,
    /// Never these categories.
    pub deny_categories: Vec<String>,
}

impl Parties {
    /// Whether a provider may be paid at all.
    pub fn check(&self, party: Party<'_>) -> Result<(), NotAllowed> {
        let wallet = format!("{:#x}", party.wallet);
        let is_there = |name: &String| name.eq_ignore_ascii_case(&wallet) || name.eq_ignore_ascii_case(party.host);
        let is_provider = |name: &String| name.eq_ignore_ascii_case(party.id) || is_there(name);
        // A listing may call itself by another one's host or wallet: that allows it nothing.
        let is_allowed = |name: &String| if is_place(name) { is_there(name) } else { is_provider(name) };
        let is_category = |name: &String| name.eq_ignore_ascii_case(party.category);
        if self.deny_providers.iter().any(is_provider) {
            return Err(NotAllowed::DeniedProvider);
        }
        if self.allow_providers.as_ref().is_some_and(|only| !only.iter().any(is_allowed)) {
            return Err(NotAllowed::NotAnAllowedProvider);
        }
        if self.deny_categories.iter().any(is_category) {
            return Err(NotAllowed::DeniedCategory);
        }
        if self.allow_categories.as_ref().is_some_and(|only| !only.iter().any(is_category)) {
            return Err(NotAllowed::NotAnAllowedCategory);
        }
        Ok(())
    }

    /// The same before it is known whom it asks to pay: what only a wallet would allow is asked again then.
    pub fn check_before_payee(&self, party: Party<'_>) -> Result<(), NotAllowed> {
        match self.check(party) {
            Err(NotAllowed::NotAnAllowedProvider) if self.names_a_wallet() => Ok(()),
            checked => checked,
        }
    }

    fn names_a_wallet(&self) -> bool {
        self.allow_providers.iter().flatten().any(|name| name.parse::<Address>().is_ok())
    }

    /// Whether a person named those that may be paid: only among them a provider is chosen for an agent. A list that names
    /// nobody chooses nobody.
    pub fn names_whom(&self) -> bool {
        self.allow_providers.as_ref().is_some_and(|names| !names.is_empty())
    }

    fn tightened(&self, other: &Self) -> Self {
        let both = |a: &[String], b: &[String]| a.iter().chain(b).cloned().collect();
        // Names in both lists: one list may name a provider by id and the other by host, which then allows it no more.
        let common = |a: &Option<Vec<String>>, b: &Option<Vec<String>>| match (a, b) {
            (Some(a), Some(b)) => Some(a.iter().filter(|name| b.contains(name)).cloned().collect()),
            (only, None) | (None, only) => only.clone(),
        };
        Self {
            allow_providers: common(&self.allow_providers, &other.allow_providers),
            deny_providers: both(&self.deny_providers, &other.deny_providers),
            allow_categories: common(&self.allow_categories, &other.allow_categories),
            deny_categories: both(&self.deny_categories, &other.deny_categories),
        }
    }
}

/// Whether a name is a wallet or a host of the internet, and so can be no id.
fn is_place(name: &str) -> bool {
    let top = name.rsplit_once('.').map(|(_, top)| top);
    name.parse::<Address>().is_ok() || top.is_some_and(|top| top.len() > 1 && top.chars().all(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTY: Party<'static> =
        Party { id: "sim-LLM", wallet: Address::repeat_byte(0xab), host: "llm.example", category: "llm" };

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn providers_are_named_by_id_wallet_or_host() {
        for name in [
            "sim-llm",
            "0xabababababababababababababababababababab",
            "0xABababABABABABABABABABABABABABABABABABAB",
            "llm.example",
        ] {
            let deny = Parties { deny_providers: names(&[name]), ..Parties::default() };
            assert_eq!(deny.check(PARTY), Err(NotAllowed::DeniedProvider), "{name}");
            let allow = Parties { allow_providers: Some(names(&[name])), ..Parties::default() };
            assert_eq!(allow.check(PARTY), Ok(()), "{name}");
        }
        let other = Parties { allow_providers: Some(names(&["other"])), ..Parties::default() };
        assert_eq!(other.check(PARTY), Err(NotAllowed::NotAnAllowedProvider));
        // M5: an id is the listing's own word; it is no place.
        for id in ["api.good.com", "0xcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"] {
            let (allow, posing) = (Some(names(&[id])), Party { id, ..PARTY });
            let allow = Parties { allow_providers: allow, ..Parties::default() };
            assert_eq!(allow.check(posing), Err(NotAllowed::NotAnAllowedProvider), "{id}");
            let deny = Parties { deny_providers: names(&[id]), ..Parties::default() };
            assert_eq!(deny.check(posing), Err(NotAllowed::DeniedProvider), "{id}");
        }
    }

    #[test]
    fn categories_are_allowed_or_denied() {
        let deny = Parties { deny_categories: names(&["LLM"]), ..Parties::default() };
        assert_eq!(deny.check(PARTY), Err(NotAllowed::DeniedCategory));
        let allow = Parties { allow_categories: Some(names(&["image"])), ..Parties::default() };
        assert_eq!(allow.check(PARTY), Err(NotAllowed::NotAnAllowedCategory));
        assert_eq!(Parties::default().check(PARTY), Ok(()));
    }

    #[test]
    fn two_lists_together_are_the_tighter_ones() {
        let one = Parties {
            allow_providers: Some(names(&["sim-llm", "x"])),
            deny_categories: names(&["image"]),
            ..Parties::default()
        };
        let other = Parties { allow_providers: Some(names(&["x", "y"])), ..Parties::default() };
        let both = one.tightened(&other);
        assert_eq!(both.allow_providers, Some(names(&["x"])));
        assert_eq!(both.deny_categories, names(&["image"]));
        assert_eq!(Parties::default().tightened(&other).allow_providers, other.allow_providers);
    }
}
