//! Everything a simulated provider can do wrong, off by default, switchable while it runs.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use tokio::sync::Notify;

/// How often a fault still happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times(u32);

impl Times {
    /// Not at all.
    pub const NEVER: Self = Self(0);
    /// Until switched off.
    pub const ALWAYS: Self = Self(u32::MAX);

    /// The next `n` requests.
    pub const fn next(n: u32) -> Self {
        Self(n)
    }

    /// True if it happens now; counts down.
    pub(crate) fn take(&mut self) -> bool {
        if self.0 == 0 {
            return false;
        }
        if self.0 != u32::MAX {
            self.0 -= 1;
        }
        true
    }
}

/// The three 402 bodies seen on the live marketplace (protocol.md section 6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{"message","type","code"}}` with headers.
    #[default]
    A,
    /// `{"error":{"message"},"required"}` without X-DRAIN-Error.
    B,
    /// `{"error":"code"}`.
    C,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens.
    pub prompt: u64,
    /// Output tokens.
    pub completion: u64,
}

/// The amount in a close answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CloseAmount {
    /// Highest unclaimed voucher, or 0 (so 0 after a claim).
    #[default]
    Honest,
    /// More than that by this many units.
    Plus(u64),
    /// This many units, genuinely signed.
    Exactly(u64),
    /// The whole deposit.
    Deposit,
    /// Text that is not an amount.
    Garbage(String),
}

/// The signature in a close answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseSignature {
    /// By the provider's key, 0x and 130 digits.
    #[default]
    Genuine,
    /// By another key.
    WrongSigner,
    /// The consumer's own voucher signature, or "0x" (community-taoapp).
    VoucherSignature,
    /// Genuine, without 0x (Python providers).
    NoPrefix,
    /// Genuine, with s in the upper half: the contract refuses it.
    HighS,
    /// Not hexadecimal.
    Garbage,
}

/// Forged figures of an `insufficient_funds` refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// `X-DRAIN-Provided`, verbatim.
    pub provided: String,
    /// `X-DRAIN-Required`, verbatim.
    pub required: String,
}

/// Headers of a paid answer in place of the genuine ones; `None` leaves a header as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgedHeaders {
    /// `X-DRAIN-Cost`, verbatim.
    pub cost: Option<String>,
    /// `X-DRAIN-Total`, verbatim.
    pub total: Option<String>,
    /// `X-DRAIN-Remaining`, verbatim.
    pub remaining: Option<String>,
    /// Send none of the three.
    pub omit: bool,
}

/// The switches. `Faults::default()` is a faithful, honest, strict provider.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    // --- how it speaks -------------------------------------------------------------------------------------------
    /// Which 402 body.
    pub dialect: Dialect,
    /// Total and Remaining count the last cost twice (providers before 2026-03-30).
    pub double_count_totals: bool,
    /// Round input and output cost down separately (chutes, openrouter).
    pub floor_each: bool,
    /// Pre-authorisation counts the longer JSON of Python (HS58-subnet).
    pub python_preauth: bool,
    /// Use channel ids as they are spelled, without lower-casing.
    pub case_sensitive_ids: bool,
    /// Accept high s and v 0/1 as the templates do, though the contract will not.
    pub lax_signatures: bool,
    /// Report and bill this usage instead of the true one.
    pub fixed_usage: Option<Usage>,
    /// Put usage into the last chunk of a stream and bill by it.
    pub stream_usage: bool,
    /// Pause between the chunks of a stream.
    pub chunk_delay: Option<Duration>,

    // --- money ---------------------------------------------------------------------------------------------------
    /// Refuse after the work with `insufficient_funds_post`.
    pub post_check_failure: Times,
    /// Keep the voucher claimable although the request failed.
    pub keep_voucher_on_failure: bool,
    /// Bill and report this many units more per request.
    pub overcharge: u64,
    /// Report this many units more in Total only.
    pub overcharge_total: u64,
    /// Report and bill this many times the tokens (0 and 1: honest).
    pub inflated_usage: u64,
    /// Add this many units to the books after each request without telling.
    pub drip: u64,
    /// Demand arrears of this many units that nothing explains.
    pub insist_arrears: u64,
    /// Refuse with forged figures.
    pub forged_correction: Option<Correction>,
    /// Forge the headers of paid answers.
    pub forged_headers: ForgedHeaders,

    // --- refusals ------------------------------------------------------------------------------------------------
    /// `channel_not_found`, as when the provider's node lags.
    pub channel_not_found: Times,
    /// `invalid_nonce`.
    pub invalid_nonce: Times,
    /// A 402 whose code is the text of an exception.
    pub validation_error: Times,
    /// 429 before the voucher is looked at.
    pub rate_limited: Times,
    /// 500 after the voucher was checked; nothing is billed.
    pub fail_500: Times,

    // --- transport -----------------------------------------------------------------------------------------------
    /// Take the request and never answer.
    pub hang: Times,
    /// Wait before answering.
    pub slow: Option<Duration>,
    /// Reset the connection before the answer's head; the request is billed.
    pub cut_before_answer: Times,
    /// Reset the connection in the middle of the body; the request is billed.
    pub cut_mid_body: Times,
    /// Answer 200 with HTML; billed.
    pub html_answer: Times,
    /// Answer 200 with an empty body; billed.
    pub empty_answer: Times,
    /// Answer without `choices` and `usage`; billed.
    pub no_choices: Times,
    /// Answer with a body that never ends; billed.
    pub endless_body: Times,
    /// Answer with content of this many bytes; billed.
    pub oversized_body: Option<usize>,
    /// Answer one byte at a time with this pause before each; billed.
    pub trickle: Option<Duration>,
    /// Answer with this Content-Encoding and a body that is none of JSON; billed.
    pub encoded: Option<String>,
    /// Answer with what the last billed request was answered with, figures and all; billed.
    pub replay: Times,
    /// Redirect paid requests: status and Location.
    pub redirect: Option<(u16, String)>,
    /// Redirect every request, to the same path at this origin.
    pub redirect_all: Option<(u16, String)>,
    /// Streams: half of it, then wait until this is told to go on.
    pub hold_stream: Option<Arc<Notify>>,
    /// Streams: cut before [DONE], nothing billed.
    pub cut_stream: Times,
    /// Streams: half of it, then silence; nothing billed.
    pub stall_stream: Times,
    /// Streams: an error chunk, then the end; nothing billed.
    pub stream_error: Times,
    /// Streams: [DONE] without the trailer; billed.
    pub no_trailer: Times,

    // --- closing -------------------------------------------------------------------------------------------------
    /// The final amount.
    pub close_amount: CloseAmount,
    /// The signature.
    pub close_signature: CloseSignature,
    /// Answer each question with the first close authorization ever signed.
    pub close_replay: bool,
    /// 500 `internal_error`.
    pub close_500: Times,
    /// Never answer.
    pub close_hang: Times,
    /// Refuse vouchers of a channel once a close was signed (templates keep accepting).
    pub refuse_after_close: bool,

    // --- pricing, discovery, documents ---------------------------------------------------------------------------
    /// Another wallet in `/v1/pricing`.
    pub pricing_wallet: Option<Address>,
    /// Another chain in `/v1/pricing`.
    pub pricing_chain: Option<u64>,
    /// Prices are multiplied by this fraction, in `/v1/pricing` and in bills.
    pub price_factor: Option<(u64, u64)>,
    /// `/v1/pricing` and `/v1/models` answer 503.
    pub pricing_down: bool,
    /// `/v1/pricing` has no models.
    pub pricing_empty: bool,
    /// `/v1/pricing` is not JSON.
    pub pricing_garbage: bool,
    /// Another contract in the discovery headers.
    pub discovery_contract: Option<Address>,
    /// Documents with control characters and injected instructions.
    pub hostile_docs: bool,
    /// Answers with control characters and injected instructions.
    pub hostile_answer: bool,
    /// Refusals with the same in code and message.
    pub hostile_errors: bool,
    /// Models whose ids are instructions, first in the list.
    pub hostile_models: bool,
    /// `/v1/docs` of this many bytes.
    pub huge_docs: Option<usize>,
}
