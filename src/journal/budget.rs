//! What is used of a caller's limits: the same numbers that decide on a voucher, read without deciding anything.

use drain_protocol::{Address, Usdc};

use super::usage::Look;
use super::{Journal, JournalError, channels, records, transactions};
use crate::clock::Moment;
use crate::policy::Pol;
use crate::policy::budgets::{Locked, Signed};

/// Whose budgets are looked at.
#[derive(Clone, Debug)]
pub struct BudgetAsked {
    /// The chain.
    pub chain_id: u64,
    /// The account that pays.
    pub wallet: Address,
    /// The agent.
    pub agent: String,
    /// A provider, by wallet and host ([`super::provider_key`]), where one is asked for.
    pub provider: Option<String>,
    /// Now.
    pub moment: Moment,
}

/// What is used of a window, and when the oldest part of it is free again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowUse {
    /// Newly signed within it.
    pub signed: Usdc,
    /// Seconds until the oldest part leaves it; `None` where nothing is used.
    pub frees_in: Option<u64>,
}

/// What is used of each budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUse {
    /// Of an hour.
    pub hour: WindowUse,
    /// Of 24 hours.
    pub day: WindowUse,
    /// For the agent.
    pub agent: WindowUse,
    /// For the provider, where one was asked for.
    pub provider: WindowUse,
    /// For providers without history.
    pub newcomers: WindowUse,
    /// The provider that was asked for has no history.
    pub newcomer: bool,
    /// Deposits and openings.
    pub locked: Locked,
    /// Gas money of 24 hours.
    pub gas: Pol,
}

impl BudgetUse {
    /// As a decision about a voucher sees it.
    pub const fn signed(&self) -> Signed {
        Signed {
            hour: self.hour.signed,
            day: self.day.signed,
            provider: self.provider.signed,
            agent: self.agent.signed,
            newcomers: self.newcomers.signed,
        }
    }
}

impl Journal {
    /// What is used of the caller's budgets. Changes nothing.
    pub async fn budget_use(&self, asked: BudgetAsked) -> Result<BudgetUse, JournalError> {
        self.writer
            .run(move |db| {
                let used = Look::at(db, asked.moment)?;
                let provider = asked.provider.as_deref();
                let newcomer = match provider {
                    Some(provider) => !records::load(db, provider)?.has_history(),
                    None => false,
                };
                Ok(BudgetUse {
                    hour: used.hour()?,
                    day: used.day()?,
                    agent: used.agent(&asked.agent)?,
                    provider: provider.map_or(Ok(WindowUse::default()), |provider| used.provider(provider))?,
                    newcomers: used.newcomers()?,
                    newcomer,
                    locked: channels::locked(db, asked.chain_id, asked.wallet, used.now())?,
                    gas: transactions::gas_of_a_day(db, asked.chain_id, asked.wallet, None, used.now())?,
                })
            })
            .await
    }
}
