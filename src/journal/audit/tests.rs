//! The record on the real journal: nothing is forgotten, nothing is changed, and a flood fills no disk.

use crate::journal::db::params;
use crate::journal::usage_tests::{Bench, at, beside};
use crate::journal::{JournalError, Outcome};
use crate::policy::testing::limits;
use crate::policy::{Asked, Caller, Sees};
use drain_protocol::Usdc;

fn caller(agent: &str) -> Caller {
    Caller { agent: agent.into(), limits: limits().into(), asked: Asked::by("drain_chat"), sees: Sees::All }
}

fn texts(bench: &Bench, query: &str) -> Vec<String> {
    beside(|| {
        let reader = bench.location().reader().unwrap();
        reader.db().prepare_cached(query).unwrap().query_map(params![], |row| row.get(0)).unwrap()
    })
}

const STORY: &str = "SELECT kind || ' ' || decision || ' ' || COALESCE(rule, '-') || ' ' || COALESCE(CAST(growth AS TEXT), '-') || ' ' || \
     COALESCE(CAST(charged AS TEXT), '-') || ' ' || COALESCE(outcome, '-') FROM audit ORDER BY seq";

#[tokio::test]
async fn a_request_is_two_rows_that_name_its_call() {
    let mut bench = Bench::new(|limits| limits.per_request = Usdc::new(500));
    let channel = bench.open(7, 1_000, at(0)).await;
    let (plain, who) = (bench.journal.clone(), caller("clerk"));
    bench.journal = plain.asked(&who);
    let receipt = bench.sign(channel, 100, "clerk", at(1)).await.unwrap();
    let outcome = Outcome::Settled { answered: true, charged: Usdc::new(60), disputed: Usdc::new(7), answer: None };
    bench.journal.settle_later(receipt, outcome, at(1).at).unwrap();
    assert!(matches!(bench.sign(channel, 501, "clerk", at(2)).await, Err(JournalError::OverLimit(_))));
    bench.journal.spent_today(0).await.unwrap();
    let story = texts(&bench, STORY);
    let (opening, calls) = story.split_at(story.len() - 3);
    assert!(opening.iter().any(|row| row.starts_with("opening allowed limits")), "{story:?}");
    assert!(opening.iter().any(|row| row.starts_with("opened recorded")), "{story:?}");
    assert_eq!(calls[0], "voucher allowed limits 100 - -");
    assert_eq!(calls[1], "settlement recorded - - 60 answered");
    assert!(calls[2].starts_with("voucher refused DRAIN_MAX_PER_REQUEST - - "), "{story:?}");
    let named = format!("SELECT request || agent || tool FROM audit WHERE request = '{}'", who.asked.request);
    assert_eq!(texts(&bench, &named), vec![format!("{}clerkdrain_chat", who.asked.request); 3]);
}

/// What a refused decision did is taken back, and what it was is kept.
#[tokio::test]
async fn a_refusal_leaves_nothing_but_its_row() {
    let mut bench = Bench::new(|limits| limits.per_day = Usdc::new(100));
    let channel = bench.open(7, 1_000, at(0)).await;
    bench.sign(channel, 90, "a", at(1)).await.unwrap();
    assert!(bench.sign(channel, 200, "a", at(2)).await.is_err());
    assert_eq!(bench.reads("SELECT COUNT(*) FROM vouchers"), 1);
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'day'"), 90);
    assert_eq!(
        bench.reads("SELECT COUNT(*) FROM audit WHERE rule = 'DRAIN_MAX_PER_DAY' AND bound = 200 AND \"left\" = 10"),
        1
    );
    assert_eq!(texts(&bench, "SELECT provider FROM audit WHERE decision = 'refused'"), ["p1"]);
    // Budgets were charged already when a person's yes was missing.
    bench.limits.per_day = Usdc::new(1_000);
    bench.limits.approve.request = Some(Usdc::new(50));
    assert!(matches!(bench.sign(channel, 200, "a", at(3)).await, Err(JournalError::NeedsPerson)));
    assert_eq!(bench.reads("SELECT COUNT(*) FROM audit WHERE rule = 'approval' AND decision = 'refused'"), 1);
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'day'"), 90);
}

#[tokio::test]
async fn a_flood_of_refused_calls_is_counted_and_fills_no_disk() {
    let mut bench = Bench::new(|limits| limits.per_request = Usdc::new(10));
    let channel = bench.open(7, 1_000, at(0)).await;
    for _ in 0..300 {
        assert!(bench.sign(channel, 20, "a", at(1)).await.is_err());
    }
    // The minute may have ended meanwhile.
    assert!(bench.reads("SELECT COUNT(*) FROM audit WHERE decision = 'refused'") <= 3);
    let counted =
        "SELECT COUNT(*) + (SELECT COALESCE(SUM(times), 0) FROM audit_repeats) FROM audit WHERE decision = 'refused'";
    assert_eq!(bench.reads(counted), 300);
    // Another agent's, and another rule's, are their own.
    let rows = bench.reads("SELECT COUNT(*) FROM audit WHERE decision = 'refused'");
    bench.journal = bench.journal.asked(&caller("b"));
    assert!(bench.sign(channel, 20, "b", at(1)).await.is_err());
    assert!(bench.sign(channel, 2_000, "b", at(1)).await.is_err());
    assert_eq!(bench.reads("SELECT COUNT(*) FROM audit WHERE decision = 'refused'"), rows + 2);
}

#[tokio::test]
async fn rows_are_neither_changed_nor_removed_nor_replaced() {
    let mut bench = Bench::new(|limits| limits.per_request = Usdc::new(100));
    let channel = bench.open(7, 1_000, at(0)).await;
    for _ in 0..2 {
        assert!(bench.sign(channel, 200, "a", at(1)).await.is_err());
    }
    bench.stop();
    // SQLite's own word: it would pass by the guards of deletions and changes.
    let replaced = "INSERT OR REPLACE INTO audit (seq, at, agent, tool, kind, decision) VALUES (1, 0, '', '', 'voucher', 'allowed')";
    for change in bench.location().is_a_file().then_some(replaced).into_iter().chain([
        "UPDATE audit SET amount = 1",
        "DELETE FROM audit",
        "INSERT INTO audit (seq, at, agent, tool, kind, decision) VALUES (1, 0, '', '', 'voucher', 'allowed') \
         ON CONFLICT (seq) DO UPDATE SET at = 0",
        "UPDATE audit_repeats SET times = times - 1",
        "DELETE FROM audit_repeats",
        "INSERT INTO vouchers (intent, nonce, amount, bound, growth, model, state, created_at) VALUES (1, 9, 1, 1, 1, '', 'in_flight', 0)",
    ]) {
        let refused = bench.write(change);
        assert!(refused.is_err_and(|error| error.to_string().contains("audit record")), "{change}");
    }
}

/// Whoever drops the triggers is found by comparing the record with what it tells of.
#[tokio::test]
async fn a_record_that_was_changed_all_the_same_is_found() {
    for (change, found) in [
        (
            "UPDATE audit SET amount = amount + 1 WHERE kind = 'voucher'",
            "a voucher is not as the audit record tells: c1-1",
        ),
        ("UPDATE audit SET charged = 1 WHERE kind = 'settlement'", "what was booked is not as the audit record tells"),
        ("DELETE FROM audit WHERE seq = 1", "rows of the audit record are missing"),
    ] {
        let mut bench = Bench::new(|_| {});
        let channel = bench.open(7, 1_000, at(0)).await;
        let receipt = bench.sign(channel, 100, "a", at(1)).await.unwrap();
        let outcome = Outcome::Settled { answered: true, charged: Usdc::new(60), disputed: Usdc::ZERO, answer: None };
        bench.journal.settle_later(receipt, outcome, at(1).at).unwrap();
        bench.stop();
        assert_eq!(bench.problems(), Vec::<String>::new());
        let unguarded = match bench.location().is_a_file() {
            true => "DROP TRIGGER audit_never_changes; DROP TRIGGER audit_never_shrinks;",
            false => "ALTER TABLE audit DISABLE TRIGGER USER;",
        };
        bench.write(&format!("{unguarded} {change}")).unwrap();
        let problems = bench.problems();
        assert!(problems.len() == 1 && problems[0].starts_with(found), "{problems:?}");
    }
}

/// Several requests of unknown outcome are known at once: one row, that of the oldest.
#[tokio::test]
async fn what_was_unknown_is_one_row_when_it_is_known() {
    let mut bench = Bench::new(|_| {});
    let channel = bench.open(7, 1_000, at(0)).await;
    for second in 1..4 {
        let receipt = bench.sign(channel, 100, "a", at(second)).await.unwrap();
        bench.journal.failed_later(receipt, at(second).at).unwrap();
    }
    bench.journal.resolve_unknown(channel, Usdc::new(250), "asked", at(9).at).await.unwrap();
    bench.journal.resolve_unknown(channel, Usdc::new(250), "asked", at(9).at).await.unwrap();
    let rows = "SELECT nonce || ' ' || charged || ' ' || outcome FROM audit WHERE kind = 'settlement'";
    assert_eq!(texts(&bench, rows), ["1 250 what was unknown of 3 requests is known (asked)"]);
    assert_eq!(bench.reads("SELECT COUNT(*) FROM audit WHERE kind = 'unknown'"), 3);
    bench.stop();
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// M13: a provider's id and its words are data.
#[tokio::test]
async fn m13_words_of_others_are_cleaned_and_bounded() {
    let mut bench = Bench::new(|_| {});
    let channel = bench.open(7, 1_000, at(0)).await;
    let receipt = bench.sign(channel, 100, "a", at(1)).await.unwrap();
    let note = format!("two\nlines\u{1b}[31m {}", "x".repeat(5_000));
    bench.journal.settle_later(receipt, Outcome::Refused { note }, at(1).at).unwrap();
    bench.journal.spent_today(0).await.unwrap();
    let told = texts(&bench, "SELECT outcome FROM audit WHERE kind = 'settlement'").remove(0);
    assert!(told.starts_with("not charged: the provider refused (two lines[31m xx"), "{told}");
    assert!(told.chars().count() <= super::TEXT + 1 && !told.contains(['\n', '\u{1b}']), "{told}");
}
