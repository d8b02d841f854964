//! Receipts and logs: what really happened on chain.

use alloy::primitives::U64;
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, B256, ChannelId, Deployment, U256, Usdc};
use serde::Deserialize;

use super::reads::{amount, expiry};
use super::{Chain, ChainError};

/// What became of a mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub hash: B256,
    /// Its block.
    pub block_number: u64,
    /// Its block's hash.
    pub block_hash: B256,
    /// False for one that reverted: only gas was used.
    pub success: bool,
    /// What the contracts logged.
    pub logs: Vec<Log>,
    /// Gas that it used.
    pub gas_used: u64,
    /// Wei that a unit of it cost.
    pub effective_gas_price: u128,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: Option<U64>,
    logs: Vec<Log>,
    gas_used: U64,
    effective_gas_price: Option<U256>,
}

impl Receipt {
    /// Reads `eth_getTransactionReceipt`'s answer; `None` for a transaction that is not mined.
    pub(super) fn read(value: serde_json::Value, hash: B256) -> Result<Option<Self>, String> {
        let Some(wire) = super::reads::plain::<Option<WireReceipt>>(value)? else { return Ok(None) };
        if wire.transaction_hash != hash {
            return Err("the receipt of another transaction".into());
        }
        let (Some(block_number), Some(block_hash)) = (wire.block_number, wire.block_hash) else { return Ok(None) };
        let price = wire.effective_gas_price.unwrap_or_default();
        Ok(Some(Self {
            hash,
            block_number: block_number.to(),
            block_hash,
            success: wire.status.ok_or("no status")? == U64::from(1),
            logs: wire.logs,
            gas_used: wire.gas_used.to(),
            effective_gas_price: u128::try_from(price).map_err(|_| "too high a gas price")?,
        }))
    }

    /// What the transaction's gas cost, in wei.
    pub fn gas_cost_wei(&self) -> U256 {
        U256::from(self.effective_gas_price).saturating_mul(U256::from(self.gas_used))
    }

    /// Whether both tell the same: block, outcome and logs.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let logs = |receipt: &Self| receipt.logs.iter().map(|log| log.inner.clone()).collect::<Vec<_>>();
        (self.block_hash, self.success) == (other.block_hash, other.success) && logs(self) == logs(other)
    }

    fn succeeded(&self) -> Result<(), ChainError> {
        if self.success { Ok(()) } else { Err(ChainError::Reverted { reason: "it was mined and reverted".into() }) }
    }

    /// The events of one kind that one contract logged.
    fn events<E: SolEvent>(&self, contract: Address) -> impl Iterator<Item = E> {
        let logs = self.logs.iter().filter(move |log| log.address() == contract && !log.removed);
        logs.filter_map(|log| E::decode_log_validate(&log.inner).ok().map(|event| event.data))
    }
}

impl Chain {
    /// The receipt of a mined transaction.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, ChainError> {
        let params = serde_json::json!([hash]);
        self.pool().read("eth_getTransactionReceipt", &params, |value| Receipt::read(value, hash)).await
    }
}

/// A channel that a transaction opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedEvent {
    /// Its id.
    pub channel_id: ChannelId,
    /// What was paid in.
    pub deposit: Usdc,
    /// Unix seconds.
    pub expiry: u64,
}

/// A channel that a transaction closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedEvent {
    /// What came back.
    pub refund: Usdc,
    /// What the provider was paid by the close itself, fee included; `None` where nothing was.
    pub claimed_increment: Option<Usdc>,
    /// The contract's part of that.
    pub fee: Usdc,
}

fn missing(what: String) -> ChainError {
    ChainError::Unexpected { what }
}

/// The channel that this receipt opened: the contract's event with exactly these parties and this deposit, and the
/// deposit's transfer of the table's token (M7).
pub fn expect_opened(
    receipt: &Receipt,
    on: &Deployment,
    consumer: Address,
    provider: Address,
    deposit: Usdc,
) -> Result<OpenedEvent, ChainError> {
    receipt.succeeded()?;
    let opened = receipt
        .events::<DrainChannel::ChannelOpened>(on.contract())
        .find(|event| event.consumer == consumer && event.provider == provider && event.deposit == deposit.to_u256());
    let opened = opened.ok_or_else(|| {
        missing(format!("no ChannelOpened of {} by {consumer} to {provider} with {deposit} USDC", on.contract()))
    })?;
    expect_transfer(receipt, on.usdc, consumer, on.contract(), deposit)?;
    Ok(OpenedEvent { channel_id: ChannelId(opened.channelId), deposit, expiry: expiry(opened.expiry) })
}

/// The close that this receipt tells of: the contract's event for this channel and consumer, and the refund's transfer.
pub fn expect_closed(
    receipt: &Receipt,
    on: &Deployment,
    channel_id: ChannelId,
    consumer: Address,
) -> Result<ClosedEvent, ChainError> {
    receipt.succeeded()?;
    let closed = receipt
        .events::<DrainChannel::ChannelClosed>(on.contract())
        .find(|event| event.channelId == channel_id.0 && event.consumer == consumer)
        .ok_or_else(|| missing(format!("no ChannelClosed of {} for {channel_id}", on.contract())))?;
    let refund = amount("ChannelClosed", closed.refund)?;
    if !refund.is_zero() {
        expect_transfer(receipt, on.usdc, on.contract(), consumer, refund)?;
    }
    let claimed = receipt.events::<DrainChannel::ChannelClaimed>(on.contract());
    let claimed =
        claimed.filter(|event| event.channelId == channel_id.0).map(|event| amount("ChannelClaimed", event.amount));
    let fees = receipt.events::<DrainChannel::FeePaid>(on.contract());
    let fees = fees.filter(|event| event.channelId == channel_id.0).map(|event| amount("FeePaid", event.amount));
    let claimed: Vec<Usdc> = claimed.collect::<Result<_, _>>()?;
    let claimed_increment = (!claimed.is_empty()).then(|| claimed.into_iter().sum());
    Ok(ClosedEvent { refund, claimed_increment, fee: fees.sum::<Result<Usdc, _>>()? })
}

/// Checks that the receipt holds this transfer of this token.
pub fn expect_transfer(
    receipt: &Receipt,
    token: Address,
    from: Address,
    to: Address,
    value: Usdc,
) -> Result<(), ChainError> {
    receipt.succeeded()?;
    let wanted = Erc20::Transfer { from, to, value: value.to_u256() };
    match receipt.events::<Erc20::Transfer>(token).any(|event| event == wanted) {
        true => Ok(()),
        false => Err(missing(format!("no Transfer of {value} USDC from {from} to {to} at the token {token}"))),
    }
}

/// Checks that the receipt holds this approval; the value is the contract's own, since it may be unlimited.
pub fn expect_approval(
    receipt: &Receipt,
    token: Address,
    owner: Address,
    spender: Address,
    value: U256,
) -> Result<(), ChainError> {
    receipt.succeeded()?;
    let wanted = Erc20::Approval { owner, spender, value };
    match receipt.events::<Erc20::Approval>(token).any(|event| event == wanted) {
        true => Ok(()),
        false => Err(missing(format!("no Approval for {spender} at the token {token}"))),
    }
}

/// Where a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The contract. Two contracts may give the same id to two channels: it is part of a channel's key.
    pub contract: Address,
    /// The block.
    pub block_number: u64,
    /// The block's hash: another one at the same number is a reorg.
    pub block_hash: B256,
    /// The log's place in the block.
    pub log_index: u64,
    /// The transaction.
    pub transaction: B256,
}

/// Something that a channel contract logged, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are the contract's.
pub enum ChannelEvent {
    /// A channel was opened.
    Opened { at: LogPlace, channel_id: ChannelId, consumer: Address, provider: Address, deposit: Usdc, expiry: u64 },
    /// A provider took `amount` more, fee included; not the total.
    Claimed { at: LogPlace, channel_id: ChannelId, provider: Address, amount: Usdc },
    /// A channel was closed.
    Closed { at: LogPlace, channel_id: ChannelId, consumer: Address, refund: Usdc },
    /// The contract's fee on a payout.
    FeePaid { at: LogPlace, channel_id: ChannelId, recipient: Address, amount: Usdc },
    /// The owner set the fee.
    FeeUpdated { at: LogPlace, recipient: Address, bps: U256 },
    /// The owner changed the token (M8: freezes).
    UsdcUpdated { at: LogPlace, old: Address, new: Address },
    /// The owner took what no channel holds.
    Swept { at: LogPlace, to: Address, amount: U256 },
    /// Nobody owns the contract any more.
    OwnershipRenounced { at: LogPlace, owner: Address },
}

impl ChannelEvent {
    /// Where it is.
    pub const fn at(&self) -> &LogPlace {
        match self {
            Self::Opened { at, .. }
            | Self::Claimed { at, .. }
            | Self::Closed { at, .. }
            | Self::FeePaid { at, .. }
            | Self::FeeUpdated { at, .. }
            | Self::UsdcUpdated { at, .. }
            | Self::Swept { at, .. }
            | Self::OwnershipRenounced { at, .. } => at,
        }
    }
}

/// The events among the logs, in their order. Logs of other contracts, of other shapes and of blocks that are gone are
/// left out.
pub fn channel_events(deployments: &[Deployment], logs: &[Log]) -> Vec<ChannelEvent> {
    let known = |log: &&Log| !log.removed && deployments.iter().any(|on| on.contract() == log.address());
    logs.iter().filter(known).filter_map(channel_event).collect()
}

fn channel_event(log: &Log) -> Option<ChannelEvent> {
    use ChannelEvent as Told;
    use DrainChannel::DrainChannelEvents as Event;
    use alloy::sol_types::SolEventInterface;
    let usdc = |value: U256| Usdc::try_from(value).ok();
    let at = LogPlace {
        contract: log.address(),
        block_number: log.block_number?,
        block_hash: log.block_hash?,
        log_index: log.log_index?,
        transaction: log.transaction_hash?,
    };
    Some(match Event::decode_log(&log.inner).ok()?.data {
        Event::ChannelOpened(e) => Told::Opened {
            at,
            channel_id: ChannelId(e.channelId),
            consumer: e.consumer,
            provider: e.provider,
            deposit: usdc(e.deposit)?,
            expiry: expiry(e.expiry),
        },
        Event::ChannelClaimed(e) => {
            Told::Claimed { at, channel_id: ChannelId(e.channelId), provider: e.provider, amount: usdc(e.amount)? }
        }
        Event::ChannelClosed(e) => {
            Told::Closed { at, channel_id: ChannelId(e.channelId), consumer: e.consumer, refund: usdc(e.refund)? }
        }
        Event::FeePaid(e) => {
            Told::FeePaid { at, channel_id: ChannelId(e.channelId), recipient: e.recipient, amount: usdc(e.amount)? }
        }
        Event::FeeUpdated(e) => Told::FeeUpdated { at, recipient: e.feeRecipient, bps: e.feeBps },
        Event::USDCUpdated(e) => Told::UsdcUpdated { at, old: e.oldUsdc, new: e.newUsdc },
        Event::Swept(e) => Told::Swept { at, to: e.to, amount: e.amount },
        Event::OwnershipRenounced(e) => Told::OwnershipRenounced { at, owner: e.owner },
    })
}
