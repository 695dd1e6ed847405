use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Failure;
use super::message::Family;

/// What one family of a name comes to.
pub(super) type Findings = Result<Vec<IpAddr>, Failure>;

/// What was found lately: a bound on memory, not on names.
///
/// Two generations: what is used moves to the young one; when that is full it becomes the old one,
/// and what nobody has used since the last time is forgotten.
#[derive(Default)]
pub(super) struct Cache {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    names: HashMap<Box<str>, Families>,
    bytes: usize,
}

/// By [`Family`].
type Families = [Option<Known>; 2];

struct Known {
    findings: Findings,
    until: Instant,
}

impl Cache {
    /// What each generation may take, roughly.
    const GENERATION_BYTES: usize = 2 << 20;
    /// What an entry takes besides its name and addresses, roughly.
    const ENTRY_BYTES: usize = 150;

    /// What is known of `name`, which is in small letters, by family.
    pub(super) fn find(&mut self, name: &str, now: Instant) -> [Option<Findings>; 2] {
        if let Some(families) = self.young.names.get(name) {
            return current(families, now);
        }
        let Some(families) = self.old.take(name) else { return [None, None] };
        let found = current(&families, now);
        self.store(name.into(), families);
        found
    }

    /// Keeps what was found, for so long.
    pub(super) fn keep(
        &mut self,
        name: &str,
        family: Family,
        findings: &Findings,
        time: Duration,
        now: Instant,
    ) {
        if time.is_zero() {
            return;
        }
        let mut families = self.young.take(name).or_else(|| self.old.take(name));
        let known = Known { findings: findings.clone(), until: now + time };
        families.get_or_insert_default()[family as usize] = Some(known);
        self.store(name.into(), families.unwrap_or_default());
    }

    pub(super) fn clear(&mut self) {
        *self = Cache::default();
    }

    fn store(&mut self, name: Box<str>, families: Families) {
        self.young.bytes += cost(&name, &families);
        self.young.names.insert(name, families);
        if self.young.bytes > Self::GENERATION_BYTES {
            self.old = mem::take(&mut self.young);
        }
    }
}

impl Generation {
    fn take(&mut self, name: &str) -> Option<Families> {
        let families = self.names.remove(name)?;
        self.bytes -= cost(name, &families).min(self.bytes);
        Some(families)
    }
}

fn current(families: &Families, now: Instant) -> [Option<Findings>; 2] {
    [Family::V4, Family::V6].map(|family| {
        let known = families[family as usize].as_ref().filter(|known| known.until > now)?;
        Some(known.findings.clone())
    })
}

fn cost(name: &str, families: &Families) -> usize {
    let addresses = families.iter().flatten().flat_map(|known| &known.findings).map(Vec::len);
    Cache::ENTRY_BYTES + name.len() + addresses.sum::<usize>() * size_of::<IpAddr>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn findings(last: u8) -> Findings {
        Ok(vec![[192, 0, 2, last].into()])
    }

    #[test]
    fn what_is_kept_is_found_for_its_time_and_no_longer() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep("a.example", Family::V4, &findings(1), 10 * SECOND, now);
        cache.keep("a.example", Family::V6, &Err(Failure::NoAddress), 5 * SECOND, now);
        let both = [Some(findings(1)), Some(Err(Failure::NoAddress))];
        assert_eq!(cache.find("a.example", now + 4 * SECOND), both);
        assert_eq!(cache.find("a.example", now + 5 * SECOND), [Some(findings(1)), None]);
        assert_eq!(cache.find("a.example", now + 10 * SECOND), [None, None]);
        assert_eq!(cache.find("b.example", now), [None, None]);
    }

    #[test]
    fn what_holds_no_time_is_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep("a.example", Family::V4, &findings(1), Duration::ZERO, now);
        assert_eq!(cache.find("a.example", now), [None, None]);
    }

    #[test]
    fn a_million_names_leave_what_is_used_and_a_bounded_rest() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep("used.example", Family::V4, &findings(7), 3600 * SECOND, now);
        for n in 0..1_000_000 {
            cache.keep(&format!("{n}.example"), Family::V4, &findings(1), 3600 * SECOND, now);
            if n % 1000 == 0 {
                assert_eq!(cache.find("used.example", now)[0], Some(findings(7)), "{n}");
            }
        }
        assert_eq!(cache.find("0.example", now), [None, None]);
        let names = cache.young.names.len() + cache.old.names.len();
        assert!(names < 2 * Cache::GENERATION_BYTES / Cache::ENTRY_BYTES, "{names}");
        assert!(cache.young.bytes <= Cache::GENERATION_BYTES);
    }
}
