//! What earlier measurements say about how much load a later one is.

use crate::record::{Outcome, Record};
use crate::results::median;

/// Units a second of a contender in a work, over its rounds.
pub fn rate(records: &[Record], work: &str, contender: &str) -> Option<f64> {
    let rates: Vec<f64> = records
        .iter()
        .filter(|it| it.work == work && it.contender == contender)
        .filter_map(|it| rate_of(&it.outcome))
        .collect();
    median(&rates)
}

/// The lowest of the contenders' rates. Whoever has no process is none, and whoever failed sets no
/// rate.
pub fn weakest_rate(records: &[Record], work: &str) -> Option<f64> {
    let is_proxy = |it: &&Record| match &it.outcome {
        Outcome::Moved { spent, .. } => spent.contender.is_some(),
        _ => false,
    };
    records
        .iter()
        .filter(|it| it.work == work)
        .filter(is_proxy)
        .filter_map(|it| rate(records, work, &it.contender))
        .min_by(f64::total_cmp)
}

fn rate_of(outcome: &Outcome) -> Option<f64> {
    match outcome {
        Outcome::Moved { measured, .. } if measured.elapsed_seconds > 0.0 => {
            Some(measured.units as f64 / measured.elapsed_seconds)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Measured;
    use crate::record::Spent;

    fn record(contender: &str, units: u64, is_proxy: bool) -> Record {
        let measured = Measured {
            units,
            lost: 0,
            elapsed_seconds: 2.0,
            latency: None,
            errors: 0,
            beside_bytes: 0,
        };
        let spent = Spent { contender: is_proxy.then_some(1.0), machine: 2.0, load: 1.0 };
        let outcome = Outcome::Moved { measured, spent };
        Record { work: "w".to_owned(), contender: contender.to_owned(), round: 0, outcome }
    }

    #[test]
    fn the_weakest_is_the_lowest_median_of_those_that_relay() {
        let records = [
            record("fast", 2000, true),
            record("slow", 100, true),
            record("slow", 1000, true),
            record("slow", 1200, true),
            record("none", 10, false),
        ];
        assert_eq!(rate(&records, "w", "slow"), Some(500.0));
        assert_eq!(weakest_rate(&records, "w"), Some(500.0));
        assert_eq!(weakest_rate(&records, "other"), None);
    }
}
