//! The payment contracts of the sandbox: our own code with the deployed
//! contracts' behaviour, put at their production addresses on a development
//! chain by writing code and storage (so on our chain and on anvil alike).

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::providers::Provider;
use alloy::sol_types::{Eip712Domain, SolValue as _, eip712_domain};
use alloy::transports::TransportError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::chain::ChainError;

/// Native USDC on Polygon.
pub const USDC: Address = address!("3c499c542cEF5E3811e1192ce70d8cC03d5c3359");
/// Bridged USDC.e on Polygon: another token, which the contracts do not take.
pub const USDC_BRIDGED: Address = address!("2791Bca1f2de4661ED88A30C99A7a9449Aa84174");
/// First generation of the channel contract.
pub const CHANNEL_V1: Address = address!("1C1918C99b6DcE977392E4131C91654d8aB71e64");
/// Second generation of the channel contract, the live one.
pub const CHANNEL_V2: Address = address!("0C2B3aA1e80629D572b1f200e6DF3586B3946A8A");
/// Where the second generation's fee goes.
pub const FEE_RECIPIENT: Address = address!("ABC12A8285FbaCe47100891BC1eA3f2EE41BF344");

const ARTIFACTS: &str = include_str!("../contracts/artifacts.json");

/// What the contracts' storage starts with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Owner of the second generation; zero means renounced.
    pub owner: Address,
    /// Owner of the first generation, renounced by default as on Polygon.
    pub owner_v1: Address,
    /// Receiver of the second generation's fee.
    pub fee_recipient: Address,
    /// The fee in basis points.
    pub fee_bps: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { owner: FEE_RECIPIENT, owner_v1: Address::ZERO, fee_recipient: FEE_RECIPIENT, fee_bps: 200 }
    }
}

/// Why the contracts could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The committed artifacts do not have the expected content.
    #[error("contract artifacts: {0}")]
    Artifacts(String),
    /// The node refused or could not be reached.
    #[error(transparent)]
    Node(#[from] TransportError),
    /// The chain in this process refused.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

#[derive(Deserialize)]
struct Artifacts {
    contracts: BTreeMap<String, Artifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    runtime: Bytes,
    domain_separator_offsets: Vec<usize>,
    slots: BTreeMap<String, u64>,
}

fn artifact(name: &str) -> Result<Artifact, InstallError> {
    let mut all: Artifacts =
        serde_json::from_str(ARTIFACTS).map_err(|error| InstallError::Artifacts(error.to_string()))?;
    all.contracts.remove(name).ok_or_else(|| InstallError::Artifacts(format!("no contract {name}")))
}

impl Artifact {
    fn slot(&self, name: &str) -> Result<U256, InstallError> {
        let slot = self.slots.get(name).copied().map(U256::from);
        slot.ok_or_else(|| InstallError::Artifacts(format!("no slot {name}")))
    }

    /// The code as it stands on a chain: the constructor would have written the
    /// domain separator into it.
    fn code(&self, separator: B256) -> Result<Bytes, InstallError> {
        let mut code = self.runtime.to_vec();
        for offset in &self.domain_separator_offsets {
            let word = code.get_mut(*offset..offset + 32);
            let word = word.ok_or_else(|| InstallError::Artifacts("offset".to_owned()))?;
            word.copy_from_slice(separator.as_slice());
        }
        Ok(code.into())
    }
}

/// The EIP-712 domain of a channel contract; both generations use the same name
/// and version.
#[must_use]
pub fn domain(chain_id: u64, contract: Address) -> Eip712Domain {
    eip712_domain! {
        name: "DrainChannel",
        version: "1",
        chain_id: chain_id,
        verifying_contract: contract,
    }
}

/// One control request: method and parameters.
pub type Write = (&'static str, Value);

fn store(at: Address, slot: U256, value: B256) -> Write {
    ("anvil_setStorageAt", json!([at, slot, value]))
}

/// The requests that put all contracts in place on a chain.
///
/// # Errors
/// When the committed artifacts are damaged.
pub fn writes(chain_id: u64, settings: &Settings) -> Result<Vec<Write>, InstallError> {
    let token = artifact("Usdc")?.runtime;
    let mut writes = vec![("anvil_setCode", json!([USDC, token])), ("anvil_setCode", json!([USDC_BRIDGED, token]))];
    for (name, at, owner) in
        [("DrainChannel", CHANNEL_V1, settings.owner_v1), ("DrainChannelV2", CHANNEL_V2, settings.owner)]
    {
        let artifact = artifact(name)?;
        let code = artifact.code(domain(chain_id, at).separator())?;
        writes.push(("anvil_setCode", json!([at, code])));
        writes.push(store(at, artifact.slot("owner")?, owner.into_word()));
        writes.push(store(at, artifact.slot("usdc")?, USDC.into_word()));
        if at == CHANNEL_V2 {
            let recipient = settings.fee_recipient.into_word();
            writes.push(store(at, artifact.slot("feeRecipient")?, recipient));
            let bps = U256::from(settings.fee_bps);
            writes.push(store(at, artifact.slot("feeBps")?, bps.into()));
        }
    }
    Ok(writes)
}

/// The request that sets an account's USDC balance, in base units.
///
/// # Errors
/// When the committed artifacts are damaged.
pub fn usdc_balance_write(account: Address, units: U256) -> Result<Write, InstallError> {
    let slot = artifact("Usdc")?.slot("balanceOf")?;
    let slot = keccak256((account, slot).abi_encode());
    Ok(store(USDC, slot.into(), units.into()))
}

/// The request that makes USDC transfers return false instead of moving money.
///
/// # Errors
/// When the committed artifacts are damaged.
pub fn usdc_refusal_write(refuse: bool) -> Result<Write, InstallError> {
    let slot = artifact("Usdc")?.slot("refuseTransfers")?;
    Ok(store(USDC, slot, U256::from(refuse).into()))
}

/// Sends one control request to a node.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn send(node: &impl Provider, write: Write) -> Result<(), InstallError> {
    let (method, params) = write;
    node.raw_request::<_, Value>(method.into(), params).await?;
    Ok(())
}

/// Puts USDC, USDC.e and both channel contracts at their production addresses
/// on any chain that takes anvil's control methods.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn install(node: &impl Provider, settings: &Settings) -> Result<(), InstallError> {
    let chain_id = node.get_chain_id().await?;
    for write in writes(chain_id, settings)? {
        send(node, write).await?;
    }
    Ok(())
}

/// Sets an account's USDC balance, in base units.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn set_usdc_balance(node: &impl Provider, account: Address, units: U256) -> Result<(), InstallError> {
    send(node, usdc_balance_write(account, units)?).await
}

/// Sets an account's balance of native coins, in wei.
///
/// # Errors
/// When the node refuses or cannot be reached.
pub async fn set_native_balance(node: &impl Provider, account: Address, wei: U256) -> Result<(), InstallError> {
    send(node, ("anvil_setBalance", json!([account, wei]))).await
}
