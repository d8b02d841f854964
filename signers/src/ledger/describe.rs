//! What a person is told before the device asks.

use alloy::consensus::SignableTransaction;
use alloy::primitives::utils::format_ether;

use crate::request::{Call, TransactionRequest, VoucherRequest};

/// A voucher in a line.
pub(super) fn voucher(request: &VoucherRequest) -> String {
    let voucher = &request.voucher;
    format!("pay, {} USDC in total, voucher {} of channel {}", voucher.amount, voucher.nonce.get(), voucher.channel_id)
}

/// What the screen shows of a voucher that the device hashes itself.
pub(super) fn voucher_screen(request: &VoucherRequest) -> String {
    format!(
        "it shows chain {}, contract {}, then channelId, amount {} and nonce {} with Raw messages on in the app's settings, else the message hash {}",
        request.domain.chain_id(),
        request.domain.contract(),
        request.voucher.amount.units(),
        request.voucher.nonce.get(),
        request.voucher.struct_hash(),
    )
}

/// What the screen shows where the app knows hash pairs only.
pub(super) fn hashes_screen(request: &VoucherRequest) -> String {
    format!(
        "WARNING: this device cannot show what it signs, only two hashes; approve only if they are domain hash {} and message hash {}",
        request.domain.separator(),
        request.voucher.struct_hash(),
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
