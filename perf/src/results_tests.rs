use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::catalogue::{self, Extent};

pub(crate) fn trial(id: &str) -> Trial {
    let all = catalogue::trials(Extent::Full, Path::new("ringsocks"), &[]);
    all.into_iter().find(|it| it.work.id == id).unwrap()
}

pub(crate) fn moved(work: &str, contender: &str, round: usize, units: u64, seconds: f64) -> Record {
    let curve = vec![(0.0, 1.0), (50.0, 10.0), (99.0, 100.0 + round as f64), (100.0, 500.0)];
    let latency = Latency {
        p50_us: 10.0,
        p90_us: 20.0,
        p99_us: 100.0 + round as f64,
        p999_us: 300.0,
        max_us: 500.0,
        curve,
    };
    let measured = Measured {
        units,
        lost: 0,
        elapsed_seconds: 2.0,
        latency: Some(latency),
        errors: 1,
        beside_bytes: 0,
    };
    let spent = Spent { contender: Some(seconds), machine: 2.0 * seconds, load: seconds };
    let outcome = Outcome::Moved { measured, spent };
    Record { work: work.to_owned(), contender: contender.to_owned(), round, outcome }
}

fn failed(work: &str, contender: &str, round: usize) -> Record {
    let outcome = Outcome::Failed { why: "refused".to_owned() };
    Record { work: work.to_owned(), contender: contender.to_owned(), round, outcome }
}

fn spread_of(section: &Section, contender: &str, figure: Figure) -> Option<Spread> {
    let column = section.figures.iter().position(|it| *it == figure)?;
    section.rows.iter().find(|it| it.contender == contender)?.spreads[column].clone()
}

fn ratio_of(section: &Section, contender: &str, figure: Figure) -> Option<Ratio> {
    let column = section.figures.iter().position(|it| *it == figure)?;
    section.rows.iter().find(|it| it.contender == contender)?.ratios[column].clone()
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[3.0]), Some(3.0));
    assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
}

#[test]
fn ratios_are_of_the_same_round() {
    // The machine slows down to a tenth: the medians of each would say something else.
    let ours = [(0, 10.0), (1, 1.0), (2, 4.0)];
    let theirs = [(2, 8.0), (0, 20.0), (1, 2.0), (3, 77.0)];
    let ratio = ratio(&ours, &theirs).unwrap();
    assert_eq!((ratio.median, ratio.low, ratio.high), (0.5, 0.5, 0.5));
    assert_eq!(super::ratio(&ours, &[(9, 1.0)]), None);
    assert_eq!(super::ratio(&ours, &[(0, 0.0)]), None);
    assert_eq!(super::ratio(&[(0, -1.0)], &[(0, 1.0)]), None);
}

#[test]
fn an_interval_cuts_only_what_it_may() {
    // Known order statistics: n = 6 keeps all at 96.9 %, n = 9 drops one at 96.1 %, n = 12 two.
    assert_eq!(interval(1), (0, 0.0));
    assert_eq!(interval(4), (0, 0.875));
    assert_eq!(interval(6), (0, 0.96875));
    let (cut, confidence) = interval(9);
    assert_eq!((cut, (confidence * 1000.0).round()), (1, 961.0));
    let (cut, confidence) = interval(12);
    assert_eq!((cut, (confidence * 1000.0).round()), (2, 961.0));
}

#[test]
fn bulk_is_told_by_gbits_and_seconds_a_gib() {
    let records = [moved("down-1", "ringsocks", 0, 2 << 30, 1.0)];
    let section = section(&trial("down-1"), &records).unwrap();
    let median = |figure| spread_of(&section, "ringsocks", figure).unwrap().median;
    assert!((median(Figure::Rate) - 8.589_934_592).abs() < 1e-9);
    assert_eq!(median(Figure::Processor), 0.5);
    assert_eq!(median(Figure::Machine), 1.0);
}

#[test]
fn requests_are_told_by_number_and_microseconds() {
    let work = "requests-64-x64";
    let records = [
        moved(work, "ringsocks", 0, 1000, 0.01),
        moved(work, "ringsocks", 1, 3000, 0.06),
        moved(work, "Dante", 0, 500, 0.01),
        moved(work, "Dante", 1, 1500, 0.06),
    ];
    let section = section(&trial(work), &records).unwrap();
    let rate = spread_of(&section, "ringsocks", Figure::Rate).unwrap();
    assert_eq!(rate, Spread { median: 1000.0, low: 500.0, high: 1500.0, rounds: 2 });
    assert_eq!(ratio_of(&section, "Dante", Figure::Processor).unwrap().median, 0.5);
    assert_eq!(ratio_of(&section, "Dante", Figure::Rate).unwrap().median, 2.0);
    assert_eq!(ratio_of(&section, "ringsocks", Figure::Rate), None);
    assert_eq!(section.rows[0].errors, 2);
    // Of an even number the better of the two in the middle, a round that there was.
    assert_eq!(section.rows[0].curve[2], (99.0, 100.0));
}

#[test]
fn what_was_lost_is_no_unit_but_was_sent() {
    let mut record = moved("udp-flood-64-at-3", "ringsocks", 0, 3000, 0.03);
    if let Outcome::Moved { measured, .. } = &mut record.outcome {
        measured.lost = 1000;
    }
    let of = |unit, figure| {
        values(&record.outcome, unit).into_iter().find(|it| it.0 == figure).map(|it| it.1)
    };
    assert_eq!(of(Unit::Datagram, Figure::Lost), Some(25.0));
    assert_eq!(of(Unit::Datagram, Figure::Offered), Some(2000.0));
    assert_eq!(of(Unit::Datagram, Figure::Rate), Some(1500.0));
    assert_eq!(of(Unit::Echo, Figure::Lost), Some(25.0));
    assert_eq!(of(Unit::Echo, Figure::Offered), None);
    assert_eq!(of(Unit::Request, Figure::Lost), None);
    let section = section(&trial("udp-flood-64-at-3"), &[record]).unwrap();
    assert_eq!(section.headline, [Figure::Rate, Figure::Lost, Figure::Processor]);
}

#[test]
fn who_failed_stands_in_the_table_with_the_reason() {
    let records = [moved("down-1", "ringsocks", 0, 1 << 30, 1.0), failed("down-1", "Dante", 0)];
    let section = section(&trial("down-1"), &records).unwrap();
    assert_eq!(spread_of(&section, "Dante", Figure::Rate), None);
    assert_eq!(section.rows[1].failures, ["refused"]);
}

#[test]
fn nothing_measured_is_no_section_and_nothing_moved_no_figure() {
    assert!(section(&trial("down-1"), &[]).is_none());
    let records = [moved("down-1", "ringsocks", 0, 0, 1.0)];
    let section = section(&trial("down-1"), &records).unwrap();
    assert_eq!(spread_of(&section, "ringsocks", Figure::Processor), None);
    assert_eq!(spread_of(&section, "ringsocks", Figure::Rate).unwrap().median, 0.0);
}

#[test]
fn waiting_is_counted_apart_from_working() {
    let calls = BTreeMap::from([("epoll_wait".to_owned(), 50), ("recvfrom".to_owned(), 20)]);
    let outcome = Outcome::Called { sessions: 10, calls };
    assert_eq!(values(&outcome, Unit::Session), [(Figure::Calls, 2.0), (Figure::Waits, 5.0)]);
    let each = calls_each(&outcome).unwrap();
    assert_eq!(each[0], ("epoll_wait".to_owned(), 5.0));
}

#[test]
fn memory_is_told_for_each_session() {
    let memory =
        Memory { sessions: 100, user: Some(66_000), kernel: -200, processor_share: Some(0.5) };
    let expected = [(Figure::User, 660.0), (Figure::Kernel, -2.0), (Figure::Idling, 50.0)];
    assert_eq!(values(&Outcome::Held(memory), Unit::Session), expected);
}
