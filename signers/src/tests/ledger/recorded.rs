//! What the real app was recorded to take and to answer, byte for byte.

use alloy::consensus::TxEip1559;
use alloy::consensus::transaction::RlpEcdsaDecodableTx;
use alloy::rlp::Decodable;
use drain_protocol::{ChannelId, Deployment, Domain, Nonce, Usdc, Voucher};
use drain_sandbox::ledger::{Finger, LedgerPeer, LedgerPeerConfig};
use serde_json::Value;

use super::{PATIENCE, backend_of, listener, tcp};
use crate::tests::fixtures::{text, v1, v2};
use crate::{Call, Prompt, SignerError, TransactionRequest, VoucherRequest};

fn recorded() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

fn hex(value: &Value, field: &str) -> Vec<u8> {
    alloy::hex::decode(text(value, field)).unwrap()
}

/// Commands and answers of a recording.
fn exchanges(vector: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    vector["apdus"].as_array().unwrap().iter().map(|apdu| (hex(apdu, "cmd"), hex(apdu, "rsp"))).collect()
}

/// A screen without blanks and page numbers; its pages put together.
fn readable(screens: &[String]) -> String {
    let mut all = String::new();
    for screen in screens {
        let plain: String = screen.split_whitespace().collect();
        match plain.split_once("(2/2)") {
            Some((_, rest)) => all.push_str(rest),
            None => {
                all.push('\n');
                all.push_str(&plain.replace("(1/2)", ""));
            }
        }
    }
    all.to_lowercase()
}

fn voucher(vector: &Value) -> VoucherRequest {
    let (domain, message) = (&vector["typed_data"]["domain"], &vector["typed_data"]["message"]);
    let amount = Usdc::parse_units(&message["amount"].to_string()).unwrap();
    VoucherRequest {
        domain: Domain::new(domain["chainId"].as_u64().unwrap(), text(domain, "verifyingContract").parse().unwrap()),
        voucher: Voucher {
            channel_id: text(message, "channelId").parse().unwrap(),
            amount,
            nonce: Nonce::new(message["nonce"].as_u64().unwrap()).unwrap(),
        },
        deposit: amount,
    }
}

fn transaction(vector: &Value) -> TransactionRequest {
    let unsigned = hex(vector, "unsigned_tx");
    let tx = TxEip1559::decode(&mut &unsigned[1..]).unwrap();
    let channel_id: ChannelId = "0xeb8be6fa00000000000000000000000000000000000000000000000000000000".parse().unwrap();
    let provider = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap();
    let on = |deployment: Deployment, call| (deployment, call);
    let (deployment, call) = match text(vector, "name") {
        "approve 5 USDC to V2" => on(v2(), Call::Approve { amount: Usdc::new(5_000_000) }),
        "session fee transfer 0.01 USDC" => on(v1(), Call::SessionFee { to: provider }),
        "open 5 USDC 24h on V2" => {
            on(v2(), Call::Open { provider, amount: Usdc::new(5_000_000), duration: "24h".parse().unwrap() })
        }
        "close on V2" => on(v2(), Call::Close { channel_id }),
        "cooperativeClose on V2" => {
            let provider_signature = std::array::from_fn(|n| n as u8);
            on(v2(), Call::CooperativeClose { channel_id, final_amount: Usdc::new(1_264), provider_signature })
        }
        other => panic!("{other}"),
    };
    TransactionRequest {
        deployment,
        call,
        account_nonce: tx.nonce,
        gas_limit: tx.gas_limit,
        max_fee_per_gas: tx.max_fee_per_gas,
        max_priority_fee_per_gas: tx.max_priority_fee_per_gas,
    }
}

/// Both sides at once: the backend sends what was recorded, the software device answers what was recorded and shows it.
#[tokio::test]
async fn every_recording_is_replayed() {
    let all = recorded();
    let address = text(&all, "address").parse().unwrap();
    let (mut vouchers, mut transactions, mut rejected) = (0, 0, 0);
    for vector in all["vectors"].as_array().unwrap() {
        let name = text(vector, "name");
        let full_eip712 = name.contains("full EIP-712");
        let peer = LedgerPeer::start(LedgerPeerConfig { full_eip712, ..LedgerPeerConfig::default() }).await.unwrap();
        if vector["decide"] == "reject" {
            peer.finger(Finger::Reject);
        }
        let backend = backend_of(tcp(&peer), address, PATIENCE);
        let (prompt, told) = listener();
        if vector["typed_data"].is_object() {
            let request = voucher(vector);
            let signed = backend.sign_message(&request.into(), &prompt).await;
            if vector["decide"] == "reject" {
                assert_eq!(signed.as_ref().map_err(SignerError::code), Err("ledger_rejected"));
                rejected += 1;
            } else {
                assert_eq!(signed.unwrap().to_vec(), hex(vector, "signature"), "{name}");
                vouchers += 1;
            }
            let told = told.lock().unwrap().join("\n");
            assert!(told.contains(&format!("confirm on your Ledger: pay, {} USDC", request.voucher.amount)), "{told}");
            assert!(told.contains(&request.voucher.struct_hash().to_string()), "{told}");
            assert_eq!(told.contains("WARNING"), !full_eip712, "{told}");
        } else {
            let request = transaction(vector);
            let signed = backend.sign_transaction(&request, &prompt).await.unwrap();
            // Signed is what was recorded as unsigned, with the recorded r and s.
            let (_, answer) = exchanges(vector).pop().unwrap();
            let unsigned = hex(vector, "unsigned_tx");
            let decoded = TxEip1559::eip2718_decode(&mut signed.raw.as_ref()).unwrap();
            assert_eq!(decoded.tx(), &TxEip1559::decode(&mut &unsigned[1..]).unwrap(), "{name}");
            let rsv = decoded.signature().as_bytes();
            assert_eq!([&[rsv[64] - 27], &rsv[..64]].concat(), answer[..65], "{name}");
            transactions += 1;
            let told = told.lock().unwrap().join("\n");
            assert!(told.contains("confirm on your Ledger: "), "{told}");
        }
        let heard = peer.exchanges();
        let expected = exchanges(vector);
        assert_eq!(heard[heard.len() - expected.len()..], expected, "{name}");
        let shown = peer.screens().pop().unwrap();
        let recorded: Vec<String> =
            vector["screens"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
        assert_eq!(readable(&shown), readable(&recorded), "{name}");
    }
    assert_eq!((vouchers, transactions, rejected), (4, 5, 1));
}

#[tokio::test]
async fn with_raw_messages_a_person_sees_channel_amount_and_number() {
    let config = LedgerPeerConfig { raw_messages: true, blind_signing: false, ..LedgerPeerConfig::default() };
    let peer = LedgerPeer::start(config).await.unwrap();
    let all = recorded();
    let vector = &all["vectors"][4];
    let backend = backend_of(tcp(&peer), text(&all, "address").parse().unwrap(), PATIENCE);
    let signed = backend.sign_message(&voucher(vector).into(), &Prompt::nobody()).await.unwrap();
    assert_eq!(signed.to_vec(), hex(vector, "signature"));
    let shown = peer.screens().pop().unwrap().join("\n");
    assert!(shown.contains("amount 934\nnonce 1") && shown.contains("channelId 0xeb8be6fa00"), "{shown}");
    assert!(!shown.contains("Blind"), "{shown}");
}
