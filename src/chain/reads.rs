//! What the chain says: head, balances, channels, the contract's settings; and what a call would do.

use std::sync::atomic::Ordering;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::Bytes;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20, Generation};
use drain_protocol::{Address, B256, ChannelId, Deployment, U256, Usdc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pool::number;
use super::rpc::Trouble;
use super::{Chain, ChainError};

/// A block's header, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its time in Unix seconds: the only clock that expiries know.
    pub timestamp: u64,
    /// Wei for a unit of gas; absent on chains without EIP-1559.
    pub base_fee: Option<u128>,
    /// Its hash.
    pub hash: B256,
}

/// A channel as the contract has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChainChannel {
    /// Who opened it and gets the rest.
    pub consumer: Address,
    /// Who is paid.
    pub provider: Address,
    /// What was paid in.
    pub deposit: Usdc,
    /// What the provider has taken.
    pub claimed: Usdc,
    /// Unix seconds from which `close` works; `i64::MAX` stands for everything beyond.
    pub expiry: u64,
}

impl OnChainChannel {
    fn same_but_for_claims(&self, other: &Self) -> bool {
        *self == Self { claimed: self.claimed, ..*other }
    }
}

/// `None` for one that the contract does not know.
fn on_chain(found: &<DrainChannel::getChannelCall as SolCall>::Return) -> Result<Option<OnChainChannel>, ChainError> {
    if found.consumer.is_zero() {
        return Ok(None);
    }
    Ok(Some(OnChainChannel {
        consumer: found.consumer,
        provider: found.provider,
        deposit: amount("getChannel", found.deposit)?,
        claimed: amount("getChannel", found.claimed)?,
        expiry: expiry(found.expiry),
    }))
}

/// The contract's fee on what providers are paid. V1 has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fee {
    /// In hundredths of a percent.
    pub bps: u16,
    /// Who gets it; zero for nobody.
    pub recipient: Address,
}

impl Fee {
    /// The fee on a payout, rounded down as the contract does.
    pub fn on(&self, payout: Usdc) -> Usdc {
        if self.recipient.is_zero() {
            return Usdc::ZERO;
        }
        let units = u128::from(payout.units()) * u128::from(self.bps) / 10_000;
        u64::try_from(units).ok().and_then(Usdc::from_units).unwrap_or(payout)
    }
}

/// A transaction that somebody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who.
    pub from: Address,
    /// To whom; absent for a contract's creation.
    pub to: Option<Address>,
    /// Its calldata.
    pub input: Bytes,
    /// The block that holds it; absent while pending.
    pub block_number: Option<u64>,
}

impl Chain {
    /// The newest block, by the word of two endpoints where there are two.
    pub async fn head(&self) -> Result<Head, ChainError> {
        let latest = |value| header(value)?.ok_or_else(gone);
        self.pool().newest("eth_getBlockByNumber", &json!(["latest", false]), latest, |head: &Head| head.number).await
    }

    /// The block of this number, if the chain is that far.
    pub async fn block(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.pool()
            .read_of("eth_getBlockByNumber", &json!([BlockNumberOrTag::Number(number), false]), Some(number), header)
            .await
    }

    /// The block of this number, by the word of two endpoints, or of the one where a single one is configured.
    pub async fn block_agreed(&self, number: u64) -> Result<Head, ChainError> {
        let params = json!([BlockNumberOrTag::Number(number), false]);
        let block = |value| header(value)?.ok_or_else(gone);
        let said = self.pool().ask_two("eth_getBlockByNumber", &params, Some(number), block).await?;
        let mut blocks = said.iter().filter_map(|(_, block)| *block);
        match (blocks.next(), blocks.all(|other| Some(other) == said.first().and_then(|(_, block)| *block))) {
            (Some(block), true) => Ok(block),
            _ => Err(ChainError::Disagreement { what: format!("there are several blocks {number}") }),
        }
    }

    /// The newest block that no longer changes: the `finalized` one, or the configured number of confirmations below the
    /// head where the nodes say that they know no such block, and never said otherwise.
    pub async fn finalized_number(&self) -> Result<u64, ChainError> {
        let (pool, params) = (self.pool(), &json!(["finalized", false]));
        let asked = pool.hedged(1, 1, |endpoint| async move {
            let found = pool.ask(endpoint, "eth_getBlockByNumber", params, header).await?;
            found.ok_or_else(|| Trouble::Unable("knows no finalized block".into()))
        });
        let (said, troubles) = asked.await;
        if let Some((_, head)) = said.first() {
            self.0.knows_finalized.store(true, Ordering::Relaxed);
            return Ok(head.number);
        }
        let unknown = troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Unable(_)));
        // A node that fails or has just started says nothing about how final blocks are.
        if unknown && !self.0.knows_finalized.load(Ordering::Relaxed) {
            return Ok(self.head().await?.number.saturating_sub(self.0.confirmations));
        }
        Err(pool.summary(&troubles))
    }

    /// The chain's own coin, in wei.
    pub async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.pool().read("eth_getBalance", &json!([account, "latest"]), plain).await
    }

    /// A balance of USDC.
    pub async fn usdc_balance(&self, token: Address, account: Address) -> Result<Usdc, ChainError> {
        amount("balanceOf", self.view(token, &Erc20::balanceOfCall { account }).await?)
    }

    /// What `spender` may draw from `owner`. Not a [`Usdc`]: unlimited is common.
    pub async fn allowance(&self, token: Address, owner: Address, spender: Address) -> Result<U256, ChainError> {
        self.view(token, &Erc20::allowanceCall { owner, spender }).await
    }

    /// How many transactions the account has sent, those not mined yet included: the next one's nonce.
    pub async fn account_nonce(&self, account: Address) -> Result<u64, ChainError> {
        self.account_nonce_at(account, BlockNumberOrTag::Pending).await
    }

    /// The same as of a block.
    pub async fn account_nonce_at(&self, account: Address, block: BlockNumberOrTag) -> Result<u64, ChainError> {
        self.pool().read("eth_getTransactionCount", &json!([account, block]), number).await
    }

    /// How many transactions of the account are mined, by the word of two endpoints, or of the one where a single one is
    /// configured: the lower and the higher. Too high a word would sign for a slot whose turn never comes.
    pub async fn mined_agreed(&self, account: Address) -> Result<(u64, u64), ChainError> {
        let params = json!([account, BlockNumberOrTag::Latest]);
        let said = self.pool().ask_two("eth_getTransactionCount", &params, None, number).await?;
        let counts = || said.iter().filter_map(|(_, count)| *count);
        match (counts().min(), counts().max()) {
            (Some(lower), Some(higher)) => Ok((lower, higher)),
            _ => Err(ChainError::malformed("a count of transactions reverted")),
        }
    }

    /// A channel, or `None` where the contract has none: closed, or never opened.
    pub async fn channel(&self, on: &Deployment, id: ChannelId) -> Result<Option<OnChainChannel>, ChainError> {
        self.channel_at(on, id, BlockNumberOrTag::Latest).await
    }

    /// The same as of a block. Naming the number of a block keeps nodes that are behind from answering "none".
    pub async fn channel_at(
        &self,
        on: &Deployment,
        id: ChannelId,
        block: BlockNumberOrTag,
    ) -> Result<Option<OnChainChannel>, ChainError> {
        let call = DrainChannel::getChannelCall { channelId: id.0 };
        on_chain(&self.view_at(on.contract(), &call, block).await?)
    }

    /// A channel as of now, by the word of two endpoints, or of the one where a single one is configured: what a close
    /// relies on. Where a claim makes them differ for a moment, the worse for us counts.
    pub async fn channel_agreed(&self, on: &Deployment, id: ChannelId) -> Result<Option<OnChainChannel>, ChainError> {
        self.channel_by_two(on, id, BlockNumberOrTag::Latest, Usdc::max).await
    }

    /// The same as of a final block, and the better for us counts: what one endpoint says was taken gives up no refund.
    pub async fn channel_in_the_end(
        &self,
        on: &Deployment,
        id: ChannelId,
    ) -> Result<Option<OnChainChannel>, ChainError> {
        let block = self.finalized_number().await?.into();
        self.channel_by_two(on, id, block, Usdc::min).await
    }

    async fn channel_by_two(
        &self,
        on: &Deployment,
        id: ChannelId,
        block: BlockNumberOrTag,
        claimed: fn(Usdc, Usdc) -> Usdc,
    ) -> Result<Option<OnChainChannel>, ChainError> {
        let data = Bytes::from(DrainChannel::getChannelCall { channelId: id.0 }.abi_encode());
        let call = json!([{ "to": on.contract(), "data": data }, block]);
        let decode = |value| {
            DrainChannel::getChannelCall::abi_decode_returns_validate(&plain::<Bytes>(value)?)
                .map_err(|_| "no channel".to_owned())
        };
        let said = self.pool().ask_two("eth_call", &call, block.as_number(), decode).await?;
        let mut found: Vec<(&str, Option<OnChainChannel>)> = Vec::new();
        for (endpoint, channel) in &said {
            found.push((&endpoint.host, channel.as_ref().map_or(Ok(None), on_chain)?));
        }
        let (mut hosts, mut agreed) = (found.iter().map(|(host, _)| *host), found.first().map(|(_, first)| *first));
        for (_, other) in found.iter().skip(1) {
            agreed = match (agreed.flatten(), *other) {
                (None, None) => Some(None),
                (Some(one), Some(other)) if one.same_but_for_claims(&other) => {
                    Some(Some(OnChainChannel { claimed: claimed(one.claimed, other.claimed), ..one }))
                }
                _ => {
                    let (one, other) = (hosts.next().unwrap_or_default(), hosts.next().unwrap_or_default());
                    let what = format!("{one} and {other} tell of different channels {id}");
                    return Err(ChainError::Disagreement { what });
                }
            };
        }
        Ok(agreed.flatten())
    }

    /// Whether the contract knows the channel no more as of this block, by the word of two endpoints, or of the one where
    /// a single one is configured: a channel that is taken for closed is given up.
    pub async fn channel_is_gone(&self, on: &Deployment, id: ChannelId, block: u64) -> Result<bool, ChainError> {
        let data = Bytes::from(DrainChannel::getChannelCall { channelId: id.0 }.abi_encode());
        let call = json!([{ "to": on.contract(), "data": data }, BlockNumberOrTag::Number(block)]);
        let gone = |value| {
            let found = DrainChannel::getChannelCall::abi_decode_returns_validate(&plain::<Bytes>(value)?);
            found.map(|found| found.consumer.is_zero()).map_err(|_| "no channel".to_owned())
        };
        let said = self.pool().ask_two("eth_call", &call, Some(block), gone).await?;
        let knows = said.iter().find(|(_, gone)| *gone != Some(true));
        match (knows, said.iter().find(|(_, gone)| *gone == Some(true))) {
            (None, _) => Ok(true),
            (Some(_), None) => Ok(false),
            (Some((one, _)), Some((other, _))) => {
                let what = format!("{} has the channel {id} at block {block}, {} does not", one.host, other.host);
                Err(ChainError::Disagreement { what })
            }
        }
    }

    /// How many channels the consumer has opened on this contract: what a recovery must find (M10).
    pub async fn opened_count(&self, on: &Deployment, consumer: Address) -> Result<u64, ChainError> {
        self.opened_count_at(on, consumer, BlockNumberOrTag::Latest).await
    }

    /// The same as of a block.
    pub async fn opened_count_at(
        &self,
        on: &Deployment,
        consumer: Address,
        block: BlockNumberOrTag,
    ) -> Result<u64, ChainError> {
        let count = self.view_at(on.contract(), &DrainChannel::noncesCall { consumer }, block).await?;
        u64::try_from(count).map_err(|_| ChainError::malformed("nonces() is larger than any count"))
    }

    /// The contract's fee now.
    pub async fn fee(&self, on: &Deployment) -> Result<Fee, ChainError> {
        if on.generation == Generation::V1 {
            return Ok(Fee::default());
        }
        let bps = self.view(on.contract(), &DrainChannel::feeBpsCall {}).await?;
        let recipient = self.view(on.contract(), &DrainChannel::feeRecipientCall {}).await?;
        let bps = u16::try_from(bps).ok().filter(|bps| *bps <= 10_000);
        Ok(Fee { bps: bps.ok_or_else(|| ChainError::malformed("feeBps() is above 10000"))?, recipient })
    }

    /// Who can change the contract's token and fee; zero for nobody any more.
    pub async fn owner(&self, on: &Deployment) -> Result<Address, ChainError> {
        self.view(on.contract(), &DrainChannel::ownerCall {}).await
    }

    /// Checks that the contract is there and holds the table's token, by the word of two endpoints, or of the one where
    /// a single one is configured (M8).
    pub async fn verify_deployment(&self, on: &Deployment) -> Result<(), ChainError> {
        let call =
            json!([{ "to": on.contract(), "data": Bytes::from(DrainChannel::usdcCall {}.abi_encode()) }, "latest"]);
        // Any answer to a call of code that is not there is empty.
        let token = |value| Ok(DrainChannel::usdcCall::abi_decode_returns_validate(&plain::<Bytes>(value)?).ok());
        let said = self.pool().ask_two("eth_call", &call, None, token).await?;
        let said: Vec<_> = said.into_iter().map(|(endpoint, token)| (&endpoint.host, token.flatten())).collect();
        let wrong = said.iter().find(|(_, token)| *token != Some(on.usdc));
        match wrong {
            None => Ok(()),
            Some((host, token)) => {
                let contract = on.contract();
                let says = match token {
                    Some(token) => format!("{host} says that {contract} holds the token {token}, not {}", on.usdc),
                    None => format!("{host} says that {contract} is no channel contract"),
                };
                let all = said.iter().all(|(_, other)| other == token);
                tracing::error!(alarm = "contract_frozen", %contract, what = %says, "opens and closes are frozen (M8)");
                Err(if all { ChainError::Frozen { what: says } } else { ChainError::Disagreement { what: says } })
            }
        }
    }

    /// The first block of `timestamp` or later, at most `last`.
    pub async fn first_block_since(&self, timestamp: u64, last: u64) -> Result<u64, ChainError> {
        let (mut first, mut after) = (0, last);
        while first < after {
            let middle = first.midpoint(after);
            match self.block(middle).await? {
                Some(block) if block.timestamp < timestamp => first = middle + 1,
                _ => after = middle,
            }
        }
        Ok(first)
    }

    /// What a transaction would return; [`ChainError::Reverted`] with the contract's reason where it would fail.
    pub async fn simulate(&self, from: Address, to: Address, data: Bytes, value: U256) -> Result<Bytes, ChainError> {
        let call = json!([{ "from": from, "to": to, "data": data, "value": value }, "latest"]);
        self.pool().read("eth_call", &call, plain).await
    }

    /// The gas that a transaction would use.
    pub async fn estimate_gas(&self, from: Address, to: Address, data: Bytes, value: U256) -> Result<u64, ChainError> {
        let call = json!([{ "from": from, "to": to, "data": data, "value": value }]);
        self.pool().read("eth_estimateGas", &call, number).await
    }

    /// A transaction by its hash: a claim's calldata holds the voucher (M11).
    pub async fn transaction(&self, hash: B256) -> Result<Option<Transaction>, ChainError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            from: Address,
            to: Option<Address>,
            input: Bytes,
            block_number: Option<alloy::primitives::U64>,
        }
        let wire: Option<Wire> = self.pool().read("eth_getTransactionByHash", &json!([hash]), plain).await?;
        Ok(wire.map(|Wire { from, to, input, block_number }| {
            let block_number = block_number.map(|number| number.to());
            Transaction { from, to, input, block_number }
        }))
    }

    pub(super) async fn view<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, ChainError> {
        self.view_at(to, call, BlockNumberOrTag::Latest).await
    }

    async fn view_at<C: SolCall>(
        &self,
        to: Address,
        call: &C,
        block: BlockNumberOrTag,
    ) -> Result<C::Return, ChainError> {
        let params = json!([{ "to": to, "data": Bytes::from(call.abi_encode()) }, block]);
        let answer: Bytes = self.pool().read_of("eth_call", &params, block.as_number(), plain).await?;
        C::abi_decode_returns_validate(&answer).map_err(|_| {
            let why = if answer.is_empty() { "is empty: no contract is there" } else { "has another shape" };
            ChainError::malformed(format!("{} of {to} {why}", C::SIGNATURE))
        })
    }
}

/// A result that is what it is.
pub(super) fn plain<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|_| "another shape than the method has".to_owned())
}

/// A quantity that fits 128 bits.
pub(super) fn quantity(value: Value) -> Result<u128, String> {
    u128::try_from(plain::<U256>(value)?).map_err(|_| "too large".to_owned())
}

fn gone() -> String {
    "no block".to_owned()
}

/// A header, leniently: chains add and omit fields that do not matter here.
pub(super) fn header(value: Value) -> Result<Option<Head>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        number: alloy::primitives::U64,
        hash: B256,
        timestamp: alloy::primitives::U64,
        base_fee_per_gas: Option<U256>,
    }
    let Some(wire) = plain::<Option<Wire>>(value)? else { return Ok(None) };
    let base_fee = wire.base_fee_per_gas.map(u128::try_from).transpose().map_err(|_| "too large a base fee")?;
    Ok(Some(Head { number: wire.number.to(), timestamp: wire.timestamp.to(), base_fee, hash: wire.hash }))
}

pub(super) fn amount(what: &str, value: U256) -> Result<Usdc, ChainError> {
    Usdc::try_from(value).map_err(|error| ChainError::malformed(format!("{what}: {error}")))
}

pub(super) fn expiry(value: U256) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX).min(i64::MAX as u64)
}
