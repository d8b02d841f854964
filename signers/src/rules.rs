//! The signer's own last checks. They trust nothing above them: not the policy, not the journal, not an agent.

use drain_protocol::{Address, Asset, Deployment, Generation, Transfer, Usdc, tempo};

use crate::error::SignerError;
use crate::request::{Call, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest};

/// What this signer may sign. Everything that is not allowed here is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The one chain.
    pub chain_id: u64,
    /// The known contracts, from the built-in table or the operator (M8).
    pub deployments: Vec<Deployment>,
    /// The tokens that transfers may pay with, from the built-in table or the operator (M8). Empty at first: none.
    pub assets: Vec<Asset>,
    /// Tempo's chain, where transfers pay over it too. At first none is signed.
    pub tempo: Option<u64>,
    /// The most that one transfer may pay.
    pub max_transfer: Usdc,
    /// Who may be sent USDC or coin: the operator's treasury. Empty at first: nobody.
    pub recipients: Vec<Address>,
    /// Whether an unlimited allowance may be given (M9). At first not.
    pub unlimited_allowance: bool,
    /// The most wei for a unit of gas. At first [`Policy::MAX_FEE_PER_GAS`].
    pub max_fee_per_gas: u128,
    /// The most gas for a transaction. At first [`Policy::MAX_GAS`].
    pub max_gas: u64,
}

/// Which rule forbids a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Another chain than the configured one.
    #[error("it is for chain {asked}, this signer is for chain {allowed}")]
    WrongChain {
        /// What was asked.
        asked: u64,
        /// What is configured.
        allowed: u64,
    },
    /// A contract, or a pair of contract and token, that is not in the table.
    #[error("the contract {contract} (with the token and generation given) is none of the known deployments")]
    UnknownDeployment {
        /// What was asked.
        contract: Address,
    },
    /// A voucher above what the channel holds (M3).
    #[error("the voucher is for {amount} USDC in total, the channel holds {deposit}")]
    AboveDeposit {
        /// What was asked.
        amount: Usdc,
        /// What the channel holds.
        deposit: Usdc,
    },
    /// A token, or a name of it, that is not in the table.
    #[error("the token {token} on chain {chain_id} is none that is paid with")]
    UnknownAsset {
        /// What was asked.
        token: Address,
        /// On which chain.
        chain_id: u64,
    },
    /// A transfer of somebody else's money.
    #[error("it moves money of {from}, this signer is {own}")]
    WrongPayer {
        /// What was asked.
        from: Address,
        /// Who signs.
        own: Address,
    },
    /// More than one transfer may pay (M3).
    #[error("it pays {amount} USDC, the most for one request is {most}")]
    AboveTransferLimit {
        /// What was asked.
        amount: Usdc,
        /// The most allowed.
        most: Usdc,
    },
    /// More gas than a transfer over Tempo may cost.
    #[error("its gas may cost {amount} USDC, the most is {most}")]
    GasCost {
        /// What was asked.
        amount: Usdc,
        /// The most allowed.
        most: Usdc,
    },
    /// Not valid now, or for too long.
    #[error(
        "it is valid for {seconds} s from now; only a transfer that is valid now and for {most} s at most is signed"
    )]
    ValidTooLong {
        /// What was asked; zero where it is not valid now.
        seconds: u64,
        /// The longest allowed.
        most: u64,
    },
    /// The contract's generation has no such transaction.
    #[error("a {call} transaction does not exist on a {generation} contract")]
    WrongGeneration {
        /// What was asked.
        call: &'static str,
        /// The contract's generation.
        generation: Generation,
    },
    /// An amount of zero makes no sense here.
    #[error("the amount of a {call} transaction is zero")]
    ZeroAmount {
        /// What was asked.
        call: &'static str,
    },
    /// A counterparty that cannot be meant: zero, the signer itself, the token or a channel contract.
    #[error("{address} cannot be the other side of a {call} transaction: it is {role}")]
    WrongCounterparty {
        /// What was asked.
        call: &'static str,
        /// The other side.
        address: Address,
        /// What it is.
        role: &'static str,
    },
    /// Not an address that the operator named.
    #[error("{address} is not among the recipients that the operator named")]
    UnknownRecipient {
        /// What was asked.
        address: Address,
    },
    /// Unlimited allowances are not allowed.
    #[error("an unlimited allowance needs the operator's word in the configuration")]
    UnlimitedAllowance,
    /// A gas price above the ceiling.
    #[error("it offers {asked} wei for a unit of gas, the ceiling is {ceiling}")]
    GasPrice {
        /// What was asked.
        asked: u128,
        /// The most allowed.
        ceiling: u128,
    },
    /// A tip above the whole price: no node takes it.
    #[error("its tip of {tip} wei is above its price of {price} wei for a unit of gas")]
    TipAbovePrice {
        /// What was asked.
        tip: u128,
        /// The price that includes it.
        price: u128,
    },
    /// More gas than any known transaction needs.
    #[error("it may use {asked} gas, the ceiling is {ceiling}")]
    GasLimit {
        /// What was asked.
        asked: u64,
        /// The most allowed.
        ceiling: u64,
    },
}

impl Refusal {
    /// A stable name, for metrics and logs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongChain { .. } => "wrong_chain",
            Self::UnknownDeployment { .. } => "unknown_deployment",
            Self::AboveDeposit { .. } => "above_deposit",
            Self::UnknownAsset { .. } => "unknown_asset",
            Self::WrongPayer { .. } => "wrong_payer",
            Self::AboveTransferLimit { .. } => "above_transfer_limit",
            Self::GasCost { .. } => "gas_cost",
            Self::ValidTooLong { .. } => "valid_too_long",
            Self::WrongGeneration { .. } => "wrong_generation",
            Self::ZeroAmount { .. } => "zero_amount",
            Self::WrongCounterparty { .. } => "wrong_counterparty",
            Self::UnknownRecipient { .. } => "unknown_recipient",
            Self::UnlimitedAllowance => "unlimited_allowance",
            Self::GasPrice { .. } => "gas_price",
            Self::TipAbovePrice { .. } => "tip_above_price",
            Self::GasLimit { .. } => "gas_limit",
        }
    }
}

impl Policy {
    /// 5,000 gwei.
    pub const MAX_FEE_PER_GAS: u128 = 5_000_000_000_000;
    /// Several times what the dearest known transaction uses.
    pub const MAX_GAS: u64 = 1_000_000;

    /// The longest that a transfer that pays for a request may be valid, in seconds.
    pub const MAX_TRANSFER_TIME: u64 = 600;

    /// Channels on these deployments, no transfers, no unlimited allowance, the usual gas ceilings.
    pub const fn new(chain_id: u64, deployments: Vec<Deployment>) -> Self {
        Self {
            chain_id,
            deployments,
            assets: Vec::new(),
            tempo: None,
            max_transfer: Usdc::ZERO,
            recipients: Vec::new(),
            unlimited_allowance: false,
            max_fee_per_gas: Self::MAX_FEE_PER_GAS,
            max_gas: Self::MAX_GAS,
        }
    }

    /// Whether a voucher may be signed.
    pub fn check_voucher(&self, request: &VoucherRequest) -> Result<(), SignerError> {
        let VoucherRequest { domain, voucher, deposit } = request;
        self.check_chain(domain.chain_id())?;
        if !self.deployments.iter().any(|known| known.domain == *domain) {
            return Err(Refusal::UnknownDeployment { contract: domain.contract() }.into());
        }
        if voucher.amount > *deposit {
            return Err(Refusal::AboveDeposit { amount: voucher.amount, deposit: *deposit }.into());
        }
        Ok(())
    }

    /// Whether the account `own` may sign a transfer that pays for one request.
    pub fn check_transfer(&self, request: &TransferRequest, own: Address) -> Result<(), SignerError> {
        let TransferRequest { asset, transfer, now } = request;
        self.check_chain(asset.chain_id)?;
        if !self.assets.contains(asset) {
            return Err(Refusal::UnknownAsset { token: asset.token, chain_id: asset.chain_id }.into());
        }
        self.check_payment(transfer, asset.token, own, *now, Self::MAX_TRANSFER_TIME)
    }

    /// Whether the account `own` may sign a transfer that pays for one request over Tempo.
    pub fn check_tempo(&self, request: &TempoRequest, own: Address) -> Result<(), SignerError> {
        let TempoRequest { order, now } = request;
        let chain_id = order.chain_id;
        match self.tempo {
            Some(allowed) if allowed != chain_id => {
                return Err(Refusal::WrongChain { asked: chain_id, allowed }.into());
            }
            Some(_) if tempo::tokens(chain_id).contains(&order.token) => {}
            _ => return Err(Refusal::UnknownAsset { token: order.token, chain_id }.into()),
        }
        let amount = order.gas.most();
        if !order.sponsored && amount > tempo::MOST_GAS {
            return Err(Refusal::GasCost { amount, most: tempo::MOST_GAS }.into());
        }
        self.check_payment(&order.transfer, order.token, own, *now, tempo::LONGEST)
    }

    /// What holds for every transfer that pays for one request.
    fn check_payment(
        &self,
        transfer: &Transfer,
        token: Address,
        own: Address,
        now: u64,
        longest: u64,
    ) -> Result<(), SignerError> {
        let call = "transfer";
        if transfer.from != own {
            return Err(Refusal::WrongPayer { from: transfer.from, own }.into());
        }
        self.check_counterparty(call, transfer.to, own)?;
        if transfer.to == token {
            return Err(Refusal::WrongCounterparty { call, address: transfer.to, role: "the token itself" }.into());
        }
        if transfer.value.is_zero() {
            return Err(Refusal::ZeroAmount { call }.into());
        }
        if transfer.value > self.max_transfer {
            return Err(Refusal::AboveTransferLimit { amount: transfer.value, most: self.max_transfer }.into());
        }
        let seconds = if transfer.valid_after < now { transfer.valid_before.saturating_sub(now) } else { 0 };
        if !(1..=longest).contains(&seconds) {
            return Err(Refusal::ValidTooLong { seconds, most: longest }.into());
        }
        Ok(())
    }

    /// Whether the account `own` may sign a transaction.
    pub fn check_transaction(&self, request: &TransactionRequest, own: Address) -> Result<(), SignerError> {
        let deployment = &request.deployment;
        self.check_chain(deployment.chain_id())?;
        if !self.deployments.contains(deployment) {
            return Err(Refusal::UnknownDeployment { contract: deployment.contract() }.into());
        }
        self.check_gas(request)?;

        let call = request.call.kind();
        let not_zero = |zero: bool| if zero { Err(Refusal::ZeroAmount { call }) } else { Ok(()) };
        let only_on = |generation| {
            if deployment.generation == generation {
                Ok(())
            } else {
                Err(Refusal::WrongGeneration { call, generation: deployment.generation })
            }
        };
        match request.call {
            // Zero withdraws an allowance.
            Call::Approve { .. } => {}
            Call::ApproveUnlimited if !self.unlimited_allowance => return Err(Refusal::UnlimitedAllowance.into()),
            Call::ApproveUnlimited => {}
            Call::Open { provider, amount, .. } => {
                not_zero(amount.is_zero())?;
                self.check_counterparty(call, provider, own)?;
            }
            Call::Close { .. } => {}
            // A final amount of zero gives everything back.
            Call::CooperativeClose { .. } => only_on(Generation::V2)?,
            Call::SessionFee { to } => {
                only_on(Generation::V1)?;
                self.check_counterparty(call, to, own)?;
            }
            Call::SendUsdc { to, amount } => {
                not_zero(amount.is_zero())?;
                self.check_recipient(call, to, own)?;
            }
            Call::SendNative { to, wei } => {
                not_zero(wei.is_zero())?;
                self.check_recipient(call, to, own)?;
            }
        }
        Ok(())
    }

    const fn check_chain(&self, asked: u64) -> Result<(), SignerError> {
        if asked == self.chain_id {
            Ok(())
        } else {
            Err(SignerError::Refused { reason: Refusal::WrongChain { asked, allowed: self.chain_id } })
        }
    }

    fn check_gas(&self, request: &TransactionRequest) -> Result<(), Refusal> {
        let (price, tip) = (request.max_fee_per_gas, request.max_priority_fee_per_gas);
        if price > self.max_fee_per_gas {
            return Err(Refusal::GasPrice { asked: price, ceiling: self.max_fee_per_gas });
        }
        if tip > price {
            return Err(Refusal::TipAbovePrice { tip, price });
        }
        if request.gas_limit > self.max_gas {
            return Err(Refusal::GasLimit { asked: request.gas_limit, ceiling: self.max_gas });
        }
        Ok(())
    }

    /// Nobody, oneself, and contracts that would keep what they are sent.
    fn check_counterparty(&self, call: &'static str, address: Address, own: Address) -> Result<(), Refusal> {
        let role = if address.is_zero() {
            "the zero address"
        } else if address == own {
            "this signer's own address"
        } else if self.deployments.iter().any(|known| known.contract() == address) {
            "a channel contract"
        } else if self.deployments.iter().any(|known| known.usdc == address) {
            "the token itself"
        } else {
            return Ok(());
        };
        Err(Refusal::WrongCounterparty { call, address, role })
    }

    fn check_recipient(&self, call: &'static str, address: Address, own: Address) -> Result<(), Refusal> {
        self.check_counterparty(call, address, own)?;
        if self.recipients.contains(&address) { Ok(()) } else { Err(Refusal::UnknownRecipient { address }) }
    }
}
