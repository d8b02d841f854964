//! Another history than the one that was recorded, and a later schema.

use super::*;

/// The primary is lost and a standby takes over, which may lack what was committed last: no channel's history is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_standby_that_took_over_makes_every_channel_a_recovered_one() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    fleet.database.down("fast");
    fleet.database.up_as_standby();
    let before = vouchers(&fleet.world.sandbox.llm).len();
    let refused = ask(&first, &token, &channel, "by a standby").await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.is_error), "a standby can record nothing");
    let late = fleet.env().run(&["serve"]).await;
    assert!(late.code == Some(1) && late.stderr.contains("in recovery"), "{late:?}");
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before);
    fleet.database.promote();
    until("it is paid on the new timeline", async || {
        ask(&first, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    assert!(fleet.sql("SELECT notice FROM identity").contains("another history"));
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM audit WHERE kind = 'copy'"), "1");
    fleet.nothing_twice();
    first.stop().await;
    // Said once: the next start knows this history.
    let again = fleet.replica().await;
    paid(&again, &token, &channel, "by the next").await;
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM audit WHERE kind = 'copy'"), "1");
    again.stop().await;
}

/// A dump of the records is put back while nobody looks: it is not what the server committed last, and nobody's mark tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_dump_that_was_put_back_makes_every_channel_a_recovered_one() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before the dump").await;
    let dump = fleet.database.dump("drain");
    for turn in 0..3 {
        paid(&first, &token, &channel, &format!("after the dump {turn}")).await;
    }
    first.kill().await;
    fleet.database.restore("drain", &dump, &fleet.schema());
    // On another machine, which never had the wallet.
    let second = fleet.replica().await;
    until("it is paid again", async || {
        ask(&second, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    let seen = vouchers(&fleet.world.sandbox.llm);
    let numbers: HashSet<_> = seen.iter().map(|request| request.nonce.unwrap()).collect();
    assert_eq!(numbers.len(), seen.len(), "a number was used twice");
    second.stop().await;
}

/// The same under a holder that goes on: what it knows and what is there now are not one history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_dump_that_is_put_back_under_a_holder_is_noticed_by_its_next_commit() {
    let mut fleet = Fleet::new().await;
    let mut first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before the dump").await;
    let dump = fleet.database.dump("drain");
    paid(&first, &token, &channel, "after the dump").await;
    fleet.database.restore("drain", &dump, &fleet.schema());
    until("it is paid again", async || {
        ask(&first, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    first.says("another process has taken the journal over").await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    let seen = vouchers(&fleet.world.sandbox.llm);
    let numbers: HashSet<_> = seen.iter().map(|request| request.nonce.unwrap()).collect();
    assert_eq!(numbers.len(), seen.len(), "a number was used twice");
    first.stop().await;
}

/// A later version's schema, replicas of this one that go on with it, and one replaced after another while an agent pays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn replicas_go_on_with_a_later_schema_and_are_replaced_one_after_another() {
    let mut fleet = Fleet::new().await;
    let (first, second) = (fleet.replica().await, fleet.replica().await);
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&second, &token, &channel, "before").await;
    // What a step of the next version may do: columns and tables that this one does not know.
    let version: u64 = fleet.sql("SELECT version FROM schema_version").parse().unwrap();
    fleet.sql(&format!(
        "BEGIN; ALTER TABLE channels ADD COLUMN later BIGINT NOT NULL DEFAULT 0; ALTER TABLE vouchers ADD COLUMN later TEXT; \
         ALTER TABLE audit ADD COLUMN later TEXT; CREATE TABLE later (id BIGINT); UPDATE schema_version SET version = {}, oldest = {version}; COMMIT",
        version + 1
    ));
    let third = fleet.replica().await;
    for replica in [&first, &second, &third] {
        paid(replica, &token, &channel, "after the step").await;
    }
    let client = third.client(&token, Client::stateless()).await;
    let budget = client.ok("drain_budget", json!({})).await;
    assert!(budget.text.contains("receipt") || !budget.data["receipts"].is_null(), "{}", budget.text);
    client.leave().await;
    let asking = async {
        for turn in 0..30 {
            paid(&third, &token, &channel, &format!("while they are replaced {turn}")).await;
        }
    };
    let replacing = async {
        first.stop().await;
        second.stop().await;
    };
    futures::join!(asking, replacing);
    fleet.nothing_twice();
    // One that the next version does not allow any more says so, and leaves the journal as it is.
    fleet.sql(&format!("UPDATE schema_version SET oldest = {}", version + 1));
    let late = fleet.env();
    let refused = late.run(&["serve"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("newer drain-mcp"), "{refused:?}");
    paid(&third, &token, &channel, "the one that runs goes on").await;
    third.stop().await;
}
