//! What has been measured.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Steps of the percentile curve for each halving of what is above it.
const STEPS: u32 = 5;

/// What a load has come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes, sessions, requests or datagrams.
    pub units: u64,
    /// Datagrams that did not come; none of the units is one of them.
    pub lost: u64,
    /// In this time.
    pub elapsed_seconds: f64,
    /// Of each request, or of each whole session.
    pub latency: Option<Latency>,
    /// Connections that were refused, reset, ended or forgotten.
    pub errors: u64,
    /// What the flow beside it has received.
    pub beside_bytes: u64,
}

/// How long something took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half of it took this many microseconds or fewer.
    pub p50_us: f64,
    /// Nine in ten of it did.
    pub p90_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
    /// All of it.
    pub max_us: f64,
    /// Percentiles, ever closer to 100, and microseconds.
    pub curve: Vec<(f64, f64)>,
}

/// What is counted as it happens.
pub(super) struct Tally {
    /// What is over; datagrams that were lost, too.
    pub(super) units: u64,
    pub(super) lost: u64,
    pub(super) beside_bytes: u64,
    pub(super) errors: u64,
    first_error: Option<String>,
    latencies: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let bounds = (1, LATENCY_MAX.as_nanos() as u64);
        let latencies = Histogram::new_with_bounds(bounds.0, bounds.1, 3);
        Tally {
            units: 0,
            lost: 0,
            beside_bytes: 0,
            errors: 0,
            first_error: None,
            latencies: latencies.expect("these bounds are in order"),
        }
    }

    /// Counts a request or session that took so long.
    pub(super) fn count(&mut self, latency: Duration) {
        self.units += 1;
        self.record(latency);
    }

    /// Records how long one took that is not counted.
    pub(super) fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }

    /// Counts what has failed; the first reason is kept.
    pub(super) fn count_error(&mut self, reason: &dyn fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| reason.to_string());
    }

    /// Why the first of its errors was one.
    pub(super) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Forgets all of it: the warm-up is over.
    pub(super) fn clear(&mut self) {
        self.units = 0;
        self.lost = 0;
        self.beside_bytes = 0;
        self.errors = 0;
        self.first_error = None;
        self.latencies.reset();
    }

    /// What was recorded, if anything.
    pub(super) fn latency(&self) -> Option<Latency> {
        let at = |percentile| self.latencies.value_at_percentile(percentile) as f64 / 1e3;
        let curve = self.latencies.iter_quantiles(STEPS).map(|step| {
            (step.quantile_iterated_to() * 100.0, step.value_iterated_to() as f64 / 1e3)
        });
        (!self.latencies.is_empty()).then(|| Latency {
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: self.latencies.max() as f64 / 1e3,
            curve: curve.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut tally = Tally::new();
        (1..=1000).for_each(|us| tally.count(Duration::from_micros(us)));
        let latency = tally.latency().unwrap();
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.002;
        assert!(near(latency.p50_us, 500.0), "{latency:?}");
        assert!(near(latency.p99_us, 990.0), "{latency:?}");
        assert!(near(latency.max_us, 1000.0), "{latency:?}");
        assert!(latency.curve.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(latency.curve.last().unwrap().0, 100.0);
        assert_eq!(tally.units, 1000);
    }

    #[test]
    fn nothing_recorded_is_no_latency() {
        let mut tally = Tally::new();
        assert!(tally.latency().is_none());
        tally.count(Duration::from_secs(3600));
        tally.count_error(&"reset");
        tally.count_error(&"refused");
        assert_eq!((tally.errors, tally.first_error()), (2, Some("reset")));
        tally.clear();
        assert!(tally.latency().is_none() && tally.errors == 0 && tally.first_error().is_none());
    }
}
