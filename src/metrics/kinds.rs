//! Metrics as the code uses them: as many labels as the family has, and whole units until a number is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

/// How many of what is counted are one of what is shown. Money is a number with a point only in what is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// Things, seconds.
    One,
    /// USDC, counted in base units.
    Usdc,
    /// POL, counted in gwei.
    Pol,
}

impl Unit {
    const fn per_shown(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Usdc => 1e6,
            Self::Pol => 1e9,
        }
    }
}

/// Only rises.
pub struct Counter<const N: usize> {
    vec: IntCounterVec,
    unit: Unit,
}

impl<const N: usize> Counter<N> {
    pub(super) fn new(name: &str, help: &str, labels: [&str; N], unit: Unit) -> Result<Self, prometheus::Error> {
        let vec = IntCounterVec::new(Opts::new(name, help), &labels)?;
        if N == 0 {
            vec.with_label_values(&[""; N]);
        }
        Ok(Self { vec, unit })
    }

    /// One more.
    pub fn inc(&self, labels: [&str; N]) {
        self.add(labels, 1);
    }

    /// So many more.
    pub fn add(&self, labels: [&str; N], more: u64) {
        self.vec.with_label_values(&labels).inc_by(more);
    }

    /// Shown as zero before the first one: a rise from nothing is no rise to whoever reads.
    pub(super) fn begin(&self, labels: [&str; N]) {
        self.add(labels, 0);
    }
}

/// A state. Those of a wallet are replaced all at once, so that what is over is not shown for ever.
pub struct Gauge<const N: usize> {
    vec: IntGaugeVec,
    unit: Unit,
    /// What was shown last, by wallet.
    shown: Mutex<BTreeMap<String, BTreeSet<[String; N]>>>,
}

impl<const N: usize> Gauge<N> {
    pub(super) fn new(name: &str, help: &str, labels: [&str; N], unit: Unit) -> Result<Self, prometheus::Error> {
        let vec = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        Ok(Self { vec, unit, shown: Mutex::default() })
    }

    /// It is so much.
    pub fn set(&self, labels: [&str; N], value: u64) {
        self.vec.with_label_values(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// It is so much more, or less.
    pub fn shift(&self, labels: [&str; N], by: i64) {
        self.vec.with_label_values(&labels).add(by);
    }

    /// All that there is of a wallet; what was shown before and is not here is gone.
    pub(super) fn replace(&self, wallet: &str, all: impl IntoIterator<Item = ([String; N], u64)>) {
        let now: BTreeMap<[String; N], u64> = all.into_iter().collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.remove(wallet).unwrap_or_default().iter().filter(|labels| !now.contains_key(*labels)) {
            // Not there is what it should be.
            let _ = self.vec.remove_label_values(&gone.each_ref().map(String::as_str));
        }
        for (labels, value) in &now {
            self.set(labels.each_ref().map(String::as_str), *value);
        }
        if !now.is_empty() {
            shown.insert(wallet.to_owned(), now.into_keys().collect());
        }
    }
}

/// How long, or which part, by steps.
pub struct Histogram<const N: usize>(HistogramVec);

impl<const N: usize> Histogram<N> {
    pub(super) fn new(name: &str, help: &str, labels: [&str; N], steps: &[f64]) -> Result<Self, prometheus::Error> {
        let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(steps.to_vec()), &labels)?;
        if N == 0 {
            vec.with_label_values(&[""; N]);
        }
        Ok(Self(vec))
    }

    /// It took so long.
    pub fn took(&self, labels: [&str; N], time: Duration) {
        self.0.with_label_values(&labels).observe(time.as_secs_f64());
    }

    /// So many millionths.
    pub fn millionths(&self, labels: [&str; N], part: u64) {
        // Exact below 2^53.
        self.0.with_label_values(&labels).observe(part as f64 / 1e6);
    }
}

impl<const N: usize> Collector for &'static Counter<N> {
    fn desc(&self) -> Vec<&Desc> {
        self.vec.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.vec.collect();
        for metric in families.iter_mut().flat_map(|family| family.mut_metric()).filter(|_| self.unit != Unit::One) {
            let mut shown = metric.get_counter().clone();
            shown.set_value(shown.get_value() / self.unit.per_shown());
            metric.set_counter(shown);
        }
        families
    }
}

impl<const N: usize> Collector for &'static Gauge<N> {
    fn desc(&self) -> Vec<&Desc> {
        self.vec.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.vec.collect();
        for metric in families.iter_mut().flat_map(|family| family.mut_metric()).filter(|_| self.unit != Unit::One) {
            let mut shown = metric.get_gauge().clone();
            shown.set_value(shown.get_value() / self.unit.per_shown());
            metric.set_gauge(shown);
        }
        families
    }
}

impl<const N: usize> Collector for &'static Histogram<N> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}
