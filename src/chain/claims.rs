//! Whose voucher a claim used (M11).

use alloy::primitives::{Bytes, Signature, keccak256};
use alloy::sol_types::{SolCall, SolValue};
use drain_protocol::contract::DrainChannel;
use drain_protocol::{Address, B256, ChannelId, Domain, U256};

/// The voucher in a claim's calldata. Amount and nonce are the contract's words, not ours: whoever stole a key signs
/// what it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedVoucher {
    /// Which channel.
    pub channel_id: ChannelId,
    /// The total that it authorises.
    pub amount: U256,
    /// Its number.
    pub nonce: U256,
    /// Who signed it.
    pub signer: Address,
}

/// Reads a claim's calldata ([`super::Transaction::input`]); `None` for any other call and for a signature of nobody.
pub fn claimed_voucher(domain: &Domain, input: &Bytes) -> Option<ClaimedVoucher> {
    let claim = DrainChannel::claimCall::abi_decode_validate(input).ok()?;
    let kind: B256 = keccak256("Voucher(bytes32 channelId,uint256 amount,uint256 nonce)");
    let voucher = keccak256((kind, claim.channelId, claim.amount, claim.nonce).abi_encode());
    let digest = keccak256([&[0x19, 0x01], domain.separator().as_slice(), voucher.as_slice()].concat());
    let signature = Signature::from_raw(&claim.signature).ok()?;
    let signer = signature.recover_address_from_prehash(&digest).ok()?;
    Some(ClaimedVoucher { channel_id: ChannelId(claim.channelId), amount: claim.amount, nonce: claim.nonce, signer })
}
