//! A consumer made by hand: raw transactions, vouchers, HTTP.

use alloy::primitives::{Address, B256, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::voucher::{Domain, SignedVoucher, Voucher};
use drain_protocol::{ChannelId, Nonce, Usdc};
use drain_sandbox::contracts::USDC;
use drain_sandbox::{Provider, Sandbox, SandboxConfig};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

pub struct World {
    pub sandbox: Sandbox,
    pub http: Client,
}

pub struct Reply {
    pub status: StatusCode,
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

    /// Cost, Total, Remaining.
    pub fn figures(&self) -> [Option<&str>; 3] {
        ["x-drain-cost", "x-drain-total", "x-drain-remaining"].map(|name| self.header(name))
    }

    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }
}

pub fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 60})
}

impl World {
    pub async fn new() -> Self {
        Self::with(SandboxConfig::default()).await
    }

    pub async fn with(config: SandboxConfig) -> Self {
        let sandbox = Sandbox::start(config).await.unwrap();
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { sandbox, http }
    }

    pub async fn execute(&self, to: Address, data: Vec<u8>) -> Result<Value, drain_sandbox::rpc::RpcError> {
        self.sandbox.observer().rpc().execute(self.sandbox.agent(), to, data).await
    }

    /// Approves and opens; the id is the first topic after the event's own.
    pub async fn open(&self, provider: &Provider, units: u64, duration: u64) -> B256 {
        let contract = provider.config().contract;
        let amount = U256::from(units);
        self.execute(USDC, Erc20::approveCall { spender: contract, amount }.abi_encode()).await.unwrap();
        let open = DrainChannel::openCall { provider: provider.address(), amount, duration: U256::from(duration) };
        let receipt = self.execute(contract, open.abi_encode()).await.unwrap();
        let opened = receipt["logs"]
            .as_array()
            .unwrap()
            .iter()
            .find(|log| log["address"].as_str().unwrap().parse::<Address>().unwrap() == contract);
        opened.unwrap()["topics"][1].as_str().unwrap().parse().unwrap()
    }

    pub fn voucher(&self, provider: &Provider, channel: B256, units: u64, nonce: u64) -> String {
        self.voucher_by(self.sandbox.agent(), provider, channel, units, nonce)
    }

    pub fn voucher_by(
        &self,
        key: &PrivateKeySigner,
        provider: &Provider,
        channel: B256,
        units: u64,
        nonce: u64,
    ) -> String {
        let config = provider.config();
        let voucher = Voucher {
            channel_id: ChannelId(channel),
            amount: Usdc::from_units(units).unwrap(),
            nonce: Nonce::new(nonce).unwrap(),
        };
        let digest = voucher.digest(&Domain::new(config.chain_id, config.contract));
        let signature = key.sign_hash_sync(&digest).unwrap().as_bytes();
        SignedVoucher { voucher, signature }.to_header()
    }

    pub async fn post(&self, provider: &Provider, header: Option<&str>, body: &Value) -> reqwest::Result<Reply> {
        let mut request = self.http.post(format!("{}/v1/chat/completions", provider.url())).json(body);
        if let Some(header) = header {
            request = request.header("X-DRAIN-Voucher", header);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Reply { status, headers, text: response.text().await? })
    }

    /// A paid request with a well-made voucher.
    pub async fn chat(&self, provider: &Provider, channel: B256, units: u64, nonce: u64) -> Reply {
        let header = self.voucher(provider, channel, units, nonce);
        self.post(provider, Some(&header), &hello("sim-large")).await.unwrap()
    }

    pub async fn get(&self, url: &str) -> Reply {
        let response = self.http.get(url).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn post_to(&self, url: &str, body: &Value) -> Reply {
        let response = self.http.post(url).json(body).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn close_answer(&self, provider: &Provider, channel: B256) -> Value {
        let url = format!("{}/v1/close-channel", provider.url());
        let reply = self.post_to(&url, &json!({"channelId": channel})).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }
}
