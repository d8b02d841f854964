//! The voucher header and its validation, in the order of protocol.md section 6.1.
//!
//! Reads the wire with its own code, not with `drain-protocol`, so that a mistake there does not hide here.

use alloy::primitives::{Address, B256, I256, Signature, U256};
use alloy::sol_types::{Eip712Domain, SolStruct};
use serde_json::Value;

use crate::provider::Shared;
use crate::provider::faults::Faults;
use crate::provider::refusal::Refusal;
use crate::rpc::{ChannelRecord, RpcError};

mod typed {
    alloy::sol! {
        struct Voucher { bytes32 channelId; uint256 amount; uint256 nonce; }
        struct CloseAuthorization { bytes32 channelId; uint256 finalAmount; }
    }
}

/// The domain of a contract (protocol.md section 3).
pub(crate) fn domain(chain_id: u64, contract: Address) -> Eip712Domain {
    Eip712Domain::new(Some("DrainChannel".into()), Some("1".into()), Some(U256::from(chain_id)), Some(contract), None)
}

/// What a consumer signs.
pub(crate) fn voucher_digest(domain: &Eip712Domain, channel: B256, amount: U256, nonce: U256) -> B256 {
    typed::Voucher { channelId: channel, amount, nonce }.eip712_signing_hash(domain)
}

/// What a provider signs to close.
pub(crate) fn close_digest(domain: &Eip712Domain, channel: B256, final_amount: U256) -> B256 {
    typed::CloseAuthorization { channelId: channel, finalAmount: final_amount }.eip712_signing_hash(domain)
}

/// The header's four values, not yet understood.
#[derive(Clone, Debug)]
pub(crate) struct RawVoucher {
    /// As spelled.
    pub(crate) channel: String,
    amount: Value,
    nonce: Value,
    signature: Value,
}

impl RawVoucher {
    /// As the templates read it: each value must be truthy in the sense of JavaScript, so "0" passes and 0 does not.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let object: Value = serde_json::from_str(header).ok()?;
        let field = |name: &str| object.get(name).filter(|value| truthy(value)).cloned();
        let channel = match field("channelId")? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Some(Self { channel, amount: field("amount")?, nonce: field("nonce")?, signature: field("signature")? })
    }

    /// Amount and number for the log, where they are plain.
    pub(crate) fn figures(&self) -> (Option<u64>, Option<u64>) {
        let plain = |value: &Value| big_int(value).ok().and_then(|number| u64::try_from(number).ok());
        (plain(&self.amount), plain(&self.nonce))
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// JavaScript's `BigInt(value)`: decimal or 0x text, or an integer. The error is the exception's text.
fn big_int(value: &Value) -> Result<I256, String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Bool(true) => "1".to_owned(),
        other => other.to_string(),
    };
    let refuse = || format!("Cannot convert {text} to a BigInt");
    if text.is_empty() {
        return Ok(I256::ZERO);
    }
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text.strip_prefix('-').unwrap_or(&text), 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(refuse());
    }
    // BigInt has no upper end; beyond 255 bits every comparison comes out the same.
    let size = U256::from_str_radix(digits, u64::from(radix)).ok().and_then(|size| I256::try_from(size).ok());
    let size = size.unwrap_or(I256::MAX);
    Ok(if text.starts_with('-') { -size } else { size })
}

/// A voucher that passed.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// The provider's key for the channel.
    pub(crate) key: String,
    pub(crate) channel: B256,
    pub(crate) record: ChannelRecord,
    pub(crate) deposit: u64,
    pub(crate) amount: u64,
    pub(crate) nonce: U256,
    pub(crate) signature: Vec<u8>,
}

impl Shared {
    /// How the provider spells a channel id in its books.
    pub(crate) fn page_key(&self, spelled: &str, faults: &Faults) -> String {
        if faults.case_sensitive_ids { spelled.to_owned() } else { spelled.to_ascii_lowercase() }
    }

    /// `validateVoucher` of the templates, strict about signatures. `required` is for this request alone.
    pub(crate) async fn validate(&self, raw: &RawVoucher, required: u64) -> Result<Accepted, Refusal> {
        let faults = self.faults();
        let key = self.page_key(&raw.channel, &faults);
        if self.with_faults(|faults| faults.validation_error.take()) {
            return Err(Refusal::payment("execution reverted: sandbox"));
        }
        let channel: B256 = raw.channel.parse().map_err(|_| {
            Refusal::payment(format!("Bytes value \"{}\" is not a valid bytes32", raw.channel.escape_default()))
        })?;
        let record = self.channel_record(&key, channel).await.map_err(|error| Refusal::payment(rpc_text(&error)))?;
        if self.with_faults(|faults| faults.channel_not_found.take()) || !record.exists() {
            return Err(Refusal::payment("channel_not_found"));
        }
        if record.provider != self.address {
            return Err(Refusal::payment("wrong_provider"));
        }
        let (charged, last_nonce, close_signed) = {
            let mut pages = self.pages();
            let page = pages.entry(key.clone()).or_default();
            page.channel = channel;
            page.consumer = record.consumer;
            page.deposit = record.deposit.saturating_to();
            (page.total_charged, page.last_nonce, page.close_signed)
        };
        if close_signed && faults.refuse_after_close {
            return Err(Refusal::payment("channel_closing"));
        }
        let amount = big_int(&raw.amount).map_err(Refusal::payment)?;
        let charged = signed(charged.saturating_add(faults.insist_arrears));
        if let Some(forged) = &faults.forged_correction {
            let mut refusal = Refusal::payment("insufficient_funds");
            refusal.required = Some(forged.required.clone());
            refusal.provided = Some(forged.provided.clone());
            return Err(refusal);
        }
        if amount < charged.saturating_add(signed(required)) {
            let mut refusal = Refusal::payment("insufficient_funds");
            refusal.required = Some(required.to_string());
            refusal.provided = Some(amount.saturating_sub(charged).to_string());
            return Err(refusal);
        }
        // Not negative: it is at least what was charged.
        let amount = amount.into_raw();
        if amount > record.deposit {
            return Err(Refusal::payment("exceeds_deposit"));
        }
        let nonce = big_int(&raw.nonce).map_err(Refusal::payment)?;
        let stale = last_nonce.is_some_and(|last| nonce.is_negative() || nonce.into_raw() <= last);
        if stale || self.with_faults(|faults| faults.invalid_nonce.take()) {
            return Err(Refusal::payment("invalid_nonce"));
        }
        let nonce = if nonce.is_negative() { U256::ZERO } else { nonce.into_raw() };
        let digest = voucher_digest(&self.domain, channel, amount, nonce);
        let signature = check_signature(&raw.signature, digest, record.consumer, faults.lax_signatures)
            .ok_or_else(|| Refusal::payment("invalid_signature"))?;
        let (Ok(amount), Ok(deposit)) = (u64::try_from(amount), u64::try_from(record.deposit)) else {
            return Err(Refusal::payment("validation_error"));
        };
        Ok(Accepted { key, channel, record, deposit, amount, nonce, signature })
    }

    /// From the chain each time, or once per channel in benchmarks.
    async fn channel_record(&self, key: &str, channel: B256) -> Result<ChannelRecord, RpcError> {
        if self.config.validate_on_chain {
            return self.rpc.channel(self.config.contract, channel).await;
        }
        if let Some(record) = self.cached_record(key) {
            return Ok(record);
        }
        let record = self.rpc.channel(self.config.contract, channel).await?;
        if record.exists() {
            self.cache_record(key, record);
        }
        Ok(record)
    }
}

fn signed(units: u64) -> I256 {
    // 64 bits always fit.
    I256::try_from(units).unwrap_or(I256::MAX)
}

/// viem's messages have several lines, which no header can hold: in dialect A the provider then answers nothing.
fn rpc_text(error: &RpcError) -> String {
    match error {
        RpcError::Refused { message, .. } => message.clone(),
        other => format!("HTTP request failed.\n\nDetails: {other}"),
    }
}

/// What the contract accepts: 65 bytes, low s, v 27 or 28, made by the consumer (protocol.md section 2.8).
fn check_signature(value: &Value, digest: B256, consumer: Address, lax: bool) -> Option<Vec<u8>> {
    let bytes = alloy::hex::decode(value.as_str()?.trim()).ok()?;
    let (raw, v) = (bytes.first_chunk::<65>()?, *bytes.get(64)?);
    if bytes.len() != 65 || (!lax && !matches!(v, 27 | 28)) {
        return None;
    }
    let signature = Signature::from_raw_array(raw).ok()?;
    if !lax && signature.normalize_s().is_some() {
        return None;
    }
    (signature.recover_address_from_prehash(&digest).ok()? == consumer).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn big_int_reads_what_javascript_reads() {
        for (value, number) in [
            (json!("150000"), 150_000),
            (json!(" 7 "), 7),
            (json!("0x10"), 16),
            (json!(12), 12),
            (json!("-5"), -5),
            (json!("0"), 0),
        ] {
            assert_eq!(big_int(&value), I256::try_from(number).map_err(|_| String::new()), "{value}");
        }
        assert_eq!(big_int(&json!("abc")), Err("Cannot convert abc to a BigInt".into()));
        assert_eq!(big_int(&json!("9".repeat(100))), Ok(I256::MAX));
        for bad in [json!("1.5"), json!("0x"), json!("1e3"), json!([]), json!("--1"), json!("-0x1")] {
            assert!(big_int(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn falsy_values_are_a_format_error() {
        let header = |amount: &str| format!(r#"{{"channelId":"0xab","amount":{amount},"nonce":"0","signature":"0x"}}"#);
        assert!(RawVoucher::parse(&header("\"0\"")).is_some());
        assert!(RawVoucher::parse(&header("5")).is_some());
        for bad in ["0", "\"\"", "null", "false"] {
            assert!(RawVoucher::parse(&header(bad)).is_none(), "{bad}");
        }
        assert!(RawVoucher::parse("not json").is_none());
    }
}
