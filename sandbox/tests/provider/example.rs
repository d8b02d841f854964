//! The worked example of protocol.md section 17, number by number.

use alloy::primitives::{B256, U256, address, b256};
use alloy::sol_types::SolCall;
use drain_protocol::contract::DrainChannel;
use drain_protocol::voucher::{CloseAuthorization, Domain, parse_signature, verify_signature};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::SandboxConfig;
use drain_sandbox::chain::ChainConfig;
use drain_sandbox::contracts::{CHANNEL_V2, FEE_RECIPIENT};
use drain_sandbox::provider::Usage;
use serde_json::Value;

use crate::world::World;

const CHANNEL: B256 = b256!("eb8be6fadb377547fdd17120dde997f4af27e12431a6635123691d0e4a65e3f0");

#[tokio::test]
async fn the_worked_example() {
    let chain = ChainConfig { genesis_timestamp: Some(1_772_300_000), ..ChainConfig::default() };
    let world = World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await;
    let (llm, observer) = (&world.sandbox.llm, world.sandbox.observer());
    let agent = world.sandbox.agent().address();
    assert_eq!(agent, address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
    assert_eq!(llm.address(), address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"));

    // 1. The approval is mined one second before, so that the opening has the example's timestamp.
    world.sandbox.chain.as_ref().unwrap().set_next_timestamp(1_772_323_199).unwrap();
    let approve = drain_protocol::contract::Erc20::approveCall { spender: CHANNEL_V2, amount: U256::from(5_000_000) };
    world.execute(drain_sandbox::contracts::USDC, approve.abi_encode()).await.unwrap();
    world.sandbox.chain.as_ref().unwrap().set_next_timestamp(1_772_323_200).unwrap();
    let open =
        DrainChannel::openCall { provider: llm.address(), amount: U256::from(5_000_000), duration: U256::from(86_400) };
    let receipt = world.execute(CHANNEL_V2, open.abi_encode()).await.unwrap();
    let logs = receipt["logs"].as_array().unwrap();
    assert!(logs.iter().any(|log| log["topics"][1] == format!("{CHANNEL:#x}").as_str()), "{receipt}");
    let record = observer.channel(CHANNEL_V2, CHANNEL).await.unwrap();
    assert_eq!(record.expiry, U256::from(1_772_409_600));
    assert_eq!(observer.opened_by(CHANNEL_V2, agent).await.unwrap(), [CHANNEL]);

    // 2. 783 is what the provider demands, 934 the safe bound.
    llm.set(|faults| faults.fixed_usage = Some(Usage { prompt: 8, completion: 20 }));
    let refused = world.chat(llm, CHANNEL, 782, 1).await;
    assert_eq!(refused.status, 402);
    assert_eq!(refused.header("x-drain-error"), Some("insufficient_funds"));
    assert_eq!((refused.header("x-drain-required"), refused.header("x-drain-provided")), (Some("783"), Some("782")));

    // 3. and 4.
    let first = world.chat(llm, CHANNEL, 934, 1).await;
    assert_eq!(first.figures(), [Some("330"), Some("330"), Some("4999670")]);
    assert_eq!(first.header("x-drain-channel"), Some(format!("{CHANNEL:#x}").as_str()));
    llm.set(|faults| faults.fixed_usage = Some(Usage { prompt: 8, completion: 18 }));
    let second = world.chat(llm, CHANNEL, 1264, 2).await;
    assert_eq!(second.figures(), [Some("300"), Some("630"), Some("4999370")]);
    let books = llm.books(CHANNEL).unwrap();
    assert_eq!((books.total_charged, books.last_nonce, books.highest_voucher), (630, Some(2), 1264));

    // 5. The close is for the highest voucher, not for what was charged.
    let answer = world.close_answer(llm, CHANNEL).await;
    assert_eq!(answer["finalAmount"], "1264");
    let signature = parse_signature(answer["signature"].as_str().unwrap()).unwrap();
    let authorization = CloseAuthorization { channel_id: ChannelId(CHANNEL), final_amount: Usdc::new(1264) };
    verify_signature(authorization.digest(&Domain::new(137, CHANNEL_V2)), &signature, llm.address()).unwrap();
    assert_eq!(observer.total_locked().await.unwrap(), Usdc::new(5_000_000));
    let close = DrainChannel::cooperativeCloseCall {
        channelId: CHANNEL,
        finalAmount: U256::from(1264),
        providerSignature: signature.into(),
    };
    world.execute(CHANNEL_V2, close.abi_encode()).await.unwrap();
    assert_eq!(observer.usdc_balance(llm.address()).await.unwrap(), Usdc::new(1239));
    assert_eq!(observer.usdc_balance(FEE_RECIPIENT).await.unwrap(), Usdc::new(25));
    assert_eq!(observer.fees_paid().await.unwrap(), Usdc::new(25));
    assert_eq!(observer.paid_out(CHANNEL_V2, CHANNEL).await.unwrap(), Usdc::new(1264));
    assert_eq!(observer.usdc_balance(agent).await.unwrap(), Usdc::new(100_000_000 - 1264));
    assert_eq!(observer.total_locked().await.unwrap(), Usdc::ZERO);
    assert!(!observer.channel(CHANNEL_V2, CHANNEL).await.unwrap().exists());
}

#[tokio::test]
async fn the_environment_leads_to_the_sandbox() {
    let world = World::new().await;
    let env: std::collections::BTreeMap<_, _> = world.sandbox.env().into_iter().collect();
    assert_eq!(env["DRAIN_CHAIN_ID"], "137");
    assert_eq!(env["DRAIN_PRIVATE_KEY"].len(), 66);
    let listed = world.get(&env["DRAIN_DIRECTORY_URL"]).await.json();
    assert_eq!(listed["count"], 5);
    let chain = drain_sandbox::rpc::RpcClient::new(&env["DRAIN_RPC_URL"]).unwrap();
    assert_eq!(chain.chain_id().await, Ok(137));
    // The directory's connection test: the listed wallet is the provider's own.
    for listing in listed["providers"].as_array().unwrap() {
        if listing["protocol"] == "mpp" {
            continue;
        }
        let pricing: Value = world.get(&format!("{}/v1/pricing", listing["apiUrl"].as_str().unwrap())).await.json();
        assert_eq!(pricing["provider"], listing["providerAddress"]);
        for model in listing["models"].as_array().unwrap() {
            let priced = &pricing["models"][model["id"].as_str().unwrap()];
            assert_eq!(priced["inputPer1kTokens"], model["pricing"]["inputPer1kTokens"]);
        }
        let docs = world.get(&format!("{}/v1/docs", listing["apiUrl"].as_str().unwrap())).await.text;
        assert!((300..2500).contains(&docs.len()), "{docs}");
    }
}
