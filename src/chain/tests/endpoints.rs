//! Fail-over, the wrong chain, contradictions.

use alloy::sol_types::SolCall;
use drain_protocol::contract::DrainChannel;
use drain_sandbox::chain::{FailKind, Faults};

use super::*;
use crate::error::{Code, Failure};

fn failing(kind: FailKind) -> Faults {
    Faults { fail_rate: 1.0, fail_kind: kind, ..Faults::default() }
}

#[tokio::test]
async fn a_failing_endpoint_is_passed_over_and_left_alone_for_a_while() {
    let rig = Rig::new().await;
    for kind in [FailKind::Http500, FailKind::Http429, FailKind::RpcError] {
        let bad = rig.dev.endpoint(failing(kind)).await.unwrap();
        let chain = chain_on(&[bad.url(), rig.dev.url()]);
        for _ in 0..5 {
            chain.head().await.unwrap();
        }
        assert_eq!(bad.request_count().values().sum::<u64>(), 1, "{kind:?}");
        let health = chain.endpoints();
        assert_eq!((health[0].healthy, health[1].healthy), (false, true));
        assert_eq!((health[0].requests, health[0].failures), (1, 1));
        assert!(health[0].last_error.is_some());
        assert_eq!(health[1].failures, 0);
        // After the pause it is asked again, and first.
        bad.set_faults(Faults::default());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        chain.head().await.unwrap();
        assert!(chain.endpoints()[0].healthy);
        assert_eq!(bad.request_count()["eth_getBlockByNumber"], 1);
    }
}

#[tokio::test]
async fn a_silent_endpoint_is_overtaken_long_before_its_timeout_and_left_alone() {
    let rig = Rig::new().await;
    for first in [true, false] {
        let silent = rig.dev.endpoint(Faults { hang: true, ..Faults::default() }).await.unwrap();
        let urls = if first { [silent.url(), rig.dev.url()] } else { [rig.dev.url(), silent.url()] };
        // A timeout that no test outlives: whatever is answered came from the other one.
        let chain = chain_with(&urls, Duration::from_secs(3_600));
        for _ in 0..5 {
            chain.native_balance(rig.address()).await.unwrap();
            chain.head().await.unwrap();
            chain.finalized_number().await.unwrap();
        }
        assert_eq!(silent.request_count().into_iter().collect::<Vec<_>>(), [("eth_chainId".to_owned(), 1)], "{first}");
        let health = chain.endpoints();
        assert_eq!(health.iter().filter(|endpoint| endpoint.healthy).count(), 1);
        assert!(health.iter().any(|endpoint| endpoint.last_error.as_deref().is_some_and(|e| e.contains("in time"))));
    }
}

#[tokio::test]
async fn a_slow_endpoint_alone_is_waited_for_and_a_broadcast_is_never_raced() {
    let rig = Rig::new().await;
    let slow = rig.dev.endpoint(Faults { latency_ms: 1_000, ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[slow.url()]);
    chain.head().await.unwrap();
    assert!(chain.endpoints()[0].healthy);
    // Slow for broadcasts alone: the second endpoint is not asked meanwhile.
    slow.set_faults(Faults { latency_ms: 1_000, methods: vec!["eth_sendRawTransaction".into()], ..Faults::default() });
    let chain = chain_on(&[slow.url(), rig.dev.url()]);
    let transaction = rig.signed(&chain, rig.v2, Call::Approve { amount: Usdc::new(7) }, None, 0).await;
    rig.dev.main().reset_request_count();
    assert_eq!(chain.send_raw(transaction.raw.as_deref().unwrap(), transaction.hash).await, Ok(Sent::Accepted));
    assert_eq!((slow.request_count()["eth_sendRawTransaction"], rig.dev.request_count().len()), (1, 0));
}

#[tokio::test]
async fn a_node_far_behind_the_other_is_not_asked_about_the_present() {
    let rig = Rig::new().await;
    rig.dev.mine(40);
    let funds = rig.chain().usdc_balance(rig.v2.usdc, rig.address()).await.unwrap();
    rig.opened(&rig.chain(), rig.v2, 1_000_000).await;
    rig.dev.mine(20);
    let behind = rig.dev.endpoint(Faults { lagging_reads: 30, ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[behind.url(), rig.dev.url()]);
    assert_eq!(chain.head().await.unwrap().number, rig.dev.block_number());
    assert!(!chain.endpoints()[0].healthy);
    assert!(chain.endpoints()[0].last_error.as_deref().is_some_and(|e| e.contains("blocks behind")));
    behind.reset_request_count();
    assert_ne!(chain.usdc_balance(rig.v2.usdc, rig.address()).await.unwrap(), funds);
    assert!(behind.request_count().is_empty());
    // A few blocks are no reason.
    behind.set_faults(Faults { lagging_reads: 3, ..Faults::default() });
    let chain = chain_on(&[behind.url(), rig.dev.url()]);
    assert_eq!(chain.head().await.unwrap().number, rig.dev.block_number());
    assert!(chain.endpoints()[0].healthy);
}

#[tokio::test]
async fn m6_what_a_close_relies_on_is_compared() {
    let rig = Rig::new().await;
    let (_, event) = rig.opened(&rig.chain(), rig.v2, 1_000_000).await;
    let real = rig.chain().channel(&rig.v2, event.channel_id).await.unwrap().unwrap();
    let says = |claimed: u64, provider: Address| {
        use alloy::sol_types::SolValue;
        let words = (rig.address(), provider, U256::from(1_000_000), U256::from(claimed), U256::from(real.expiry));
        let selector = DrainChannel::getChannelCall::SELECTOR.into();
        Faults { call_overrides: [(selector, Bytes::from(words.abi_encode()))].into(), ..Faults::default() }
    };
    let liar = rig.dev.endpoint(says(70, rig.provider)).await.unwrap();
    for urls in [[liar.url(), rig.dev.url()], [rig.dev.url(), liar.url()]] {
        let chain = chain_on(&urls);
        liar.set_faults(says(70, rig.provider));
        let agreed = chain.channel_agreed(&rig.v2, event.channel_id).await.unwrap().unwrap();
        assert_eq!(agreed, OnChainChannel { claimed: Usdc::new(70), ..real }, "the worse for us counts");
        liar.set_faults(says(0, Address::repeat_byte(6)));
        let error = chain.channel_agreed(&rig.v2, event.channel_id).await.unwrap_err();
        assert!(matches!(error, ChainError::Disagreement { .. }), "{error}");
    }
    assert_eq!(rig.chain().channel_agreed(&rig.v2, ChannelId(Default::default())).await.unwrap(), None);
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_used() {
    let rig = Rig::new().await;
    let other = rig.dev.endpoint(Faults { wrong_chain_id: Some(80_002), ..Faults::default() }).await.unwrap();
    let chain = chain_on(&[other.url(), rig.dev.url()]);
    chain.head().await.unwrap();
    chain.head().await.unwrap();
    assert_eq!(other.request_count().into_iter().collect::<Vec<_>>(), [("eth_chainId".to_owned(), 1)]);
    let health = &chain.endpoints()[0];
    assert_eq!((health.healthy, health.last_error.as_deref()), (false, Some("serves chain 80002")));

    let error = chain_on(&[other.url()]).head().await.unwrap_err();
    let endpoint = other.url().to_owned();
    assert_eq!(error, ChainError::WrongChain { expected: 137, found: 80_002, endpoint });
    assert_eq!(Failure::from(error).code, Code::WrongChain);
}

#[tokio::test]
async fn the_chain_is_checked_once_and_endpoints_are_asked_in_order() {
    let rig = Rig::new().await;
    let second = rig.dev.endpoint(Faults::default()).await.unwrap();
    let chain = chain_on(&[rig.dev.url(), second.url()]);
    for _ in 0..3 {
        chain.native_balance(rig.address()).await.unwrap();
    }
    assert_eq!(rig.dev.request_count()["eth_chainId"], 1);
    assert!(second.request_count().is_empty());
}

/// An endpoint that says that the contract's token is this.
async fn claiming(rig: &Rig, token: Address) -> drain_sandbox::chain::Endpoint {
    let overrides = [(DrainChannel::usdcCall::SELECTOR.into(), Bytes::from(token.into_word().0))];
    rig.dev.endpoint(Faults { call_overrides: overrides.into(), ..Faults::default() }).await.unwrap()
}

#[tokio::test]
async fn m8_the_token_is_checked_on_two_endpoints() {
    let rig = Rig::new().await;
    let honest = rig.dev.endpoint(Faults::default()).await.unwrap();
    let liar = claiming(&rig, Address::repeat_byte(1)).await;
    let dead = rig.dev.endpoint(failing(FailKind::Http500)).await.unwrap();
    let verify = async |urls: &[&str]| chain_on(urls).verify_deployment(&rig.v2).await;

    verify(&[rig.dev.url()]).await.unwrap();
    verify(&[rig.dev.url(), honest.url()]).await.unwrap();
    verify(&[dead.url(), rig.dev.url(), honest.url()]).await.unwrap();
    assert!(matches!(verify(&[liar.url()]).await, Err(ChainError::Frozen { .. })));
    assert!(matches!(verify(&[rig.dev.url(), liar.url()]).await, Err(ChainError::Disagreement { .. })));
    assert!(matches!(verify(&[liar.url(), rig.dev.url()]).await, Err(ChainError::Disagreement { .. })));
    assert!(matches!(verify(&[rig.dev.url(), dead.url()]).await, Err(ChainError::Unavailable { .. })));
    // The same endpoint twice is one.
    verify(&[rig.dev.url(), rig.dev.url()]).await.unwrap();
    let error = verify(&[liar.url()]).await.unwrap_err();
    assert_eq!(Failure::from(error).code, Code::ContractFrozen);
}

#[tokio::test]
async fn m8_a_contract_that_is_not_there_freezes() {
    let rig = Rig::new().await;
    let nowhere = Deployment::new(POLYGON, rig.v2.generation, Address::repeat_byte(9), rig.v2.usdc);
    let error = rig.chain().verify_deployment(&nowhere).await.unwrap_err();
    assert!(matches!(&error, ChainError::Frozen { what } if what.contains("no channel contract")), "{error}");
    // Another token than the table's, by everybody's word.
    let token = Deployment::new(POLYGON, rig.v2.generation, rig.v2.contract(), Address::repeat_byte(8));
    assert!(matches!(rig.chain().verify_deployment(&token).await, Err(ChainError::Frozen { .. })));
}

#[tokio::test]
async fn logs_come_whole_although_the_node_wants_small_ranges() {
    let rig = Rig::with(DevConfig { max_log_range: Some(7), ..DevConfig::default() }).await;
    let chain = rig.chain();
    let (_, first) = rig.opened(&chain, rig.v2, 1_000_000).await;
    // Later: in the same second both contracts would give the same id.
    rig.dev.mine(60);
    rig.dev.advance(10);
    let (_, second) = rig.opened(&chain, rig.v1, 2_000_000).await;
    let last = chain.head().await.unwrap().number;
    let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(rig.address()), 0, last);
    let events = channel_events(&builtin(POLYGON), &chain.logs(&filter).await.unwrap());
    let found: Vec<_> = events
        .iter()
        .filter_map(|event| match *event {
            ChannelEvent::Opened { at, channel_id, .. } => Some((at.contract, channel_id)),
            _ => None,
        })
        .collect();
    assert_eq!(found, [(rig.v2.contract(), first.channel_id), (rig.v1.contract(), second.channel_id)]);
    assert!(chain.endpoints()[0].healthy);

    let ids = Watched::Channels(vec![second.channel_id]);
    let filter = channel_logs_filter(&builtin(POLYGON), &ids, 0, last);
    assert_eq!(channel_events(&builtin(POLYGON), &chain.logs(&filter).await.unwrap()).len(), 1);
    // Nobody else's.
    let other = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(Address::repeat_byte(3)), 0, last);
    assert!(chain.logs(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_range_that_was_refused_once_grows_again() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let rig = Rig::new().await;
    rig.dev.mine(400);
    let node = rig.dev.main().url().to_owned();
    let url = relay::relay(&node, |method, _, answer| {
        if method == "eth_getLogs" && ASKED.fetch_add(1, Ordering::Relaxed) < 7 {
            *answer = relay::error(-32005, "limit exceeded");
        }
    });
    let chain = chain_on(&[&url.await]);
    let last = chain.head().await.unwrap().number;
    let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(rig.address()), last - 399, last);
    assert!(chain.logs(&filter).await.unwrap().is_empty());
    // 400 blocks are 4 at a time after the refusals: 100 requests, were it to stay so.
    assert!(ASKED.load(Ordering::Relaxed) < 50, "{ASKED:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_not_believed_about_newer_blocks() {
    let rig = Rig::new().await;
    let behind = rig.dev.endpoint(Faults { lagging_reads: 10, ..Faults::default() }).await.unwrap();
    let chain = rig.chain();
    rig.dev.mine(20);
    let (receipt, event) = rig.opened(&chain, rig.v2, 1_000_000).await;
    let chain = chain_on(&[behind.url(), rig.dev.url()]);
    let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(rig.address()), 0, receipt.block_number);
    assert_eq!(chain.logs(&filter).await.unwrap().len(), 1);
    let at = receipt.block_number.into();
    assert!(chain.channel_at(&rig.v2, event.channel_id, at).await.unwrap().is_some());
    // Without a block it is: that is what being behind means.
    assert!(chain.channel(&rig.v2, event.channel_id).await.unwrap().is_none());
}

#[tokio::test]
async fn m7_no_slot_is_taken_on_one_nodes_word() {
    let rig = Rig::new().await;
    let (lower, higher) = chain_on(&[rig.dev.url()]).mined_agreed(rig.address()).await.unwrap();
    assert_eq!(lower, higher);
    // It tells of a thousand transactions.
    let liar = canned::server(200, r#"{"jsonrpc":"2.0","id":1,"result":"0x3e8"}"#).await;
    for urls in [[liar.as_str(), rig.dev.url()], [rig.dev.url(), liar.as_str()]] {
        assert_eq!(chain_on(&urls).mined_agreed(rig.address()).await.unwrap(), (lower, 1_000));
    }
}
