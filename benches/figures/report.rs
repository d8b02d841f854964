//! The table.

use crate::disk::Disk;
use crate::errors::Result;
use crate::{machine, signing, stats};

/// One figure.
#[derive(Debug)]
pub struct Row {
    figure: String,
    target: String,
    measured: String,
    reached: bool,
    beside: Vec<String>,
}

impl Row {
    /// A figure, its target, what was measured, and whether that is good enough.
    pub fn new(figure: &str, target: &str, measured: String, reached: bool) -> Self {
        Self { figure: figure.into(), target: target.into(), measured, reached, beside: Vec::new() }
    }

    /// One that could not be measured.
    pub fn failed(name: &str, error: &str) -> Self {
        Self::new(name, "", format!("not measured: {}", error.replace(['\n', '|'], " ")), false)
    }

    /// With something to know beside it.
    pub fn beside(mut self, text: impl std::fmt::Display) -> Self {
        self.beside.push(text.to_string());
        self
    }
}

/// Everything that was measured, and on what.
#[derive(Debug)]
pub struct Report {
    rows: Vec<Row>,
    environment: Vec<String>,
}

impl Report {
    /// Notes the machine as it is before the first figure.
    pub fn begin() -> Result<Self> {
        let mut report = Self { rows: Vec::new(), environment: vec![format!("cores: {}", machine::cores())] };
        report.note_disk("before")?;
        report.environment.push(format!("bare signatures a second on one core: {:.0}", signing::bare()?));
        Ok(report)
    }

    fn note_disk(&mut self, when: &str) -> Result<()> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut disk = Disk::default();
        disk.probe(folder.path())?;
        let load = machine::load();
        self.environment.push(format!("{when}: {}, load average {load} (1, 5, 15 min)", disk.took()));
        Ok(())
    }

    /// Takes a figure's rows.
    pub fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Prints it.
    pub fn end(mut self) -> Result<()> {
        self.note_disk("after")?;
        println!("\n| figure | target | measured | | beside it |\n|---|---|---|---|---|");
        for row in &self.rows {
            let mark = if row.reached { "ok" } else { "MISSED" };
            println!("| {} | {} | {} | {mark} | {} |", row.figure, row.target, row.measured, row.beside.join("; "));
        }
        println!("\nMedian of {} runs where nothing else is said.", stats::RUNS);
        for line in &self.environment {
            println!("- {line}");
        }
        Ok(())
    }
}
