//! `POST /v1/close-channel`: the provider's consent to close, with its traps (protocol.md section 8).

use std::sync::Arc;

use alloy::primitives::{B256, Signature, U256, uint};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use drain_protocol::Generation;
use serde_json::{Value, json};

use crate::provider::faults::{CloseAmount, CloseSignature};
use crate::provider::refusal::{json_body, not_found};
use crate::provider::validate::close_digest;
use crate::provider::{Shared, lock};

/// Order of secp256k1.
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// The route. Asks for no authentication: whoever asks gets a signature.
pub(crate) async fn close(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    if shared.config.generation == Generation::V1 {
        return not_found("POST", "/v1/close-channel");
    }
    if shared.with_faults(|faults| faults.close_hang.take()) {
        return std::future::pending().await;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(spelled) = body.get("channelId").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
        return (StatusCode::BAD_REQUEST, json_body(&json!({"error": "channelId required"}))).into_response();
    };
    let failed = shared.with_faults(|faults| faults.close_500.take());
    match shared.authorize_close(spelled).await.filter(|_| !failed) {
        Some(answer) => {
            let first = lock(&shared.first_close).get_or_insert_with(|| answer.clone()).clone();
            let answer = if shared.faults().close_replay { first } else { answer };
            json_body(&answer).into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, json_body(&json!({"error": "internal_error"}))).into_response(),
    }
}

impl Shared {
    /// Signs the highest unclaimed voucher's amount, or 0; channels that nobody knows too.
    async fn authorize_close(&self, spelled: &str) -> Option<Value> {
        let faults = self.faults();
        let channel: B256 = spelled.parse().ok()?;
        let key = self.page_key(spelled, &faults);
        let (honest, voucher) = {
            let mut pages = self.pages();
            let page = pages.get_mut(&key);
            let highest = page.as_ref().and_then(|page| page.highest_unclaimed().cloned());
            if let Some(page) = page {
                page.close_signed = true;
            }
            (highest.as_ref().map_or(0, |voucher| voucher.amount), highest)
        };
        let (amount, shown) = match faults.close_amount {
            CloseAmount::Honest => (U256::from(honest), None),
            CloseAmount::Plus(more) => (U256::from(honest) + U256::from(more), None),
            CloseAmount::Exactly(units) => (U256::from(units), None),
            CloseAmount::Deposit => (self.rpc.channel(self.config.contract, channel).await.ok()?.deposit, None),
            CloseAmount::Garbage(text) => (U256::from(honest), Some(text)),
        };
        let digest = close_digest(&self.domain, channel, amount);
        let genuine = sign(&self.config.key, digest)?;
        let signature = match faults.close_signature {
            CloseSignature::Genuine => prefixed(&genuine.as_bytes()),
            CloseSignature::NoPrefix => alloy::hex::encode(genuine.as_bytes()),
            CloseSignature::WrongSigner => prefixed(&sign(&stranger()?, digest)?.as_bytes()),
            CloseSignature::HighS => {
                let high = Signature::new(genuine.r(), ORDER - genuine.s(), !genuine.v());
                prefixed(&high.as_bytes())
            }
            CloseSignature::VoucherSignature => {
                voucher.map_or_else(|| "0x".into(), |voucher| prefixed(&voucher.signature))
            }
            CloseSignature::Garbage => "0xnot-a-signature".into(),
        };
        let shown = shown.unwrap_or_else(|| amount.to_string());
        Some(json!({"channelId": spelled, "finalAmount": shown, "signature": signature}))
    }
}

fn sign(key: &PrivateKeySigner, digest: B256) -> Option<Signature> {
    key.sign_hash_sync(&digest).ok()
}

/// A key that is nobody's in a sandbox.
fn stranger() -> Option<PrivateKeySigner> {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x77)).ok()
}

fn prefixed(bytes: &[u8]) -> String {
    format!("0x{}", alloy::hex::encode(bytes))
}
