//! What happens in the demo, in order.

use drain_protocol::{B256, Usdc};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::{FEE_WALLET, Sandbox, SandboxConfig};
use serde_json::{Value, json};

use super::agent::Agent;
use super::sums::{ChannelSums, Sums};
use crate::cli::output::Output;
use crate::error::Failure;

/// Paid requests to the LLM provider.
const REQUESTS: usize = 10;
/// How long the V1 channel is open, in seconds; its end is reached by moving the sandbox's clock.
const V1_SECONDS: u64 = 7_200;

/// Everything that the story moves through.
struct Stage<'a> {
    output: &'a Output,
    sandbox: Sandbox,
    agent: Agent,
}

/// Plays the whole story and gives the sums as tools told them and as the chain has them.
pub(super) async fn tell(output: &Output) -> Result<Sums, Failure> {
    let sandbox = Sandbox::start(SandboxConfig::default()).await.map_err(internal)?;
    let home = crate::cli::sandbox::home()?;
    let say = |text: &str| output.remark(text);
    say("PLAY MONEY: a chain, a directory and five providers run in this process; nothing here has any value.");

    let mut env = sandbox.env();
    env.push(("DRAIN_HOME".into(), home.path().display().to_string()));
    env.push(("DRAIN_PLAY_MONEY".into(), "on".into()));
    env.push(("DRAIN_POLL_INTERVAL".into(), "200ms".into()));
    let agent = Agent::start(&env).await?;
    say(&format!("An agent starts drain-mcp over stdio and finds {} tools.", agent.tools().await?));

    let stage = Stage { output, sandbox, agent };
    let before = stage.wallet().await?;
    stage.discover().await?;
    let llm = stage.llm_channel().await?;
    let weather = stage.weather_channel().await?;
    let v1 = stage.v1_channel().await?;
    let after = stage.wallet().await?;
    let session_fees = stage.balance_of(FEE_WALLET).await?;
    let locked = stage.sandbox.observer().total_locked().await.map_err(internal)?;
    stage.agent.leave().await;
    Ok(Sums { channels: vec![llm, weather, v1], session_fees, before, after, locked })
}

impl Stage<'_> {
    fn say(&self, text: &str) {
        self.output.remark(text);
    }

    async fn balance_of(&self, account: drain_protocol::Address) -> Result<Usdc, Failure> {
        self.sandbox.observer().usdc_balance(account).await.map_err(internal)
    }

    /// The agent's wallet, read from the chain.
    async fn wallet(&self) -> Result<Usdc, Failure> {
        self.balance_of(self.sandbox.agent().address()).await
    }

    async fn discover(&self) -> Result<(), Failure> {
        self.say("\n1. Discover");
        let page = self.agent.call("drain_providers", json!({ "onlineOnly": true, "format": "full" })).await?;
        for provider in page.data["providers"].as_array().into_iter().flatten() {
            let model = &provider["models"][0];
            let of = |value: &Value| value.as_str().unwrap_or_default().to_string();
            self.say(&format!(
                "   {:<14} {:<6} {} ({})",
                of(&provider["id"]),
                of(&provider["category"]),
                of(&model["id"]),
                of(&model["price"])
            ));
        }
        let info = self.agent.call("drain_provider_info", json!({ "provider": "sim-llm" })).await?;
        let docs = info.data["docs"].as_str().unwrap_or_default().lines().find(|line| line.starts_with('#'));
        self.say(&format!("   The docs of sim-llm begin: {}", docs.unwrap_or("(none)")));
        let balance = self.agent.call("drain_balance", json!({})).await?;
        self.say(&format!(
            "   The wallet holds {} USDC and {} POL.",
            text(&balance.data, "usdc")?,
            text(&balance.data, "pol")?
        ));
        Ok(())
    }

    /// V2: ten requests, then a cooperative close.
    async fn llm_channel(&self) -> Result<ChannelSums, Failure> {
        self.say("\n2. Pay an LLM by the request (contract V2)");
        let channel = self.open("sim-llm", "2", "24h").await?;
        for number in 1..=REQUESTS {
            let question = format!("Summarise in one sentence: payment channels, part {number} of {REQUESTS}.");
            let told = self.chat(&channel, "sim-small", &question).await?;
            self.say(&format!("   {number:>2}. {}", last_line(&told)));
        }
        self.close("sim-llm", &channel, "drain_cooperative_close").await
    }

    /// V2, not an LLM: JSON in the user's message, a price per request.
    async fn weather_channel(&self) -> Result<ChannelSums, Failure> {
        self.say("\n3. Buy data from a provider that is no LLM (contract V2)");
        let channel = self.open("sim-weather", "0.50", "24h").await?;
        let told = self.chat(&channel, "sim/forecast", r#"{"city":"Lisbon","days":2}"#).await?;
        self.say(&format!("       {}", last_line(&told)));
        self.close("sim-weather", &channel, "drain_cooperative_close").await
    }

    /// V1: a session fee, and the rest comes back at expiry only.
    async fn v1_channel(&self) -> Result<ChannelSums, Failure> {
        self.say("\n4. The older contract (V1): session fee, end only at expiry");
        let channel = self.open("sim-llm-v1", "1", &format!("{V1_SECONDS}s")).await?;
        let told = self.chat(&channel, "sim-small", "Hello!").await?;
        self.say(&format!("       {}", last_line(&told)));
        let id: B256 = channel.parse().map_err(internal)?;
        let claimed = self.sandbox.v1.claim(id).await.and_then(|claim| Usdc::from_units(claim.amount));
        self.say(&format!("   The provider claims {} USDC on chain.", claimed.unwrap_or_default()));
        if let Some(chain) = &self.sandbox.chain {
            chain.advance(V1_SECONDS);
            self.say("   The sandbox's clock moves on by 2 h, past the channel's expiry.");
        }
        self.close("sim-llm-v1", &channel, "drain_close_channel").await
    }

    async fn open(&self, provider: &str, amount: &str, duration: &str) -> Result<String, Failure> {
        let arguments = json!({ "provider": provider, "amount": amount, "duration": duration });
        let told = self.agent.call("drain_open_channel", arguments).await?;
        let channel = text(&told.data["channel"], "channel_id")?;
        let fee = text(&told.data, "session_fee")?;
        let generation = text(&told.data["channel"], "generation")?;
        let transactions = told.data["transactions"].as_array().map_or(0, Vec::len);
        self.say(&format!(
            "   Opened {}.. with {amount} USDC on {generation}: {transactions} transactions, session fee {fee} USDC.",
            &channel[..channel.len().min(10)]
        ));
        Ok(channel)
    }

    async fn chat(&self, channel: &str, model: &str, question: &str) -> Result<String, Failure> {
        let messages = json!([{ "role": "user", "content": question }]);
        let arguments = json!({ "channelId": channel, "model": model, "messages": messages });
        Ok(self.agent.call("drain_chat", arguments).await?.text)
    }

    /// Closes, then compares what the tool told with what the chain has.
    async fn close(&self, provider: &str, channel: &str, tool: &'static str) -> Result<ChannelSums, Failure> {
        let contract = if provider == "sim-llm-v1" { CHANNEL_V1 } else { CHANNEL_V2 };
        let id: B256 = channel.parse().map_err(internal)?;
        let on_chain = self.sandbox.observer().channel(contract, id).await.map_err(internal)?;
        let wallet = self.wallet().await?;
        let told = self.agent.call(tool, json!({ "channelId": channel })).await?;
        let back = self.wallet().await?;
        let refund: Usdc = amount(&told.data, "refund")?;
        self.say(&format!("   Closed: {} USDC came back to the wallet.", refund));
        Ok(ChannelSums {
            provider: provider.into(),
            deposited: amount(&told.data["channel"], "deposit")?,
            signed: amount(&told.data["channel"], "signed")?,
            charged: amount(&told.data["channel"], "charged")?,
            paid: amount(&told.data, "paid")?,
            protocol_fee: amount(&told.data, "protocol_fee")?,
            refund,
            chain_deposit: Usdc::try_from(on_chain.deposit).map_err(internal)?,
            chain_paid: self.sandbox.observer().paid_out(contract, id).await.map_err(internal)?,
            chain_refund: back.saturating_sub(wallet),
        })
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::internal(error.to_string())
}

fn text(data: &Value, field: &str) -> Result<String, Failure> {
    data[field].as_str().map(str::to_owned).ok_or_else(|| Failure::internal(format!("a tool's answer lacks {field}")))
}

fn amount(data: &Value, field: &str) -> Result<Usdc, Failure> {
    text(data, field)?.parse().map_err(internal)
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}
