//! Which contract a provider is paid on (design section 6): the operator's word, else the provider's, else the
//! directory's, else V2. Only contracts that we know count (M8).

use drain_protocol::headers::Discovery;
use drain_protocol::{Address, Deployment, Generation};

use crate::api::ContractChoice;
use crate::error::{Code, Failure};

/// Chooses among `deployments`, which are the known ones of one chain, in order of preference.
///
/// `operator` is the operator's setting, `discovery` what the provider's voucher-less 402 said, `catalogue_contract`
/// the directory's `_meta.contract`. An answer that names a contract we do not know is set aside, and the reason says
/// so: it can only lead to a channel that this provider does not see, never to an unknown contract.
pub fn choose(
    deployments: &[Deployment],
    operator: Option<Generation>,
    discovery: Option<&Discovery>,
    catalogue_contract: Option<Address>,
) -> Result<(Deployment, ContractChoice), Failure> {
    let Some(first) = deployments.first() else {
        return Err(Failure::unspent(
            Code::InvalidConfig,
            "No channel contract is known for this chain.",
            "Name the contract and its token in the configuration, or use chain 137.",
        ));
    };
    if let Some(generation) = operator {
        let Some(found) = deployments.iter().find(|d| d.generation == generation) else {
            return Err(Failure::unspent(
                Code::InvalidConfig,
                format!(
                    "The configuration asks for a {generation} contract; none is known on chain {}.",
                    first.chain_id()
                ),
                "Remove that setting, or name such a contract and its token in the configuration.",
            ));
        };
        return Ok(chosen(found, "the operator's setting", &[]));
    }
    let known = |contract: Address| deployments.iter().find(|d| d.contract() == contract);
    let mut aside = Vec::new();
    if let Some(discovery) = discovery {
        match (discovery.contract, discovery.chain_id) {
            (_, Some(chain)) if chain != first.chain_id() => {
                aside.push(format!("the provider names chain {chain}, not {}", first.chain_id()));
            }
            (Some(contract), _) => match known(contract) {
                Some(found) => return Ok(chosen(found, "the provider asks for it", &aside)),
                None => {
                    aside.push(format!("the provider names {contract}, which is not a known contract of this chain"))
                }
            },
            (None, _) => {}
        }
    }
    if let Some(contract) = catalogue_contract {
        match known(contract) {
            Some(found) => return Ok(chosen(found, "the directory names it", &aside)),
            None => aside.push(format!("the directory names {contract}, which is not a known contract of this chain")),
        }
    }
    let (found, reason) = match deployments {
        [only] => (only, "the only contract known on this chain"),
        _ => match deployments.iter().find(|d| d.generation == Generation::V2) {
            Some(v2) => (v2, "the default"),
            None => (first, "the first contract known on this chain"),
        },
    };
    Ok(chosen(found, reason, &aside))
}

fn chosen(deployment: &Deployment, reason: &str, aside: &[String]) -> (Deployment, ContractChoice) {
    let reason = match aside {
        [] => reason.to_owned(),
        notes => format!("{reason} (set aside: {})", notes.join("; ")),
    };
    let choice = ContractChoice { generation: deployment.generation, contract: deployment.contract(), reason };
    (*deployment, choice)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drain_protocol::deployment::{POLYGON, POLYGON_USDC, POLYGON_V1, POLYGON_V2, builtin};

    use super::*;

    const UNKNOWN: Address = Address::repeat_byte(0x66);

    fn says(contract: Address) -> Discovery {
        Discovery { contract: Some(contract), chain_id: Some(POLYGON), ..Discovery::default() }
    }

    fn pick(op: Option<Generation>, discovery: Option<Discovery>, directory: Option<Address>) -> (Generation, String) {
        let (deployment, choice) = choose(&builtin(POLYGON), op, discovery.as_ref(), directory).unwrap();
        assert_eq!((deployment.generation, deployment.contract()), (choice.generation, choice.contract));
        (choice.generation, choice.reason)
    }

    #[test]
    fn the_order_is_operator_provider_directory_v2() {
        let (v1, v2) = (Generation::V1, Generation::V2);
        let (says_v1, says_v2) = (Some(says(POLYGON_V1)), Some(says(POLYGON_V2)));
        assert_eq!(pick(Some(v1), says_v2.clone(), Some(POLYGON_V2)), (v1, "the operator's setting".into()));
        assert_eq!(pick(None, says_v1.clone(), Some(POLYGON_V2)), (v1, "the provider asks for it".into()));
        assert_eq!(pick(None, says_v2, Some(POLYGON_V1)), (v2, "the provider asks for it".into()));
        assert_eq!(pick(None, Some(Discovery::default()), Some(POLYGON_V1)), (v1, "the directory names it".into()));
        assert_eq!(pick(None, None, Some(POLYGON_V1)), (v1, "the directory names it".into()));
        assert_eq!(pick(None, None, None), (v2, "the default".into()));
    }

    #[test]
    fn m8_an_unknown_contract_never_counts_and_is_named() {
        let (generation, reason) = pick(None, Some(says(UNKNOWN)), Some(POLYGON_V1));
        assert_eq!(generation, Generation::V1);
        assert!(reason.starts_with("the directory names it (set aside: the provider names 0x6666"), "{reason}");
        let (generation, reason) = pick(None, Some(says(UNKNOWN)), Some(UNKNOWN));
        assert_eq!(generation, Generation::V2);
        assert!(reason.contains("the provider names") && reason.contains("; the directory names"), "{reason}");
    }

    #[test]
    fn m8_an_answer_for_another_chain_does_not_count() {
        let other = Discovery { chain_id: Some(80_002), ..says(POLYGON_V1) };
        let (generation, reason) = pick(None, Some(other), None);
        assert_eq!(generation, Generation::V2);
        assert!(reason.contains("chain 80002, not 137"), "{reason}");
    }

    #[test]
    fn an_operators_single_contract_is_taken() {
        let own = Deployment::new(31_337, Generation::V1, UNKNOWN, POLYGON_USDC);
        let (found, choice) = choose(&[own], None, None, Some(POLYGON_V2)).unwrap();
        assert_eq!(found, own);
        assert!(choice.reason.starts_with("the only contract known on this chain"));
    }

    #[test]
    fn without_a_contract_the_configuration_is_at_fault() {
        assert_eq!(choose(&[], None, None, None).unwrap_err().code, Code::InvalidConfig);
        let only_v2 = &builtin(POLYGON)[..1];
        assert_eq!(choose(only_v2, Some(Generation::V1), None, None).unwrap_err().code, Code::InvalidConfig);
    }
}
