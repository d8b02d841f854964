//! A wallet's state, as its observer saw it last. Every look replaces all of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use drain_protocol::{Address, U256, Usdc};
use serde::{Deserialize, Serialize};

use super::families::FAMILIES;
use super::names;
use super::record::units;
use crate::policy::Pol;

static AGENT_LIMITS: Mutex<BTreeMap<String, Usdc>> = Mutex::new(BTreeMap::new());

/// Agents with a budget of their own, to be shown beside what they used; replaces those that were told before.
pub fn set_agent_limits(limits: BTreeMap<String, Usdc>) {
    *AGENT_LIMITS.lock().unwrap_or_else(PoisonError::into_inner) = limits;
}

/// What was told last.
pub(crate) fn agent_limits() -> BTreeMap<String, Usdc> {
    AGENT_LIMITS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The channels of one provider that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The provider's key: wallet and host.
    pub provider: String,
    /// Deposits.
    pub deposit: Usdc,
    /// What vouchers let it take.
    pub signed: Usdc,
    /// What requests cost.
    pub charged: Usdc,
    /// What it took.
    pub claimed: Usdc,
}

/// A limit and what counts against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    /// What it bounds: hour, day, provider, agent, newcomers or locked.
    pub scope: String,
    /// Whose it is; `all` where it is everybody's.
    pub name: String,
    /// The limit.
    pub limit: Usdc,
    /// What counts against it.
    pub used: Usdc,
    /// Of that, what is not known to be spent.
    pub reserved: Usdc,
}

/// What the journal says of a wallet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// How many channels are in each state.
    pub channels: Vec<(&'static str, u64)>,
    /// By provider, the highest deposits first.
    pub sums: Vec<Sums>,
    /// Limits that are everybody's, of providers (the most used first) and of agents (likewise).
    pub caps: Vec<Cap>,
    /// When the next open channel expires.
    pub next_expiry: Option<u64>,
    /// What expired channels hold beyond what was signed.
    pub reclaimable: Usdc,
    /// Questions that wait for a person.
    pub approvals: u64,
    /// Age of the oldest transaction on its way.
    pub oldest_transaction: Option<u64>,
}

/// What the chain says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Outside of channels.
    pub usdc: Usdc,
    /// For gas.
    pub pol: Pol,
    /// By contract.
    pub allowances: Vec<(Address, U256)>,
}

/// The part of a wallet in what is shown; with it goes what was shown.
#[derive(Debug)]
pub struct Shown(String);

impl Shown {
    /// Nothing yet.
    pub fn of(wallet: Address) -> Self {
        Self(names::wallet(wallet))
    }

    /// What the journal says now.
    pub fn books(&self, books: &Books) {
        let wallet = &self.0;
        let one = |value: u64| [([wallet.clone()], value)];
        FAMILIES
            .channels
            .replace(wallet, books.channels.iter().map(|(state, n)| ([wallet.clone(), (*state).into()], *n)));
        let sums = by_name(&books.sums);
        let part = |of: fn(&Sums) -> Usdc| {
            sums.iter().map(move |(name, sums)| ([wallet.clone(), name.clone()], units(of(sums)))).collect::<Vec<_>>()
        };
        FAMILIES.channel_deposit_usdc.replace(wallet, part(|sums| sums.deposit));
        FAMILIES.channel_signed_usdc.replace(wallet, part(|sums| sums.signed));
        FAMILIES.channel_charged_usdc.replace(wallet, part(|sums| sums.charged));
        FAMILIES.channel_claimed_usdc.replace(wallet, part(|sums| sums.claimed));
        FAMILIES.channel_overhang_usdc.replace(wallet, part(|sums| sums.signed.saturating_sub(sums.charged)));
        let next = books.next_expiry.map(|at| ([wallet.clone()], at));
        FAMILIES.channel_next_expiry_timestamp_seconds.replace(wallet, next);
        FAMILIES.reclaimable_usdc.replace(wallet, one(units(books.reclaimable)));
        let caps = named_caps(&books.caps);
        let part = |of: fn(&Cap) -> Usdc| {
            let labels = |cap: &Cap| [wallet.clone(), cap.scope.clone(), cap.name.clone()];
            caps.iter().map(move |cap| (labels(cap), units(of(cap)))).collect::<Vec<_>>()
        };
        FAMILIES.cap_limit_usdc.replace(wallet, part(|cap| cap.limit));
        FAMILIES.cap_used_usdc.replace(wallet, part(|cap| cap.used));
        FAMILIES.cap_reserved_usdc.replace(wallet, part(|cap| cap.reserved));
        FAMILIES.approvals_pending.replace(wallet, one(books.approvals));
        FAMILIES.transaction_oldest_pending_seconds.replace(wallet, one(books.oldest_transaction.unwrap_or_default()));
    }

    /// What the chain says now.
    pub fn holdings(&self, holdings: &Holdings) {
        let wallet = &self.0;
        FAMILIES.wallet_usdc.replace(wallet, [([wallet.clone()], units(holdings.usdc))]);
        FAMILIES.wallet_pol.replace(wallet, [([wallet.clone()], holdings.pol.gwei())]);
        let allowances = holdings.allowances.iter().map(|(contract, allowance)| {
            let allowance = u64::try_from(*allowance).unwrap_or(u64::MAX);
            ([wallet.clone(), names::wallet(*contract)], allowance)
        });
        FAMILIES.allowance_usdc.replace(wallet, allowances);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.books(&Books::default());
        // What an empty wallet would show as zero.
        for gauge in [
            &FAMILIES.reclaimable_usdc,
            &FAMILIES.approvals_pending,
            &FAMILIES.transaction_oldest_pending_seconds,
            &FAMILIES.wallet_usdc,
            &FAMILIES.wallet_pol,
        ] {
            gauge.replace(&self.0, []);
        }
        FAMILIES.allowance_usdc.replace(&self.0, []);
    }
}

/// By the name that is shown: the first ones, and the sum of all others. Given with the highest deposits first.
fn by_name(all: &[Sums]) -> BTreeMap<String, Sums> {
    let mut shown: BTreeMap<String, Sums> = BTreeMap::new();
    for sums in all {
        let name = names::provider(&sums.provider);
        let name = if shown.contains_key(&name) || shown.len() < names::MOST { name } else { names::OTHER.into() };
        let entry = shown.entry(name).or_default();
        entry.deposit = entry.deposit.saturating_add(sums.deposit);
        entry.signed = entry.signed.saturating_add(sums.signed);
        entry.charged = entry.charged.saturating_add(sums.charged);
        entry.claimed = entry.claimed.saturating_add(sums.claimed);
    }
    shown
}

/// The limits of the first ones of each kind. Limits of others do not add up: they are left out.
fn named_caps(all: &[Cap]) -> Vec<Cap> {
    let mut shown: BTreeMap<(String, String), Cap> = BTreeMap::new();
    for cap in all {
        let name = match &*cap.scope {
            "provider" => names::provider(&cap.name),
            _ => names::clean(&cap.name),
        };
        let known = shown.keys().filter(|(scope, _)| *scope == cap.scope).count();
        if known < names::MOST {
            shown.entry((cap.scope.clone(), name.clone())).or_insert_with(|| Cap { name, ..cap.clone() });
        }
    }
    shown.into_values().collect()
}
