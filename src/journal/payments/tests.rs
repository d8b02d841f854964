//! Payments without a channel in the record: decided and counted as vouchers are, and ended by the chain's word.

use std::sync::Arc;

use drain_protocol::demand::Protocol;
use drain_protocol::deployment::POLYGON_USDC;
use drain_protocol::{Address, Asset, B256, PaymentOrder, TempoTransfer, Transfer, Usdc, tempo};
use proptest::prelude::*;

use super::super::usage_tests::{Bench, START, at};
use super::super::*;
use crate::api::ReceiptQuery;
use crate::clock::Moment;
use crate::policy::approvals::{Verdict, Via};
use crate::policy::budgets::Rule;
use crate::policy::repeat::{RequestKey, sha256};

fn wish(bench: &Bench, amount: u32, agent: &str, number: u8, when: Moment) -> PaymentIntent {
    let asset = Asset::usdc(137, POLYGON_USDC);
    let transfer = Transfer {
        from: Address::repeat_byte(1),
        to: Address::repeat_byte(9),
        value: Usdc::new(amount),
        valid_after: 0,
        valid_before: when.at + 60,
        nonce: B256::repeat_byte(number),
    };
    PaymentIntent {
        protocol: Protocol::Mpp,
        order: PaymentOrder::Authorization { asset, transfer },
        host: "api.example".into(),
        provider_id: "api.example".into(),
        category: String::new(),
        what: "POST /things".into(),
        request: B256::ZERO,
        ask_person: false,
        limits: Arc::new(bench.limits.clone()),
        agent: agent.into(),
        key: None,
        moment: when,
    }
}

/// The same to another payee.
fn to(mut intent: PaymentIntent, payee: Address) -> PaymentIntent {
    let PaymentOrder::Authorization { transfer, .. } = &mut intent.order else { panic!() };
    transfer.to = payee;
    intent
}

/// The same over Tempo, with gas of up to 20 units.
fn over_tempo(intent: PaymentIntent) -> PaymentIntent {
    let gas = tempo::Gas { limit: 1_000, price: 20_000_000_000, tip: 0 };
    let (chain_id, transfer) = (tempo::MAINNET, *intent.order.transfer());
    let order = TempoTransfer { chain_id, token: tempo::tokens(chain_id)[0], transfer, gas, sponsored: false };
    PaymentIntent { protocol: Protocol::MppTempo, order: PaymentOrder::Tempo(order), ..intent }
}

const NEVER: OnChain = OnChain::NeverTaken { transaction: None };

fn taken(cost: u32) -> OnChain {
    OnChain::Taken { cost: Usdc::new(cost) }
}

async fn pay(bench: &Bench, intent: PaymentIntent) -> Result<PaymentId, JournalError> {
    let now = intent.moment.at;
    bench.journal.authorize_payment(intent, now).await.map(|leave| leave.id())
}

fn over(result: Result<PaymentId, JournalError>) -> Rule {
    match result {
        Err(JournalError::OverLimit(over)) => over.rule,
        other => panic!("{other:?}"),
    }
}

const TAKEN: PaymentEnd =
    PaymentEnd::Taken { transaction: Some(B256::repeat_byte(7)), answer: Some(B256::repeat_byte(8)) };

/// M3, M4: a payment counts in the budgets that vouchers count in, in the transaction that records it, over restarts.
#[tokio::test]
async fn m4_payments_and_vouchers_share_every_budget() {
    let mut bench = Bench::new(|limits| {
        limits.per_payment = Usdc::new(500);
        limits.per_hour = Usdc::new(1_000);
    });
    let channel = bench.open(1, 1_000, at(0)).await;
    bench.sign(channel, 400, "ann", at(1)).await.unwrap();
    assert_eq!(over(pay(&bench, wish(&bench, 501, "ann", 1, at(1))).await), Rule::PerPayment);
    assert_eq!(pay(&bench, wish(&bench, 500, "ann", 1, at(1))).await.unwrap().to_string(), "p1");
    bench.restart();
    assert_eq!(over(pay(&bench, wish(&bench, 101, "ann", 2, at(2))).await), Rule::PerHour);
    pay(&bench, wish(&bench, 100, "ann", 2, at(2))).await.unwrap();
    assert!(bench.sign(channel, 401, "ann", at(3)).await.is_err(), "nothing is left for a voucher either");
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'hour'"), 1_000);
    assert_eq!(bench.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn m3_each_budget_holds_for_payments() {
    for (rule, change) in [
        (Rule::PerRequest, (|limits| limits.per_request = Usdc::new(99)) as fn(&mut crate::policy::Limits)),
        (Rule::PerDay, |limits| limits.per_day = Usdc::new(99)),
        (Rule::PerProvider, |limits| limits.per_provider = Usdc::new(99)),
        (Rule::PerAgent, |limits| limits.per_agent = Usdc::new(99)),
        (Rule::Newcomers, |limits| limits.newcomers = Usdc::new(99)),
    ] {
        let bench = Bench::new(change);
        assert_eq!(over(pay(&bench, wish(&bench, 100, "ann", 1, at(0))).await), rule);
        pay(&bench, wish(&bench, 99, "ann", 1, at(0))).await.unwrap();
    }
}

/// The chain's word ends a payment: taken, it is spent; never taken, its budgets have it again.
#[tokio::test]
async fn the_chain_ends_what_its_server_did_not() {
    let mut bench = Bench::new(|_| {});
    let unknown = || PaymentEnd::Unknown { answer: None, note: "HTTP 500 without a receipt".into() };
    let (lost, late) = (
        pay(&bench, wish(&bench, 100, "ann", 1, at(0))).await.unwrap(),
        pay(&bench, wish(&bench, 30, "ann", 2, at(0))).await.unwrap(),
    );
    for id in [lost, late] {
        bench.journal.payment_ended_later(id, unknown(), at(1).at).unwrap();
    }
    bench.restart();
    let open = bench.journal.open_payments(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|payment| payment.id).collect::<Vec<_>>(), [lost, late]);
    assert_eq!((open[0].nonce, open[0].valid_before), (B256::repeat_byte(1), at(60).at));
    assert_eq!(bench.journal.spent_today(at(2).at).await.unwrap(), Usdc::ZERO);
    bench.journal.payment_on_chain(lost, NEVER, at(61).at).await.unwrap();
    bench.journal.payment_on_chain(late, taken(30), at(61).at).await.unwrap();
    // Once.
    bench.journal.payment_on_chain(late, NEVER, at(62).at).await.unwrap();
    assert_eq!(bench.journal.open_payments(None, 10).await.unwrap(), []);
    assert_eq!(bench.journal.spent_today(at(62).at).await.unwrap(), Usdc::new(30));
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'agent ann'"), 30);
    // What was taken without an answer counts against the host; what was not taken does not.
    let records = bench.journal.provider_records().await.unwrap();
    let record = records.get(&format!("{:#x} api.example", Address::repeat_byte(9))).unwrap();
    assert_eq!((record.failed, record.answered, record.charged), (1, 0, Usdc::new(30)));
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// A receipt is a claim: where the chain shows that nothing was taken, what was booked is taken back.
#[tokio::test]
async fn a_receipt_that_lies_is_taken_back() {
    let bench = Bench::new(|_| {});
    let id = pay(&bench, wish(&bench, 100, "ann", 1, at(0))).await.unwrap();
    bench.journal.payment_ended_later(id, TAKEN, at(1).at).unwrap();
    assert_eq!(bench.journal.spent_today(at(2).at).await.unwrap(), Usdc::new(100));
    bench.journal.payment_on_chain(id, NEVER, at(61).at).await.unwrap();
    assert_eq!(bench.journal.spent_today(at(62).at).await.unwrap(), Usdc::ZERO);
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage"), 0);
    // It made no history either.
    assert_eq!(bench.journal.provider_records().await.unwrap(), std::collections::HashMap::new());
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// M3, M4: over Tempo gas counts as the price does, at most before, and as it was at the end.
#[tokio::test]
async fn m4_gas_counts_as_it_was() {
    let mut bench = Bench::new(|limits| limits.per_hour = Usdc::new(100));
    assert_eq!(over(pay(&bench, over_tempo(wish(&bench, 81, "ann", 1, at(0)))).await), Rule::PerHour);
    let id = pay(&bench, over_tempo(wish(&bench, 80, "ann", 1, at(0)))).await.unwrap();
    let hash = B256::repeat_byte(5);
    bench.journal.payment_signed(id, hash).await.unwrap();
    bench.journal.payment_ended_later(id, TAKEN, at(1).at).unwrap();
    assert_eq!(bench.journal.spent_today(at(1).at).await.unwrap(), Usdc::new(100));
    bench.restart();
    let open = bench.journal.open_payments(None, 10).await.unwrap().remove(0);
    // The one that was signed, whatever its server says.
    assert_eq!((open.transaction, open.chain_id, open.value), (Some(hash), tempo::MAINNET, Usdc::new(80)));
    assert!(!open.sponsored);
    // What was asked before it was signed says nothing of it.
    bench.journal.payment_on_chain(id, NEVER, at(2).at).await.unwrap();
    let counted = bench.journal.payment_on_chain(id, taken(87), at(2).at).await.unwrap().unwrap();
    assert_eq!((counted.agent.as_str(), counted.amount), ("ann", Usdc::new(87)));
    assert_eq!(bench.journal.spent_today(at(2).at).await.unwrap(), Usdc::new(87));
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'agent ann'"), 87);
    // One that failed on the chain costs its gas, and is no history of its payee.
    let failed = pay(&bench, over_tempo(wish(&bench, 1, "ann", 2, at(3)))).await;
    assert_eq!(over(failed), Rule::PerHour);
    let failed = pay(&bench, over_tempo(wish(&bench, 1, "ann", 2, at(3_700)))).await.unwrap();
    bench.journal.payment_on_chain(failed, OnChain::Reverted { cost: Usdc::new(6) }, at(3_701).at).await.unwrap();
    assert_eq!(bench.reads("SELECT SUM(cost) FROM payments"), 93);
    let record = bench.journal.provider_records().await.unwrap().into_values().next().unwrap();
    assert_eq!((record.answered, record.failed, record.charged), (1, 0, Usdc::new(87)));
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// M11: what never left and was taken all the same is spent, counts in every budget, and freezes the wallet.
#[tokio::test]
async fn m11_what_never_left_and_was_taken_freezes() {
    let bench = Bench::new(|_| {});
    let id = pay(&bench, wish(&bench, 100, "ann", 1, at(0))).await.unwrap();
    bench.journal.payment_ended_later(id, PaymentEnd::Unsent { note: "x".into() }, at(1).at).unwrap();
    bench.journal.payment_on_chain(id, taken(100), at(2).at).await.unwrap();
    assert_eq!(bench.journal.spent_today(at(3).at).await.unwrap(), Usdc::new(100));
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'agent ann'"), 100);
    assert!(bench.journal.frozen().await.unwrap().unwrap().reason.contains("p1"));
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// M15: a challenge is signed for once: two requests would be one payment.
#[tokio::test]
async fn m15_a_challenge_is_paid_once() {
    let bench = Bench::new(|_| {});
    let first = pay(&bench, wish(&bench, 10, "ann", 1, at(0))).await.unwrap();
    let again = pay(&bench, wish(&bench, 10, "ann", 1, at(1))).await;
    assert!(matches!(again, Err(JournalError::ChallengeUsed { receipt, .. }) if receipt == first));
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'agent ann'"), 10);
}

/// A signature that never left is worth nothing to anybody.
#[tokio::test]
async fn what_never_left_is_free_again_at_once() {
    let bench = Bench::new(|limits| limits.per_hour = Usdc::new(100));
    let id = pay(&bench, wish(&bench, 100, "ann", 1, at(0))).await.unwrap();
    bench.journal.payment_ended_later(id, PaymentEnd::Unsent { note: "ledger_rejected".into() }, at(1).at).unwrap();
    pay(&bench, wish(&bench, 100, "ann", 2, at(2))).await.unwrap();
    assert_eq!(bench.problems(), Vec::<String>::new());
}

/// M5: a host that nobody but a model named, and an amount above the operator's mark, need a person; a yes counts once.
#[tokio::test]
async fn m5_a_person_is_asked_and_the_yes_counts_once() {
    let bench = Bench::new(|_| {});
    let asked = |amount| PaymentIntent { ask_person: true, ..wish(&bench, amount, "ann", 1, at(0)) };
    assert!(matches!(pay(&bench, asked(100)).await, Err(JournalError::NeedsPerson)));
    let question = bench.journal.ask_person(asked(100).subject(), 3_600, at(0)).await.unwrap();
    bench.journal.decide(question.id, Verdict::Approve, Via::Terminal, at(1)).await.unwrap();
    // More than was asked for, or another payee, is another question.
    assert!(matches!(pay(&bench, asked(101)).await, Err(JournalError::NeedsPerson)));
    pay(&bench, asked(100)).await.unwrap();
    let again = PaymentIntent { order: wish(&bench, 100, "ann", 2, at(0)).order, ..asked(100) };
    assert!(matches!(pay(&bench, again).await, Err(JournalError::NeedsPerson)));
    // Nothing of what was refused counts.
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'agent ann'"), 100);
}

/// M14: the first payee of a host is pinned until a person forgets it.
#[tokio::test]
async fn m14_another_payee_waits_for_a_person() {
    let bench = Bench::new(|_| {});
    pay(&bench, wish(&bench, 1, "ann", 1, at(0))).await.unwrap();
    let other = to(wish(&bench, 1, "ann", 2, at(0)), Address::repeat_byte(10));
    assert!(matches!(pay(&bench, other.clone()).await, Err(JournalError::PayeeChanged { .. })));
    assert!(bench.journal.trust_payee("api.example".into(), 137, at(0).at).await.unwrap());
    pay(&bench, other).await.unwrap();
    assert!(!bench.journal.trust_payee("nobody.example".into(), 137, at(0).at).await.unwrap());
}

/// M14: to name another chain is to name another payee.
#[tokio::test]
async fn m14_another_payee_on_another_chain_waits_for_a_person() {
    let bench = Bench::new(|_| {});
    pay(&bench, wish(&bench, 1, "ann", 1, at(0))).await.unwrap();
    let other = |number| over_tempo(to(wish(&bench, 1, "ann", number, at(0)), Address::repeat_byte(10)));
    assert!(matches!(pay(&bench, other(2)).await, Err(JournalError::PayeeChanged { .. })));
    // The same one is no question.
    pay(&bench, over_tempo(wish(&bench, 1, "ann", 3, at(0)))).await.unwrap();
    assert!(bench.journal.trust_payee("api.example".into(), 137, at(0).at).await.unwrap());
    // A person's yes is for both: each chain has its own from then on.
    pay(&bench, other(4)).await.unwrap();
    pay(&bench, wish(&bench, 1, "ann", 5, at(0))).await.unwrap();
    pay(&bench, other(6)).await.unwrap();
    // For a day: whoever has the host later finds no yes left over.
    assert!(bench.journal.trust_payee("api.example".into(), 137, at(0).at).await.unwrap());
    pay(&bench, wish(&bench, 1, "ann", 8, at(0))).await.unwrap();
    let late = over_tempo(to(wish(&bench, 1, "ann", 9, at(86_401)), Address::repeat_byte(10)));
    assert!(matches!(pay(&bench, late).await, Err(JournalError::PayeeChanged { .. })));
    pay(&bench, other(10)).await.unwrap();
    let third = over_tempo(to(wish(&bench, 1, "ann", 7, at(0)), Address::repeat_byte(11)));
    assert!(matches!(pay(&bench, third).await, Err(JournalError::PayeeChanged { .. })));
}

/// M14: a listing that was paid at one host and is at another one now waits for a person, whoever else is paid there.
#[tokio::test]
async fn m14_a_listing_at_another_host_waits_for_a_person() {
    let bench = Bench::new(|_| {});
    let listed = |number, id: &str, host: &str| PaymentIntent {
        provider_id: id.into(),
        host: host.into(),
        ..wish(&bench, 1, "ann", number, at(0))
    };
    pay(&bench, listed(1, "maps", "maps.example")).await.unwrap();
    pay(&bench, listed(2, "evil", "evil.example:8443")).await.unwrap();
    let moved = || listed(3, "maps", "evil.example:8443");
    assert!(matches!(pay(&bench, moved()).await, Err(JournalError::PayeeChanged { .. })));
    pay(&bench, listed(4, "maps", "maps.example")).await.unwrap();
    assert!(bench.journal.trust_payee("maps".into(), 137, at(0).at).await.unwrap());
    pay(&bench, moved()).await.unwrap();
}

/// M14: a payment that never left pins nobody: a person who refuses a wrong payee is not bound to it.
#[tokio::test]
async fn m14_what_never_left_pins_nobody() {
    let bench = Bench::new(|_| {});
    let wrong = pay(&bench, wish(&bench, 1, "ann", 1, at(0))).await.unwrap();
    bench.journal.payment_ended_later(wrong, PaymentEnd::Unsent { note: "x".into() }, at(1).at).unwrap();
    pay(&bench, to(wish(&bench, 1, "ann", 2, at(2)), Address::repeat_byte(10))).await.unwrap();
    assert!(matches!(pay(&bench, wish(&bench, 1, "ann", 3, at(3))).await, Err(JournalError::PayeeChanged { .. })));
}

#[test]
fn hosts_are_known_without_their_port() {
    for (host, name) in
        [("a.example", "a.example"), ("a.example:81", "a.example"), ("[::1]", "[::1]"), ("[::1]:81", "[::1]")]
    {
        assert_eq!(super::host_of(&super::url_of(host)), name);
    }
}

/// M15: one payment for a name, whichever way the request is paid.
#[tokio::test]
async fn m15_a_name_is_paid_once_by_either_way() {
    let mut bench = Bench::new(|_| {});
    let key = |body: &str| Some(RequestKey { id: "one".parse().unwrap(), body: sha256(body), valid: 1_000 });
    let channel = bench.open(1, 1_000, at(0)).await;
    let named = |number, body: &str| PaymentIntent { key: key(body), ..wish(&bench, 10, "ann", number, at(1)) };
    let first = pay(&bench, named(1, "a")).await.unwrap();
    assert!(
        matches!(pay(&bench, named(2, "a")).await, Err(JournalError::Repeated(ReceiptId::Payment(id))) if id == first)
    );
    assert!(matches!(pay(&bench, named(2, "b")).await, Err(JournalError::OtherRequest(_))));
    let voucher = VoucherIntent { key: key("a"), ..bench.request(channel, 10, "ann", at(1)) };
    assert!(matches!(bench.journal.authorize(voucher.clone()).await, Err(JournalError::Repeated(_))));
    bench.journal.payment_ended_later(first, PaymentEnd::Unsent { note: "x".into() }, at(2).at).unwrap();
    let paid = bench.journal.authorize(voucher).await.unwrap().receipt();
    assert!(matches!(pay(&bench, named(3, "a")).await, Err(JournalError::Repeated(of)) if of == paid.into()));
}

/// A frozen wallet pays nobody, and a host that is set aside is not paid.
#[tokio::test]
async fn m11_a_frozen_wallet_pays_nobody() {
    let bench = Bench::new(|_| {});
    bench.journal.freeze("now".into(), at(0).at).await.unwrap();
    assert!(matches!(pay(&bench, wish(&bench, 1, "ann", 1, at(0))).await, Err(JournalError::Frozen(_))));
}

#[tokio::test]
async fn receipts_are_listed_with_those_of_channels() {
    let mut bench = Bench::new(|_| {});
    let channel = bench.open(1, 1_000, at(0)).await;
    bench.sign(channel, 10, "ann", at(1)).await.unwrap();
    let id = pay(&bench, wish(&bench, 20, "ann", 1, at(2))).await.unwrap();
    bench.journal.payment_ended_later(id, TAKEN, at(3).at).unwrap();
    bench.sign(channel, 10, "bob", at(4)).await.unwrap();
    let query =
        |before: Option<&str>| ReceiptQuery { limit: 10, before: before.map(Into::into), ..ReceiptQuery::default() };
    let names = |views: Vec<crate::api::ReceiptView>| views.into_iter().map(|view| view.receipt).collect::<Vec<_>>();
    assert_eq!(names(bench.journal.receipts(query(None), None).await.unwrap()), ["c1-2", "p1", "c1-1"]);
    assert_eq!(names(bench.journal.receipts(query(Some("c1-2")), None).await.unwrap()), ["p1", "c1-1"]);
    assert_eq!(names(bench.journal.receipts(query(Some("p1")), None).await.unwrap()), ["c1-1"]);
    let view = bench.journal.receipt(ReceiptId::Payment(id), Some("ann".into())).await.unwrap().unwrap();
    assert_eq!((view.protocol.as_str(), view.outcome.as_str(), view.charged), ("mpp", "answered", Some(Usdc::new(20))));
    assert_eq!(view.payee, Some(format!("{:#x}", Address::repeat_byte(9))));
    assert_eq!(bench.journal.receipt(ReceiptId::Payment(id), Some("bob".into())).await.unwrap(), None);
}

/// What can happen to a payment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Pay(u32),
    Ended(usize, u8),
    OnChain(usize, OnChain),
}

fn said() -> impl Strategy<Value = OnChain> {
    (0u8..3, 0u32..300).prop_map(|(which, cost)| match which {
        0 => taken(cost),
        1 => OnChain::Reverted { cost: Usdc::new(cost) },
        _ => NEVER,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u32..200).prop_map(Step::Pay),
        (any::<usize>(), 0u8..3).prop_map(|(which, how)| Step::Ended(which, how)),
        (any::<usize>(), said()).prop_map(|(which, said)| Step::OnChain(which, said)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever servers and chain say, in whatever order: budgets hold what may still be taken or was, what is spent is what
    /// was booked, and no limit is passed.
    #[test]
    fn m4_sums_add_up_in_every_order(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(|limits| limits.per_day = Usdc::new(1_000));
            let (mut ids, mut stolen) = (Vec::new(), 0);
            for (number, step) in (0u8..).zip(&steps) {
                let when = at(u64::from(number));
                match *step {
                    Step::Pay(amount) => ids.extend(pay(&bench, wish(&bench, amount, "ann", number, when)).await.ok()),
                    Step::Ended(which, how) if !ids.is_empty() => {
                        let end = match how {
                            0 => TAKEN,
                            1 => PaymentEnd::Unknown { answer: None, note: "?".into() },
                            _ => PaymentEnd::Unsent { note: "?".into() },
                        };
                        bench.journal.payment_ended_later(ids[which % ids.len()], end, when.at).unwrap();
                    }
                    Step::OnChain(which, said) if !ids.is_empty() => {
                        if said != NEVER {
                            // What never left and was taken by somebody counts over every limit.
                            stolen += bench.reads(&format!(
                                "SELECT COALESCE(SUM(amount), 0) FROM payments WHERE id = {} AND state = 'not_charged' AND confirmed = 0",
                                ids[which % ids.len()].0
                            ));
                        }
                        bench.journal.payment_on_chain(ids[which % ids.len()], said, when.at).await.unwrap();
                    }
                    Step::Ended(..) | Step::OnChain(..) => {}
                }
            }
            bench.journal.spent_today(START).await.unwrap();
            let counted = bench.reads("SELECT COALESCE(SUM(amount), 0) FROM usage WHERE scope = 'all' AND \"window\" = 'day'");
            prop_assert_eq!(counted, bench.reads("SELECT COALESCE(SUM(growth), 0) FROM payments"));
            let spent = bench.reads("SELECT COALESCE(SUM(charged), 0) FROM spent_by_day");
            prop_assert_eq!(spent, bench.reads("SELECT COALESCE(SUM(cost), 0) FROM payments"));
            prop_assert!(counted <= 1_000 + stolen);
            prop_assert_eq!(bench.problems(), Vec::<String>::new());
            Ok(())
        })?;
    }
}
