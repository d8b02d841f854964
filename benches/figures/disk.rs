//! What the disk of the journal takes for a bare durable write.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::errors::Result;
use crate::stats::Samples;

const WRITES: usize = 400;
/// SQLite's page: the least that a commit appends.
const PAGE: [u8; 4_096] = [0x5a; 4_096];
/// A disk that is too slow for all writes gives fewer samples.
const LIMIT: Duration = Duration::from_secs(10);

/// Appends pages to a fresh file in `folder` and makes each durable.
pub fn fdatasync(folder: &Path) -> Result<Vec<Duration>> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path)?;
    let mut samples = Vec::with_capacity(WRITES);
    let begun = Instant::now();
    while samples.len() < WRITES && begun.elapsed() < LIMIT {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        samples.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(samples)
}

/// The disk right before and right after what is measured.
#[derive(Debug, Default)]
pub struct Beside(Vec<Duration>);

impl Beside {
    /// Measures; call before and after.
    pub fn probe(&mut self, folder: &Path) -> Result<()> {
        self.0.extend(fdatasync(folder)?);
        Ok(())
    }

    /// All samples together.
    pub fn samples(self) -> Samples {
        Samples::new(self.0)
    }
}
