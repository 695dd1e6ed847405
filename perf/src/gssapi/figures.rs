use std::iter;

use super::{Level, Work};
use crate::results::median;

/// A server that is busy less than this waits for its clients.
const BUSY: f64 = 0.9;

/// What one round of a work has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) units: u64,
    pub(super) seconds: f64,
    /// Of the server's processes.
    pub(super) processor_seconds: f64,
}

/// Memory of the server's, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) sessions: u64,
    pub(super) before: u64,
    pub(super) during: u64,
    /// When those have ended and as many others are there.
    pub(super) again: u64,
}

/// Memory of the server's before and after many sessions, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flatness {
    pub(super) sessions: u64,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) processor_seconds: f64,
}

/// What a context holds is some kilobytes: a hundredth of that, left by each, would be seen.
const GROWTH_MAX: u64 = 512 * 1024;

pub(super) fn heading() -> String {
    "\n# Processor time of the server's process, the median of the rounds and their extremes, and what \
     that is to a plain session's; how much went through, and how busy the server's CPU was with it: \
     where that is below 90 % clients are the limit, and a server that has more to do at a time \
     takes less for each"
        .to_owned()
}

/// What the rounds of a work tell at one level, beside those of plain sessions.
pub(super) fn line(work: Work, level: Level, rounds: &[Round], plain: &[Round]) -> String {
    let scale = work.scale();
    let cost = |it: &Round| it.processor_seconds / it.units as f64 * scale.cost;
    let costs: Vec<f64> = rounds.iter().map(cost).collect();
    let [least, most] = [f64::min, f64::max].map(|of| costs.iter().copied().fold(costs[0], of));
    let middle = |values: Vec<f64>| median(&values).unwrap_or(f64::NAN);
    let speed =
        middle(rounds.iter().map(|it| it.units as f64 / it.seconds * scale.speed).collect());
    let busy = middle(rounds.iter().map(|it| it.processor_seconds / it.seconds).collect());
    let times = middle(iter::zip(&costs, plain).map(|(it, plain)| it / cost(plain)).collect());
    let limit = if busy < BUSY { "  limit: clients" } else { "" };
    format!(
        "{:17} {:15} {:8.3} {} ({least:.3} to {most:.3})  x {times:5.2}  {speed:9.1} {}  busy {:3.0} %{limit}",
        work.name(),
        level.name(),
        middle(costs.clone()),
        scale.cost_unit,
        scale.speed_unit,
        busy * 100.0,
    )
}

impl Held {
    pub(super) fn heading() -> String {
        "\n# Anonymous memory of the server's process: bytes that each idle session adds, after one \
         byte each way; and that as many others add once these have ended"
            .to_owned()
    }

    pub(super) fn line(&self, level: Level) -> String {
        let Held { sessions, before, during, again } = *self;
        let each = |more: u64, less: u64| (more as f64 - less as f64) / sessions as f64;
        format!(
            "{:15} {sessions:6} sessions  {:7.0} B each, {:.0} B each of the others",
            level.name(),
            each(during, before),
            each(again, during),
        )
    }
}

impl Flatness {
    pub(super) fn is_flat(&self) -> bool {
        self.after.saturating_sub(self.before) <= GROWTH_MAX
    }

    pub(super) fn line(&self) -> String {
        let verdict = if self.is_flat() { "flat" } else { "NOT FLAT" };
        format!(
            "{} sessions, half of them at each level: {} B before, {} B after: {verdict}, for it is no more \
             than {GROWTH_MAX} B; {:.0} processor us each",
            self.sessions,
            self.before,
            self.after,
            self.processor_seconds / self.sessions as f64 * 1e6,
        )
    }
}

/// How a work's figures are told.
struct Scale {
    cost: f64,
    cost_unit: &'static str,
    speed: f64,
    speed_unit: &'static str,
}

impl Work {
    fn scale(self) -> Scale {
        match self {
            Work::Down | Work::Up => Scale {
                cost: f64::from(1 << 30),
                cost_unit: "s/GiB",
                speed: 1e-6,
                speed_unit: "MB/s",
            },
            Work::Requests | Work::Sessions => {
                Scale { cost: 1e6, cost_unit: "us   ", speed: 1.0, speed_unit: "/s  " }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(units: u64, processor_seconds: f64) -> Round {
        Round { units, seconds: 1.0, processor_seconds }
    }

    #[test]
    fn a_line_has_the_middle_the_extremes_and_the_middle_ratio() {
        let plain = [round(1 << 30, 0.1), round(1 << 30, 0.2), round(1 << 30, 0.2)];
        let sealed = [round(1 << 30, 0.5), round(1 << 30, 0.6), round(1 << 30, 0.98)];
        let text = line(Work::Down, Level::Integrity, &sealed, &plain);
        assert!(text.contains("0.600 s/GiB (0.500 to 0.980)  x  4.90"), "{text}");
        assert!(text.contains("1073.7 MB/s  busy  60 %  limit: clients"), "{text}");
    }

    #[test]
    fn a_busy_server_is_the_limit() {
        let rounds = [round(2000, 0.95)];
        let text = line(Work::Sessions, Level::Confidentiality, &rounds, &rounds);
        assert!(
            text.ends_with(
                "475.000 us    (475.000 to 475.000)  x  1.00     2000.0 /s    busy  95 %"
            )
        );
    }

    #[test]
    fn memory_is_told_by_the_session() {
        let held = Held { sessions: 1000, before: 1_000_000, during: 3_500_000, again: 3_510_000 };
        let text = held.line(Level::Plain);
        assert!(text.ends_with("1000 sessions     2500 B each, 10 B each of the others"), "{text}");
        let text = Held { again: 3_400_000, ..held }.line(Level::Plain);
        assert!(text.ends_with(", -100 B each of the others"), "{text}");
    }

    #[test]
    fn growth_of_ten_bytes_a_session_is_not_flat() {
        let flat = Flatness { sessions: 100_000, before: 5, after: 4, processor_seconds: 30.0 };
        assert!(flat.is_flat() && flat.line().contains(": flat"), "{}", flat.line());
        assert!(flat.line().ends_with("300 processor us each"), "{}", flat.line());
        let grown = Flatness { after: 1_000_000, ..flat };
        assert!(!grown.is_flat() && grown.line().contains(": NOT FLAT"), "{}", grown.line());
    }
}
