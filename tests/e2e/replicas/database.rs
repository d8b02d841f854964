//! The database: what it may lose, what is not heard of it, who may do what on it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;

/// What happens on the way to the database.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// Nothing comes through.
    Cut,
    /// The next commit does not arrive, and its connection ends.
    CommitLost,
    /// It arrives, and its answer does not.
    AnswerLost,
}

/// A way to the database with trouble on it.
struct Way {
    port: u16,
    trouble: watch::Sender<Trouble>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let trouble = watch::Sender::new(Trouble::None);
        let state = trouble.clone();
        tokio::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                if *state.borrow() == Trouble::Cut {
                    continue;
                }
                let to = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(from, to, state.clone()));
            }
        });
        Self { port: here, trouble }
    }
}

async fn carry(mut from: TcpStream, mut to: TcpStream, trouble: watch::Sender<Trouble>) {
    let mut changed = trouble.subscribe();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = from.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                let commits = asked[..count].windows(12).any(|bytes| bytes == b"SELECT keep(");
                let lost = commits.then(|| *trouble.borrow());
                if lost == Some(Trouble::CommitLost) {
                    trouble.send_replace(Trouble::None);
                    return;
                }
                to.write_all(&asked[..count]).await.unwrap();
                if lost == Some(Trouble::AnswerLost) {
                    // It is committed when this comes.
                    assert!(to.read(&mut answered).await.unwrap() > 0);
                    trouble.send_replace(Trouble::None);
                    return;
                }
            }
            read = to.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if from.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
            () = async { drop(changed.wait_for(|trouble| *trouble == Trouble::Cut).await) } => return,
        }
    }
}

/// Whether a commit was made is found out before anybody is told, so that nothing is signed twice and nothing unsigned is
/// reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_a_commit_of_which_nothing_was_heard_is_read_back() {
    let mut fleet = Fleet::new().await;
    let way = Way::to(fleet.database.port).await;
    let env = fleet.env().with("DRAIN_JOURNAL_URL", fleet.database.url_at(OWNER, way.port));
    let first = Served::start_with(&env, &["serve"]).await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    until("it is booked", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0").await;
    for turn in 0..3 {
        let before = vouchers(&fleet.world.sandbox.llm).len();
        way.trouble.send_replace(Trouble::AnswerLost);
        paid(&first, &token, &channel, "committed, and nothing heard of it").await;
        assert_eq!(
            (*way.trouble.borrow(), vouchers(&fleet.world.sandbox.llm).len()),
            (Trouble::None, before + 1),
            "{turn}"
        );
        until("it is booked", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0")
            .await;
        way.trouble.send_replace(Trouble::CommitLost);
        let refused = ask(&first, &token, &channel, "not committed").await.unwrap();
        assert!(refused.is_error && refused.data["code"] == "journal_failed", "{}", refused.text);
        assert!(refused.text.contains("Nothing was spent"), "{}", refused.text);
        assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before + 1, "{turn}");
        let recorded: usize = fleet.sql("SELECT COUNT(*) FROM vouchers").parse().unwrap();
        assert_eq!(recorded, before + 1, "what was not committed is not there");
    }
    paid(&first, &token, &channel, "afterwards").await;
    fleet.nothing_twice();
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_m2_a_replica_that_is_cut_off_from_the_database_signs_nothing_and_comes_back() {
    let mut fleet = Fleet::new().await;
    let way = Way::to(fleet.database.port).await;
    let env = fleet.env().with("DRAIN_JOURNAL_URL", fleet.database.url_at(OWNER, way.port));
    let first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    way.trouble.send_replace(Trouble::Cut);
    // What is asked of it is refused, or passed on once another one has the wallet: never paid without a record.
    let answer = ask(&first, &token, &channel, "while it is cut off").await;
    println!("while it is cut off: {:?}", answer.as_ref().map(|answer| answer.text.clone()));
    // What was passed on to it just before may be told as unknown.
    until("it is taken over", async || match ask(&second, &token, &channel, "taken over").await {
        Ok(answer) => !answer.is_error,
        Err((status, _)) => {
            assert_eq!(status, StatusCode::BAD_GATEWAY);
            false
        }
    })
    .await;
    way.trouble.send_replace(Trouble::None);
    until("it passes on again", async || {
        ask(&first, &token, &channel, "again").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    fleet.nothing_twice();
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_nothing_is_signed_on_a_server_that_can_lose_a_commit() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    for (setting, unsafe_, safe) in
        [("synchronous_commit", "off", "on"), ("synchronous_commit", "local", "on"), ("fsync", "off", "on")]
    {
        let set = |value: &str| {
            fleet.database.settings(&format!("{setting} = {value}"));
            fleet.database.reload();
        };
        let before = vouchers(&fleet.world.sandbox.llm).len();
        set(unsafe_);
        until("it is refused", async || {
            let answer = ask(&first, &token, &channel, "on an unsafe server").await.unwrap();
            answer.is_error && answer.data["code"] == "journal_failed" && answer.text.contains(setting)
        })
        .await;
        let asked = vouchers(&fleet.world.sandbox.llm).len();
        let refused = ask(&first, &token, &channel, "still unsafe").await.unwrap();
        assert!(refused.is_error && vouchers(&fleet.world.sandbox.llm).len() == asked, "{before}");
        // Nor by one that starts now.
        set(safe);
        until("it is paid again", async || !ask(&first, &token, &channel, "safe again").await.unwrap().is_error).await;
    }
    fleet.nothing_twice();
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_the_server_is_restarted_under_load_and_every_request_is_answered_or_refused() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    let asking = async {
        let (mut answered, mut refused) = (0, 0);
        for turn in 0..60 {
            match ask(&second, &token, &channel, &format!("request {turn}")).await {
                Ok(answer) if !answer.is_error => answered += 1,
                Ok(_) | Err((StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY, _)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        (answered, refused)
    };
    let restarting = async {
        for how in ["immediate", "fast"] {
            until("some are paid", async || vouchers(&fleet.world.sandbox.llm).len() > 5).await;
            tokio::task::block_in_place(|| {
                fleet.database.down(how);
                fleet.database.up();
            });
        }
    };
    let ((answered, refused), ()) = futures::join!(asking, restarting);
    println!("{answered} answered, {refused} refused");
    assert!(answered >= 40, "{answered} answered, {refused} refused");
    paid(&first, &token, &channel, "afterwards").await;
    fleet.nothing_twice();
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'"), "0");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_least_privileged_account_pays_and_changes_no_record() {
    let mut fleet = Fleet::new().await;
    let owner = fleet.env();
    let made = owner.run(&["journal", "prepare", "--grant", ROLE, "--json"]).await.ok_json();
    assert_eq!((&made["before"], &made["granted"]), (&Value::Null, &json!(ROLE)));
    fleet.url = fleet.database.url(ROLE);
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "hello").await;
    let schema = fleet.schema();
    for (forbidden, table) in [
        ("UPDATE", "audit"),
        ("DELETE", "audit"),
        ("DELETE", "vouchers"),
        ("TRUNCATE", "audit"),
        ("UPDATE", "schema_version"),
    ] {
        let may = fleet
            .database
            .sql("drain", &format!("SELECT has_table_privilege('{ROLE}', '{schema}.{table}', '{forbidden}')"));
        assert_eq!(may, "f", "{forbidden} {table}");
    }
    // And what the owner itself does is refused by the trigger.
    for change in [
        "UPDATE audit SET amount = 1",
        "DELETE FROM audit",
        "TRUNCATE audit CASCADE",
        "UPDATE channels SET signed = signed - 1",
    ] {
        let whole = format!("SET search_path TO {schema}; {change}");
        let refused = fleet.database.try_sql("drain", &whole).unwrap_err();
        assert!(refused.contains("only added to") || refused.contains("would fall"), "{change}: {refused}");
    }
    first.stop().await;
}

/// What an operator is told of the server before money depends on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn doctor_looks_at_the_server() {
    let mut fleet = Fleet::new().await;
    let owner = fleet.env();
    owner.run(&["journal", "prepare", "--grant", ROLE]).await;
    fleet.url = fleet.database.url(ROLE);
    let first = fleet.replica().await;
    let beside = fleet.env();
    let database = async |env: &Env| {
        let ended = env.run(&["doctor", "--json"]).await;
        let checks = ended.json()["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == "database").unwrap()
    };
    let found = database(&beside).await;
    assert_eq!(found["status"], "ok", "{found}");
    assert!(found["found"].as_str().unwrap().contains(&format!("the wallet is with {}", first.url)), "{found}");
    assert!(!found.to_string().contains("a-password"), "{found}");
    let found = database(&beside.clone().with("DRAIN_JOURNAL_URL", fleet.database.url(OWNER))).await;
    assert_eq!(found["status"], "warn", "{found}");
    assert!(found["found"].as_str().unwrap().contains("may change the audit record"), "{found}");
    // A command beside it says where the wallet is, and ends.
    let channels = beside.run(&["channels"]).await;
    assert!(channels.code != Some(0) && channels.stderr.contains(&first.url), "{channels:?}");
    assert!(!channels.stderr.contains("panicked"), "{channels:?}");
    fleet.database.settings("fsync = off");
    fleet.database.reload();
    until("it is seen", async || database(&beside).await["status"] == "fail").await;
    first.stop().await;
}
