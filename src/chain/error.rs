//! What can go wrong between us and the chain, and what to tell people about it.

use crate::error::{Code, Failure};

/// A failure of a read, a simulation or a broadcast. Texts of nodes in it are bounded and cleaned (M13), endpoints are
/// shown as scheme and host (M12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No endpoint gave a usable answer.
    #[error("no RPC endpoint gave a usable answer: {reason}")]
    Unavailable {
        /// Per endpoint, in a few words.
        reason: String,
    },
    /// Every endpoint that answers serves another chain.
    #[error("the RPC endpoint {endpoint} serves chain {found}, not {expected}")]
    WrongChain {
        /// The configured chain.
        expected: u64,
        /// What the endpoint says.
        found: u64,
        /// The endpoint's scheme and host.
        endpoint: String,
    },
    /// A call would revert, or a mined transaction did.
    #[error("the contract reverts: {reason}")]
    Reverted {
        /// The contract's error by name, or its text.
        reason: String,
    },
    /// Every node that took a look at the transaction refused it, and none may have taken it all the same.
    #[error("the node refuses the transaction: {reason}")]
    Rejected {
        /// The node's words.
        reason: String,
    },
    /// An answer that is not what the method or the contract gives.
    #[error("an answer of the chain makes no sense: {what}")]
    Malformed {
        /// Which one, and why.
        what: String,
    },
    /// Two endpoints contradict each other about something that money depends on.
    #[error("RPC endpoints contradict each other: {what}")]
    Disagreement {
        /// Who says what.
        what: String,
    },
    /// The contract is not what the table says (M8).
    #[error("the contract is not what is expected: {what}")]
    Frozen {
        /// What differs.
        what: String,
    },
    /// A successful transaction lacks the events that it must have (M7).
    #[error("the transaction succeeded, but its receipt does not hold what it must: {what}")]
    Unexpected {
        /// What is missing or differs.
        what: String,
    },
}

impl ChainError {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }
}

impl From<ChainError> for Failure {
    /// The failure of a step before anything was signed; a caller that has sent something sets the money's fate.
    fn from(error: ChainError) -> Self {
        let text = error.to_string();
        let message = format!("{}{}.", text[..1].to_uppercase(), &text[1..]);
        let (code, next) = match &error {
            ChainError::Unavailable { .. } => (
                Code::ChainUnavailable,
                "Try again in a minute. If it lasts, set DRAIN_RPC_URL to other endpoints (several, separated by commas, fail over).",
            ),
            ChainError::WrongChain { .. } => (
                Code::WrongChain,
                "Correct DRAIN_RPC_URL or DRAIN_CHAIN_ID so that both name the same chain, then restart.",
            ),
            ChainError::Reverted { reason } => (Code::TransactionReverted, revert_advice(reason)),
            ChainError::Rejected { reason } if rpc_says_no_funds(reason) => (
                Code::InsufficientGas,
                "Send some of the chain's coin (POL on Polygon) to the wallet, then call again.",
            ),
            ChainError::Rejected { .. } => (
                Code::ChainUnavailable,
                "Call again: fees are computed anew. If the node keeps refusing, look at the wallet's pending transactions.",
            ),
            ChainError::Malformed { .. } => {
                (Code::ChainUnavailable, "Try again; if it lasts, set DRAIN_RPC_URL to another endpoint.")
            }
            ChainError::Disagreement { .. } => (
                Code::ContractFrozen,
                "Opens and closes are frozen until the endpoints agree. A person should check which endpoint is wrong and replace it in DRAIN_RPC_URL.",
            ),
            ChainError::Frozen { .. } => (
                Code::ContractFrozen,
                "Opens and closes are frozen. A person should look at the contract's token and owner before any money moves.",
            ),
            ChainError::Unexpected { .. } => (
                Code::ContractFrozen,
                "Do not repeat it. A person should look at the transaction in a block explorer and at the RPC endpoints.",
            ),
        };
        Self::unspent(code, message, next)
    }
}

/// Whether a node's refusal is about a fee that is too low: the same transaction with a higher one may be taken.
pub fn is_about_fees(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["underpriced", "fee too low", "base fee", "fee cap", "tip cap", "gas price too low"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Whether a node's refusal is about the account's balance.
pub(super) fn rpc_says_no_funds(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("insufficient funds") || reason.contains("insufficient balance for gas")
}

fn revert_advice(reason: &str) -> &'static str {
    let text = reason.to_ascii_lowercase();
    if text.contains("notexpired") {
        "Wait until the channel has expired, or use drain_cooperative_close."
    } else if text.contains("channelnotfound") {
        "The channel is closed already, or is not known to this contract; look at drain_channels."
    } else if text.contains("allowance") {
        "Call drain_approve first, then call again."
    } else if text.contains("exceeds balance") {
        "Send USDC to the wallet, or ask for a smaller amount, then call again."
    } else if text.contains("invalidsignature") {
        "The provider's signature does not fit this channel; wait for the expiry and close it then."
    } else {
        "Correct what the contract names, then call again."
    }
}
