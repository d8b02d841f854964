//! x402, both versions: scheme `exact` on EVM chains, by EIP-3009.

use alloy::primitives::B256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Authorization, Credential, NotPayable, Offer, PaymentReceipt, Protocol, Terms, Time, address, amount, single,
};
use crate::transfer::Transfer;

/// Carries a payment of the first version.
pub(super) const HEADER_V1: &str = "x-payment";
/// Carries a payment of the second version.
pub(super) const HEADER_V2: &str = "payment-signature";

/// What a payment of the first version repeats.
#[derive(Clone, Debug)]
pub(super) struct TermsV1 {
    network: &'static str,
    pub domain: Option<(String, String)>,
}

/// What a payment of the second version repeats, as it came: the server compares it with its own.
#[derive(Clone, Debug)]
pub(super) struct TermsV2 {
    accepted: Box<RawValue>,
    resource: Option<Box<RawValue>>,
    pub domain: Option<(String, String)>,
}

/// The first version's names of chains. Nothing else is guessed.
const NETWORKS: [(&str, u64); 4] =
    [("polygon", 137), ("polygon-amoy", 80_002), ("base", 8_453), ("base-sepolia", 84_532)];

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "x402Version")]
    version: u64,
}

#[derive(Deserialize)]
struct RequiredV2 {
    #[serde(default)]
    resource: Option<Box<RawValue>>,
    accepts: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RequiredV1 {
    accepts: Vec<EntryV1>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryV2 {
    scheme: String,
    network: String,
    amount: String,
    asset: String,
    pay_to: String,
    max_timeout_seconds: u64,
    #[serde(default)]
    extra: Option<Extra>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryV1 {
    scheme: String,
    network: String,
    /// Despite its name the price: another value is refused.
    max_amount_required: String,
    asset: String,
    pay_to: String,
    max_timeout_seconds: u64,
    #[serde(default)]
    extra: Option<Extra>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extra {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    asset_transfer_method: Option<String>,
}

impl Extra {
    fn domain(self) -> Option<(String, String)> {
        self.name.zip(self.version)
    }
}

/// The ways to pay that the header of the second version offers.
pub(super) fn offers_v2(values: &[&str]) -> Result<Vec<Result<Offer, NotPayable>>, NotPayable> {
    let wrong = |reason: String| NotPayable::new(Protocol::X402V2, reason);
    let Some(value) = single(Protocol::X402V2, values)? else { return Ok(Vec::new()) };
    let json = STANDARD.decode(value).map_err(|_| wrong("its header is not base64".into()))?;
    let shape = |error: serde_json::Error| wrong(format!("its header cannot be read ({error})"));
    let version: Version = serde_json::from_slice(&json).map_err(shape)?;
    if version.version != 2 {
        return Err(wrong(format!("its header is of version {}", version.version)));
    }
    let required: RequiredV2 = serde_json::from_slice(&json).map_err(shape)?;
    Ok(required.accepts.into_iter().map(|entry| offer_v2(entry, required.resource.as_deref())).collect())
}

fn offer_v2(accepted: Box<RawValue>, resource: Option<&RawValue>) -> Result<Offer, NotPayable> {
    const V2: Protocol = Protocol::X402V2;
    let entry: EntryV2 = serde_json::from_str(accepted.get())
        .map_err(|error| NotPayable::new(V2, format!("an offer cannot be read ({error})")))?;
    let chain_id = entry.network.strip_prefix("eip155:").and_then(|id| id.parse().ok());
    let chain_id = chain_id.ok_or_else(|| NotPayable::new(V2, format!("its network is {:?}", entry.network)))?;
    let domain = checked(V2, &entry.scheme, entry.extra)?;
    Ok(Offer {
        protocol: V2,
        chain_id,
        token: address(V2, "asset", &entry.asset)?,
        payee: address(V2, "payTo", &entry.pay_to)?,
        amount: amount(V2, &entry.amount)?,
        time: Time::Within(entry.max_timeout_seconds),
        terms: Terms::V2(TermsV2 { accepted, resource: resource.map(ToOwned::to_owned), domain }),
    })
}

/// The ways to pay that a body of the first version offers; none where it is no such body.
pub(super) fn offers_v1(body: &[u8]) -> Result<Vec<Result<Offer, NotPayable>>, NotPayable> {
    let Ok(Version { version: 1 }) = serde_json::from_slice(body) else { return Ok(Vec::new()) };
    let required: RequiredV1 = serde_json::from_slice(body)
        .map_err(|error| NotPayable::new(Protocol::X402V1, format!("its body cannot be read ({error})")))?;
    Ok(required.accepts.into_iter().map(offer_v1).collect())
}

fn offer_v1(entry: EntryV1) -> Result<Offer, NotPayable> {
    const V1: Protocol = Protocol::X402V1;
    let known = NETWORKS.into_iter().find(|(name, _)| *name == entry.network);
    let (network, chain_id) =
        known.ok_or_else(|| NotPayable::new(V1, format!("its network is {:?}", entry.network)))?;
    let domain = checked(V1, &entry.scheme, entry.extra)?;
    Ok(Offer {
        protocol: V1,
        chain_id,
        token: address(V1, "asset", &entry.asset)?,
        payee: address(V1, "payTo", &entry.pay_to)?,
        amount: amount(V1, &entry.max_amount_required)?,
        time: Time::Within(entry.max_timeout_seconds),
        terms: Terms::V1(TermsV1 { network, domain }),
    })
}

fn checked(protocol: Protocol, scheme: &str, extra: Option<Extra>) -> Result<Option<(String, String)>, NotPayable> {
    if scheme != "exact" {
        return Err(NotPayable::new(protocol, format!("its scheme is {scheme:?}; exact is paid")));
    }
    let Some(extra) = extra else { return Ok(None) };
    match extra.asset_transfer_method.as_deref() {
        None | Some("eip3009") => Ok(extra.domain()),
        // It would leave an allowance to a third contract behind.
        Some(other) => Err(NotPayable::new(protocol, format!("it takes the money by {other:?}; eip3009 is paid"))),
    }
}

#[derive(Serialize)]
struct Payload {
    signature: String,
    authorization: Authorization,
}

impl Payload {
    fn new(transfer: &Transfer, signature: &[u8; 65]) -> Self {
        Self { signature: alloy::hex::encode_prefixed(signature), authorization: Authorization::of(transfer) }
    }
}

#[derive(Serialize)]
struct SentV1 {
    #[serde(rename = "x402Version")]
    version: u8,
    scheme: &'static str,
    network: &'static str,
    payload: Payload,
}

#[derive(Serialize)]
struct SentV2<'a> {
    #[serde(rename = "x402Version")]
    version: u8,
    payload: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    accepted: &'a RawValue,
}

fn header(name: &'static str, sent: &impl Serialize) -> Credential {
    // Strings, and JSON that was read before: nothing in it can fail to be JSON.
    Credential { header: name, value: STANDARD.encode(serde_json::to_vec(sent).unwrap_or_default()) }
}

impl TermsV1 {
    pub fn credential(&self, transfer: &Transfer, signature: &[u8; 65]) -> Credential {
        let payload = Payload::new(transfer, signature);
        header(HEADER_V1, &SentV1 { version: 1, scheme: "exact", network: self.network, payload })
    }
}

impl TermsV2 {
    pub fn credential(&self, transfer: &Transfer, signature: &[u8; 65]) -> Credential {
        let payload = Payload::new(transfer, signature);
        header(HEADER_V2, &SentV2 { version: 2, payload, resource: self.resource.as_deref(), accepted: &self.accepted })
    }
}

#[derive(Deserialize)]
struct Receipt {
    success: bool,
    #[serde(default)]
    transaction: Option<String>,
}

pub(super) fn receipt(values: &[&str]) -> Option<PaymentReceipt> {
    let value = single(Protocol::X402V2, values).ok()??;
    let receipt: Receipt = serde_json::from_slice(&STANDARD.decode(value).ok()?).ok()?;
    let transaction = receipt.transaction.and_then(|hash| hash.parse::<B256>().ok());
    Some(PaymentReceipt { success: receipt.success, transaction })
}
