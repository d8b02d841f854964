//! What can be signed: a voucher, a transfer that pays for one request (of USDC, or over Tempo), or one of the known
//! transactions. Nothing else has a type.

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::primitives::{Bytes, Signature, TxKind, keccak256};
use alloy::sol_types::Eip712Domain;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::{
    Address, Asset, B256, ChannelId, Deployment, Domain, TempoTransfer, Transfer, U256, Usdc, Voucher,
};

/// V1's session fee: one cent, exactly (protocol.md section 9).
pub const SESSION_FEE: Usdc = Usdc::new(10_000);

/// A voucher to sign, with what the signer needs to judge it by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoucherRequest {
    /// Chain and contract.
    pub domain: Domain,
    /// What is promised.
    pub voucher: Voucher,
    /// What the channel's contract holds: no voucher is above it (M3).
    pub deposit: Usdc,
}

/// A payment for one request without a channel: whoever has the signature can move exactly this, once (EIP-3009).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// Chain and token.
    pub asset: Asset,
    /// What is paid to whom, and until when.
    pub transfer: Transfer,
    /// The time by which its validity is judged, in Unix seconds.
    pub now: u64,
}

/// A payment for one request over Tempo: a transaction that whoever has it can send, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempoRequest {
    /// What is paid to whom, with which gas, and until when.
    pub order: TempoTransfer,
    /// The time by which its validity is judged, in Unix seconds of Tempo's chain.
    pub now: u64,
}

/// A message that is signed (EIP-712).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A voucher of a channel.
    Voucher(VoucherRequest),
    /// A payment of its own.
    Transfer(TransferRequest),
}

impl From<VoucherRequest> for Message {
    fn from(request: VoucherRequest) -> Self {
        Self::Voucher(request)
    }
}

impl From<TransferRequest> for Message {
    fn from(request: TransferRequest) -> Self {
        Self::Transfer(request)
    }
}

impl Message {
    /// The domain that it is signed in.
    pub fn domain(&self) -> Eip712Domain {
        match self {
            Self::Voucher(request) => request.domain.eip712(),
            Self::Transfer(request) => request.asset.eip712(),
        }
    }

    /// Hash of the domain.
    pub fn domain_separator(&self) -> B256 {
        match self {
            // Computed once, with the channel.
            Self::Voucher(request) => request.domain.separator(),
            Self::Transfer(request) => request.asset.separator(),
        }
    }

    /// Hash of what it says.
    pub fn struct_hash(&self) -> B256 {
        match self {
            Self::Voucher(request) => request.voucher.struct_hash(),
            Self::Transfer(request) => request.transfer.struct_hash(),
        }
    }

    /// The hash that is signed.
    pub fn digest(&self) -> B256 {
        keccak256([&[0x19, 0x01][..], self.domain_separator().as_slice(), self.struct_hash().as_slice()].concat())
    }
}

/// The transactions that this software sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Lets the channel contract draw up to `amount` of USDC; zero withdraws the permission.
    Approve {
        /// The new allowance.
        amount: Usdc,
    },
    /// Lets the channel contract draw any amount (M9: only where the operator says so).
    ApproveUnlimited,
    /// Opens a channel.
    Open {
        /// Who is paid.
        provider: Address,
        /// The deposit.
        amount: Usdc,
        /// How long the money is bound.
        duration: ChannelDuration,
    },
    /// Closes a channel that has expired.
    Close {
        /// Which channel.
        channel_id: ChannelId,
    },
    /// Closes a channel now, by the provider's consent. V2 only.
    CooperativeClose {
        /// Which channel.
        channel_id: ChannelId,
        /// What the provider takes in total.
        final_amount: Usdc,
        /// The provider's CloseAuthorization.
        provider_signature: [u8; 65],
    },
    /// Pays the marketplace's session fee, always [`SESSION_FEE`]. V1 only.
    SessionFee {
        /// The marketplace's fee wallet.
        to: Address,
    },
    /// Sends USDC to one of [`crate::Policy::recipients`].
    SendUsdc {
        /// Who receives it.
        to: Address,
        /// How much.
        amount: Usdc,
    },
    /// Sends the chain's own coin to one of [`crate::Policy::recipients`].
    SendNative {
        /// Who receives it.
        to: Address,
        /// How much.
        wei: U256,
    },
}

impl Call {
    /// A stable name, for metrics and the journal. Both approvals are `"approve"`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Approve { .. } | Self::ApproveUnlimited => "approve",
            Self::Open { .. } => "open",
            Self::Close { .. } => "close",
            Self::CooperativeClose { .. } => "cooperative_close",
            Self::SessionFee { .. } => "session_fee",
            Self::SendUsdc { .. } => "send_usdc",
            Self::SendNative { .. } => "send_native",
        }
    }
}

/// A transaction to sign. Target, value and calldata follow from `deployment` and `call` alone (M8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRequest {
    /// Chain, contract and token.
    pub deployment: Deployment,
    /// What to do.
    pub call: Call,
    /// The account's transaction count.
    pub account_nonce: u64,
    /// The most gas to use.
    pub gas_limit: u64,
    /// The most wei to pay for a unit of gas, tip included.
    pub max_fee_per_gas: u128,
    /// The tip in wei for a unit of gas.
    pub max_priority_fee_per_gas: u128,
}

impl TransactionRequest {
    /// Whom the transaction calls. Other than the deployment's contract and token only for a plain transfer of coin.
    pub const fn to(&self) -> Address {
        match self.call {
            Call::Open { .. } | Call::Close { .. } | Call::CooperativeClose { .. } => self.deployment.contract(),
            Call::Approve { .. } | Call::ApproveUnlimited | Call::SessionFee { .. } | Call::SendUsdc { .. } => {
                self.deployment.usdc
            }
            Call::SendNative { to, .. } => to,
        }
    }

    /// The chain's own coin that goes along, in wei.
    pub const fn value(&self) -> U256 {
        match self.call {
            Call::SendNative { wei, .. } => wei,
            _ => U256::ZERO,
        }
    }

    /// The call's data, built from the contract bindings.
    pub fn calldata(&self) -> Bytes {
        let spender = self.deployment.contract();
        let transfer = |to, amount: Usdc| Erc20::transferCall { to, amount: amount.to_u256() }.abi_encode();
        match self.call {
            Call::Approve { amount } => Erc20::approveCall { spender, amount: amount.to_u256() }.abi_encode(),
            Call::ApproveUnlimited => Erc20::approveCall { spender, amount: U256::MAX }.abi_encode(),
            Call::Open { provider, amount, duration } => {
                DrainChannel::openCall { provider, amount: amount.to_u256(), duration: U256::from(duration.seconds()) }
                    .abi_encode()
            }
            Call::Close { channel_id } => DrainChannel::closeCall { channelId: channel_id.0 }.abi_encode(),
            Call::CooperativeClose { channel_id, final_amount, provider_signature } => {
                DrainChannel::cooperativeCloseCall {
                    channelId: channel_id.0,
                    finalAmount: final_amount.to_u256(),
                    providerSignature: provider_signature.into(),
                }
                .abi_encode()
            }
            Call::SessionFee { to } => transfer(to, SESSION_FEE),
            Call::SendUsdc { to, amount } => transfer(to, amount),
            Call::SendNative { .. } => Vec::new(),
        }
        .into()
    }

    /// The transaction that is signed (EIP-1559).
    pub fn unsigned(&self) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.deployment.chain_id(),
            nonce: self.account_nonce,
            gas_limit: self.gas_limit,
            max_fee_per_gas: self.max_fee_per_gas,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
            to: TxKind::Call(self.to()),
            value: self.value(),
            access_list: Default::default(),
            input: self.calldata(),
        }
    }
}

/// A transaction ready to broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    /// The bytes for `eth_sendRawTransaction`.
    pub raw: Bytes,
    /// The transaction's hash: known before it is broadcast, so that it can be journaled (M7).
    pub hash: B256,
}

impl SignedTransaction {
    /// Puts a signature to its transaction.
    pub(crate) fn assemble(unsigned: TxEip1559, signature: Signature) -> Self {
        let signed = unsigned.into_signed(signature);
        let mut raw = Vec::with_capacity(signed.eip2718_encoded_length());
        signed.eip2718_encode(&mut raw);
        Self { raw: raw.into(), hash: *signed.hash() }
    }
}
