//! Refusals: what a provider says when it does not answer, in all its dialects (protocol.md sections 6.2 and 6.3).

use std::fmt;

use serde_json::Value;

use crate::headers;
use crate::shape;
use crate::text::one_line;
use crate::usdc::Usdc;

/// Why a provider refused. [`RefusalCode::Other`] holds a sanitised, bounded text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The request had no voucher.
    VoucherRequired,
    /// The voucher could not be read.
    InvalidVoucherFormat,
    /// The provider does not see the channel: wrong contract, closed, or its node lags.
    ChannelNotFound,
    /// The channel belongs to another wallet.
    WrongProvider,
    /// The voucher does not cover what was charged plus this request.
    InsufficientFunds,
    /// The same, found after the work was done; `required` is then the real cost.
    InsufficientFundsPost,
    /// The voucher is above the deposit.
    ExceedsDeposit,
    /// The nonce is not above the last one stored.
    InvalidNonce,
    /// Wrong key or domain.
    InvalidSignature,
    /// The provider could not check the voucher.
    ValidationError,
    /// No such model here.
    ModelNotSupported,
    /// The request named no model.
    ModelRequired,
    /// The request had no messages.
    MessagesRequired,
    /// Messages of a form that this provider does not take.
    InvalidMessages,
    /// Too much input.
    InputTooLarge,
    /// `max_tokens` above the provider's limit.
    OutputLimitExceeded,
    /// The request would cost more than the provider allows.
    RequestCostTooHigh,
    /// No input in the message.
    MissingInput,
    /// The message is not the JSON that this provider takes.
    InvalidJson,
    /// No URL in the message.
    MissingUrl,
    /// The file behind the URL is too large.
    FileTooLarge,
    /// The file could not be fetched.
    DownloadFailed,
    /// Too many requests on this channel (HTTP 429).
    RateLimited,
    /// The provider's own supplier or tool failed: any code ending in `_error`, or HTTP 5xx without a code.
    Upstream(String),
    /// Anything else.
    Other(String),
}

const NAMES: &[(&str, RefusalCode)] = &[
    ("voucher_required", RefusalCode::VoucherRequired),
    ("invalid_voucher_format", RefusalCode::InvalidVoucherFormat),
    ("channel_not_found", RefusalCode::ChannelNotFound),
    ("wrong_provider", RefusalCode::WrongProvider),
    ("insufficient_funds", RefusalCode::InsufficientFunds),
    ("insufficient_funds_post", RefusalCode::InsufficientFundsPost),
    ("exceeds_deposit", RefusalCode::ExceedsDeposit),
    ("invalid_nonce", RefusalCode::InvalidNonce),
    ("invalid_signature", RefusalCode::InvalidSignature),
    ("validation_error", RefusalCode::ValidationError),
    ("model_not_supported", RefusalCode::ModelNotSupported),
    ("model_required", RefusalCode::ModelRequired),
    ("messages_required", RefusalCode::MessagesRequired),
    ("invalid_messages", RefusalCode::InvalidMessages),
    ("input_too_large", RefusalCode::InputTooLarge),
    ("output_limit_exceeded", RefusalCode::OutputLimitExceeded),
    ("request_cost_too_high", RefusalCode::RequestCostTooHigh),
    ("missing_input", RefusalCode::MissingInput),
    ("invalid_json", RefusalCode::InvalidJson),
    ("missing_url", RefusalCode::MissingUrl),
    ("file_too_large", RefusalCode::FileTooLarge),
    ("download_failed", RefusalCode::DownloadFailed),
    ("rate_limited", RefusalCode::RateLimited),
];

impl RefusalCode {
    /// From a code's text; the text is another's.
    pub fn from_text(text: &str) -> Self {
        let text = one_line(text, 120);
        if let Some((_, code)) = NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            return code.clone();
        }
        // "openai_error" and its like; a sentence that ends so is no code.
        if text.ends_with("_error") && !text.contains(' ') { Self::Upstream(text) } else { Self::Other(text) }
    }

    /// The code as providers write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Upstream(text) | Self::Other(text) => text,
            code => NAMES.iter().find(|(_, known)| known == code).map_or("", |(name, _)| name),
        }
    }

    /// True when the provider says this before it works, so that nothing was done and nothing billed. False also where
    /// we do not know.
    pub const fn before_work(&self) -> bool {
        !matches!(self, Self::InsufficientFundsPost | Self::Upstream(_) | Self::Other(_))
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A provider's refusal. All of it is the provider's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Why.
    pub code: RefusalCode,
    /// Base units that this request needs; not cumulative.
    pub required: Option<Usdc>,
    /// Voucher amount minus what the provider charged before, in base units; may be negative.
    pub provided: Option<i128>,
    /// For people: sanitised, one line, bounded.
    pub message: String,
}

/// What precedes a code in messages of dialects B and A.
const PREFIXES: [&str; 2] = ["Voucher error: ", "Payment validation failed: "];

fn suffix(message: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| {
        let at = message.find(prefix)?;
        message.get(at + prefix.len()..).map(str::trim).filter(|code| !code.is_empty())
    })
}

/// Messages of dialect B for what dialect A has codes for.
fn known_sentence(message: &str) -> Option<RefusalCode> {
    if message.contains("Include X-DRAIN-Voucher") || message.contains("X-DRAIN-Voucher header required") {
        return Some(RefusalCode::VoucherRequired);
    }
    message.starts_with("Invalid voucher format").then_some(RefusalCode::InvalidVoucherFormat)
}

/// The text between the tags of an HTML page.
fn without_tags(html: &str) -> String {
    let mut inside = false;
    let kept = html.chars().map(|c| match c {
        '<' => {
            inside = true;
            ' '
        }
        '>' if inside => {
            inside = false;
            ' '
        }
        _ if inside => ' ',
        c => c,
    });
    kept.collect()
}

impl Refusal {
    /// Reads any answer other than a success. `get` gives a header's text by its name in [`headers`].
    ///
    /// The code comes from the header, else from `error.code`, else from what follows `Voucher error: ` or
    /// `Payment validation failed: `, else from a string `error`, else from the status. HTTP 429 is always
    /// [`RefusalCode::RateLimited`].
    pub fn parse(status: u16, get: impl Fn(&str) -> Option<String>, body: &[u8]) -> Self {
        // Refusals are short; of more only the beginning is of interest, and then it is no JSON for us.
        let body = body.get(..65_536).unwrap_or(body);
        let json: Option<Value> = shape::json("the refusal", body).ok().filter(Value::is_object);
        let field = |key: &str| {
            let json = json.as_ref()?;
            json.get(key).or_else(|| json.get("error")?.get(key)).and_then(shape::scalar)
        };
        let error = json.as_ref().and_then(|json| json.get("error"));
        let string_error = error.and_then(Value::as_str);
        let error_code = error.and_then(|error| error.get("code")).and_then(Value::as_str);
        let said = field("message").or_else(|| string_error.map(str::to_owned)).or_else(|| field("detail"));

        let header = get(headers::ERROR).filter(|text| !text.trim().is_empty());
        let code = if status == 429 {
            RefusalCode::RateLimited
        } else if let Some(text) = header.as_deref().or(error_code.filter(|code| !code.trim().is_empty())) {
            // Dialect A puts whatever went wrong into the header.
            RefusalCode::from_text(suffix(text).unwrap_or(text))
        } else if let Some(text) = said.as_deref().and_then(suffix) {
            RefusalCode::from_text(text)
        } else if let Some(code) = said.as_deref().and_then(known_sentence) {
            code
        } else if let Some(text) = string_error.filter(|text| !text.trim().is_empty() && status < 500) {
            RefusalCode::from_text(text)
        } else if let Some(RefusalCode::Upstream(text)) = string_error.map(RefusalCode::from_text) {
            RefusalCode::Upstream(text)
        } else if status >= 500 {
            RefusalCode::Upstream(format!("http_{status}"))
        } else {
            RefusalCode::Other(format!("http_{status}"))
        };

        let number = |header: &str, key: &str| {
            let parse = |text: String| text.trim().parse::<i128>().ok();
            get(header).and_then(parse).or_else(|| field(key).and_then(parse))
        };
        let required = number(headers::REQUIRED, "required");
        let message = match said.map(|text| one_line(&text, 300)).filter(|text| !text.is_empty()) {
            Some(text) => text,
            None => match one_line(&without_tags(&String::from_utf8_lossy(body)), 300) {
                text if text.is_empty() || json.is_some() => format!("HTTP {status}: {code}"),
                text => text,
            },
        };
        Self {
            status,
            code,
            required: required.and_then(|units| u64::try_from(units).ok()).and_then(Usdc::from_units),
            provided: number(headers::PROVIDED, "provided"),
            message,
        }
    }

    /// What the provider says it charged on the channel before this request, if it refused a voucher of `sent`
    /// (protocol.md section 6.2): `sent - provided`, when that is an amount.
    pub fn total_charged(&self, sent: Usdc) -> Option<Usdc> {
        let charged = i128::from(sent.units()).checked_sub(self.provided?)?;
        u64::try_from(charged).ok().and_then(Usdc::from_units)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {} {}: {}", self.status, self.code, self.message)
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
