//! Which chain, over which endpoints, with which contracts.

use drain_protocol::{Deployment, Generation, deployment, tempo};
use reqwest::Url;

use super::ChainConfig;
use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::sources::{Layers, Raw};
use super::values::{self, is_loopback};

/// Keyless public endpoints, for each chain of different operators.
const POLYGON_RPC: &str = "https://polygon-bor-rpc.publicnode.com https://polygon.drpc.org";
const AMOY_RPC: &str = "https://rpc-amoy.polygon.technology https://polygon-amoy-bor-rpc.publicnode.com";

pub(super) fn resolve(layers: &mut Layers) -> Result<ChainConfig, ConfigError> {
    let chain_id = layers.or_table(Key::ChainId, |text| values::number(text, 1, u64::from(u32::MAX)))?;
    let (deployments, generation) = deployments(layers, chain_id)?;
    let rpc_urls = rpc_urls(layers, chain_id)?;
    Ok(ChainConfig {
        chain_id,
        rpc_urls,
        deployments,
        generation,
        rpc_timeout: layers.or_table(Key::RpcTimeout, values::wait)?,
        confirmations: layers.or_table(Key::Confirmations, |text| values::number(text, 0, 10_000))?,
        poll_interval: layers.or_table(Key::PollInterval, values::wait)?,
        transaction_timeout: layers.or_table(Key::TransactionTimeout, values::wait)?,
        replace_after: layers.or_table(Key::ReplaceAfter, values::wait)?,
    })
}

/// Tempo's chain: no contract of ours is there, and all else is as on the wallet's own.
pub(super) fn tempo(layers: &mut Layers, own: &ChainConfig) -> Result<Option<ChainConfig>, ConfigError> {
    let chain_id = layers.or_table(Key::TempoChainId, |text| match text.parse() {
        Ok(id @ (tempo::MAINNET | tempo::TESTNET)) => Ok(id),
        _ => Err(Bad::new(format!("{} is no chain of Tempo's", quoted(text)), "Set it to 4217 or 42431")),
    })?;
    let Some(raw) = layers.get(Key::TempoUrls)? else { return Ok(None) };
    let rpc_urls = urls(layers, &raw)?;
    Ok(Some(ChainConfig { chain_id, rpc_urls, deployments: Vec::new(), generation: None, ..own.clone() }))
}

fn rpc_urls(layers: &mut Layers, chain_id: u64) -> Result<Vec<Url>, ConfigError> {
    let spec = Key::RpcUrls.spec();
    let raw = match (layers.get(Key::RpcUrls)?, chain_id) {
        (Some(raw), _) => raw,
        (None, deployment::POLYGON) => Raw::new(POLYGON_RPC, spec.env),
        (None, deployment::AMOY) => Raw::new(AMOY_RPC, spec.env),
        (None, other) => {
            return Err(Bad::new(
                format!("no public endpoint is known for chain {other}"),
                "Set it to an endpoint of that chain",
            )
            .at(spec.env));
        }
    };
    urls(layers, &raw)
}

fn urls(layers: &mut Layers, raw: &Raw) -> Result<Vec<Url>, ConfigError> {
    let mut urls: Vec<Url> = Vec::new();
    for (index, word) in values::words(&raw.text).enumerate() {
        // The position, not the text: it may be a credential.
        let url = values::url(word).map_err(|bad| bad.at(format!("{}, URL {}", raw.name, index + 1)))?;
        if url.scheme() == "http" && !is_loopback(&url) {
            layers.warnings.push(format!(
                "{}: {} is not encrypted; who sits between can answer anything",
                raw.name,
                values::shown_url(&url)
            ));
        }
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    if urls.is_empty() {
        return Err(Bad::new("it holds no URL", "Set it to at least one https URL").at(&raw.name));
    }
    Ok(urls)
}

/// The operator's contracts, else the built-in table (M8), with the generation that is wished for there.
fn deployments(layers: &mut Layers, chain_id: u64) -> Result<(Vec<Deployment>, Option<Generation>), ConfigError> {
    // Generation and token belong to the contract: those of a weaker layer were meant for another one.
    let contract = layers.ranked(Key::Contract)?;
    let rank = contract.as_ref().map_or(usize::MAX, |(rank, _)| *rank);
    let generation = layers.ranked(Key::ContractGeneration)?.filter(|(at, _)| *at <= rank).map(|(_, raw)| raw);
    let usdc = layers.ranked(Key::Usdc)?.filter(|(at, _)| *at <= rank).map(|(_, raw)| raw);
    let Some((_, contract)) = contract else {
        if let Some(lonely) = usdc {
            return Err(Bad::new(
                "it is the token of a contract of your own, but DRAIN_CONTRACT is not set",
                "Set DRAIN_CONTRACT too, or unset this",
            )
            .at(lonely.name));
        }
        let wished = generation.map(|raw| raw.parse(values::generation)).transpose()?;
        let known = deployment::builtin(chain_id);
        if known.is_empty() {
            layers.warnings.push(format!(
                "no channel contract is known on chain {chain_id}: providers can be looked at, but no channel can be opened until DRAIN_CONTRACT names one"
            ));
        }
        return Ok((known, wished));
    };
    let token = match (&usdc, deployment::usdc(chain_id)) {
        (Some(raw), _) => {
            let (address, warning) = raw.parse(values::address)?;
            layers.warnings.extend(warning.map(|w| format!("{}: {w}", raw.name)));
            if address == deployment::POLYGON_USDC_E && chain_id == deployment::POLYGON {
                layers.warnings.push(format!(
                    "{}: this is bridged USDC.e, not the native USDC {}",
                    raw.name,
                    deployment::POLYGON_USDC
                ));
            }
            address
        }
        (None, Some(known)) => known,
        (None, None) => {
            return Err(Bad::new(
                format!("no USDC is known on chain {chain_id}"),
                "Set DRAIN_USDC to the token that the contract holds",
            )
            .at(&contract.name));
        }
    };
    let generation = generation.map(|raw| raw.parse(values::generation)).transpose()?;

    let mut found: Vec<Deployment> = Vec::new();
    for word in values::words(&contract.text) {
        let (address, own) = match word.split_once(':') {
            Some((address, own)) => (address, Some(values::generation(own).map_err(|bad| bad.at(&contract.name))?)),
            None => (word, None),
        };
        let (address, warning) = values::address(address).map_err(|bad| bad.at(&contract.name))?;
        layers.warnings.extend(warning.map(|w| format!("{}: {w}", contract.name)));
        let known = deployment::builtin(chain_id)
            .into_iter()
            .find(|known| known.contract() == address)
            .map(|known| known.generation);
        let said = own.or(generation);
        if let (Some(known), Some(said)) = (known, said)
            && known != said
        {
            return Err(Bad::new(
                format!("{} is known as {known}, not {said}", quoted(word)),
                format!("Write {address}:{known}"),
            )
            .at(&contract.name));
        }
        let generation = said.or(known).ok_or_else(|| {
            Bad::new(
                format!("the generation of {address} is not said"),
                format!("Write {address}:v2 (or :v1), or set DRAIN_CONTRACT_GENERATION"),
            )
            .at(&contract.name)
        })?;
        if address == token {
            return Err(Bad::new("contract and token are the same address", "Write the channel contract's address")
                .at(&contract.name));
        }
        let deployment = Deployment::new(chain_id, generation, address, token);
        if found.iter().any(|other| other.contract() == address || other.generation == generation) {
            return Err(Bad::new(
                "it names two contracts of one generation",
                "Name at most one v1 and one v2 contract",
            )
            .at(&contract.name));
        }
        found.push(deployment);
    }
    if found.is_empty() {
        return Err(Bad::new("it holds no address", "Write 0xADDRESS:v2").at(&contract.name));
    }
    Ok((found, None))
}
