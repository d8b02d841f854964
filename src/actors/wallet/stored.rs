//! Stored signed bytes, read back: what a transaction of an earlier run does, and what it offers for gas.

use alloy::consensus::{TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, ChannelId, Deployment, Generation, U256, Usdc};
use drain_signers::{Call, TransactionRequest};

use crate::chain::Fees;
use crate::journal::TxKind;

/// `None` for what we never sign.
pub(super) fn read(raw: &[u8]) -> Option<TxEip1559> {
    match TxEnvelope::decode_2718(&mut &raw[..]).ok()? {
        TxEnvelope::Eip1559(signed) => Some(signed.tx().clone()),
        _ => None,
    }
}

/// The request that it was signed for: the one that leads to exactly this transaction.
pub(super) fn request(sent: &TxEip1559, kind: TxKind, known: &[Deployment]) -> Option<TransactionRequest> {
    let call = call(sent, kind)?;
    let request = |deployment: &Deployment| TransactionRequest {
        deployment: *deployment,
        call,
        account_nonce: sent.nonce,
        gas_limit: sent.gas_limit,
        max_fee_per_gas: sent.max_fee_per_gas,
        max_priority_fee_per_gas: sent.max_priority_fee_per_gas,
    };
    // Both contracts share the token: what calls the token does not tell them apart, but only V1 has a fee.
    let suits = |on: &&Deployment| kind != TxKind::SessionFee || on.generation == Generation::V1;
    known.iter().filter(suits).map(request).find(|request| request.unsigned() == *sent)
}

fn call(sent: &TxEip1559, kind: TxKind) -> Option<Call> {
    let usdc = |amount: U256| Usdc::try_from(amount).ok();
    let transfer = || Erc20::transferCall::abi_decode(&sent.input).ok();
    Some(match kind {
        TxKind::Approve => match approval(sent)?.1 {
            U256::MAX => Call::ApproveUnlimited,
            amount => Call::Approve { amount: usdc(amount)? },
        },
        TxKind::Open => {
            let open = DrainChannel::openCall::abi_decode(&sent.input).ok()?;
            let duration = ChannelDuration::from_seconds(u64::try_from(open.duration).ok()?).ok()?;
            Call::Open { provider: open.provider, amount: usdc(open.amount)?, duration }
        }
        TxKind::Close => {
            let close = DrainChannel::closeCall::abi_decode(&sent.input).ok()?;
            Call::Close { channel_id: ChannelId(close.channelId) }
        }
        TxKind::CooperativeClose => {
            let close = DrainChannel::cooperativeCloseCall::abi_decode(&sent.input).ok()?;
            Call::CooperativeClose {
                channel_id: ChannelId(close.channelId),
                final_amount: usdc(close.finalAmount)?,
                provider_signature: close.providerSignature.as_ref().try_into().ok()?,
            }
        }
        TxKind::SessionFee => Call::SessionFee { to: transfer()?.to },
        TxKind::SendUsdc => {
            let transfer = transfer()?;
            Call::SendUsdc { to: transfer.to, amount: usdc(transfer.amount)? }
        }
        TxKind::SendNative => Call::SendNative { to: *sent.to.to()?, wei: sent.value },
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
