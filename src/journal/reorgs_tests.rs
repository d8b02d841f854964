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
    bench.restart();
}
