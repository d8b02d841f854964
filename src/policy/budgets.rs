//! Budgets: whether a voucher, a deposit or a transaction still fits under the operator's limits (M3, M4, M9).
//!
//! A budget is charged when `signed` grows, by that growth (design section 4): what an earlier voucher signed too much is
//! charged already, and no answer of a provider releases anything.

use std::fmt;

use drain_protocol::Usdc;

use super::{Limits, Pol};

/// A limit, by the variable that a person would raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// What one request may cost.
    PerRequest,
    /// What one payment without a channel may be.
    PerPayment,
    /// Newly signed in an hour.
    PerHour,
    /// Newly signed in 24 hours.
    PerDay,
    /// For one provider in 24 hours.
    PerProvider,
    /// For one agent in 24 hours.
    PerAgent,
    /// For providers without history in 24 hours.
    Newcomers,
    /// Deposits in open channels.
    Locked,
    /// Channels open at once.
    OpenChannels,
    /// Channels opened in an hour.
    OpensPerHour,
    /// Gas money of one transaction.
    GasPerTransaction,
    /// Gas money in 24 hours.
    GasPerDay,
}

impl Rule {
    /// The variable that sets the limit.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::PerRequest => "DRAIN_MAX_PER_REQUEST",
            Self::PerPayment => "DRAIN_MPP_MAX_DEPOSIT",
            Self::PerHour => "DRAIN_MAX_PER_HOUR",
            Self::PerDay => "DRAIN_MAX_PER_DAY",
            Self::PerProvider => "DRAIN_MAX_PER_PROVIDER",
            Self::PerAgent => "DRAIN_MAX_PER_AGENT",
            Self::Newcomers => "DRAIN_MAX_NEWCOMERS",
            Self::Locked => "DRAIN_MAX_LOCKED",
            Self::OpenChannels => "DRAIN_MAX_OPEN_CHANNELS",
            Self::OpensPerHour => "DRAIN_MAX_OPENS_PER_HOUR",
            Self::GasPerTransaction => "DRAIN_MAX_GAS_PER_TRANSACTION",
            Self::GasPerDay => "DRAIN_MAX_GAS_PER_DAY",
        }
    }

    /// Its name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerRequest => "per_request",
            Self::PerPayment => "per_payment",
            Self::PerHour => "per_hour",
            Self::PerDay => "per_day",
            Self::PerProvider => "per_provider",
            Self::PerAgent => "per_agent",
            Self::Newcomers => "newcomers",
            Self::Locked => "locked",
            Self::OpenChannels => "open_channels",
            Self::OpensPerHour => "opens_per_hour",
            Self::GasPerTransaction => "gas_per_transaction",
            Self::GasPerDay => "gas_per_day",
        }
    }

    /// What it bounds, for a reader.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::PerRequest => "for one request",
            Self::PerPayment => "for one payment without a channel",
            Self::PerHour => "newly signed in an hour",
            Self::PerDay => "newly signed in 24 hours",
            Self::PerProvider => "newly signed for one provider in 24 hours",
            Self::PerAgent => "newly signed for one agent in 24 hours",
            Self::Newcomers => "newly signed in 24 hours for all providers without history together",
            Self::Locked => "locked in open channels",
            Self::OpenChannels => "open channels",
            Self::OpensPerHour => "channels opened in an hour",
            Self::GasPerTransaction => "of gas for one transaction",
            Self::GasPerDay => "of gas in 24 hours",
        }
    }
}

/// How much of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// USDC.
    Usdc(Usdc),
    /// Gas money.
    Gas(Pol),
    /// Channels.
    Count(u32),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usdc(amount) => write!(f, "{amount} USDC"),
            Self::Gas(amount) => write!(f, "{amount} POL"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A limit that would be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// Which.
    pub rule: Rule,
    /// Its value.
    pub limit: Quantity,
    /// What is left of it; not told to an agent of the fleet where all agents of the wallet use it.
    pub left: Option<Quantity>,
    /// What was asked for.
    pub wanted: Quantity,
    /// Seconds until so much is free again; `None` where no time frees it.
    pub frees_in: Option<u64>,
}

impl OverLimit {
    /// The same, without what it tells of others of the wallet: what is left of a limit that they use too, and when theirs
    /// is free again.
    pub fn for_an_agent(self) -> Self {
        match self.rule {
            Rule::PerRequest | Rule::PerPayment | Rule::PerAgent | Rule::GasPerTransaction => self,
            Rule::PerHour
            | Rule::PerDay
            | Rule::PerProvider
            | Rule::Newcomers
            | Rule::Locked
            | Rule::OpenChannels
            | Rule::OpensPerHour
            | Rule::GasPerDay => Self { left: None, frees_in: None, ..self },
        }
    }
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, left, wanted, .. } = self;
        write!(f, "{wanted} would pass {}: {limit} {}", rule.variable(), rule.meaning())?;
        match left {
            Some(left) => write!(f, "; {left} is left"),
            None => f.write_str(", for all agents of the wallet together"),
        }
    }
}

fn usdc(rule: Rule, limit: Usdc, used: Usdc, wanted: Usdc) -> Result<(), OverLimit> {
    if wanted.is_zero() || used.saturating_add(wanted) <= limit {
        return Ok(());
    }
    Err(OverLimit {
        rule,
        limit: Quantity::Usdc(limit),
        left: Some(Quantity::Usdc(limit.saturating_sub(used))),
        wanted: Quantity::Usdc(wanted),
        frees_in: None,
    })
}

/// What was newly signed within the windows, as the journal counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// In the last hour.
    pub hour: Usdc,
    /// In the last 24 hours.
    pub day: Usdc,
    /// For the request's provider in the last 24 hours.
    pub provider: Usdc,
    /// For the request's agent in the last 24 hours.
    pub agent: Usdc,
    /// For providers without history in the last 24 hours.
    pub newcomers: Usdc,
}

/// A voucher that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVoucher {
    /// The most that the request can cost.
    pub bound: Usdc,
    /// By how much it raises what the provider can take.
    pub growth: Usdc,
    /// Its provider has no history.
    pub newcomer: bool,
}

/// Whether a voucher fits under every budget (M3).
pub fn may_sign(limits: &Limits, signed: &Signed, voucher: NewVoucher) -> Result<(), OverLimit> {
    let NewVoucher { bound, growth, newcomer } = voucher;
    usdc(Rule::PerRequest, limits.per_request, Usdc::ZERO, bound)?;
    usdc(Rule::PerHour, limits.per_hour, signed.hour, growth)?;
    usdc(Rule::PerDay, limits.per_day, signed.day, growth)?;
    usdc(Rule::PerProvider, limits.per_provider, signed.provider, growth)?;
    usdc(Rule::PerAgent, limits.per_agent, signed.agent, growth)?;
    if newcomer {
        usdc(Rule::Newcomers, limits.newcomers, signed.newcomers, growth)?;
    }
    Ok(())
}

/// Whether one payment without a channel may be as large, whatever is left of the budgets.
pub fn may_pay(limits: &Limits, amount: Usdc) -> Result<(), OverLimit> {
    usdc(Rule::PerPayment, limits.per_payment, Usdc::ZERO, amount)
}

/// What is locked already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// Deposits that are, or may be, in the contracts.
    pub deposits: Usdc,
    /// How many channels they are.
    pub channels: u32,
    /// Openings begun in the last hour.
    pub opened: u32,
}

/// Whether one more deposit fits (M9).
pub fn may_open(limits: &Limits, locked: &Locked, deposit: Usdc) -> Result<(), OverLimit> {
    usdc(Rule::Locked, limits.locked, locked.deposits, deposit)?;
    let count = |rule, limit: u32, used: u32| {
        if used < limit {
            return Ok(());
        }
        let (limit, left, wanted) = (Quantity::Count(limit), Some(Quantity::Count(0)), Quantity::Count(1));
        Err(OverLimit { rule, limit, left, wanted, frees_in: None })
    };
    count(Rule::OpenChannels, limits.open_channels, locked.channels)?;
    count(Rule::OpensPerHour, limits.opens_per_hour, locked.opened)
}

/// What a transaction is for, as far as its gas is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GasFor {
    /// Money goes out, or is locked.
    Spending,
    /// Money comes back: no budget of the day keeps it from that.
    Refund,
}

/// Whether a transaction's gas fits; `used` is what the last 24 hours took.
pub fn may_burn(limits: &Limits, used: Pol, most: Pol, purpose: GasFor) -> Result<(), OverLimit> {
    let gas = |rule, limit: Pol, used: Pol| {
        if used.saturating_add(most) <= limit {
            return Ok(());
        }
        let left = Some(Quantity::Gas(limit.saturating_sub(used)));
        Err(OverLimit { rule, limit: Quantity::Gas(limit), left, wanted: Quantity::Gas(most), frees_in: None })
    };
    gas(Rule::GasPerTransaction, limits.gas_per_transaction, Pol::ZERO)?;
    match purpose {
        GasFor::Spending => gas(Rule::GasPerDay, limits.gas_per_day, used),
        GasFor::Refund => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
