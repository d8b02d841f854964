//! What a copy must not undo: a cap, a yes, a freeze, and what a person thinks of a provider (M4, M5, M11).

use std::fs;
use std::path::Path;

use drain_protocol::{Address, Nonce, Usdc};
use rusqlite::Connection;

use super::usage_tests::{Bench, at};
use super::*;
use crate::policy::approvals::{Thresholds, Verdict, Via};

const WALLET: Address = Address::repeat_byte(1);

fn change(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A wallet with a yes that nobody used, and a copy of its journal.
struct Copied {
    bench: Bench,
    channel: IntentId,
    out: tempfile::TempDir,
}

impl Copied {
    async fn new() -> Self {
        let mut bench = Bench::new(|limits| {
            limits.approve = Thresholds { request: Some(Usdc::new(100)), deposit: None };
            limits.per_hour = Usdc::new(1_000);
        });
        let channel = bench.open(7, 1_000_000, at(0)).await;
        bench.sign(channel, 50, "a", at(1)).await.unwrap();
        let subject = bench.journal.channel(channel).await.unwrap().request_subject("a", Usdc::new(150));
        let asked = bench.journal.ask_person(subject, 3_600, at(1)).await.unwrap();
        bench.journal.decide(asked.id, Verdict::Approve, Via::Terminal, at(1)).await.unwrap();
        let out = tempfile::tempdir().unwrap();
        backup::export(bench.folder(), &out.path().join("copy"), 137, WALLET).unwrap();
        Self { bench, channel, out }
    }

    fn copy(&self) -> std::path::PathBuf {
        self.out.path().join("copy")
    }

    fn live(&self) -> std::path::PathBuf {
        self.bench.folder().join("journal.db")
    }

    /// What happens after the copy was made.
    async fn live_on(&self) {
        let (bench, journal) = (&self.bench, &self.bench.journal);
        let receipt = bench.sign(self.channel, 150, "a", at(2)).await.unwrap();
        bench.settle(receipt, 150);
        for _ in 0..8 {
            bench.sign(self.channel, 100, "a", at(2)).await.unwrap();
        }
        let floor = Nonce::new(9_000_000).unwrap();
        assert!(
            journal.key_was_used_elsewhere(self.channel, Usdc::new(9_999), "taken".into(), floor, 5).await.unwrap()
        );
        journal
            .check_provider_pin("new".into(), "https://new.example".into(), WALLET, FirstSight::Pins, 1)
            .await
            .unwrap();
    }

    fn import(&mut self) -> backup::Imported {
        self.bench.stop();
        let imported = backup::import(self.bench.folder(), &self.copy(), true, 137, WALLET).unwrap();
        self.bench.restart();
        imported
    }

    async fn signs(&self, bound: u32) -> Result<Receipt, JournalError> {
        self.bench.sign(self.channel, bound, "a", at(3)).await
    }
}

#[tokio::test]
async fn m4_m5_m11_an_import_takes_back_no_freeze_no_budget_no_yes_and_no_word_on_a_provider() {
    let mut copied = Copied::new().await;
    copied.live_on().await;
    copied.bench.stop();
    change(&copied.live(), "UPDATE provider_records SET set_aside = 'three offences', set_aside_at = 5");
    copied.bench.restart();
    let other = copied.bench.begin(9, 10, at(2)).await;
    assert!(matches!(other, Err(JournalError::Frozen(_))));

    let imported = copied.import();
    assert_eq!(imported.began_anew, Vec::<String>::new());
    let journal = copied.bench.journal.clone();
    assert_eq!(journal.frozen().await.unwrap().unwrap().source, FreezeSource::Claim, "M11");
    assert!(journal.unfreeze().await.unwrap());
    assert!(matches!(copied.signs(10).await, Err(JournalError::SetAside { .. })));
    let changed = journal
        .check_provider_pin("new".into(), "https://other.example".into(), WALLET, FirstSight::Pins, 1)
        .await
        .unwrap();
    assert!(matches!(changed, PinCheck::Changed { .. }), "M14: {changed:?}");
    copied.bench.stop();
    change(&copied.live(), "UPDATE provider_records SET set_aside = NULL");
    let found = backup::verify(&backup::Looked::Live(copied.bench.location())).unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    copied.bench.restart();
    assert!(matches!(copied.signs(150).await, Err(JournalError::OverLimit(_))), "M4: the hour is used up");
    copied.bench.limits.per_hour = Usdc::new(1_000_000);
    assert!(matches!(copied.signs(150).await, Err(JournalError::NeedsPerson)), "M5: used once");
    copied.signs(50).await.unwrap();
}

#[tokio::test]
async fn m5_an_import_over_what_cannot_be_read_says_what_began_anew_and_pays_when_a_person_lets_it() {
    let mut copied = Copied::new().await;
    copied.live_on().await;
    copied.bench.stop();
    fs::write(copied.live(), b"no database at all, but long enough to be looked at").unwrap();
    let imported = copied.import();
    let anew = imported.began_anew.join(", ");
    assert!(anew.contains("freezes") && anew.contains("budgets"), "{anew}");
    let notice = copied.bench.journal.notice().await.unwrap().unwrap();
    assert!(notice.contains("freezes") && notice.contains("budgets"), "{notice}");
    assert!(matches!(copied.signs(50).await, Err(JournalError::Frozen(_))), "nobody knows whether it was frozen");
    assert!(copied.bench.journal.unfreeze().await.unwrap());
    assert!(matches!(copied.signs(150).await, Err(JournalError::NeedsPerson)), "M5");
    copied.signs(50).await.unwrap();
}

/// Two histories of one hour, none of which knows the other.
#[tokio::test]
async fn m4_what_another_journal_signed_counts_beside_what_the_copy_knows() {
    let mut copied = Copied::new().await;
    copied.bench.stop();
    fs::remove_file(copied.live()).unwrap();
    copied.bench.restart();
    let mine = copied.bench.open(8, 1_000, at(2)).await;
    copied.bench.sign(mine, 90, "a", at(2)).await.unwrap();
    copied.import();
    copied.bench.stop();
    assert_eq!(
        number(&copied.live(), "SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'hour'"),
        140
    );
}

#[tokio::test]
async fn m5_no_yes_of_an_older_copy_counts() {
    let mut copied = Copied::new().await;
    copied.live_on().await;
    copied.bench.stop();
    fs::copy(copied.copy(), copied.live()).unwrap();
    copied.bench.restart();
    assert!(matches!(copied.signs(150).await, Err(JournalError::NeedsPerson)));
    copied.signs(50).await.unwrap();
    let notice = copied.bench.journal.notice().await.unwrap().unwrap();
    assert!(notice.contains("Budgets, freezes"), "{notice}");
}

/// Until nothing of it can matter any more: nobody can do more than search and wait.
#[tokio::test]
async fn a_notice_is_told_until_all_is_found_and_over() {
    let mut copied = Copied::new().await;
    copied.bench.journal.all_found(1).await.unwrap();
    assert_eq!(copied.bench.journal.notice().await.unwrap(), None);
    copied.import();
    let journal = copied.bench.journal.clone();
    let told = async || journal.notice().await.unwrap().is_some();
    assert!(told().await, "the search was before");
    journal.all_found(2).await.unwrap();
    assert!(told().await, "a recovered channel is open");
    journal.closed(copied.channel, None, Usdc::ZERO, Usdc::new(1_000_000), at(9)).await.unwrap();
    assert!(!told().await);
    copied.import();
    let journal = copied.bench.journal.clone();
    journal.closed(copied.channel, None, Usdc::ZERO, Usdc::new(1_000_000), at(9)).await.unwrap();
    assert!(journal.notice().await.unwrap().is_some(), "what the copy does not know was not searched for");
}

/// The person's word was given, and the copy was checked: what a crash leaves of an import is done at the next start.
#[tokio::test]
async fn a_crash_in_an_import_leaves_the_copy_in_place_or_the_journal_that_was_there() {
    for moved in ["nothing", "the log", "both"] {
        let mut copied = Copied::new().await;
        copied.import();
        copied.bench.stop();
        let folder = copied.bench.folder().to_path_buf();
        let (live, checked) = (copied.live(), folder.join("journal.imported"));
        fs::rename(&live, &checked).unwrap();
        let (old, old_log) = (b"the one before".as_slice(), b"and its log".as_slice());
        let at = checked.metadata().unwrap().modified().unwrap();
        let at = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let kept = |ending: &str| folder.join(format!("journal.db.replaced-{at}{ending}"));
        // The import above has kept one under this name, if it was quick.
        for ending in ["", "-wal"] {
            let _ = fs::remove_file(kept(ending));
        }
        let (db, log) = match moved {
            "nothing" => (live.clone(), folder.join("journal.db-wal")),
            "the log" => (live.clone(), kept("-wal")),
            _ => (kept(""), kept("-wal")),
        };
        fs::write(db, old).unwrap();
        fs::write(log, old_log).unwrap();

        copied.bench.restart();
        assert!(copied.bench.journal.channel(copied.channel).await.unwrap().recovered, "{moved}");
        assert_eq!((fs::read(kept("")).unwrap(), fs::read(kept("-wal")).unwrap()), (old.into(), old_log.into()));
        assert!(!checked.exists());
        let notice = copied.bench.journal.notice().await.unwrap().unwrap();
        assert!(notice.contains("was imported"), "{moved}: {notice}");
    }
    // What was not checked to its end is nothing.
    let mut copied = Copied::new().await;
    copied.bench.stop();
    let folder = copied.bench.folder().to_path_buf();
    fs::write(folder.join("journal.importing"), b"half").unwrap();
    copied.bench.restart();
    assert!(!copied.bench.journal.channel(copied.channel).await.unwrap().recovered);
}

#[tokio::test]
async fn journals_of_every_older_version_are_exported_verified_and_checked_at_the_start() {
    for version in 1..schema::KNOWN {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal.db");
        schema::make(&path, version).unwrap();
        change(
            &path,
            "INSERT INTO channels (chain_id, contract, generation, token, consumer, provider_id, provider_name, provider_wallet, api_url, \
             category, prices, duration, state, channel_id, expires_at, deposit, cap, created_at, used_at) \
             VALUES (137, '0x1', 'v2', '0x1', '0x0101010101010101010101010101010101010101', 'p', 'P', '0x1', '', 'llm', '', 60, 'open', '0x2', 9, 100, 100, 1, 1)",
        );
        let verified = backup::verify(&backup::Looked::Copy(path.clone())).unwrap();
        assert_eq!((verified.problems, verified.channels, verified.schema), (vec![], 1, version));
        let out = tempfile::tempdir().unwrap();
        let manifest = backup::export(home.path(), &out.path().join("copy"), 137, WALLET).unwrap();
        assert_eq!((manifest.channels, manifest.schema), (1, version));
        let failure = backup::channels(&backup::Looked::Copy(path.clone())).unwrap_err();
        assert!(failure.message.contains("older") && failure.next.contains("Start drain-mcp once"), "{failure:?}");

        change(&path, "UPDATE channels SET signed = 101");
        assert!(matches!(Journal::at(home.path()), Err(JournalError::Damaged { .. })), "schema {version}");
    }
}

#[test]
fn a_chain_whose_number_no_column_holds_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("copy");
    schema::make(&path, schema::KNOWN).unwrap();
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let failure = backup::import(&folder, &path, false, u64::MAX, WALLET).unwrap_err();
    assert!(failure.message.contains("does not fit a column"), "{failure:?}");
}
