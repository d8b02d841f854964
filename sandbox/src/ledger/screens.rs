//! What the person reads, page breaks left out.

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::primitives::utils::format_ether;
use alloy::primitives::{Address, B256, TxKind, U256};

use super::typed::Message;

const BLIND: &str = "Blind signing ahead To accept risk, press both buttons";

/// A message of which the device knows the hashes only.
pub(super) fn hashes(domain: B256, message: B256) -> Vec<String> {
    vec![
        BLIND.into(),
        "Review typed message".into(),
        format!("Domain hash {}", upper(domain)),
        format!("Message hash {}", upper(message)),
        "Sign message".into(),
    ]
}

/// A message that came field by field.
pub(super) fn message(message: &Message, hash: B256, raw_messages: bool) -> Vec<String> {
    let mut screens = if raw_messages { Vec::new() } else { vec![BLIND.to_owned()] };
    screens.push("Review typed message".into());
    screens.extend(message.shown(0));
    if raw_messages {
        screens.extend(message.shown(1));
    } else {
        screens.push(format!("Message hash {}", upper(hash)));
    }
    screens.push("Sign message".into());
    screens
}

/// A transaction.
pub(super) fn transaction(tx: &TxEip1559, from: Address) -> Vec<String> {
    let token = match tx.input.get(..4) {
        Some([0x09, 0x5e, 0xa7, 0xb3]) => Some("approve"),
        Some([0xa9, 0x05, 0x9c, 0xbb]) => Some("send"),
        _ => None,
    };
    let fees = U256::from(tx.gas_limit) * U256::from(tx.max_fee_per_gas);
    let fees = format_ether(fees);
    let fees = format!("Max fees {} POL", fees.trim_end_matches('0').trim_end_matches('.'));
    let network = if tx.chain_id == 137 { "Network Polygon".into() } else { format!("Network {}", tx.chain_id) };
    let from = format!("From {from}");
    let to = match tx.to {
        TxKind::Call(to) => format!("To {to}"),
        TxKind::Create => "To nobody".into(),
    };
    if tx.input.is_empty() {
        let amount = format!("Amount {} POL", format_ether(tx.value));
        return vec!["Review transaction".into(), from, amount, to, fees, network, "Sign transaction".into()];
    }
    let accept = "Accept risk and sign transaction".to_owned();
    match token {
        Some(verb) => {
            vec![BLIND.into(), format!("Review transaction to {verb} ERC20 token"), from, network, fees, accept]
        }
        None => {
            let hash = format!("Tx hash {}", tx.signature_hash());
            vec![BLIND.into(), "Review transaction".into(), from, to, fees, network, hash, accept]
        }
    }
}

/// The person turned away at the warning.
pub(super) fn rejected(screens: &mut Vec<String>) {
    screens.truncate(1);
    screens.push("Reject transaction".into());
}

fn upper(hash: B256) -> String {
    format!("0x{}", alloy::hex::encode_upper(hash))
}
