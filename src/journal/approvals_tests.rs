//! Questions and answers on the real journal (M5).

use std::sync::Arc;

use drain_protocol::Usdc;

use super::usage_tests::{Bench, at};
use super::*;
use crate::policy::approvals::{Subject, Thresholds, Verdict, Via};

const HOUR: u64 = 3_600;

async fn bench() -> (Bench, IntentId) {
    let mut bench = Bench::new(|limits| limits.approve = Thresholds { request: Some(Usdc::new(100)), deposit: None });
    let channel = bench.open(7, 1_000_000, at(0)).await;
    (bench, channel)
}

async fn ask(bench: &Bench, channel: IntentId, amount: u32) -> Approval {
    let subject = bench.journal.channel(channel).await.unwrap().request_subject("a", Usdc::new(amount));
    bench.journal.ask_person(subject, HOUR, at(10)).await.unwrap()
}

#[tokio::test]
async fn m5_above_the_threshold_nothing_is_signed_without_a_yes() {
    let (bench, channel) = bench().await;
    bench.sign(channel, 100, "a", at(1)).await.unwrap();
    assert!(matches!(bench.sign(channel, 101, "a", at(1)).await, Err(JournalError::NeedsPerson)));
    let asked = ask(&bench, channel, 150).await;
    assert!(matches!(bench.sign(channel, 101, "a", at(11)).await, Err(JournalError::NeedsPerson)), "only asked");
    bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(12)).await.unwrap();
    for (amount, agent, what) in [(151, "a", "more money"), (150, "b", "another agent")] {
        assert!(matches!(bench.sign(channel, amount, agent, at(13)).await, Err(JournalError::NeedsPerson)), "{what}");
    }
    bench.sign(channel, 150, "a", at(13)).await.unwrap();
    assert!(matches!(bench.sign(channel, 150, "a", at(13)).await, Err(JournalError::NeedsPerson)), "used twice");
}

#[tokio::test]
async fn m5_a_refused_budget_does_not_use_the_yes_up() {
    let (mut bench, channel) = bench().await;
    let asked = ask(&bench, channel, 150).await;
    bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(12)).await.unwrap();
    bench.limits.per_hour = Usdc::new(10);
    assert!(matches!(bench.sign(channel, 150, "a", at(13)).await, Err(JournalError::OverLimit(_))));
    bench.limits.per_hour = Usdc::new(1_000);
    bench.sign(channel, 150, "a", at(13)).await.unwrap();
}

#[tokio::test]
async fn m5_no_answer_a_no_and_an_old_yes_are_no() {
    let (bench, channel) = bench().await;
    let asked = ask(&bench, channel, 150).await;
    bench.journal.decide(asked.id, Verdict::Deny, Via::Terminal, at(12)).await.unwrap();
    assert!(matches!(bench.sign(channel, 150, "a", at(13)).await, Err(JournalError::NeedsPerson)));
    // Asked again, it is the same question with its no; a no is not turned into a yes.
    let again = ask(&bench, channel, 150).await;
    assert_eq!((again.id, again.state), (asked.id, ApprovalState::Denied));
    let turned = bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(14)).await;
    assert!(matches!(turned, Err(JournalError::Answered(_, ApprovalState::Denied))));

    let larger = ask(&bench, channel, 200).await;
    assert_ne!(larger.id, asked.id);
    bench.journal.decide(larger.id, Verdict::Approve, Via::Terminal, at(20)).await.unwrap();
    assert!(matches!(bench.sign(channel, 200, "a", at(30 + HOUR)).await, Err(JournalError::NeedsPerson)), "expired");
    let late = bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(30 + HOUR)).await;
    assert!(matches!(late, Err(JournalError::Answered(_, ApprovalState::Expired))));
}

#[tokio::test]
async fn m5_a_deposit_needs_its_own_yes_in_the_transaction_that_records_it() {
    let mut bench = Bench::new(|limits| limits.approve = Thresholds { request: None, deposit: Some(Usdc::new(50)) });
    assert!(matches!(bench.begin(7, 51, at(0)).await, Err(JournalError::NeedsPerson)));
    assert!(bench.journal.channels(true).await.unwrap().is_empty(), "nothing is left of a refused opening");
    bench.begin(7, 50, at(0)).await.unwrap();
    let wanted = bench.wish(8, 60, at(1));
    let asked = bench.journal.ask_person(wanted.subject(), HOUR, at(1)).await.unwrap();
    bench.journal.decide(asked.id, Verdict::Approve, Via::Elicitation, at(2)).await.unwrap();
    let limits = Arc::new(bench.limits.clone());
    bench.journal.begin_open(wanted, limits, at(3)).await.unwrap();
}

#[tokio::test]
async fn questions_have_an_end() {
    let (bench, channel) = bench().await;
    let subject = bench.journal.channel(channel).await.unwrap().request_subject("a", Usdc::new(1));
    for number in 0..100 {
        let subject = Subject { agent: format!("a{number}"), ..subject.clone() };
        bench.journal.ask_person(subject, HOUR, at(10)).await.unwrap();
    }
    assert!(matches!(
        bench.journal.ask_person(subject.clone(), HOUR, at(10)).await,
        Err(JournalError::TooManyQuestions(100))
    ));
    assert_eq!(bench.journal.approvals(at(10)).await.unwrap().len(), 100);
    bench.journal.ask_person(subject, HOUR, at(30 + HOUR)).await.unwrap();
}
