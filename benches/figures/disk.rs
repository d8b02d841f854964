//! What the disk of the journal takes for a bare durable write.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::errors::Result;
use crate::stats::{Quantiles, Samples};

const WRITES: usize = 400;
/// SQLite's page: the least that a commit writes.
const PAGE: [u8; 4_096] = [0x5a; 4_096];
/// A disk that is too slow for all writes gives fewer samples.
const LIMIT: Duration = Duration::from_secs(10);

/// Both ways in which a write-ahead log reaches the disk: it grows until it is first copied back, then it is written
/// over from its start, which spares the file system its own record of the new length.
#[derive(Debug, Default)]
pub struct Disk {
    appending: Vec<Duration>,
    in_place: Vec<Duration>,
}

impl Disk {
    /// Writes page after page to a file in `folder`, each durable before the next. May be called again: samples add up.
    pub fn probe(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join("fdatasync");
        let mut file = File::create(&path)?;
        durable_writes(&mut file, &mut self.appending)?;
        file.sync_all()?;
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.rewind()?;
        durable_writes(&mut file, &mut self.in_place)?;
        Ok(std::fs::remove_file(&path)?)
    }

    /// Of both ways.
    pub fn took(self) -> Took {
        let [appending, in_place] = [self.appending, self.in_place].map(|samples| Samples::new(samples).quantiles());
        Took { appending, in_place }
    }
}

fn durable_writes(file: &mut File, samples: &mut Vec<Duration>) -> Result<()> {
    let begun = Instant::now();
    for _ in 0..WRITES {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        samples.push(start.elapsed());
        if begun.elapsed() > LIMIT {
            break;
        }
    }
    Ok(())
}

/// What a write and its fdatasync took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    appending: Quantiles,
    in_place: Quantiles,
}

impl Took {
    /// The medians over all runs.
    pub fn of_runs(runs: &[Self]) -> Self {
        let of = |way: fn(&Self) -> Quantiles| Quantiles::of_runs(&runs.iter().map(way).collect::<Vec<_>>());
        Self { appending: of(|took| took.appending), in_place: of(|took| took.in_place) }
    }

    /// The quicker way: what is judged is judged against this.
    pub fn least(&self) -> Quantiles {
        let Self { appending, in_place } = self;
        Quantiles { p50: appending.p50.min(in_place.p50), p99: appending.p99.min(in_place.p99) }
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fdatasync of 4 KiB p50 / p99 appending {}, in place {}", self.appending, self.in_place)
    }
}
