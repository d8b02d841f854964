//! Exit codes that scripts can rely on.

use crate::error::{Code, Failure, Money};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed; nothing was spent.
    Failed = 1,
    /// The command line or the configuration is wrong; nothing was spent.
    Usage = 2,
    /// Money is reserved or on its way, or its fate is not known yet: ask again, do not repeat.
    Pending = 3,
    /// Refused by a limit, by a rule, or for lack of funds; nothing was spent.
    Refused = 4,
    /// It failed after money or gas was spent.
    Spent = 5,
    /// Interrupted while only reading.
    Interrupted = 130,
}

/// For `--help`.
pub const HELP: &str = "\
Exit codes:
    0  done
    1  failed, nothing was spent
    2  wrong command line or configuration, nothing was spent
    3  money is reserved, on its way or its fate is not known yet: ask with `drain-mcp channels`, do not repeat
    4  refused by a limit, a rule or for lack of funds, nothing was spent
    5  failed after money or gas was spent
  130  interrupted while reading";

impl Exit {
    /// The code for a failure: what happened to the money counts first.
    pub fn of(failure: &Failure) -> Self {
        match (&failure.money, failure.code) {
            (Money::Pending { .. } | Money::Reserved { .. } | Money::Unknown, _) | (_, Code::TransactionPending) => {
                Self::Pending
            }
            (Money::Spent { .. } | Money::GasOnly, _) => Self::Spent,
            (Money::NotSpent | Money::Credit { .. }, code) => match code {
                Code::InvalidArgument | Code::InvalidConfig | Code::NoSigner => Self::Usage,
                Code::LimitReached
                | Code::NotAllowed
                | Code::ApprovalNeeded
                | Code::ApprovalDenied
                | Code::ProviderSetAside
                | Code::ChannelExpired
                | Code::InsufficientUsdc
                | Code::InsufficientGas
                | Code::ChannelExhausted
                | Code::NotPayable
                | Code::ProviderMismatch
                | Code::ProviderChanged
                | Code::ProviderOffence
                | Code::UrlRefused
                | Code::DurationRefused
                | Code::ContractFrozen
                | Code::WalletFrozen
                | Code::CloseRefused
                | Code::NotWorthIt
                | Code::NotExpired => Self::Refused,
                _ => Self::Failed,
            },
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drain_protocol::Usdc;

    #[test]
    fn money_counts_before_the_code() {
        let failure = |code| Failure::unspent(code, "", "");
        let pending = Money::Pending { receipt: "1".into() };
        let reserved = Money::Reserved { receipt: "1".into(), at_most: Usdc::ZERO };
        for (failure, exit) in [
            (failure(Code::ChainUnavailable), Exit::Failed),
            (failure(Code::InvalidConfig), Exit::Usage),
            (failure(Code::LimitReached), Exit::Refused),
            (failure(Code::NotAllowed), Exit::Refused),
            (failure(Code::ApprovalNeeded), Exit::Refused),
            (failure(Code::ApprovalDenied), Exit::Refused),
            (failure(Code::ProviderSetAside), Exit::Refused),
            (failure(Code::ChannelExpired), Exit::Refused),
            (failure(Code::LimitReached).with_money(pending.clone()), Exit::Pending),
            (failure(Code::Internal).with_money(reserved), Exit::Pending),
            (failure(Code::TransactionPending), Exit::Pending),
            (failure(Code::TransactionReverted).with_money(Money::GasOnly), Exit::Spent),
        ] {
            assert_eq!(Exit::of(&failure), exit, "{failure:?}");
        }
    }

    #[test]
    fn help_names_every_code() {
        for exit in [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Pending, Exit::Refused, Exit::Spent, Exit::Interrupted]
        {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{}  ", exit as u8))), "{exit:?}");
        }
    }
}
