//! Recorded payments over Tempo: what npm's mppx sent and that chain took.

use alloy::primitives::{B256, keccak256};
use alloy::rlp::Decodable;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::tests::{carried, exchanges, payable, values};
use super::*;
use crate::tempo::TempoTransfer;

/// The items of an RLP list.
fn items(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = alloy::rlp::Header::decode_bytes(&mut &*raw, true).unwrap();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (before, header) = (rest, alloy::rlp::Header::decode(&mut rest).unwrap());
        let start = before.len() - rest.len();
        items.push(before[..start + header.payload_length].to_vec());
        rest = &rest[header.payload_length..];
    }
    items
}

fn int(item: &[u8]) -> u64 {
    u64::decode(&mut &*item).unwrap()
}

/// What npm's mppx signed and Tempo's chain took, ours signs too, but that ours says in which token the gas is paid.
#[test]
fn every_recorded_payment_over_tempo_is_made_again() {
    let mut made = 0;
    for pair in exchanges().windows(2) {
        let [unpaid, paid] = pair else { continue };
        if unpaid["peer"] != "mpp-tempo" || paid["response"]["status"] != 200 {
            continue;
        }
        let offer = payable(unpaid).remove(0);
        let sent = &carried(paid).unwrap().1["credential"];
        let raw = alloy::hex::decode(sent["payload"]["signature"].as_str().unwrap()).unwrap();
        let theirs = items(&raw[1..]);
        let payer: Address = sent["source"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let valid_before = int(&theirs[8]);
        let mut transfer = offer.transfer(payer, valid_before - tempo::LONGEST, tempo::LONGEST, B256::ZERO);
        assert_eq!(transfer.valid_before, valid_before);
        // By this theirs tells equal ones apart; ours has a challenge for each.
        transfer.valid_after = int(&theirs[9]);
        let gas = tempo::Gas { limit: int(&theirs[3]), price: int(&theirs[2]).into(), tip: int(&theirs[1]).into() };
        let order = TempoTransfer { chain_id: offer.chain_id, token: offer.token, transfer, gas, sponsored: false };

        let signature = <[u8; 65]>::try_from(&theirs[13][2..]).unwrap();
        let ours = items(&order.signed(&signature)[1..]);
        let differ: Vec<usize> = (0..14).filter(|field| ours[*field] != theirs[*field]).collect();
        assert_eq!((ours.len(), theirs.len(), differ), (14, 14, vec![10]), "{}", unpaid["scenario"]);
        assert_eq!(theirs[10], [0x80]);
        // What is hashed to be signed: all fields but the signature.
        let hashed = |fields: &[Vec<u8>]| {
            let mut whole = vec![raw[0]];
            let payload = fields.concat();
            alloy::rlp::Header { list: true, payload_length: payload.len() }.encode(&mut whole);
            keccak256([whole, payload].concat())
        };
        crate::voucher::verify_signature(hashed(&theirs[..13]), &signature, payer).unwrap();
        assert_eq!(hashed(&ours[..13]), order.signing_hash());
        let receipt = receipt(Protocol::MppTempo, |name| values(&paid["response"], name)).unwrap();
        assert_eq!(receipt.transaction, Some(keccak256(&raw)));

        // Where its server pays the gas: no token for it is signed, and the sender stands where its signature comes.
        let sponsored = TempoTransfer { sponsored: true, ..order };
        let sent_to_it = sponsored.signed(&signature);
        let fields = items(&sent_to_it[1..]);
        assert_eq!((sent_to_it[0], sponsored.hash(&signature), sponsored.at_most()), (0x78, None, transfer.value));
        assert_eq!((&fields[..10], fields[10].as_slice(), &fields[12..]), (&theirs[..10], &[0x80][..], &theirs[12..]));
        assert_eq!(fields[11][1..], payer.0[..]);
        let placeholder = [&theirs[..11], &[vec![0]], &theirs[12..13]].concat();
        assert_eq!(hashed(&placeholder), sponsored.signing_hash());

        let credential = offer.credential(&PaymentOrder::Tempo(order), &signature);
        let value = credential.value.trim_start_matches("Payment ");
        let mut ours: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).unwrap()).unwrap();
        let raw = order.signed(&signature);
        assert_eq!((&ours["payload"]["signature"], order.hash(&signature)), (&json!(raw), Some(keccak256(&raw))));
        ours["payload"]["signature"] = sent["payload"]["signature"].clone();
        assert_eq!(&ours, sent);
        made += 1;
    }
    assert_eq!(made, 2);
}

#[test]
fn the_gas_of_tempo_is_paid_in_units_of_the_token() {
    // 105,100 gas at 20 billion parts: 2,102 units.
    let gas = tempo::Gas { limit: 105_100, price: 20_000_000_000, tip: 0 };
    assert_eq!(gas.most(), Usdc::new(2_102));
    assert_eq!(tempo::Gas { price: 20_000_000_001, ..gas }.most(), Usdc::new(2_103), "rounded up");
    assert_eq!(tempo::Gas { price: u128::MAX, ..gas }.most(), Usdc::MAX);
    assert_eq!(tempo::Gas { limit: u64::MAX, price: u128::from(u64::MAX), ..gas }.most(), Usdc::MAX);
}
