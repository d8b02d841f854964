//! What counts against a limit, and by which clock: of the machine's and the chain's, no error of one opens a limit or
//! holds it shut (M4, M9).

use std::sync::Arc;

use drain_protocol::{Address, B256, Nonce, Usdc};

use super::usage_tests::{Bench, START, at, plan, pol};
use super::*;
use crate::clock::Moment;
use crate::policy::approvals::{Thresholds, Verdict, Via};
use crate::policy::budgets::Rule;

/// The machine's clock `late` seconds behind, the chain's as it is: windows follow the earlier one.
fn behind(late: u64) -> Moment {
    Moment { at: START - late, windows: Some(START - late) }
}

fn rule<T: std::fmt::Debug>(result: Result<T, JournalError>) -> Rule {
    match result {
        Err(JournalError::OverLimit(over)) => over.rule,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn m9_a_clock_set_back_opens_no_limit_on_openings_or_gas() {
    let mut bench = Bench::new(|limits| {
        (limits.opens_per_hour, limits.gas_per_day, limits.gas_per_transaction) = (2, pol("1"), pol("1"))
    });
    bench.sign_once(at(0)).await;
    bench.begin(7, 10, behind(90_000)).await.unwrap();
    assert_eq!(rule(bench.begin(8, 10, behind(90_000)).await), Rule::OpensPerHour);

    let limits = Arc::new(bench.limits.clone());
    let send = |moment| bench.journal.plan_transaction(plan(TxKind::Approve, "0.6", moment), limits.clone());
    send(behind(90_000)).await.unwrap();
    assert_eq!(rule(send(behind(90_000)).await), Rule::GasPerDay);
}

#[tokio::test]
async fn m9_a_clock_that_was_ahead_holds_no_limit_shut() {
    let mut bench = Bench::new(|limits| {
        (limits.opens_per_hour, limits.gas_per_day, limits.gas_per_transaction) = (1, pol("1"), pol("1"))
    });
    // The chain contradicts it.
    let ahead = Moment { at: START + 90_000, windows: Some(START + 600) };
    let first = bench.begin(7, 10, ahead).await.unwrap();
    assert_eq!(bench.journal.channel(first).await.unwrap().used_at, START + 600, "by the clock of windows");
    bench.begin(8, 10, at(600 + 3_601)).await.unwrap();
    let limits = Arc::new(bench.limits.clone());
    bench.journal.plan_transaction(plan(TxKind::Approve, "0.6", ahead), limits.clone()).await.unwrap();
    bench.journal.plan_transaction(plan(TxKind::Approve, "0.6", at(91_000)), limits).await.unwrap();
}

#[tokio::test]
async fn m4_the_machines_word_alone_begins_no_window() {
    let mut bench = Bench::new(|limits| limits.per_hour = Usdc::new(100));
    let unknown = Moment { at: START + 200_000, windows: None };
    bench.journal.approvals(unknown).await.unwrap();
    let limits = Arc::new(bench.limits.clone());
    bench.journal.plan_transaction(plan(TxKind::Close, "0.1", unknown), limits).await.unwrap();
    assert!(matches!(bench.begin(7, 10, unknown).await, Err(JournalError::NoTime)));
    assert_eq!(bench.reads("SELECT at FROM window_clock"), 0);
    let channel = bench.open(7, 1_000, at(0)).await;
    bench.sign(channel, 100, "a", at(1)).await.unwrap();
    // Were it believed, windows would stand still for two days.
    bench.sign(channel, 100, "a", at(3_700)).await.unwrap();
}

#[tokio::test]
async fn m4_nothing_is_signed_before_any_time_is_known_but_the_machines() {
    let mut bench = Bench::new(|_| {});
    let found = bench.adopt(7, 1_000, 0).await;
    let unknown = Moment { at: START + 200_000, windows: None };
    assert!(matches!(bench.sign(found, 10, "a", unknown).await, Err(JournalError::NoTime)));
    assert_eq!(bench.reads("SELECT COUNT(*) FROM usage"), 0);
    bench.sign(found, 10, "a", at(0)).await.unwrap();
    // Known once, windows stand still without it.
    bench.sign(found, 10, "a", unknown).await.unwrap();
}

#[tokio::test]
async fn m9_what_was_opened_counts_whatever_its_provider_says_and_what_was_found_does_not() {
    let mut bench = Bench::new(|limits| limits.opens_per_hour = 1);
    let channel = bench.open(7, 10, at(0)).await;
    bench.journal.mark_recovered(channel, Nonce::new(9).unwrap()).await.unwrap();
    assert_eq!(rule(bench.begin(8, 10, at(1)).await), Rule::OpensPerHour);
    let mut bench = Bench::new(|limits| limits.opens_per_hour = 1);
    bench.adopt(7, 10, 0).await;
    bench.begin(8, 10, at(1)).await.unwrap();
}

#[tokio::test]
async fn m9_what_a_provider_took_counts_until_two_endpoints_say_that_no_close_is_worth_it() {
    let mut bench = Bench::new(|limits| (limits.locked, limits.open_channels) = (Usdc::new(100), 1));
    let spent = bench.open(7, 100, at(0)).await;
    let journal = bench.journal.clone();
    let consumer = Address::repeat_byte(1);
    // One endpoint's word, and more than there ever was.
    journal.claimed(spent, Usdc::new(1_000)).await.unwrap();
    assert_eq!(journal.channel(spent).await.unwrap().books.claimed, Usdc::new(100));
    assert_eq!(journal.locked(137, consumer).await.unwrap(), Usdc::new(100));
    assert_eq!(rule(bench.begin(8, 1, at(1)).await), Rule::Locked);

    journal.not_worth_closing(spent, Usdc::new(98)).await.unwrap();
    assert_eq!(journal.locked(137, consumer).await.unwrap(), Usdc::new(2));
    // A smaller word that comes later takes nothing back: claims only grow.
    journal.not_worth_closing(spent, Usdc::new(99)).await.unwrap();
    journal.not_worth_closing(spent, Usdc::new(90)).await.unwrap();
    assert_eq!(rule(bench.begin(8, 100, at(2)).await), Rule::Locked);
    bench.begin(8, 99, at(2)).await.unwrap();
    assert_eq!(rule(bench.begin(9, 1, at(3)).await), Rule::Locked);
}

#[tokio::test]
async fn m5_an_old_yes_is_no_yes_while_the_chain_is_not_known() {
    let mut bench = Bench::new(|limits| limits.approve = Thresholds { request: Some(Usdc::new(100)), deposit: None });
    let channel = bench.open(7, 1_000_000, at(0)).await;
    let subject = bench.journal.channel(channel).await.unwrap().request_subject("a", Usdc::new(150));
    let asked = bench.journal.ask_person(subject, 3_600, at(10)).await.unwrap();
    bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(12)).await.unwrap();
    let late = Moment { at: START + 10_000, windows: None };
    assert!(matches!(bench.sign(channel, 150, "a", late).await, Err(JournalError::NeedsPerson)));
    assert_eq!(bench.journal.approval(asked.id, late).await.unwrap().unwrap().state, ApprovalState::Expired);
    assert!(bench.journal.approvals(late).await.unwrap().is_empty());
    let soon = Moment { at: START + 100, windows: None };
    bench.sign(channel, 150, "a", soon).await.unwrap();
}

#[tokio::test]
async fn gas_of_a_slot_counts_once_when_it_is_outbid() {
    let bench = Bench::new(|limits| (limits.gas_per_day, limits.gas_per_transaction) = (pol("1"), pol("1")));
    let wanted = Arc::new(bench.limits.clone());
    let send = |outbids, gas: &str| {
        let new = NewTransaction { outbids, ..plan(TxKind::Open, gas, at(0)) };
        bench.journal.plan_transaction(new, wanted.clone())
    };
    let first = send(None, "0.5").await.unwrap();
    bench.journal.signed(first, 5, vec![1], B256::repeat_byte(1)).await.unwrap();
    let other = send(None, "0.4").await.unwrap();
    bench.journal.signed(other, 6, vec![2], B256::repeat_byte(2)).await.unwrap();
    // 0.4 elsewhere, and the larger of both in this slot.
    assert_eq!(rule(send(Some(5), "0.7").await), Rule::GasPerDay);
    let second = send(Some(5), "0.6").await.unwrap();
    bench.journal.signed(second, 5, vec![3], B256::repeat_byte(3)).await.unwrap();
    assert_eq!(rule(send(None, "0.1").await), Rule::GasPerDay);
    // A cheaper one leaves what the dearer one may still burn.
    assert_eq!(rule(send(Some(6), "0.5").await), Rule::GasPerDay);
    send(Some(6), "0.3").await.unwrap();
}

/// The desk keeps these books for the next caller, whose limits are his own.
#[tokio::test]
async fn m5_a_tighter_caller_lowers_no_cap_but_its_own() {
    let mut bench = Bench::new(|_| {});
    let channel = bench.open(7, 1_000, at(0)).await;
    bench.limits.per_channel = Usdc::new(100);
    let leave = bench.journal.authorize(bench.request(channel, 100, "a", at(1))).await.unwrap();
    assert_eq!((leave.books().cap, leave.books().signed), (Usdc::new(1_000), Usdc::new(100)));
}
