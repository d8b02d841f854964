//! What a provider writes down: charges and vouchers per channel, and every request for tests to look at.

use std::collections::{BTreeMap, HashMap};

use alloy::primitives::{Address, B256, Bytes, U256};

/// A voucher that the provider kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVoucher {
    /// Cumulative amount in base units.
    pub amount: u64,
    /// Its number.
    pub nonce: U256,
    /// The consumer's signature.
    pub signature: Bytes,
    /// A claim that covers it was submitted.
    pub claimed: bool,
}

/// One channel's page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) channel: B256,
    pub(crate) consumer: Address,
    pub(crate) deposit: u64,
    pub(crate) total_charged: u64,
    pub(crate) last_nonce: Option<U256>,
    pub(crate) vouchers: Vec<KeptVoucher>,
    pub(crate) close_signed: bool,
}

impl Page {
    /// The unclaimed voucher of the largest amount; its number does not matter (protocol.md section 8).
    pub(crate) fn highest_unclaimed(&self) -> Option<&KeptVoucher> {
        self.vouchers.iter().filter(|voucher| !voucher.claimed).max_by_key(|voucher| voucher.amount)
    }
}

/// All pages, by the channel id as the provider spells it.
pub(crate) type Pages = HashMap<String, Page>;

/// A provider's view of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// Who opened the channel.
    pub consumer: Address,
    /// Deposit as last read from the chain.
    pub deposit: u64,
    /// Sum of what was billed.
    pub total_charged: u64,
    /// Number of the last kept voucher.
    pub last_nonce: Option<u64>,
    /// Largest unclaimed voucher, 0 without one: what a claim or a close would take.
    pub highest_voucher: u64,
    /// How many vouchers were kept.
    pub vouchers: usize,
    /// How many of them are marked claimed.
    pub claimed_vouchers: usize,
    /// A close authorization was signed.
    pub close_signed: bool,
}

impl From<&Page> for Books {
    fn from(page: &Page) -> Self {
        Self {
            consumer: page.consumer,
            deposit: page.deposit,
            total_charged: page.total_charged,
            last_nonce: page.last_nonce.map(|nonce| nonce.saturating_to()),
            highest_voucher: page.highest_unclaimed().map_or(0, |voucher| voucher.amount),
            vouchers: page.vouchers.len(),
            claimed_vouchers: page.vouchers.iter().filter(|voucher| voucher.claimed).count(),
            close_signed: page.close_signed,
        }
    }
}

/// One request to `/v1/chat/completions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidRequest {
    /// The voucher header as sent.
    pub header: Option<String>,
    /// Its channel id as spelled.
    pub channel: String,
    /// Its amount; `None` when it is not a decimal number that fits.
    pub amount: Option<u64>,
    /// Its number, likewise.
    pub nonce: Option<u64>,
    /// The request's body.
    pub body: String,
    /// `pending`, `billed <cost>`, or the code of the refusal.
    pub outcome: String,
}

/// What was asked of a provider.
#[derive(Clone, Debug, Default)]
pub struct RequestLog {
    /// Requests by path, of every kind.
    pub by_path: BTreeMap<String, u64>,
    /// Requests to `/v1/chat/completions`, in order of arrival; empty when recording is off.
    pub paid: Vec<PaidRequest>,
}

impl RequestLog {
    /// How many requests came for a path.
    pub fn count(&self, path: &str) -> u64 {
        self.by_path.get(path).copied().unwrap_or_default()
    }

    /// The paid requests of one channel.
    pub fn of_channel(&self, channel: B256) -> impl Iterator<Item = &PaidRequest> {
        let spelled = format!("{channel:#x}");
        self.paid.iter().filter(move |request| request.channel.eq_ignore_ascii_case(&spelled))
    }
}
