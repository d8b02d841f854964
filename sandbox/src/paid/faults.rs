//! Everything that a server with a price can do wrong, off by default, switchable while it runs.

use std::time::Duration;

use alloy::primitives::Address;

use crate::provider::Times;

/// The switches. `PaidFaults::default()` is an honest server.
#[derive(Clone, Debug, Default)]
pub struct PaidFaults {
    // --- after the payment ---------------------------------------------------------------------------------------
    /// 500: over MPP with a receipt after the settlement, over x402 without a settlement.
    pub fail_500: Times,
    /// Settle, then reset the connection without an answer.
    pub cut_after_settle: Times,
    /// Settle, then answer a fresh 402.
    pub greedy: Times,
    /// Wait so long before the paid answer, after the settlement.
    pub hang: Option<Duration>,
    /// Settle, then answer without the receipt's header.
    pub no_receipt: Times,
    /// Do not settle, and answer with a receipt of a transaction that is not.
    pub lie: Times,
    /// Paid answers of 40 MB.
    pub oversized: bool,

    // --- what is asked -------------------------------------------------------------------------------------------
    /// Another price, verbatim in base units; text that is no number is asked as well.
    pub price: Option<String>,
    /// Another payee.
    pub payee: Option<Address>,
    /// Another token.
    pub asset: Option<Address>,
    /// Another network: x402's text verbatim, over MPP the number at its end.
    pub network: Option<String>,
    /// Seconds until MPP's challenge expires, and x402's `maxTimeoutSeconds`.
    pub expires_in: Option<i64>,
    /// x402: another name and version of the token in `extra`.
    pub domain: Option<(String, String)>,
    /// x402: `extra.assetTransferMethod` is `permit2`.
    pub permit2: bool,
    /// MPP: a part of the amount goes to somebody else.
    pub splits: bool,
    /// MPP: another intent.
    pub intent: Option<String>,
    /// MPP: another method.
    pub method: Option<String>,
    /// MPP: other credential types; an empty list is left out.
    pub credential_types: Option<Vec<String>>,
    /// MPP: the credential is wanted in `Payment-Authorization`.
    pub separate_header: bool,
    /// A challenge that cannot be decoded.
    pub garbage: bool,

    // --- transport -----------------------------------------------------------------------------------------------
    /// 307 to this address in answer to every request that has a price, with a credential or without.
    pub redirect: Option<String>,
    /// 307 to this address in answer to requests with a credential, which is verified and not settled.
    pub redirect_paid: Option<String>,
}
