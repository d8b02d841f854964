//! How all three protocols write JSON into headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// MPP's: base64url without padding.
pub(crate) fn url_safe(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Bytes in the same alphabet.
pub(crate) fn url_safe_bytes(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn from_url_safe(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// x402's: standard base64 with padding.
pub(crate) fn standard(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

pub(crate) fn from_standard(text: &str) -> Option<Value> {
    serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
}

/// ISO 8601 in UTC with milliseconds, as `Date.toISOString()`.
pub(crate) fn iso(seconds: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// Unix seconds of such a text, rounded down.
pub(crate) fn seconds(iso: &str) -> Option<u64> {
    let time: SystemTime = humantime::parse_rfc3339(iso).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}
