//! A wallet goes from one replica to another: told, killed, or stopped and going on later.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_wallet_is_one_replicas_and_the_others_pass_on_what_its_agents_ask() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let (second, third) = (fleet.replica().await, fleet.replica().await);
    let token = fleet.token.clone();
    for replica in [&first, &second, &third] {
        assert_eq!(replica.ready().await.0, StatusCode::OK);
    }
    // Whichever is asked: opening, paying, sessions.
    let channel = open(&third, &token).await;
    for replica in [&first, &second, &third] {
        paid(replica, &token, &channel, "hello").await;
    }
    let session = second.session(&token, "2025-11-25").await;
    session.ok("drain_chat", chat(&channel, "in a session")).await;
    let client = first.client(&token, Client::stateless()).await;
    let status = client.ok("drain_channel_status", json!({ "channelId": channel })).await;
    assert_eq!(status.data["requests"], 4, "{}", status.text);
    client.leave().await;
    // A token that nobody has is refused by whoever is asked.
    let nobody =
        second.stateless(&format!("drain_{}", "a".repeat(43)), "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    // One that is told to end hands over at once.
    let told = std::time::Instant::now();
    first.stop().await;
    paid(&third, &token, &channel, "after the end of the first").await;
    println!("handed over after {:?}", told.elapsed());
    paid(&second, &token, &channel, "through the other").await;
    fleet.nothing_twice();
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_replica_that_is_killed_is_taken_over_within_its_lease() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    let mut named = chat(&channel, "with a name");
    named["requestId"] = json!("once");
    let answered = second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    let first_answer = Answer::of(message_of(answered).await["result"].clone());
    assert!(!first_answer.is_error, "{}", first_answer.text);
    first.kill().await;
    let killed = std::time::Instant::now();
    paid(&second, &token, &channel, "after").await;
    println!("taken over after {:?} of 2 s", killed.elapsed());
    // What was paid is not lost with the replica that paid, and not paid again.
    let before = vouchers(&fleet.world.sandbox.llm).len();
    let again = second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    let again = Answer::of(message_of(again).await["result"].clone());
    assert_eq!(again.data["content"], first_answer.data["content"], "{}", again.text);
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before);
    fleet.nothing_twice();
    second.stop().await;
}

/// The hardest moment: the voucher is recorded, nothing is signed, and the process stands still until its wallet is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_m2_a_replica_that_stood_still_between_record_and_signature_signs_nothing_new() {
    let mut fleet = Fleet::new().await;
    let env = fleet.env().with("DRAIN_TEST_POINT", "voucher-authorized=stop@2");
    let mut first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    paid(&second, &token, &channel, "before").await;
    let (status, text) = ask(&second, &token, &channel, "while it stands still").await.unwrap_err();
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{text}");
    assert!(text.contains("not known"), "{text}");
    paid(&second, &token, &channel, "taken over").await;
    continued(&first);
    first.says("another process has taken the journal over").await;
    // What it had recorded may still leave, and the provider refuses it: a later number is there. It signs no more.
    until("it knows that the wallet is another's", async || first.ready().await.0 == StatusCode::OK).await;
    paid(&first, &token, &channel, "passed on by the one that stood still").await;
    fleet.nothing_twice();
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM vouchers WHERE amount > (SELECT MIN(deposit) FROM channels)"), "0");
    second.stop().await;
    first.stop().await;
}

/// It stands still with the answer half read, and its wallet is another's when it goes on: the answer is kept all the same, and
/// found by the request's name through the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn an_answer_that_came_to_a_replica_that_had_lost_the_wallet_is_not_lost() {
    let mut fleet = Fleet::new().await;
    let env = fleet.env().with("DRAIN_TEST_POINT", "voucher-sent=stop@2");
    let first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    paid(&second, &token, &channel, "before").await;
    let mut named = chat(&channel, "with a name");
    named["requestId"] = json!("once");
    let ask = async || second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    assert_eq!(ask().await.status(), StatusCode::BAD_GATEWAY);
    let unknown = Answer::of(message_of(ask().await).await["result"].clone());
    assert_eq!(unknown.data["code"], "request_unknown", "{}", unknown.text);
    continued(&first);
    until("its answer is found", async || {
        let answer = Answer::of(message_of(ask().await).await["result"].clone());
        !answer.is_error && answer.text.contains("nothing was paid again")
    })
    .await;
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), 2, "it was paid once");
    // The provider's next total says what it cost.
    paid(&second, &token, &channel, "the next").await;
    until("nothing is unknown", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0")
        .await;
    fleet.nothing_twice();
    second.stop().await;
    first.stop().await;
}

/// A process of the same machine that knows of no server does not take the wallet beside the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_process_without_the_servers_url_does_not_become_a_second_holder() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    let beside = first.env.clone().without("DRAIN_JOURNAL_URL");
    // It shares the replica's runtime over the socket, as any process of the machine does.
    let shown = beside.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(shown["channels"][0]["channel_id"], channel.as_str(), "{shown}");
    let folder = fleet.homes[0].path().join(format!("137-{:#x}", fleet.world.agent()));
    assert!(!folder.join("journal.db").exists(), "it began a journal of its own");
    first.stop().await;
}

/// Two agents on two replicas want the last cent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m4_the_last_of_a_budget_is_spent_once() {
    let mut fleet = Fleet::new().await.with("DRAIN_MAX_PER_DAY", "0.002");
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let (tokens, replicas) = ([token, fleet.bob.clone()], [&first, &second]);
    let channels = [open(&first, &tokens[0]).await, open(&second, &tokens[1]).await];
    let mut asked = Vec::new();
    for turn in 0..20 {
        let which = turn % 2;
        asked.push(ask(replicas[which], &tokens[which], &channels[which], "a request that costs something"));
    }
    let answers = futures::future::join_all(asked).await;
    let refused = answers.iter().filter(|answer| answer.as_ref().unwrap().data["code"] == "limit_reached").count();
    assert!(refused > 0, "the budget is never used up");
    let signed: u64 = fleet.sql("SELECT SUM(signed) FROM channels").parse().unwrap();
    assert!(signed <= 2_000, "{signed} of 2000 signed");
    first.stop().await;
    second.stop().await;
}

/// The account's transactions have one owner at a time: one that a replica had stored when it stood still is sent by the next, and
/// the first one, going on, sends no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m7_a_transaction_that_a_stopped_replica_had_signed_is_followed_by_the_next() {
    let mut fleet = Fleet::new().await;
    // The allowance is the first, the opening the second.
    let env = fleet.env().with("DRAIN_TEST_POINT", "transaction-stored=stop@2");
    let mut first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let wanted = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let lost = second.stateless(&token, "drain_open_channel", &wanted).send().await.unwrap();
    assert_eq!(lost.status(), StatusCode::BAD_GATEWAY);
    until("the next one has opened it", async || {
        fleet.sql("SELECT COUNT(*) FROM channels WHERE state = 'open'") == "1"
    })
    .await;
    continued(&first);
    first.says("another process has taken the journal over").await;
    // Asked again, it is the same channel.
    let client = first.client(&token, Client::stateless()).await;
    let channel = client.open("sim-llm", "1").await;
    client.leave().await;
    paid(&second, &token, &channel, "on it").await;
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM channels"), "1");
    let twice = "SELECT COUNT(*) FROM (SELECT 1 FROM transactions WHERE state = 'final' GROUP BY account_nonce HAVING COUNT(*) > 1) twice";
    assert_eq!(fleet.sql(twice), "0");
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM transactions WHERE state IN ('planned', 'signed', 'broadcast')"), "0");
    let doctor = second.env.run(&["doctor", "--json"]).await.ok_json();
    let checks = doctor["checks"].as_array().unwrap();
    let openings = checks.iter().find(|check| check["check"] == "openings").unwrap();
    assert_eq!(openings["status"], "ok", "what the contract counts is on record: {openings}");
    fleet.nothing_twice();
    second.stop().await;
    first.stop().await;
}
