//! Faults of our own in the middle of a job: the actor goes on from the journal, never from memory.

use drain_protocol::Usdc;
use serde_json::json;

use crate::harness::usdc;
use crate::process_harness::{Agent, Env, Greeting, chat, until, vouchers, world};

const NEWEST: Greeting = Greeting::Lines("2025-11-25");

/// M1, M2: a job that panics between its voucher and the answer leaves books and nonce as the journal has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_a_channel_that_panics_with_a_voucher_under_way_is_read_again_from_the_journal() {
    for (point, left) in
        [("voucher-authorized", 0), ("voucher-signed", 0), ("voucher-sent", 1), ("voucher-answered", 1)]
    {
        let world = world().await;
        let env = Env::of(&world).with("DRAIN_TEST_POINT", format!("{point}=panic@2"));
        let mut agent = Agent::start(&env, NEWEST).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        let first = agent.ok("drain_chat", chat(&id, "first")).await;
        let charged = usdc(first.data["payment"]["cost"].as_str().unwrap());

        let lost = agent.fails("drain_chat", chat(&id, "second"), "internal").await;
        assert_eq!(lost.data["money"]["state"], "unknown", "{point}: {}", lost.text);
        assert!(lost.text.contains("drain_channel_status"), "{}", lost.text);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1 + left, "{point}");

        // The reservation of the journal, whatever the job had in its memory.
        let (signed, nonce) =
            (world.journaled("SELECT signed FROM channels"), world.journaled("SELECT nonce FROM channels"));
        assert_eq!(nonce, 2, "{point}");
        let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
        assert_eq!(usdc(status.data["signed"].as_str().unwrap()).as_i64(), signed, "{}", status.text);
        assert_eq!(usdc(status.data["charged"].as_str().unwrap()), charged, "{}", status.text);
        assert_ne!(usdc(status.data["in_flight"].as_str().unwrap()), Usdc::ZERO, "{}", status.text);

        agent.ok("drain_chat", chat(&id, "third")).await;
        let sent = vouchers(&world.sandbox.llm);
        let third = sent.last().unwrap();
        assert!(third.nonce > Some(2) && third.amount >= Some(signed.unsigned_abs()), "{point}: {third:?}");
        assert!(
            sent.windows(2).all(|pair| pair[0].nonce < pair[1].nonce && pair[0].amount <= pair[1].amount),
            "{sent:?}"
        );
        assert_eq!(
            sent.iter().filter(|request| request.body.contains("second")).count(),
            left,
            "never sent again (M15)"
        );
        let ended = agent.leave().await;
        assert_eq!(ended.code, Some(0), "{point}");
        assert!(!ended.stderr.contains("not known"), "the variable belongs to debug builds: {}", ended.stderr);
    }
}

/// M7: what was signed and stored is broadcast and followed at once, not at the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m7_a_wallet_that_panics_takes_up_its_transaction_at_once() {
    // The approval is the first transaction, the opening the second.
    for (point, transactions) in
        [("transaction-stored=panic@2", 2), ("transaction-broadcast=panic@2", 2), ("transaction-final=panic@2", 2)]
    {
        let world = world().await;
        let env = Env::of(&world).with("DRAIN_TEST_POINT", point);
        let mut agent = Agent::start(&env, NEWEST).await;
        let open = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
        let lost = agent.fails("drain_open_channel", open.clone(), "internal").await;
        assert_eq!(lost.data["money"]["state"], "unknown", "{}", lost.text);
        // Nobody calls anything: the channel comes to be all the same.
        until("the opening is recorded", async || {
            world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'open'") == 1
        })
        .await;
        assert_eq!(world.transactions(), transactions, "{point}");
        let again = agent.ok("drain_open_channel", open).await;
        let id = again.data["channel"]["channel_id"].as_str().unwrap().to_owned();
        agent.ok("drain_chat", chat(&id, "hello")).await;
        assert_eq!(world.transactions(), transactions, "{point}: one opening");
        assert_eq!(agent.leave().await.code, Some(0));
    }
}

/// M6, M7: the same of a close; and what never was signed leaves nothing locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m7_a_close_that_panics_is_followed_and_an_opening_without_a_transaction_frees_its_deposit() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_TEST_POINT", "transaction-stored=panic@3");
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "hello")).await;
    agent.fails("drain_cooperative_close", json!({ "channelId": id }), "internal").await;
    until("the close is recorded", async || {
        world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'closed'") == 1
    })
    .await;
    assert_eq!(world.transactions(), 3);
    agent.fails("drain_chat", chat(&id, "more"), "channel_not_open").await;
    assert_eq!(agent.leave().await.code, Some(0));

    let env = Env::of(&world).with("DRAIN_TEST_POINT", "transaction-planned=panic@1");
    let mut agent = Agent::start(&env, NEWEST).await;
    let open = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    agent.fails("drain_open_channel", open, "internal").await;
    until("the deposit is free", async || {
        world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'opening'") == 0
    })
    .await;
    assert_eq!(world.transactions(), 3);
    agent.leave().await;
}
