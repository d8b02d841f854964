//! The ERC-7730 descriptors say what contracts and vouchers are: a wallet shows their fields by them.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::primitives::keccak256;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Generation};
use drain_protocol::deployment::{POLYGON, POLYGON_USDC, builtin};
use drain_protocol::{ChannelId, Domain, Nonce, Usdc, Voucher};
use serde_json::Value;

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/erc7730").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The standard's rules, as far as these files use it: nothing unknown, every path a parameter, every parameter there.
fn conforms(file: &Value) {
    only(file, &["$schema", "context", "metadata", "display"]);
    only(&file["metadata"], &["owner", "contractName", "info", "constants"]);
    assert!(file["metadata"]["info"]["url"].as_str().unwrap().starts_with("https://"));
    let usdc: drain_protocol::Address = file["metadata"]["constants"]["usdc"].as_str().unwrap().parse().unwrap();
    assert_eq!(usdc, POLYGON_USDC);
    only(&file["display"], &["formats"]);
    for (signature, format) in file["display"]["formats"].as_object().unwrap() {
        only(format, &["$id", "intent", "interpolatedIntent", "fields"]);
        let parameters: Vec<(String, String)> = parameters(signature);
        let mut shown = BTreeSet::new();
        for field in format["fields"].as_array().unwrap() {
            only(field, &["path", "label", "format", "params", "visible"]);
            let path = field["path"].as_str().unwrap();
            let (kind, _) = parameters.iter().find(|(_, name)| name == path).unwrap_or_else(|| panic!("{path}"));
            let fits = match field["format"].as_str().unwrap() {
                "tokenAmount" => {
                    assert_eq!(field["params"]["token"], "$.metadata.constants.usdc");
                    kind == "uint256"
                }
                "duration" => kind == "uint256",
                "addressName" => kind == "address",
                "raw" => true,
                other => panic!("{other}"),
            };
            assert!(fits && !field["label"].as_str().unwrap().is_empty(), "{field}");
            // Only what a person cannot read may be left out by a small screen.
            assert!(field["visible"] == "always" || (field["visible"] == "optional" && kind == "bytes"), "{field}");
            assert!(shown.insert(path.to_owned()), "{path} twice");
        }
        assert_eq!(shown.len(), parameters.len(), "a field of {signature} is not shown");
        for part in format["interpolatedIntent"].as_str().unwrap_or_default().split('{').skip(1) {
            let (name, _) = part.split_once('}').unwrap();
            assert!(shown.contains(name), "{name}");
        }
    }
}

fn only(object: &Value, known: &[&str]) {
    for key in object.as_object().unwrap().keys() {
        assert!(known.contains(&key.as_str()), "{key} is not of the standard");
    }
}

/// Types and names between the parentheses.
fn parameters(signature: &str) -> Vec<(String, String)> {
    let (_, inside) = signature.strip_suffix(')').unwrap().split_once('(').unwrap();
    inside.split(',').map(|part| part.split_once(' ').unwrap()).map(|(kind, name)| (kind.into(), name.into())).collect()
}

fn selector(signature: &str) -> [u8; 4] {
    let (name, _) = signature.split_once('(').unwrap();
    let kinds: Vec<String> = parameters(signature).into_iter().map(|(kind, _)| kind).collect();
    keccak256(format!("{name}({})", kinds.join(",")))[..4].try_into().unwrap()
}

fn deployments(context: &Value) -> BTreeSet<String> {
    let all = context["deployments"].as_array().unwrap();
    assert!(all.iter().all(|on| on["chainId"] == POLYGON));
    // With their checksums.
    all.iter().map(|on| on["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn calls_are_described_for_both_generations() {
    let (open, close) = (DrainChannel::openCall::SELECTOR, DrainChannel::closeCall::SELECTOR);
    let both: BTreeSet<[u8; 4]> = [open, close].into();
    let with_consent: BTreeSet<[u8; 4]> = [open, close, DrainChannel::cooperativeCloseCall::SELECTOR].into();
    for (name, generation, expected) in [
        ("calldata-DrainChannel-v1.json", Generation::V1, both),
        ("calldata-DrainChannel-v2.json", Generation::V2, with_consent),
    ] {
        let file = read(name);
        conforms(&file);
        let described: BTreeSet<[u8; 4]> =
            file["display"]["formats"].as_object().unwrap().keys().map(|signature| selector(signature)).collect();
        assert_eq!(described, expected, "{name}");
        let known = builtin(POLYGON).into_iter().filter(|on| on.generation == generation);
        assert_eq!(
            deployments(&file["context"]["contract"]),
            known.map(|on| on.contract().to_string()).collect(),
            "{name}"
        );
    }
}

#[test]
fn the_voucher_is_described_as_it_is_hashed() {
    let file = read("eip712-DrainChannel-voucher.json");
    conforms(&file);
    let context = &file["context"]["eip712"];
    assert_eq!(deployments(context), builtin(POLYGON).iter().map(|on| on.contract().to_string()).collect());
    let formats = file["display"]["formats"].as_object().unwrap();
    let types: Vec<&String> = formats.keys().collect();
    assert_eq!(types.len(), 1);
    // The struct's hash begins with the hash of the type's text: another text is another hash.
    let voucher =
        Voucher { channel_id: ChannelId([7; 32].into()), amount: Usdc::new(5), nonce: Nonce::new(9).unwrap() };
    let word = |value: u64| alloy::primitives::U256::from(value).to_be_bytes::<32>();
    let encoded = [keccak256(types[0]).0, [7; 32], word(5), word(9)].concat();
    assert_eq!(keccak256(encoded), voucher.struct_hash());
    let domain = Domain::new(POLYGON, builtin(POLYGON)[0].contract()).eip712();
    assert_eq!(context["domain"]["name"], domain.name.unwrap().as_ref());
    assert_eq!(context["domain"]["version"], domain.version.unwrap().as_ref());
}
