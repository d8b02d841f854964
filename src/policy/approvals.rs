//! When a person is asked, and what a person's yes covers (M5).

use std::fmt;

use drain_protocol::duration::ChannelDuration;
use drain_protocol::text::quoted;
use drain_protocol::{Address, B256, Usdc};
use serde::{Deserialize, Serialize};

/// Above which amounts a person is asked. `None` never asks: the limits alone count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// The most that a request may cost without being asked for. `DRAIN_APPROVE_REQUESTS_ABOVE`.
    pub request: Option<Usdc>,
    /// The largest deposit that is locked without being asked for. `DRAIN_APPROVE_DEPOSITS_ABOVE`.
    pub deposit: Option<Usdc>,
}

/// What is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalKind {
    /// One request; the amount is the most that it can cost.
    Request,
    /// A deposit for a new channel.
    Deposit,
}

/// Exactly what a person says yes or no to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What is paid.
    pub kind: ApprovalKind,
    /// Who asks.
    pub agent: String,
    /// The provider's id in the directory.
    pub provider_id: String,
    /// Its name (untrusted).
    pub provider_name: String,
    /// Who is paid.
    pub wallet: Address,
    /// Where it is reached.
    pub host: String,
    /// On which chain.
    pub chain_id: u64,
    /// The channel contract.
    pub contract: Address,
    /// How much at most.
    pub amount: Usdc,
    /// How long a deposit is locked, in seconds; zero for a request.
    pub duration: u64,
    /// Hash of the provider's pinned prices; of a request without a channel that of what is sent.
    pub prices: B256,
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// By which way a person answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// `drain-mcp approvals` with the operator's passphrase.
    Terminal,
    /// The MCP client asked its person.
    Elicitation,
}

impl Via {
    /// Its name, as the configuration spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Elicitation => "elicitation",
        }
    }
}

impl Thresholds {
    /// Whether a person must say yes to this amount.
    pub fn needs_person(&self, kind: ApprovalKind, amount: Usdc) -> bool {
        let threshold = match kind {
            ApprovalKind::Request => self.request,
            ApprovalKind::Deposit => self.deposit,
        };
        threshold.is_some_and(|threshold| amount > threshold)
    }

    /// The lower of both, each: for a client with tighter limits.
    pub fn tightened(&self, other: &Self) -> Self {
        let lower = |a: Option<Usdc>, b: Option<Usdc>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        };
        Self { request: lower(self.request, other.request), deposit: lower(self.deposit, other.deposit) }
    }
}

impl Subject {
    /// Whether a yes to this covers `wanted`: the same parties, contract and prices, not more money, not longer.
    pub fn covers(&self, wanted: &Self) -> bool {
        let same = Self { amount: wanted.amount, duration: wanted.duration, ..self.clone() };
        // A name is for people; it may change.
        let same = Self { provider_name: wanted.provider_name.clone(), ..same };
        same == *wanted && wanted.amount <= self.amount && wanted.duration <= self.duration
    }
}

impl fmt::Display for Subject {
    /// In one sentence: what is signed, to whom, and what it may cost at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (agent, provider_name) = (quoted(&self.agent, 60), quoted(&self.provider_name, 60));
        let Self { wallet, host, amount, duration, contract, .. } = self;
        match self.kind {
            ApprovalKind::Request => {
                write!(
                    f,
                    "agent {agent} pays {provider_name} ({host}, wallet {wallet}) at most {amount} USDC for one request"
                )
            }
            ApprovalKind::Deposit => {
                let time =
                    ChannelDuration::from_seconds(*duration).map_or_else(|_| format!("{duration}s"), |d| d.to_string());
                write!(
                    f,
                    "agent {agent} locks {amount} USDC for {provider_name} ({host}, wallet {wallet}) in the contract {contract} for {time}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deposit of two USDC.
    fn subject() -> Subject {
        Subject {
            kind: ApprovalKind::Deposit,
            agent: "ann".into(),
            provider_id: "p".into(),
            provider_name: "P".into(),
            wallet: Address::repeat_byte(1),
            host: "p.example".into(),
            chain_id: 137,
            contract: Address::repeat_byte(2),
            amount: Usdc::new(2_000_000),
            duration: 3_600,
            prices: B256::repeat_byte(3),
        }
    }

    #[test]
    fn a_person_is_asked_above_the_threshold_only() {
        let thresholds = Thresholds { request: Some(Usdc::new(100)), deposit: None };
        assert!(!thresholds.needs_person(ApprovalKind::Request, Usdc::new(100)));
        assert!(thresholds.needs_person(ApprovalKind::Request, Usdc::new(101)));
        assert!(!thresholds.needs_person(ApprovalKind::Deposit, Usdc::MAX));
        let other = Thresholds { request: Some(Usdc::new(50)), deposit: Some(Usdc::new(7)) };
        assert_eq!(thresholds.tightened(&other), other);
        assert_eq!(Thresholds::default().tightened(&Thresholds::default()), Thresholds::default());
    }

    #[test]
    fn m5_a_yes_covers_nothing_else() {
        let granted = subject();
        assert!(granted.covers(&granted));
        assert!(granted.covers(&Subject {
            amount: Usdc::new(1),
            duration: 60,
            provider_name: "Q".into(),
            ..subject()
        }));
        for other in [
            Subject { kind: ApprovalKind::Request, ..subject() },
            Subject { agent: "bob".into(), ..subject() },
            Subject { provider_id: "q".into(), ..subject() },
            Subject { wallet: Address::repeat_byte(9), ..subject() },
            Subject { host: "q.example".into(), ..subject() },
            Subject { chain_id: 80_002, ..subject() },
            Subject { contract: Address::repeat_byte(9), ..subject() },
            Subject { amount: Usdc::new(2_000_001), ..subject() },
            Subject { duration: 3_601, ..subject() },
            Subject { prices: B256::repeat_byte(9), ..subject() },
        ] {
            assert!(!granted.covers(&other), "{other:?}");
        }
    }

    #[test]
    fn one_sentence_says_it_all() {
        let text = subject().to_string();
        for part in ["ann", "locks 2.00 USDC", "p.example", "0x0101010101010101010101010101010101010101", "1h"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = Subject { kind: ApprovalKind::Request, ..subject() }.to_string();
        assert!(text.contains("at most 2.00 USDC for one request"), "{text}");
    }
}
