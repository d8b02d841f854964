//! Percentiles and medians.

use std::time::Duration;

/// Runs of which the median counts.
pub const RUNS: usize = 5;

/// Samples of one run, in order of size.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Sorts them.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The value that `percent` of 100 samples do not exceed, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e3)
    }

    /// Median and 99th percentile.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.percentile(50), p99: self.percentile(99) }
    }
}

/// Median and 99th percentile in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Quantiles {
    /// The medians of each over all runs.
    pub fn of_runs(runs: &[Self]) -> Self {
        Self { p50: median(runs.iter().map(|run| run.p50)), p99: median(runs.iter().map(|run| run.p99)) }
    }

    /// What this is above another one.
    pub fn above(self, other: Self) -> Self {
        Self { p50: self.p50 - other.p50, p99: self.p99 - other.p99 }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} / {:.2} ms", self.p50, self.p99)
    }
}

/// The one in the middle; the upper one of two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Lowest and highest, for the reader to see how far runs lie apart.
pub fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}
