//! Close authorizations, claims, and their traps (protocol.md section 8).

use std::time::Duration;

use alloy::primitives::{B256, U256};
use alloy::sol_types::SolCall;
use drain_protocol::contract::DrainChannel;
use drain_protocol::voucher::{CloseAuthorization, Domain, SignatureError, parse_signature, verify_signature};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::{AutoClaim, CloseAmount, CloseSignature};
use drain_sandbox::{Provider, Times};
use serde_json::{Value, json};

use crate::world::World;

fn judge(provider: &Provider, channel: B256, answer: &Value) -> Result<u64, SignatureError> {
    let units = answer["finalAmount"].as_str().unwrap().parse::<u64>().unwrap();
    let authorization =
        CloseAuthorization { channel_id: ChannelId(channel), final_amount: Usdc::from_units(units).unwrap() };
    let digest = authorization.digest(&Domain::new(137, provider.config().contract));
    let signature = parse_signature(answer["signature"].as_str().unwrap())?;
    verify_signature(digest, &signature, provider.address()).map(|_| units)
}

#[tokio::test]
async fn close_answers_and_their_traps() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 1_000_000, 86_400).await;
    let unknown = B256::repeat_byte(0x42);
    assert_eq!(judge(llm, unknown, &world.close_answer(llm, unknown).await), Ok(0), "unknown channels are signed");
    assert_eq!(world.chat(llm, channel, 50_000, 1).await.status, 200);
    let judged = async || judge(llm, channel, &world.close_answer(llm, channel).await);
    assert_eq!(judged().await, Ok(50_000));
    assert_eq!(world.chat(llm, channel, 50_000, 2).await.status, 200, "still served after a close was signed");

    llm.set(|faults| faults.close_amount = CloseAmount::Plus(1));
    assert_eq!(judged().await, Ok(50_001));
    llm.set(|faults| faults.close_amount = CloseAmount::Deposit);
    assert_eq!(judged().await, Ok(1_000_000));
    llm.set(|faults| faults.close_amount = CloseAmount::Exactly(7));
    assert_eq!(judged().await, Ok(7));
    llm.set(|faults| faults.close_amount = CloseAmount::Garbage("1e6 USDC".into()));
    assert_eq!(world.close_answer(llm, channel).await["finalAmount"], "1e6 USDC");
    llm.reset_faults();

    for (kind, verdict) in [
        (CloseSignature::NoPrefix, Ok(50_000)),
        (CloseSignature::WrongSigner, Err(SignatureError::WrongSigner { expected: llm.address() })),
        (CloseSignature::VoucherSignature, Err(SignatureError::WrongSigner { expected: llm.address() })),
        (CloseSignature::HighS, Err(SignatureError::NotCanonical)),
        (CloseSignature::Garbage, Err(SignatureError::Malformed)),
    ] {
        llm.set(|faults| faults.close_signature = kind);
        assert_eq!(judged().await, verdict, "{kind:?}");
    }
    llm.set(|faults| faults.close_signature = CloseSignature::NoPrefix);
    assert!(!world.close_answer(llm, channel).await["signature"].as_str().unwrap().starts_with("0x"));
    llm.set(|faults| faults.refuse_after_close = true);
    assert_eq!(world.chat(llm, channel, 50_000, 3).await.header("x-drain-error"), Some("channel_closing"));
}

#[tokio::test]
async fn close_refusals() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let url = format!("{}/v1/close-channel", llm.url());
    let missing = world.post_to(&url, &json!({})).await;
    assert_eq!((missing.status.as_u16(), missing.json()), (400, json!({"error": "channelId required"})));
    let malformed = world.post_to(&url, &json!({"channelId": "0x12"})).await;
    assert_eq!((malformed.status.as_u16(), malformed.json()), (500, json!({"error": "internal_error"})));
    llm.set(|faults| faults.close_500 = Times::next(1));
    assert_eq!(world.post_to(&url, &json!({"channelId": B256::ZERO})).await.status, 500);
    assert_eq!(world.post_to(&url, &json!({"channelId": B256::ZERO})).await.status, 200);
    llm.set(|faults| faults.close_hang = Times::next(1));
    let body = json!({"channelId": B256::ZERO});
    let hanging = world.post_to(&url, &body);
    assert!(tokio::time::timeout(Duration::from_millis(200), hanging).await.is_err());
    let v1 = world.post_to(&format!("{}/v1/close-channel", world.sandbox.v1.url()), &body).await;
    assert_eq!(v1.status, 404);
    assert!(v1.text.contains("<pre>Cannot POST /v1/close-channel</pre>"));
}

#[tokio::test]
async fn after_a_claim_the_close_is_for_zero_and_reverts() {
    let world = World::new().await;
    let (llm, observer) = (&world.sandbox.llm, world.sandbox.observer());
    let contract = llm.config().contract;
    let channel = world.open(llm, 2_000_000, 86_400).await;
    // The largest amount is claimed, whatever its number.
    assert_eq!(world.chat(llm, channel, 1_500_000, 1).await.status, 200);
    assert_eq!(world.chat(llm, channel, 20_000, 2).await.status, 200);
    let answer = world.post_to(&format!("{}/v1/admin/claim", llm.url()), &json!({})).await.json();
    assert_eq!(answer["results"][0]["amount"], "1500000", "over the threshold");
    assert_eq!(observer.usdc_balance(llm.address()).await.unwrap(), Usdc::new(1_470_000));
    assert_eq!(observer.fees_paid().await.unwrap(), Usdc::new(30_000));
    let books = llm.books(channel).unwrap();
    assert_eq!((books.claimed_vouchers, books.highest_voucher), (2, 0));
    assert_eq!(llm.claim(channel).await.map(|claim| claim.amount), None);

    let answer = world.close_answer(llm, channel).await;
    assert_eq!(judge(llm, channel, &answer), Ok(0));
    let close = DrainChannel::cooperativeCloseCall {
        channelId: channel,
        finalAmount: U256::ZERO,
        providerSignature: parse_signature(answer["signature"].as_str().unwrap()).unwrap().into(),
    };
    let refused = world.execute(contract, close.abi_encode()).await.unwrap_err();
    let drain_sandbox::rpc::RpcError::Refused { code: 3, data: Some(data), .. } = refused else { panic!("{refused}") };
    assert_eq!(drain_protocol::contract::revert_reason(&data), "InvalidAmount");
}

#[tokio::test]
async fn small_amounts_wait_for_force() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 2_000_000, 86_400).await;
    assert_eq!(world.chat(llm, channel, 20_000, 1).await.status, 200);
    let url = format!("{}/v1/admin/claim", llm.url());
    assert_eq!(world.post_to(&url, &json!({})).await.json()["claimed"], 0);
    assert_eq!(world.post_to(&format!("{url}?force=true"), &json!({})).await.json()["claimed"], 1);
    assert_eq!(llm.claim_all().await.len(), 0);
}

#[tokio::test]
async fn short_channels_are_claimed_by_the_timer() {
    let world = World::new().await;
    let mut config = world.sandbox.llm.config().clone();
    let interval = Duration::from_millis(50);
    config.auto_claim = Some(AutoClaim { interval, buffer: Duration::from_secs(3600) });
    let greedy = Provider::start(config).await.unwrap();
    let (long, short) = (world.open(&greedy, 50_000, 86_400).await, world.open(&greedy, 60_000, 3600).await);
    assert_eq!(world.chat(&greedy, long, 40_000, 1).await.status, 200);
    assert_eq!(world.chat(&greedy, short, 50_000, 1).await.status, 200);
    let claimed = async |channel| {
        world.sandbox.observer().channel(greedy.config().contract, channel).await.unwrap().claimed.to::<u64>()
    };
    let until = async |channel, units| {
        for _ in 0..100 {
            if claimed(channel).await == units {
                return true;
            }
            tokio::time::sleep(interval).await;
        }
        false
    };
    assert!(until(short, 50_000).await);
    assert_eq!(claimed(long).await, 0);
    // The chain's clock decides, not ours.
    world.sandbox.chain.as_ref().unwrap().advance(86_400 - 3600);
    world.sandbox.chain.as_ref().unwrap().mine(1);
    assert!(until(long, 40_000).await);
}
