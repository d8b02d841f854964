//! Power cuts: of what was written, only what was synced is sure (M1, M7).

use std::path::Path;

use drain_mcp::points::Point;
use drain_protocol::SignedVoucher;
use rusqlite::{Connection, OpenFlags};

use crate::kills::{count, day, go_on, unlimited};
use crate::layer::{Cut, Disk, Layer, Record};
use crate::process_harness::{until, vouchers, world};
use crate::survivor::{Agenda, Life};

/// What left the process, by the trace.
#[derive(Debug, Default)]
struct Left {
    vouchers: Vec<(String, u64, u64)>,
    transactions: Vec<String>,
}

impl Left {
    fn take(&mut self, record: &Record) {
        if record.kind != b'S' {
            return;
        }
        let text = String::from_utf8_lossy(&record.data);
        let header = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("x-drain-voucher").then(|| value.trim().to_owned())
        });
        if let Some(header) = header {
            let voucher = SignedVoucher::from_header(&header).unwrap().voucher;
            self.vouchers.push((voucher.channel_id.to_string(), voucher.amount.units(), voucher.nonce.get()));
        }
        if let Some(at) = text.find("eth_sendRawTransaction") {
            let raw = text[at..].split('"').find(|part| part.starts_with("0x")).unwrap();
            self.transactions.push(raw.trim_start_matches("0x").to_uppercase());
        }
    }

    /// Each of them is covered by this journal.
    fn covered_by(&self, journal: &Connection) {
        for (id, amount, nonce) in &self.vouchers {
            let covered: bool = journal
                .query_row(
                    "SELECT COUNT(*) FROM channels WHERE channel_id = ?1 AND signed >= ?2 AND nonce >= ?3",
                    (id, amount.cast_signed(), nonce.cast_signed()),
                    |row| row.get(0),
                )
                .unwrap_or(false);
            assert!(covered, "the voucher {nonce} of {id} over {amount} left, and its record is not durable");
        }
        for raw in &self.transactions {
            let stored =
                journal.query_row("SELECT COUNT(*) FROM transactions WHERE hex(raw) = ?1", [raw], |row| row.get(0));
            assert!(stored.unwrap_or(false), "a transaction left, and its record is not durable: {raw}");
        }
    }
}

/// The journal of a disk after a cut; `None` where there is none yet.
fn journal_after(layer: &Layer, disk: &Disk, cut: Cut, folder: &Path) -> Option<Connection> {
    let image = disk.after(cut);
    let path = image.keys().find(|path| path.ends_with("journal.db"))?.clone();
    let _ = std::fs::remove_dir_all(folder);
    layer.copy(&image, folder);
    let name: std::path::PathBuf = path.components().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    let journal = Connection::open_with_flags(folder.join(name), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let sound: String = journal.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "{cut:?}");
    Some(journal)
}

/// The trace of a day: at the moment in which a voucher or a transaction leaves, the synced bytes alone cover it. And
/// the disk is cut at every write and sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_m7_what_leaves_is_preceded_by_the_sync_of_its_record() {
    let world = world().await;
    let layer = Layer::under(&world);
    let env = layer.env(&unlimited(&world));
    let mut disk = layer.disk();
    let mut agenda = Agenda::default();
    let mut life = Life::start(&env).await.unwrap();
    day(&world, &mut life, &mut agenda).await.unwrap();
    // The log is copied when nothing happens, and then written over from its beginning.
    let copied = |record: &Record| record.kind == b'W' && record.path.ends_with("journal.db") && record.offset > 0;
    until("the log is copied", async || layer.trace().iter().any(copied)).await;
    agenda.chat(&mut life, "sim-llm-v1", "over the old log").await.unwrap();
    agenda.chat(&mut life, "sim-llm-v1", "once more").await.unwrap();
    assert_eq!(life.end().await.0, None);

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("home");
    let mut left = Left::default();
    let (mut cuts, mut last) = (0_u64, 0);
    let trace = layer.take_trace();
    let log = |record: &&Record| record.kind == b'W' && record.path.ends_with("journal.db-wal") && record.offset == 0;
    assert!(trace.iter().filter(log).count() >= 2, "the log was begun anew");
    for record in &trace {
        left.take(record);
        disk.take(record);
        let sends = left.vouchers.len() + left.transactions.len();
        if sends > last {
            // At the send itself nothing but the synced bytes counts.
            last = sends;
            let journal = journal_after(&layer, &disk, Cut::Strict, &folder).expect("a journal before anything leaves");
            left.covered_by(&journal);
        } else if matches!(record.kind, b'W' | b'F' | b'T') {
            cuts += 1;
            // Every place strictly would be as many seconds; every place is cut in one of the ways.
            let cut = if cuts.is_multiple_of(3) { Cut::Strict } else { Cut::Torn(cuts) };
            if let Some(journal) = journal_after(&layer, &disk, cut, &folder) {
                left.covered_by(&journal);
            }
        }
    }
    let seen = vouchers(&world.sandbox.llm).len() + vouchers(&world.sandbox.v1).len();
    println!(
        "{} vouchers and {} broadcasts each after the sync of their record; the disk cut at {cuts} places of {}",
        left.vouchers.len(),
        left.transactions.len(),
        trace.len(),
    );
    assert_eq!(left.vouchers.len(), seen, "the trace has every voucher that the providers saw");
    assert!(left.transactions.len() as u64 >= world.sent().await && seen >= 10);
}

/// A death at each point, and with it the disk loses what was not synced: the same audit as after a kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn m1_m2_m7_after_a_power_cut_nothing_is_lost_and_nothing_is_paid_twice() {
    const WORLDS: usize = 2;
    const ROUNDS: usize = 3;
    let lives = |first: usize| async move {
        let world = world().await;
        let layer = Layer::under(&world);
        let plain = unlimited(&world);
        let (mut agenda, mut cuts) = (Agenda::default(), 0_usize);
        let all = (0..ROUNDS).flat_map(|round| Point::ALL.map(|point| (point, round)));
        for (number, (point, round)) in all.enumerate().skip(first).step_by(WORLDS) {
            let mut disk = layer.disk();
            let order = format!("{}=kill@{}", point.name(), count(point, round));
            let env = layer.env(&plain).with("DRAIN_TEST_POINT", order);
            if let Ok(mut life) = Life::start(&env).await {
                let _ = day(&world, &mut life, &mut agenda).await;
                life.end().await;
            }
            for record in layer.take_trace() {
                disk.take(&record);
            }
            let cut = if round == 0 { Cut::Strict } else { Cut::Torn(number as u64 + 1) };
            layer.restore(&disk.after(cut));
            cuts += 1;
            go_on(&world, &plain, &mut agenda).await;
        }
        cuts
    };
    let worlds: Vec<_> = (0..WORLDS).map(|first| tokio::spawn(lives(first))).collect();
    let mut cuts = 0;
    for world in worlds {
        cuts += world.await.unwrap();
    }
    println!("{cuts} power cuts");
    assert_eq!(cuts, ROUNDS * Point::ALL.len());
}
