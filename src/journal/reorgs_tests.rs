//! Books that follow an id which a reorganisation gives and takes (M2).

use drain_protocol::{ChannelId, Usdc};

use super::usage_tests::{Bench, at};
use super::*;
use crate::api::ChannelState;

#[tokio::test]
async fn m2_books_belong_to_an_id_and_come_back_with_it() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 1_000_000, at(0)).await;
    let journal = bench.journal.clone();
    let first = journal.channel(intent).await.unwrap().channel_id.unwrap();
    let other = ChannelId([0xee; 32].into());
    for _ in 0..3 {
        bench.sign(intent, 1_000, "a", at(1)).await.unwrap();
    }
    let before = journal.channel(intent).await.unwrap();
    assert_eq!(before.books.signed, Usdc::new(3_000));

    // Taken back: nothing is signed, the deposit counts, the books stand.
    let opened = TxId(1);
    let undone = journal.undo(vec![opened]).await.unwrap().unwrap();
    assert_eq!((undone.len(), undone[0].state, undone[0].books), (1, ChannelState::Opening, before.books));
    assert!(matches!(bench.sign(intent, 1_000, "a", at(2)).await, Err(JournalError::NotOpen(_))));
    let consumer = undone[0].consumer;
    assert_eq!(journal.locked(137, consumer).await.unwrap(), Usdc::new(1_000_000));
    assert!(journal.undo(vec![opened]).await.unwrap().is_none(), "once");

    // Under another id the same channel begins anew; the old one is not forgotten.
    journal.opened(intent, opened, other, Usdc::new(1_000_000), at(0).at + 3_700).await.unwrap();
    bench.sign(intent, 700, "a", at(3)).await.unwrap();
    let now = journal.channel(intent).await.unwrap();
    assert_eq!((now.books.signed, now.books.in_flight, now.channel_id), (Usdc::new(700), Usdc::new(700), Some(other)));
    let gone = journal.channel_by_id(137, first).await.unwrap().unwrap();
    assert_eq!((gone.state, gone.books, gone.requests), (ChannelState::Failed, before.books, before.requests));
    assert_eq!(journal.locked(137, consumer).await.unwrap(), Usdc::new(1_000_000), "one deposit");

    // The first branch wins after all.
    journal.undo(vec![opened]).await.unwrap();
    let back = journal.opened(intent, opened, first, Usdc::new(1_000_000), before.expires_at).await.unwrap();
    assert_eq!((back.books, back.channel_id), (before.books, Some(first)));
    bench.sign(intent, 1_000, "a", at(4)).await.unwrap();
    assert_eq!(journal.channel(intent).await.unwrap().books.signed, Usdc::new(4_000));
    assert_eq!(journal.channel_by_id(137, other).await.unwrap().unwrap().books.signed, Usdc::new(700));
    // And the file is believed at the next start.
    drop(journal);
    bench.restart();
}

/// What a search finds of `channel_id`, as of another client.
async fn found(bench: &mut Bench, channel_id: ChannelId, claimed: u32) -> ChannelRecord {
    let expires_at = at(0).at + 3_700;
    tell(bench, channel_id, claimed, expires_at).await.unwrap()
}

async fn tell(
    bench: &mut Bench,
    channel_id: ChannelId,
    claimed: u32,
    expires_at: u64,
) -> Result<ChannelRecord, JournalError> {
    let new = NewChannel { provider_id: "0x09".into(), api_url: String::new(), ..bench.wish(9, 1_000_000, at(5)) };
    let found = Found {
        claimed: Usdc::new(claimed),
        signed: Usdc::new(claimed),
        nonce_floor: drain_protocol::Nonce::new(1_772_000_000_000_000).unwrap(),
        over: false,
    };
    bench.journal.record_foreign(new, channel_id, expires_at, found).await
}

/// A transaction of a channel, signed and sent for this slot.
async fn sent(bench: &Bench, intent: IntentId, kind: TxKind, slot: u64) -> TxId {
    let plan = NewTransaction {
        kind,
        intent: Some(intent),
        chain_id: 137,
        wallet: drain_protocol::Address::repeat_byte(1),
        target: drain_protocol::Address::repeat_byte(2),
        amount: None,
        gas_most: crate::policy::Pol::ZERO,
        outbids: None,
        moment: at(1),
    };
    let id = bench.journal.plan_transaction(plan, std::sync::Arc::new(bench.limits.clone())).await.unwrap();
    let raw = format!("{id} {slot}").into_bytes();
    let hash = alloy::primitives::keccak256(&raw);
    bench.journal.signed(id, slot, raw, hash).await.unwrap();
    id
}

const OTHER: ChannelId = ChannelId(alloy::primitives::B256::repeat_byte(0xee));

#[tokio::test]
async fn m10_an_opening_that_a_search_took_for_foreign_is_ours_again_when_it_is_final() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.begin(9, 1_000_000, at(0)).await.unwrap();
    let open = sent(&bench, intent, TxKind::Open, 0).await;
    let foreign = found(&mut bench, OTHER, 0).await.intent;
    let opened = bench.journal.opened(intent, open, OTHER, Usdc::new(1_000_000), at(0).at + 3_700).await.unwrap();
    assert_eq!((opened.state, opened.channel_id, opened.provider_id.as_str()), (ChannelState::Open, Some(OTHER), "p1"));
    assert!(opened.recovered && !opened.books_known, "what was promised on it elsewhere nobody here knows");
    assert!(matches!(bench.journal.channel(foreign).await, Err(JournalError::Unknown(_))));
    assert_eq!(bench.journal.locked(137, opened.consumer).await.unwrap(), Usdc::new(1_000_000), "one deposit");
    assert!(bench.journal.unfinished_transactions(137, opened.consumer).await.unwrap().is_empty());
    bench.restart();
}

#[tokio::test]
async fn m2_an_id_that_a_search_found_first_keeps_what_is_known_of_it() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 1_000_000, at(0)).await;
    bench.sign(intent, 1_000, "a", at(1)).await.unwrap();
    bench.journal.undo(vec![TxId(1)]).await.unwrap().unwrap();
    let foreign = found(&mut bench, OTHER, 2_000).await;
    // It was even being closed.
    let close = sent(&bench, foreign.intent, TxKind::Close, 7).await;
    let opened = bench.journal.opened(intent, TxId(1), OTHER, Usdc::new(1_000_000), at(0).at + 3_700).await.unwrap();
    assert!(opened.recovered && !opened.books_known && opened.books.nonce == foreign.books.nonce, "{opened:?}");
    assert_eq!(opened.books.signed, Usdc::new(2_000));
    assert_eq!(opened.state, ChannelState::Closing, "its close may land");
    let unfinished = bench.journal.unfinished_transactions(137, opened.consumer).await.unwrap();
    assert_eq!(unfinished.iter().map(|tx| (tx.id, tx.intent)).collect::<Vec<_>>(), [(close, Some(intent))]);
    bench.restart();
}

#[tokio::test]
async fn m10_an_id_that_was_found_closed_stays_closed() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.begin(9, 1_000_000, at(0)).await.unwrap();
    let open = sent(&bench, intent, TxKind::Open, 0).await;
    let foreign = found(&mut bench, OTHER, 0).await.intent;
    bench.journal.closed(foreign, None, Usdc::new(400_000), Usdc::new(600_000), at(6)).await.unwrap();
    let opened = bench.journal.opened(intent, open, OTHER, Usdc::new(1_000_000), at(0).at + 3_700).await.unwrap();
    assert_eq!((opened.state, opened.refunded), (ChannelState::Closed, Some(Usdc::new(600_000))));
    assert_eq!(bench.journal.locked(137, opened.consumer).await.unwrap(), Usdc::ZERO);
    bench.restart();
}

#[tokio::test]
async fn m6_a_channel_whose_opening_and_close_were_taken_back_signs_nothing_while_the_close_may_land() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 1_000_000, at(0)).await;
    let close = sent(&bench, intent, TxKind::CooperativeClose, 3).await;
    let before = bench.journal.closed(intent, Some(close), Usdc::ZERO, Usdc::new(1_000_000), at(2)).await.unwrap();
    bench.journal.undo(vec![TxId(1), close]).await.unwrap();
    // The opening lands first.
    let id = before.channel_id.unwrap();
    let opened = bench.journal.opened(intent, TxId(1), id, Usdc::new(1_000_000), before.expires_at).await.unwrap();
    assert_eq!(opened.state, ChannelState::Closing);
    assert!(matches!(bench.sign(intent, 1_000, "a", at(3)).await, Err(JournalError::NotOpen(_))));
    let closed = bench.journal.closed(intent, Some(close), Usdc::ZERO, Usdc::new(1_000_000), at(4)).await.unwrap();
    assert_eq!(closed.state, ChannelState::Closed);
    bench.restart();
}

#[tokio::test]
async fn m10_what_an_endpoint_makes_up_of_a_foreign_channel_does_not_stop_the_wallet() {
    let mut bench = Bench::new(|_| {});
    assert!(matches!(tell(&mut bench, OTHER, 0, 0).await, Err(JournalError::Impossible(_))));
    // More claimed than was ever paid in.
    let books = found(&mut bench, OTHER, 3_000_000).await.books;
    assert_eq!((books.claimed, books.signed, books.charged), (books.deposit, books.deposit, books.deposit));
    bench.restart();
    assert_eq!(bench.journal.channels(false).await.unwrap().len(), 1);
}

#[tokio::test]
async fn m10_an_opening_that_the_chain_took_back_is_no_known_one() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 1_000_000, at(0)).await;
    let record = bench.journal.channel(intent).await.unwrap();
    let (on, wallet, first) = (record.deployment.contract(), record.consumer, record.channel_id.unwrap());
    let known = async |bench: &Bench| {
        let known = bench.journal.known_openings(137, on, wallet).await.unwrap();
        (known.recorded, known.opening)
    };
    assert_eq!(known(&bench).await, (1, 0));
    bench.journal.undo(vec![TxId(1)]).await.unwrap();
    assert_eq!(known(&bench).await, (0, 1));
    // Under its new id it is one opening, not two.
    bench.journal.opened(intent, TxId(1), OTHER, Usdc::new(1_000_000), record.expires_at).await.unwrap();
    assert_eq!(known(&bench).await, (1, 0));
    bench.journal.undo(vec![TxId(1)]).await.unwrap();
    bench.journal.finish_transaction(TxId(1), TxState::Reverted, None).await.unwrap();
    bench.journal.put_back(intent).await.unwrap();
    assert_eq!(known(&bench).await, (0, 0));
    // And where the chain has it after all, a search records it with the books that it had.
    let nobody = alloy::primitives::B256::ZERO;
    assert_eq!(bench.journal.whose(137, on, first, nobody).await.unwrap(), Whose::Foreign);
    let again = found(&mut bench, OTHER, 0).await;
    assert_eq!((again.intent, again.state, again.recovered), (intent, ChannelState::Open, true));
    assert_eq!(known(&bench).await, (1, 0));
    bench.restart();
}

#[tokio::test]
async fn m4_a_close_that_is_taken_back_charges_again_what_it_gave_back() {
    let mut bench = Bench::new(|limits| limits.per_day = Usdc::new(3_000_000));
    let intent = bench.open(9, 5_000_000, at(0)).await;
    let other = bench.open(8, 5_000_000, at(0)).await;
    for _ in 0..3 {
        bench.sign(intent, 1_000_000, "a", at(1)).await.unwrap();
    }
    let used = |bench: &Bench| bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'day'");
    let close = sent(&bench, intent, TxKind::CooperativeClose, 3).await;
    let (taken, back) = (Usdc::new(2_400_000), Usdc::new(2_600_000));
    let wallet = bench.journal.closed(intent, Some(close), taken, back, at(2)).await.unwrap().consumer;
    assert_eq!(used(&bench), 2_400_000);
    bench.journal.undo(vec![close]).await.unwrap();
    assert_eq!(used(&bench), 3_000_000, "it may be claimed again");
    assert!(matches!(bench.sign(other, 1, "a", at(3)).await, Err(JournalError::OverLimit(_))));
    bench.journal.closed(intent, Some(close), taken, back, at(4)).await.unwrap();
    assert_eq!(used(&bench), 2_400_000, "once");
    bench.sign(other, 600_000, "a", at(5)).await.unwrap();
    bench.sign(other, 1, "a", at(5)).await.unwrap_err();
    assert_eq!(bench.problems(), Vec::<String>::new());
    assert_eq!(bench.journal.locked(137, wallet).await.unwrap(), Usdc::new(5_000_000));
}

#[tokio::test]
async fn m4_a_refund_that_a_node_makes_up_frees_no_budget() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 5_000_000, at(0)).await;
    for _ in 0..3 {
        bench.sign(intent, 1_000_000, "a", at(1)).await.unwrap();
    }
    bench.journal.claimed(intent, Usdc::new(2_400_000)).await.unwrap();
    // Watched, without a transaction of ours: the event says that all came back.
    bench.journal.closed(intent, None, Usdc::ZERO, Usdc::new(5_000_000), at(2)).await.unwrap();
    assert_eq!(bench.reads("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'day'"), 2_400_000);
}

#[tokio::test]
async fn m6_a_close_begins_on_an_open_channel_only() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.open(9, 1_000_000, at(0)).await;
    bench.journal.undo(vec![TxId(1)]).await.unwrap();
    assert!(matches!(bench.journal.begin_close(intent).await, Err(JournalError::NotOpen(_))));
    assert_eq!(bench.journal.channel(intent).await.unwrap().state, ChannelState::Opening, "it is followed");
    let id = bench.journal.channel(intent).await.unwrap().channel_id.unwrap();
    bench.journal.opened(intent, TxId(1), id, Usdc::new(1_000_000), at(0).at + 3_700).await.unwrap();
    assert_eq!(bench.journal.begin_close(intent).await.unwrap().state, ChannelState::Closing);
    assert!(matches!(bench.journal.begin_close(intent).await, Err(JournalError::NotOpen(_))));
}

#[tokio::test]
async fn m7_an_opening_whose_transaction_was_displaced_in_its_slot_has_failed() {
    let mut bench = Bench::new(|_| {});
    let intent = bench.begin(9, 1_000_000, at(0)).await.unwrap();
    let approval = sent(&bench, intent, TxKind::Approve, 0).await;
    let outbid = sent(&bench, intent, TxKind::Approve, 0).await;
    // Its own transaction is no end of it.
    bench.journal.finish_transaction(outbid, TxState::Final, None).await.unwrap();
    let state = async |bench: &Bench| bench.journal.channel(intent).await.unwrap().state;
    assert_eq!(state(&bench).await, ChannelState::Opening);
    let refused = sent(&bench, intent, TxKind::Open, 1).await;
    let other = bench.open(8, 2_000_000, at(0)).await;
    let wallet = bench.journal.channel(other).await.unwrap().consumer;
    let close = sent(&bench, other, TxKind::CooperativeClose, 1).await;
    bench.journal.closed(other, Some(close), Usdc::ZERO, Usdc::new(2_000_000), at(2)).await.unwrap();
    assert_eq!(state(&bench).await, ChannelState::Failed);
    assert_eq!(bench.journal.locked(137, wallet).await.unwrap(), Usdc::ZERO);
    // Where the close is taken back, both may land.
    let undone = bench.journal.undo(vec![close]).await.unwrap().unwrap();
    let undone: Vec<_> = undone.iter().map(|record| (record.intent, record.state)).collect();
    assert_eq!(undone.len(), 2);
    assert!(undone.contains(&(intent, ChannelState::Opening)) && undone.contains(&(other, ChannelState::Closing)));
    assert_eq!(bench.journal.locked(137, wallet).await.unwrap(), Usdc::new(3_000_000));
    let unfinished = bench.journal.unfinished_transactions(137, wallet).await.unwrap();
    assert_eq!(unfinished.iter().map(|tx| tx.id).collect::<Vec<_>>(), [refused, close]);
    assert!(!unfinished.iter().any(|tx| tx.id == approval));
}
