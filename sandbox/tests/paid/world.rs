//! A payer made by hand: reads challenges, signs, sends. It does what it is told, also what no payer should.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolStruct, eip712_domain};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drain_sandbox::contracts::USDC;
use drain_sandbox::paid::{Credential, PaidRequest};
use drain_sandbox::{Paid, Sandbox, SandboxConfig};
use reqwest::{Client, Method};
use serde_json::{Value, json};

alloy::sol! {
    struct TransferWithAuthorization {
        address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
    }
}

pub const PRICE: u64 = 10_000;

pub struct World {
    pub sandbox: Sandbox,
    http: Client,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// A parameter of the MPP challenge.
    pub fn param(&self, name: &str) -> Option<String> {
        let header = self.header("www-authenticate")?.strip_prefix("Payment ").unwrap();
        let start = format!("{name}=\"");
        let found = header.split(", ").find_map(|part| part.strip_prefix(&start)?.strip_suffix('"'));
        found.map(str::to_owned)
    }

    /// MPP's `request`, decoded.
    pub fn request(&self) -> Value {
        from_url_safe(&self.param("request").unwrap())
    }

    /// x402's whole answer, of whatever version.
    pub fn required(&self) -> Value {
        self.header("payment-required").map_or_else(|| self.json(), from_standard)
    }

    /// x402's one entry.
    pub fn entry(&self) -> Value {
        self.required()["accepts"][0].clone()
    }

    /// What MPP says is wrong: the last part of the type.
    pub fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.json()["challengeId"].as_str().unwrap(), self.param("id").unwrap(), "a fresh challenge");
        kind.rsplit('/').next().unwrap().to_owned()
    }

    /// What x402 says is wrong.
    pub fn error(&self) -> String {
        self.required()["error"].as_str().unwrap().to_owned()
    }

    /// The transaction of the receipt, of whatever protocol.
    pub fn transaction(&self) -> Option<B256> {
        let mpp = self.header("payment-receipt").map(|text| from_url_safe(text)["reference"].clone());
        let x402 = ["payment-response", "x-payment-response"].into_iter().find_map(|name| self.header(name));
        let hash = mpp.or_else(|| Some(from_standard(x402?)["transaction"].clone()))?;
        Some(hash.as_str().unwrap().parse().unwrap())
    }
}

pub fn from_url_safe(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

pub fn from_standard(text: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
}

/// The six fields, changed by tests before they are signed.
#[derive(Clone, Debug)]
pub struct Words {
    pub from: Address,
    pub to: Address,
    pub value: U256,
    pub valid_after: u64,
    pub valid_before: u64,
    pub nonce: B256,
}

impl Words {
    /// The fields with their signature, as every protocol has them.
    fn signed(&self, key: &PrivateKeySigner) -> (Value, String) {
        let message = TransferWithAuthorization {
            from: self.from,
            to: self.to,
            value: self.value,
            validAfter: U256::from(self.valid_after),
            validBefore: U256::from(self.valid_before),
            nonce: self.nonce,
        };
        let domain = eip712_domain! { name: "USD Coin", version: "2", chain_id: 137, verifying_contract: USDC, };
        let signature = key.sign_hash_sync(&message.eip712_signing_hash(&domain)).unwrap().as_bytes();
        let fields = json!({
            "from": self.from.to_string(), "to": self.to.to_string(), "value": self.value.to_string(),
            "validAfter": self.valid_after.to_string(), "validBefore": self.valid_before.to_string(),
            "nonce": self.nonce,
        });
        (fields, format!("0x{}", alloy::hex::encode(signature)))
    }
}

/// A credential: the header's name and value.
pub type Header = (&'static str, String);

impl World {
    pub async fn new() -> Self {
        let sandbox = Sandbox::start(SandboxConfig::default()).await.unwrap();
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { sandbox, http }
    }

    pub fn paid(&self) -> &Paid {
        &self.sandbox.paid
    }

    /// The payee's balance in base units: what reached it so far.
    pub async fn earned(&self) -> u64 {
        self.sandbox.observer().usdc_balance(self.paid().payee()).await.unwrap().to_u256().to()
    }

    pub fn now(&self) -> u64 {
        self.sandbox.chain.as_ref().unwrap().timestamp()
    }

    pub async fn send(&self, path: &str, credential: Option<&Header>) -> reqwest::Result<Reply> {
        self.post(path, credential, "{\"q\":1}").await
    }

    pub async fn post(&self, path: &str, credential: Option<&Header>, body: &str) -> reqwest::Result<Reply> {
        let url = format!("{}{path}", self.paid().url());
        let mut request = self.http.request(Method::POST, url).body(body.to_owned());
        if let Some((name, value)) = credential {
            request = request.header(*name, value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, text: response.text().await? })
    }

    pub async fn unpaid(&self, path: &str) -> Reply {
        let reply = self.send(path, None).await.unwrap();
        assert_eq!(reply.status, 402, "{}", reply.text);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        reply
    }

    /// What an honest payer would sign for a challenge, over MPP where it is offered and `x402` is not wanted.
    pub fn words(&self, asked: &Reply, x402: bool) -> Words {
        let from = self.sandbox.agent().address();
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        let units = |value: &Value| U256::from_str_radix(value.as_str().unwrap(), 10).unwrap();
        if asked.header("www-authenticate").is_some() && !x402 {
            let request = asked.request();
            let [id, realm, expires] = ["id", "realm", "expires"].map(|name| asked.param(name).unwrap());
            let expires = humantime::parse_rfc3339(&expires).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
            return Words {
                from,
                to: address(&request["recipient"]),
                value: units(&request["amount"]),
                valid_after: 0,
                valid_before: expires.as_secs(),
                nonce: keccak256(format!("{id}{realm}")),
            };
        }
        let entry = asked.entry();
        let amount = entry.get("amount").unwrap_or(&entry["maxAmountRequired"]);
        Words {
            from,
            to: address(&entry["payTo"]),
            value: units(amount),
            valid_after: self.now() - 600,
            valid_before: self.now() + entry["maxTimeoutSeconds"].as_u64().unwrap(),
            nonce: B256::random(),
        }
    }

    /// The header that answers a challenge with these words.
    pub fn header(&self, asked: &Reply, words: &Words, x402: bool) -> Header {
        let value = self.credential(asked, words, x402);
        if asked.header("www-authenticate").is_some() && !x402 {
            return ("authorization", format!("Payment {}", URL_SAFE_NO_PAD.encode(value.to_string())));
        }
        let name = if value["x402Version"] == 1 { "x-payment" } else { "payment-signature" };
        (name, STANDARD.encode(value.to_string()))
    }

    /// The JSON in it.
    pub fn credential(&self, asked: &Reply, words: &Words, x402: bool) -> Value {
        let (mut fields, signature) = words.signed(self.sandbox.agent());
        if asked.header("www-authenticate").is_some() && !x402 {
            fields["type"] = json!("authorization");
            fields["signature"] = json!(signature);
            let names = ["id", "realm", "method", "intent", "request", "expires", "description", "opaque", "header"];
            let challenge: Value = names.iter().filter_map(|name| Some((*name, asked.param(name)?))).collect();
            let source = format!("did:pkh:eip155:137:{}", words.from);
            return json!({"challenge": challenge, "payload": fields, "source": source});
        }
        let entry = asked.entry();
        let payload = json!({"signature": signature, "authorization": fields});
        if asked.required()["x402Version"] == 1 {
            return json!({
                "x402Version": 1, "scheme": entry["scheme"], "network": entry["network"], "payload": payload});
        }
        json!({"x402Version": 2, "accepted": entry, "payload": payload, "resource": asked.required()["resource"]})
    }

    /// Asks, and makes the honest credential.
    pub async fn ready(&self, path: &str) -> Header {
        let asked = self.unpaid(path).await;
        self.header(&asked, &self.words(&asked, false), false)
    }

    /// Asks and pays.
    pub async fn pay(&self, path: &str) -> reqwest::Result<Reply> {
        let header = self.ready(path).await;
        self.send(path, Some(&header)).await
    }

    pub fn last(&self) -> PaidRequest {
        self.paid().log().pop().unwrap()
    }

    pub fn last_credential(&self) -> Credential {
        self.last().credential.unwrap()
    }
}
