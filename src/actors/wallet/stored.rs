//! Stored signed bytes, read back: what a transaction of an earlier run does, and what it offers for gas.

use alloy::consensus::{TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, ChannelId, U256, Usdc};
use drain_signers::Call;

use crate::chain::Fees;

/// `None` for what we never sign.
pub(super) fn read(raw: &[u8]) -> Option<TxEip1559> {
    match TxEnvelope::decode_2718(&mut &raw[..]).ok()? {
        TxEnvelope::Eip1559(signed) => Some(signed.tx().clone()),
        _ => None,
    }
}

/// The close that it is.
pub(super) fn close(transaction: &TxEip1559) -> Option<Call> {
    if let Ok(call) = DrainChannel::closeCall::abi_decode(&transaction.input) {
        return Some(Call::Close { channel_id: ChannelId(call.channelId) });
    }
    let call = DrainChannel::cooperativeCloseCall::abi_decode(&transaction.input).ok()?;
    Some(Call::CooperativeClose {
        channel_id: ChannelId(call.channelId),
        final_amount: Usdc::try_from(call.finalAmount).ok()?,
        provider_signature: call.providerSignature.as_ref().try_into().ok()?,
    })
}

/// The approval that it is: for whom, and how much.
pub(super) fn approval(transaction: &TxEip1559) -> Option<(Address, U256)> {
    let call = Erc20::approveCall::abi_decode(&transaction.input).ok()?;
    Some((call.spender, call.amount))
}

/// What it offers for gas.
pub(super) const fn fees(transaction: &TxEip1559) -> Fees {
    Fees {
        max_fee_per_gas: transaction.max_fee_per_gas,
        max_priority_fee_per_gas: transaction.max_priority_fee_per_gas,
    }
}
