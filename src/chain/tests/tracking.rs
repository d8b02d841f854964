//! The way of a transaction to finality, with everything that happens on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use drain_protocol::B256;
use drain_sandbox::chain::{FailKind, Faults, ForgedReceipt, ReorgTxs};
use serde_json::json;

use super::*;
use crate::error::{Code, Failure};

type Told = Arc<Mutex<Vec<Progress>>>;

/// The way at a test's pace, in the background.
fn follow(chain: &Chain, transaction: &Broadcast) -> (tokio::task::JoinHandle<Result<Finality, ChainError>>, Told) {
    let (told, chain, transaction) = (Told::default(), chain.clone(), transaction.clone());
    let notes = told.clone();
    let way =
        async move { transaction.way(quick(), &chain).end(|progress| notes.lock().unwrap().push(progress)).await };
    (tokio::spawn(way), told)
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

fn approve() -> Call {
    Call::Approve { amount: Usdc::new(7) }
}

fn receipt(end: Result<Finality, ChainError>) -> Receipt {
    match end {
        Ok(Finality::Final(receipt)) => receipt,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn m7_a_transaction_is_done_at_depth_only() {
    let rig = Rig::with(DevConfig { finality_depth: 4, ..DevConfig::default() }).await;
    let chain = rig.chain();
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let (way, told) = follow(&chain, &transaction);
    until(|| told.lock().unwrap().iter().any(|p| matches!(p, Progress::Mined { .. }))).await;
    rig.dev.mine(3);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!way.is_finished());
    rig.dev.mine(1);
    assert!(receipt(way.await.unwrap()).success);
    assert_eq!(told.lock().unwrap()[0], Progress::Sent);
    // Asked again, by watching alone, it says the same.
    let watch = Broadcast { raw: None, ..transaction };
    assert!(receipt(await_final(&chain, &watch, |_| {}).await).success);
}

#[tokio::test]
async fn m7_a_revert_is_final_and_a_failure() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    rig.dev.revert_next(1);
    let receipt = rig.done(&chain, rig.v2, approve()).await;
    assert!(!receipt.success);
    let error = expect_approval(&receipt, rig.v2.usdc, rig.address(), rig.v2.contract(), U256::from(7)).unwrap_err();
    assert_eq!(Failure::from(error).code, Code::TransactionReverted);
}

#[tokio::test]
async fn m7_what_the_nodes_forget_is_sent_again() {
    let rig = Rig::new().await;
    rig.dev.main().update_faults(|faults| faults.drop_next = 2);
    let chain = rig.chain();
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let (way, _) = follow(&chain, &transaction);
    assert!(receipt(way.await.unwrap()).success);
    assert_eq!(rig.dev.request_count()["eth_sendRawTransaction"], 3);
}

#[tokio::test]
async fn m7_a_reorganisation_is_waited_out() {
    let rig = Rig::with(DevConfig { finality_depth: 4, ..DevConfig::default() }).await;
    let chain = rig.chain();
    let deep = Duration::from_millis(60);
    for fate in [ReorgTxs::Drop, ReorgTxs::Requeue, ReorgTxs::Remine { shift: 9 }] {
        let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
        let (way, told) = follow(&chain, &transaction);
        until(|| told.lock().unwrap().iter().any(|p| matches!(p, Progress::Mined { .. }))).await;
        let first = chain.receipt(transaction.hash).await.unwrap().unwrap();
        rig.dev.reorg(1, fate);
        while !way.is_finished() {
            tokio::time::sleep(deep).await;
            rig.dev.mine(1);
        }
        let last = receipt(way.await.unwrap());
        assert!(last.success && last.block_hash != first.block_hash, "{fate:?}");
        if matches!(fate, ReorgTxs::Drop) {
            assert!(told.lock().unwrap().contains(&Progress::Unmined));
        }
    }
}

#[tokio::test]
async fn m7_another_transaction_in_the_slot_is_seen() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    rig.dev.hold(true);
    let lost = rig.signed(&chain, rig.v2, approve(), Some(0), 0).await;
    let (way, told) = follow(&chain, &lost);
    until(|| told.lock().unwrap().contains(&Progress::Sent)).await;
    let other = rig.signed(&chain, rig.v2, Call::Approve { amount: Usdc::ZERO }, Some(0), 1).await;
    assert_eq!(chain.send_raw(other.raw.as_deref().unwrap(), other.hash).await, Ok(Sent::Accepted));
    rig.dev.hold(false);
    rig.dev.mine(1);
    assert_eq!(way.await.unwrap(), Ok(Finality::Replaced));
    assert!(receipt(await_final(&chain, &other, |_| {}).await).success);
}

#[tokio::test]
async fn a_node_without_receipts_cannot_make_a_slot_look_lost() {
    // Mined, but one of two endpoints is far behind: no receipt there, and the count is the newest.
    let rig = Rig::new().await;
    let honest = rig.chain();
    rig.dev.mine(30);
    let transaction = rig.signed(&honest, rig.v2, approve(), None, 0).await;
    let behind = rig.dev.endpoint(Faults { lagging_reads: 20, ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[behind.url(), rig.dev.url()]);
    let (way, _) = follow(&chain, &transaction);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!way.is_finished());
    behind.set_faults(Faults::default());
    assert!(receipt(way.await.unwrap()).success);
}

#[tokio::test]
async fn a_forged_receipt_is_not_believed_over_another_endpoints() {
    let rig = Rig::new().await;
    let liar =
        rig.dev.endpoint(Faults { forged_receipt: Some(ForgedReceipt::Logs), ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[liar.url(), rig.dev.url()]);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let (way, told) = follow(&chain, &transaction);
    until(|| {
        told.lock().unwrap().iter().any(|p| matches!(p, Progress::Trouble { reason } if reason.contains("contradict")))
    })
    .await;
    assert!(!way.is_finished());
    liar.set_faults(Faults::default());
    assert!(receipt(way.await.unwrap()).success);
}

#[tokio::test]
async fn a_receipt_that_another_endpoint_denies_does_not_count() {
    let rig = Rig::new().await;
    let earlier = rig.done(&rig.chain(), rig.v2, approve()).await;
    let real = rig.dev.call("eth_getTransactionReceipt", json!([earlier.hash])).unwrap();
    rig.dev.mine(5);
    let forged_hash = json!(B256::repeat_byte(0xab));
    // In a block of its own, or in one that the others have too.
    for own_block in [true, false] {
        rig.dev.hold(true);
        let transaction = rig.signed(&rig.chain(), rig.v2, approve(), None, 0).await;
        let (hash, mut forged, forged_hash) = (json!(transaction.hash), real.clone(), forged_hash.clone());
        forged["transactionHash"] = hash.clone();
        if own_block {
            forged["blockHash"] = forged_hash.clone();
        }
        let lying = Arc::new(AtomicBool::new(true));
        let lies = lying.clone();
        let liar = relay::relay(rig.dev.url(), move |method, params, answer| {
            if !lies.load(Ordering::SeqCst) {
            } else if method == "eth_getTransactionReceipt" && params[0] == hash {
                answer["result"] = forged.clone();
            } else if own_block && method == "eth_getBlockByNumber" && params[0] == forged["blockNumber"] {
                answer["result"]["hash"] = forged_hash.clone();
            }
        });
        let chain = chain_on(&[&liar.await, rig.dev.url()]);
        let (way, told) = follow(&chain, &transaction);
        let denied = |p: &Progress| matches!(p, Progress::Trouble { reason } if reason.contains("contradict"));
        until(|| way.is_finished() || told.lock().unwrap().iter().any(denied)).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!way.is_finished(), "{own_block}");
        lying.store(false, Ordering::SeqCst);
        rig.dev.hold(false);
        rig.dev.mine(1);
        assert!(receipt(way.await.unwrap()).block_number > earlier.block_number);
    }
}

#[tokio::test]
async fn a_second_endpoint_is_waited_for_while_it_is_behind_and_not_for_receipts_that_it_never_has() {
    let rig = Rig::new().await;
    rig.dev.mine(30);
    let behind = rig.dev.endpoint(Faults { lagging_reads: 20, ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[rig.dev.url(), behind.url()]);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let (way, told) = follow(&chain, &transaction);
    let waits = |p: &Progress| matches!(p, Progress::Trouble { reason } if reason.contains("behind"));
    until(|| way.is_finished() || told.lock().unwrap().iter().any(waits)).await;
    assert!(!way.is_finished());
    behind.set_faults(Faults::default());
    assert!(receipt(way.await.unwrap()).success);

    let without = relay::relay(rig.dev.url(), |method, _, answer| {
        if method == "eth_getTransactionReceipt" {
            answer["result"] = json!(null);
        }
    });
    let chain = chain_on(&[rig.dev.url(), &without.await]);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    assert!(receipt(follow(&chain, &transaction).0.await.unwrap()).success);
}

#[tokio::test]
async fn a_node_that_keeps_transactions_to_itself_is_got_around() {
    let rig = Rig::new().await;
    let hole = rig.dev.endpoint(Faults { drop_next: 1_000, ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[hole.url(), rig.dev.url()]);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let way = follow(&chain, &transaction).0;
    assert!(receipt(tokio::time::timeout(Duration::from_secs(3), way).await.expect("never sent on").unwrap()).success);
    assert_eq!(hole.request_count()["eth_sendRawTransaction"], 2);
}

/// M6, M7: one endpoint's word does not count because the other one is busy just now.
#[tokio::test]
async fn m7_a_second_endpoint_that_cannot_answer_now_is_asked_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let rig = Rig::new().await;
    let busy = relay::relay(rig.dev.url(), |method, _, answer| {
        if method == "eth_getTransactionReceipt" && ASKED.fetch_add(1, Ordering::Relaxed) < 3 {
            *answer = relay::error(-32005, "too many requests");
        }
    });
    let chain = chain_on(&[rig.dev.url(), &busy.await]);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    assert!(receipt(follow(&chain, &transaction).0.await.unwrap()).success);
    assert!(ASKED.load(Ordering::Relaxed) > 3, "{ASKED:?}");
}

#[tokio::test]
async fn a_second_endpoint_that_is_down_does_not_stop_everything() {
    let rig = Rig::new().await;
    let down = Faults { fail_rate: 1.0, methods: vec!["eth_getTransactionReceipt".into()], ..Faults::default() };
    let second = rig.dev.endpoint(down).await.unwrap();
    let chain = chain_on(&[rig.dev.url(), second.url()]);
    let asked = || second.request_count().get("eth_getTransactionReceipt").copied().unwrap_or_default();
    let mut looks = Vec::new();
    for number in 0..3 {
        let before = asked();
        let transaction = rig.signed(&chain, rig.v2, approve(), None, number).await;
        assert!(receipt(follow(&chain, &transaction).0.await.unwrap()).success);
        looks.push(asked() - before);
    }
    // Its time is waited once, not at each receipt.
    assert!(looks[0] > u64::from(quick().catch_up) && looks[1..].iter().all(|looks| *looks <= 2), "{looks:?}");
    // It answered again: its next silence is waited for.
    second.set_faults(Faults::default());
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 3).await;
    assert!(receipt(follow(&chain, &transaction).0.await.unwrap()).success);
    second.update_faults(|faults| (faults.fail_rate, faults.methods) = (1.0, vec!["eth_getTransactionReceipt".into()]));
    let before = asked();
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 4).await;
    assert!(receipt(follow(&chain, &transaction).0.await.unwrap()).success);
    assert!(asked() - before > u64::from(quick().catch_up));
}

#[tokio::test]
async fn a_refused_transaction_is_said_at_once_and_an_unsure_one_is_not() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    rig.dev.fund(rig.address(), U256::ZERO, U256::ZERO).unwrap();
    let error = await_final(&chain, &transaction, |_| {}).await.unwrap_err();
    assert!(matches!(error, ChainError::Rejected { .. }));
    assert_eq!(Failure::from(error).code, Code::InsufficientGas);
    assert!(chain.endpoints()[0].healthy);

    // An endpoint that may have taken it before it failed: no refusal.
    let unsure = rig.dev.endpoint(Faults {
        fail_rate: 1.0,
        methods: vec!["eth_sendRawTransaction".into()],
        ..Faults::default()
    });
    let unsure = unsure.await.unwrap();
    let chain = chain_on(&[unsure.url(), rig.dev.url()]);
    let (raw, hash) = (transaction.raw.as_deref().unwrap(), transaction.hash);
    assert!(matches!(chain.send_raw(raw, hash).await, Err(ChainError::Unavailable { .. })));
    // One that turned it away: a refusal.
    unsure.update_faults(|faults| faults.fail_kind = FailKind::Http429);
    assert!(matches!(chain.send_raw(raw, hash).await, Err(ChainError::Rejected { .. })));
}

#[tokio::test]
async fn a_broadcast_goes_to_one_endpoint_and_again_without_harm() {
    let rig = Rig::new().await;
    let second = rig.dev.endpoint(Faults::default()).await.unwrap();
    let chain = chain_on(&[rig.dev.url(), second.url()]);
    rig.dev.hold(true);
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    let (raw, hash) = (transaction.raw.as_deref().unwrap(), transaction.hash);
    assert_eq!(chain.send_raw(raw, hash).await, Ok(Sent::Accepted));
    assert!(!second.request_count().contains_key("eth_sendRawTransaction"));
    assert_eq!(chain.send_raw(raw, hash).await, Ok(Sent::Known));
    rig.dev.hold(false);
    rig.dev.mine(1);
    // Some nodes call a mined one known, others call its slot used.
    assert!(matches!(chain.send_raw(raw, hash).await, Ok(Sent::Known | Sent::NonceUsed)));
    assert!(receipt(await_final(&chain, &transaction, |_| {}).await).success);
}

#[tokio::test]
async fn endpoints_that_come_back_are_used() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let transaction = rig.signed(&chain, rig.v2, approve(), None, 0).await;
    rig.dev.main().update_faults(|faults| faults.fail_rate = 1.0);
    let (way, told) = follow(&chain, &transaction);
    until(|| told.lock().unwrap().iter().any(|p| matches!(p, Progress::Trouble { .. }))).await;
    rig.dev.main().set_faults(Faults::default());
    assert!(receipt(way.await.unwrap()).success);
}

#[tokio::test]
async fn m7_a_stalled_transaction_is_outbid_in_its_slot_and_either_may_land() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    // The newer one lands, or, after a node has lost that one, the older one.
    for older in [false, true] {
        rig.dev.hold(true);
        let first = rig.signed(&chain, rig.v2, approve(), None, 0).await;
        let mut way = first.way(Pace { stalled: Duration::from_millis(100), ..quick() }, &chain);
        assert_eq!(way.end(|_| {}).await, Ok(Finality::Stalled));
        let second = rig.signed(&chain, rig.v2, approve(), Some(first.account_nonce), 1).await;
        way.outbid(second.attempt());
        assert_eq!(way.end(|_| {}).await, Ok(Finality::Stalled));
        assert_eq!(rig.dev.pending(), 1, "one replaced the other");
        if older {
            rig.dev.call("anvil_dropAllTransactions", json!([])).unwrap();
            rig.dev.main().update_faults(|faults| faults.drop_next = u64::MAX);
            rig.dev.call("eth_sendRawTransaction", json!([first.raw])).unwrap();
        }
        rig.dev.hold(false);
        rig.dev.mine(1);
        let landed = receipt(way.end(|_| {}).await);
        assert_eq!(landed.hash, if older { first.hash } else { second.hash });
        rig.dev.main().set_faults(Faults::default());
    }
}
