//! The caller's limits, one line each.

use drain_protocol::Usdc;

use super::Local;
use crate::api::{BudgetLine, BudgetView};
use crate::error::Failure;
use crate::journal::WindowUse;
use crate::policy::budgets::{Quantity, Rule};
use crate::policy::{Caller, Limits};

/// What is used of a limit.
#[derive(Clone, Copy)]
struct Use {
    used: Quantity,
    left: Quantity,
    frees_in: Option<u64>,
}

impl Local {
    /// The caller's limits and what is left of them. Of a limit that other agents of the wallet use too, an agent of the
    /// fleet is told the limit alone.
    pub(super) async fn budget(&self, caller: &Caller) -> Result<BudgetView, Failure> {
        let used = self.budget_use(None, caller).await?;
        let limits: &Limits = &caller.limits;
        let window = |limit: Usdc, window: WindowUse| Use {
            used: Quantity::Usdc(window.signed),
            left: Quantity::Usdc(limit.saturating_sub(window.signed)),
            frees_in: window.frees_in,
        };
        let count = |limit: u32, used: u32| Use {
            used: Quantity::Count(used),
            left: Quantity::Count(limit.saturating_sub(used)),
            frees_in: None,
        };
        let locked = Use {
            used: Quantity::Usdc(used.locked.deposits),
            left: Quantity::Usdc(limits.locked.saturating_sub(used.locked.deposits)),
            frees_in: None,
        };
        let gas = Use {
            used: Quantity::Gas(used.gas),
            left: Quantity::Gas(limits.gas_per_day.saturating_sub(used.gas)),
            frees_in: None,
        };
        let shown = |shared: Use| caller.member().is_none().then_some(shared);
        let lines = vec![
            line(Rule::PerRequest, Quantity::Usdc(limits.per_request), None),
            line(Rule::PerPayment, Quantity::Usdc(limits.per_payment), None),
            channel_line(limits.per_channel),
            line(Rule::PerHour, Quantity::Usdc(limits.per_hour), shown(window(limits.per_hour, used.hour))),
            line(Rule::PerDay, Quantity::Usdc(limits.per_day), shown(window(limits.per_day, used.day))),
            line(Rule::PerAgent, Quantity::Usdc(limits.per_agent), Some(window(limits.per_agent, used.agent))),
            line(Rule::PerProvider, Quantity::Usdc(limits.per_provider), None),
            line(Rule::Newcomers, Quantity::Usdc(limits.newcomers), shown(window(limits.newcomers, used.newcomers))),
            line(Rule::Locked, Quantity::Usdc(limits.locked), shown(locked)),
            line(
                Rule::OpenChannels,
                Quantity::Count(limits.open_channels),
                shown(count(limits.open_channels, used.locked.channels)),
            ),
            line(
                Rule::OpensPerHour,
                Quantity::Count(limits.opens_per_hour),
                shown(count(limits.opens_per_hour, used.locked.opened)),
            ),
            line(Rule::GasPerDay, Quantity::Gas(limits.gas_per_day), shown(gas)),
        ];
        let journal = &self.purse()?.journal;
        Ok(BudgetView {
            agent: caller.agent.clone(),
            spent_today: journal.spent_today(self.services.clock.now()).await?,
            frozen: self.refused(caller).await?,
            limits: lines,
            person_above_request: limits.approve.request,
            person_above_deposit: limits.approve.deposit,
            auto_open: limits.auto_open,
        })
    }
}

fn line(rule: Rule, limit: Quantity, used: Option<Use>) -> BudgetLine {
    BudgetLine {
        name: rule.name().into(),
        meaning: rule.meaning().into(),
        limit: limit.to_string(),
        used: used.map(|of| of.used.to_string()),
        left: used.map(|of| of.left.to_string()),
        frees_in: used.and_then(|of| of.frees_in),
    }
}

/// What vouchers of one channel may reach is held with its books, not with the budgets.
fn channel_line(limit: Usdc) -> BudgetLine {
    BudgetLine {
        name: "per_channel".into(),
        meaning: "for one channel, and its highest deposit".into(),
        limit: Quantity::Usdc(limit).to_string(),
        used: None,
        left: None,
        frees_in: None,
    }
}
