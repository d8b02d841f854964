//! What every backend must do, held to signatures that other libraries made.

use drain_protocol::contract::Generation;
use drain_protocol::deployment::POLYGON_USDC;
use drain_protocol::voucher::{parse_signature, verify_signature};
use drain_protocol::{ChannelId, Deployment, Domain, Nonce, Usdc, Voucher};
use futures::FutureExt;
use serde_json::Value;

use super::fixtures::{KEY, list, open, tempo_transfer, text, transfer, v1, v2, voucher};
use crate::sealed::Cost;
use crate::{Call, LocalBackend, Message, Prompt, Secret, SharedBackend, TransactionRequest, VoucherRequest, keystore};

/// The suite. `make` gives a backend that holds the key, and for the same key again one as after a restart. Backends that
/// hold a fixed key run [`behaves`] alone. What happens to a connection is in the tests of the backend that has one.
pub async fn conforms(kind: &str, make: impl AsyncFn(Secret) -> SharedBackend) {
    let (mut vouchers, mut transactions) = (0, 0);
    for account in list("accounts") {
        let backend = make(Secret::parse(text(account, "privateKey")).unwrap()).await;
        assert_eq!(backend.capabilities().kind, kind);
        assert_eq!(backend.address(), text(account, "address").parse::<drain_protocol::Address>().unwrap());
        let restarted = make(Secret::parse(text(account, "privateKey")).unwrap()).await;
        behaves(&backend, &restarted).await;

        let name = text(account, "name");
        for vector in list("signatures").iter().filter(|v| v["signerKeyName"] == name) {
            let Some(request) = voucher_request(vector) else { continue };
            let expected = parse_signature(text(vector, "signature")).unwrap();
            assert_eq!(
                backend.sign_message(&request.into(), &Prompt::nobody()).await,
                Ok(expected),
                "{}",
                vector["id"]
            );
            vouchers += 1;
        }
        for vector in list("rawTransactions").iter().filter(|v| v["key"] == name) {
            let Some(request) = transaction_request(vector) else { continue };
            let signed = backend.sign_transaction(&request, &Prompt::nobody()).await.unwrap();
            assert_eq!(signed.raw.to_string(), text(vector, "raw"), "{}", vector["name"]);
            assert_eq!(signed.hash.to_string(), text(vector, "hash"));
            transactions += 1;
        }
    }
    // All but two vouchers above any amount of USDC; all but a provider's claim.
    assert_eq!((vouchers, transactions), (15, 5));
}

/// What holds whatever the key is.
pub async fn behaves(backend: &SharedBackend, restarted: &SharedBackend) {
    signs(backend, 150_000).await;
    signs(backend, 0).await;
    let payment = transfer(backend.address());
    let signature = backend.sign_message(&payment.into(), &Prompt::nobody()).await.unwrap();
    assert_eq!(verify_signature(Message::from(payment).digest(), &signature, backend.address()).map(|_| ()), Ok(()));
    let paying = crate::Signer::from_shared(backend.clone(), super::fixtures::paying());
    let over_tempo = tempo_transfer(backend.address());
    match paying.sign_tempo(&over_tempo, &Prompt::nobody()).await {
        Ok(signature) => {
            let digest = over_tempo.order.signing_hash();
            assert_eq!(verify_signature(digest, &signature, backend.address()).map(|_| ()), Ok(()));
            assert!(backend.capabilities().tempo);
        }
        Err(error) => assert_eq!((error.code(), backend.capabilities().tempo), ("ledger_no_tempo", false)),
    }
    let signed = backend.sign_transaction(&open(), &Prompt::nobody()).await.unwrap();
    assert_eq!(alloy::primitives::keccak256(&signed.raw), signed.hash);

    // Whoever gives up before the answer leaves nothing behind that the next request would meet.
    for amount in 1..4 {
        let abandoned = backend.sign_message(&voucher(amount).into(), &Prompt::nobody());
        drop(abandoned.now_or_never());
        drop(backend.sign_transaction(&open(), &Prompt::nobody()));
        signs(backend, 1_000 + amount).await;
    }

    // Many at once: each gets the answer to its own question.
    futures::future::join_all((1..=16).map(|amount| signs(backend, amount))).await;

    // Another chain is refused in front of the backend, and the backend goes on.
    let signer = crate::Signer::from_shared(backend.clone(), super::fixtures::policy());
    let elsewhere = VoucherRequest { domain: Domain::new(1, v2().contract()), ..voucher(1) };
    let refused = signer.sign_voucher(&elsewhere, &Prompt::nobody()).await.unwrap_err();
    assert_eq!(refused.code(), "refused");
    signer.sign_voucher(&voucher(2), &Prompt::nobody()).await.unwrap();
    signer.sign_transaction(&open(), &Prompt::nobody()).await.unwrap();

    // Nothing is remembered that a restart would lose.
    assert_eq!(restarted.address(), backend.address());
    let again = restarted.sign_message(&voucher(5).into(), &Prompt::nobody()).await.unwrap();
    let deterministic = backend.capabilities().kind != "aws-kms";
    assert!(!deterministic || backend.sign_message(&voucher(5).into(), &Prompt::nobody()).await == Ok(again));
}

async fn signs(backend: &SharedBackend, amount: u32) {
    let request = voucher(amount);
    let signature = backend.sign_message(&request.into(), &Prompt::nobody()).await.unwrap();
    assert_eq!(verify_signature(Message::from(request).digest(), &signature, backend.address()).map(|_| ()), Ok(()));
}

fn voucher_request(vector: &Value) -> Option<VoucherRequest> {
    if vector["kind"] != "Voucher" {
        return None;
    }
    let message = &vector["message"];
    let amount = Usdc::parse_units(text(message, "amount")).ok()?;
    Some(VoucherRequest {
        domain: Domain::new(vector["chainId"].as_u64().unwrap(), text(vector, "verifyingContract").parse().unwrap()),
        voucher: Voucher {
            channel_id: text(message, "channelId").parse().unwrap(),
            amount,
            nonce: text(message, "nonce").parse().ok().and_then(Nonce::new)?,
        },
        deposit: amount,
    })
}

fn transaction_request(vector: &Value) -> Option<TransactionRequest> {
    let channel_id: ChannelId = "0x82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c".parse().unwrap();
    let open = Call::Open {
        provider: "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap(),
        amount: Usdc::new(5_000_000),
        duration: "86400".parse().unwrap(),
    };
    let tx = &vector["tx"];
    let number = |field| text(tx, field).parse::<u128>().unwrap();
    let mut deployment = v2();
    let call = match text(vector, "name") {
        "approve 5 USDC" => Call::Approve { amount: Usdc::new(5_000_000) },
        "open" => open,
        "open on local chain" => {
            deployment = Deployment::new(31_337, Generation::V2, text(tx, "to").parse().unwrap(), POLYGON_USDC);
            open
        }
        "cooperativeClose" => Call::CooperativeClose {
            channel_id,
            final_amount: Usdc::new(150_000),
            provider_signature: list("signatures")
                .iter()
                .find(|v| v["id"] == "c18")
                .map(|v| parse_signature(text(v, "signature")).unwrap())
                .unwrap(),
        },
        "close" => Call::Close { channel_id },
        _ => return None,
    };
    Some(TransactionRequest {
        deployment,
        call,
        account_nonce: tx["nonce"].as_u64().unwrap(),
        gas_limit: number("gas") as u64,
        max_fee_per_gas: number("maxFeePerGas"),
        max_priority_fee_per_gas: number("maxPriorityFeePerGas"),
    })
}

#[tokio::test]
async fn local() {
    conforms("local", async |secret| std::sync::Arc::new(LocalBackend::new(secret)) as SharedBackend).await;
}

#[tokio::test]
async fn keystore() {
    let directory = tempfile::tempdir().unwrap();
    conforms("keystore", async |secret| {
        let path = directory.path().join(secret.address().to_string());
        if !path.exists() {
            keystore::create_at_cost(&path, &secret, "pass", Cost { log_n: 4, r: 8, p: 1 }).unwrap();
        }
        std::sync::Arc::new(keystore::open(&path, "pass").unwrap()) as SharedBackend
    })
    .await;
}

/// Calldata of the calls that no raw transaction in the vectors shows.
#[test]
fn calldata() {
    let vectors = list("calldata");
    let with = |name: &str, argument: &str| {
        vectors
            .iter()
            .find(|v| v["name"] == name && v["args"].as_array().unwrap().iter().any(|a| a == argument))
            .map(|v| (text(v, "to").parse().unwrap(), text(v, "data").parse().unwrap()))
            .unwrap()
    };
    let fee_wallet = "0xABC12A8285FbaCe47100891BC1eA3f2EE41BF344".parse().unwrap();
    let unlimited = alloy::primitives::U256::MAX.to_string();
    for (deployment, call, expected) in [
        (v2(), Call::Approve { amount: Usdc::ZERO }, with("approve", "0")),
        (v2(), Call::ApproveUnlimited, with("approve", &unlimited)),
        (v1(), Call::SessionFee { to: fee_wallet }, with("transfer", "10000")),
        (v2(), Call::SendUsdc { to: fee_wallet, amount: Usdc::new(10_000) }, with("transfer", "10000")),
    ] {
        let request = super::fixtures::transaction(deployment, call);
        assert_eq!((request.to(), request.calldata()), expected, "{}", call.kind());
        assert!(request.value().is_zero());
    }
    let wei = alloy::primitives::U256::from(5);
    let request = super::fixtures::transaction(v2(), Call::SendNative { to: fee_wallet, wei });
    assert_eq!((request.to(), request.value(), request.calldata().len()), (fee_wallet, wei, 0));
}

/// No public type shows the key, in any spelling (M12).
#[test]
fn nothing_shows_the_key() {
    let secret = Secret::parse(KEY).unwrap();
    let phrase = crate::phrase::new_phrase().unwrap();
    let words = phrase.words().to_owned();
    let backend = LocalBackend::new(Secret::parse(KEY).unwrap());
    let shown = [
        format!("{secret:?} {secret:#?} {secret}"),
        format!("{backend:?} {backend:#?}"),
        format!("{phrase:?} {phrase:#?}"),
        format!("{:?}", crate::Signer::new(backend, super::fixtures::policy())),
        format!("{:?} {:?}", voucher(1), open()),
    ];
    let bytes = alloy::hex::decode(KEY).unwrap();
    let decimal = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for text in shown {
        let text = text.to_lowercase();
        assert!(!text.contains(KEY) && !text.contains(&KEY[..16]) && !text.contains(&decimal), "{text}");
        // Three words in a row: one alone may be an ordinary word of the text.
        assert!(!text.contains(&words[..words.match_indices(' ').nth(2).unwrap().0]));
    }
}
