//! What a person is told before the device asks.

use alloy::consensus::SignableTransaction;
use alloy::primitives::utils::format_ether;

use crate::request::{Call, Message, TransactionRequest, TransferRequest, VoucherRequest};

/// A message in a line.
pub(super) fn message(message: &Message) -> String {
    match message {
        Message::Voucher(request) => {
            let voucher = &request.voucher;
            let (amount, nonce) = (voucher.amount, voucher.nonce.get());
            format!("pay, {amount} USDC in total, voucher {nonce} of channel {}", voucher.channel_id)
        }
        Message::Transfer(request) => format!("pay, {} USDC, to {}", request.transfer.value, request.transfer.to),
    }
}

/// What the screen shows of a message that the device hashes itself.
pub(super) fn message_screen(message: &Message) -> String {
    let (chain_id, contract, fields) = match message {
        Message::Voucher(VoucherRequest { domain, voucher, .. }) => {
            let (amount, nonce) = (voucher.amount.units(), voucher.nonce.get());
            (domain.chain_id(), domain.contract(), format!("channelId, amount {amount} and nonce {nonce}"))
        }
        Message::Transfer(TransferRequest { asset, transfer, .. }) => {
            let (to, value) = (transfer.to, transfer.value.units());
            (asset.chain_id, asset.token, format!("from, to {to}, value {value}, its times and nonce"))
        }
    };
    format!(
        "it shows chain {chain_id}, contract {contract}, then {fields} with Raw messages on in the app's settings, else the message hash {}",
        message.struct_hash(),
    )
}

/// What the screen shows where the app knows hash pairs only.
pub(super) fn hashes_screen(message: &Message) -> String {
    format!(
        "WARNING: this device cannot show what it signs, only two hashes; approve only if they are domain hash {} and message hash {}",
        message.domain_separator(),
        message.struct_hash(),
    )
}

/// A transaction in a line.
pub(super) fn transaction(request: &TransactionRequest) -> String {
    let contract = request.deployment.contract();
    match request.call {
        Call::Approve { amount } => format!("approve, {amount} USDC, contract {contract}"),
        Call::ApproveUnlimited => format!("approve, ALL USDC without bound, contract {contract}"),
        Call::Open { provider, amount, duration } => {
            format!("open channel, {amount} USDC, provider {provider}, for {duration}")
        }
        Call::Close { channel_id } => format!("close channel {channel_id}"),
        Call::CooperativeClose { channel_id, final_amount, .. } => {
            format!("close channel {channel_id}, {final_amount} USDC to the provider, the rest back")
        }
        Call::SessionFee { to } => format!("session fee, {} USDC, to {to}", crate::request::SESSION_FEE),
        Call::SendUsdc { to, amount } => format!("send, {amount} USDC, to {to}"),
        Call::SendNative { to, wei } => format!("send, {} POL, to {to}", format_ether(wei)),
    }
}

/// What the screen shows of a transaction.
pub(super) fn transaction_screen(request: &TransactionRequest) -> String {
    match request.call {
        Call::SendNative { .. } => {
            format!("it shows amount, recipient and fees on chain {}", request.deployment.chain_id())
        }
        _ => format!(
            "it shows that blind signing lies ahead, {}, the fees, and for most calls the transaction hash {}",
            request.to(),
            request.unsigned().signature_hash(),
        ),
    }
}
