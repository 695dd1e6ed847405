//! Single values, read the same way wherever they come from.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use log::LevelFilter;

use super::access_log::AccessLog;
use super::advertise::{Advertise, Told};
use super::choice::{self, Choice};
use super::cpus::Cpus;
use super::error::Problem;
use super::listen::{self, ListenAddress, ListenCommand};
use super::ports::PortRange;
use super::resolver::Resolver;
use super::targets::TargetRule;

pub(super) const COUNT: &str = "a whole number, 1 or more";
pub(super) const LIMIT: &str = "a whole number; 0 = no limit";
pub(super) const TIMEOUT: &str = "a duration such as \"10s\", \"250ms\" or \"2h\"; 0 = never";
pub(super) const DRAIN: &str =
    "a duration such as \"30s\", \"250ms\" or \"2h\"; 0 = end every session at once";
pub(super) const SIZE: &str = "a size such as \"64MiB\" or \"1GiB\", at least \"1MiB\"";
pub(super) const CPUS: &str = "CPU numbers and ranges such as \"2-5,8\"";
pub(super) const LEVEL: &str = "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
pub(super) const BOOLEAN: &str = "true or false";
pub(super) const ADDRESS: &str = "\"1080\" (this host only), \":1080\" (every address), \
                                  \"192.0.2.1:1080\" or \"[2001:db8::1]:1080\"";
pub(super) const NETWORK: &str =
    "an IP address or network such as \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"";
pub(super) const TARGET: &str =
    "\"public\", or an IP address or network such as \"192.0.2.1\" or \"10.0.0.0/8\"";
pub(super) const RESOLVER: &str = "\"system\", or servers such as \"192.0.2.1\" or \
                                   [\"192.0.2.1:5353\", \"2001:db8::1\"]; \
                                   without it, those of resolv.conf";
pub(super) const PORTS: &str =
    "ports such as \"40000-40999\" or \"40000\"; \"0\" = any that is free";
pub(super) const ADVERTISE: &str = "an IP address such as \"203.0.113.7\", or who is told it, too: \
                                    \"10.0.0.0/8=10.0.0.1\"";
pub(super) const ACCESS_LOG: &str = "\"stdout\", \"off\" or the path of a file";
pub(super) const PATH: &str = "the path of a file";

const MIB: u64 = 1 << 20;

/// Far from where adding it to a clock could overflow, and longer than anyone waits.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A value as its source gives it.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// From a variable or a flag, which have no types.
    Word(&'a str),
    /// A string in a file.
    Text(&'a str),
    Integer(i128),
    Boolean(bool),
    /// A list in a file.
    List(&'a [Value<'a>]),
    /// Something no key takes, by name.
    Other(&'static str),
}

impl Value<'_> {
    pub(super) fn to_count(self) -> Result<usize, Problem> {
        match self.to_number(COUNT)? {
            0 => Err(Problem::new("it cannot be 0").hint(COUNT)),
            count => Ok(count),
        }
    }

    /// How many there may be of something; `None` is any number.
    pub(super) fn to_limit(self) -> Result<Option<usize>, Problem> {
        let number = self.to_number(LIMIT)?;
        Ok(Some(number).filter(|&limit| limit > 0))
    }

    fn to_number(self, meant: &str) -> Result<usize, Problem> {
        let number = match self {
            Value::Integer(number) => number,
            Value::Word(word) => match word.parse::<i128>() {
                Ok(number) => number,
                Err(_) => return Err(Problem::new("this is not a number").hint(meant)),
            },
            _ => return Err(self.wrong_type("a number", meant)),
        };
        match usize::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) if number < 0 => Err(Problem::new("it cannot be negative").hint(meant)),
            Err(_) => Err(Problem::new("the number is too large").hint(meant)),
        }
    }

    /// A deadline; `None` is never.
    pub(super) fn to_timeout(self) -> Result<Option<Duration>, Problem> {
        let duration = self.to_duration(TIMEOUT)?;
        Ok(Some(duration).filter(|duration| !duration.is_zero()))
    }

    /// How long to wait for sessions to end; zero is not at all.
    pub(super) fn to_drain(self) -> Result<Duration, Problem> {
        self.to_duration(DRAIN)
    }

    pub(super) fn to_duration(self, meant: &str) -> Result<Duration, Problem> {
        let text = match self {
            Value::Integer(0) | Value::Text("0") | Value::Word("0") => return Ok(Duration::ZERO),
            Value::Text(text) | Value::Word(text) => text,
            Value::Integer(_) => {
                return Err(Problem::new("a duration needs a unit").hint(meant));
            }
            _ => return Err(self.wrong_type("a duration", meant)),
        };
        let duration = humantime::parse_duration(text).map_err(|error| {
            use humantime::DurationError::{NumberOverflow, UnknownUnit};
            let problem = match error {
                UnknownUnit { unit, .. } if unit.is_empty() => "a duration needs a unit",
                UnknownUnit { .. } => "this unit of time is unknown",
                NumberOverflow => "the duration is too long or too precise",
                _ => "this is not a duration",
            };
            Problem::new(problem).hint(meant)
        })?;
        if duration > LONGEST {
            return Err(Problem::new("the duration is longer than ten years").hint(meant));
        }
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(Problem::new("a duration is in whole milliseconds").hint(meant));
        }
        Ok(duration)
    }

    /// Bytes of memory, 1 MiB or more.
    pub(super) fn to_size(self) -> Result<u64, Problem> {
        let text = match self {
            Value::Text(text) | Value::Word(text) => text,
            Value::Integer(_) => return Err(Problem::new("a size needs a unit").hint(SIZE)),
            _ => return Err(self.wrong_type("a size", SIZE)),
        };
        if text.parse::<f64>().is_ok() {
            return Err(Problem::new("a size needs a unit").hint(SIZE));
        }
        let Ok(ByteSize(bytes)) = text.parse() else {
            return Err(Problem::new("this is not a size").hint(SIZE));
        };
        match bytes {
            0..MIB => Err(Problem::new("less than 1MiB serves no one").hint(SIZE)),
            _ if isize::try_from(bytes).is_err() => {
                Err(Problem::new("no machine has that much memory").hint(SIZE))
            }
            _ => Ok(bytes),
        }
    }

    pub(super) fn to_cpus(self) -> Result<Cpus, Problem> {
        match self {
            Value::Text(text) | Value::Word(text) => Cpus::parse(text),
            _ => Err(self.wrong_type("a string", CPUS)),
        }
    }

    pub(super) fn to_choice<T: Choice>(self) -> Result<T, Problem> {
        match self {
            Value::Text(text) | Value::Word(text) => T::parse(text),
            _ => Err(self.wrong_type("a string", &choice::words::<T>())),
        }
    }

    pub(super) fn to_level(self) -> Result<LevelFilter, Problem> {
        let (Value::Text(text) | Value::Word(text)) = self else {
            return Err(self.wrong_type("a string", LEVEL));
        };
        text.parse().map_err(|_| Problem::new("this log level is unknown").hint(LEVEL))
    }

    pub(super) fn to_boolean(self) -> Result<bool, Problem> {
        match self {
            Value::Boolean(boolean) => Ok(boolean),
            Value::Word("true") => Ok(true),
            Value::Word("false") => Ok(false),
            Value::Word(_) => Err(Problem::new("this is neither").hint(BOOLEAN)),
            _ => Err(self.wrong_type("a boolean", BOOLEAN)),
        }
    }

    pub(super) fn to_address(self) -> Result<ListenAddress, Problem> {
        match self {
            Value::Text(text) | Value::Word(text) => ListenAddress::parse(text),
            Value::Integer(port) => ListenAddress::parse(&port.to_string()),
            _ => Err(self.wrong_type("an address", ADDRESS)),
        }
    }

    pub(super) fn to_resolver(self) -> Result<Resolver, Problem> {
        let server = |value: Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => Resolver::parse_server(text),
            _ => Err(value.wrong_type("a string", RESOLVER)),
        };
        match self {
            Value::Text("system") | Value::Word("system") => Ok(Resolver::System),
            Value::Text(_) => Resolver::of(vec![server(self)?]),
            _ => Resolver::of(self.to_list(server, "servers", RESOLVER)?),
        }
    }

    pub(super) fn to_access_log(self) -> Result<AccessLog, Problem> {
        match self {
            Value::Text(text) | Value::Word(text) => AccessLog::parse(text),
            _ => Err(self.wrong_type("a string", ACCESS_LOG)),
        }
    }

    /// Networks that clients may come from; everyone may if there are none.
    pub(super) fn to_clients(self) -> Result<Vec<IpNet>, Problem> {
        self.to_networks("clients = [\"10.0.0.0/8\", \"192.0.2.1\"]")
    }

    pub(super) fn to_networks(self, meant: &str) -> Result<Vec<IpNet>, Problem> {
        let network = |value: Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => listen::parse_network(text),
            _ => Err(value.wrong_type("a string", NETWORK)),
        };
        self.to_list(network, "a list of networks", meant)
    }

    pub(super) fn to_path(self) -> Result<PathBuf, Problem> {
        self.to_text(PATH).map(PathBuf::from)
    }

    /// A text that says something, and can be told to C.
    pub(super) fn to_text(self, meant: &str) -> Result<String, Problem> {
        match self {
            Value::Text("") | Value::Word("") => Err(Problem::new("it is empty").hint(meant)),
            Value::Text(text) | Value::Word(text) if text.contains('\0') => {
                Err(Problem::new("there is a NUL in it").hint(meant))
            }
            Value::Text(text) | Value::Word(text) => Ok(text.to_owned()),
            _ => Err(self.wrong_type("a string", meant)),
        }
    }

    /// What clients may connect to, never nothing.
    pub(super) fn to_targets(self) -> Result<Vec<TargetRule>, Problem> {
        const MEANT: &str = "targets = [\"public\", \"10.0.0.0/8\"]";
        let rule = |value: Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => TargetRule::parse(text),
            _ => Err(value.wrong_type("a string", TARGET)),
        };
        let rules = self.to_list(rule, "a list of networks", MEANT)?;
        if rules.is_empty() {
            return Err(Problem::new("nothing could be connected to").hint(MEANT));
        }
        Ok(rules)
    }

    /// What clients may ask for, never nothing and nothing twice.
    pub(super) fn to_commands(self) -> Result<Vec<ListenCommand>, Problem> {
        const MEANT: &str = "commands = [\"connect\", \"udp\", \"bind\"]";
        let commands = self.to_list(|it| it.to_choice(), "a list of commands", MEANT)?;
        if commands.is_empty() {
            return Err(Problem::new("nothing could be asked for").hint(MEANT));
        }
        let is_again = |&index: &usize| commands[..index].contains(&commands[index]);
        match (0..commands.len()).find(is_again) {
            None => Ok(commands),
            Some(again) => {
                let problem = format!("{} is given twice", commands[again].show());
                Err(Problem::new(problem).hint(MEANT).in_item(again))
            }
        }
    }

    pub(super) fn to_ports(self) -> Result<PortRange, Problem> {
        match self {
            Value::Text(text) | Value::Word(text) => PortRange::parse(text),
            Value::Integer(port) => PortRange::parse(&port.to_string()),
            _ => Err(self.wrong_type("ports", PORTS)),
        }
    }

    pub(super) fn to_advertise(self) -> Result<Advertise, Problem> {
        let told = |value: Value<'_>| match value {
            Value::Text(text) | Value::Word(text) => Told::parse(text),
            _ => Err(value.wrong_type("a string", ADVERTISE)),
        };
        const MEANT: &str = "advertise = [\"10.0.0.0/8=10.0.0.1\", \"203.0.113.7\"]";
        Advertise::of(self.to_list(told, "a list of addresses", MEANT)?)
    }

    /// The items of a list, or of a word with commas.
    pub(super) fn to_list<T>(
        self,
        parse: impl Fn(Value<'_>) -> Result<T, Problem>,
        expected: &str,
        meant: &str,
    ) -> Result<Vec<T>, Problem> {
        let items = match self {
            Value::List(items) => items.to_vec(),
            Value::Word(word) => word.split(',').map(str::trim).map(Value::Word).collect(),
            _ => return Err(self.wrong_type(expected, meant)),
        };
        let parse_item = |(index, item)| parse(item).map_err(|problem| problem.in_item(index));
        items.into_iter().enumerate().map(parse_item).collect()
    }

    pub(super) fn wrong_type(self, expected: &str, meant: &str) -> Problem {
        let found = match self {
            Value::Word(_) | Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Boolean(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Other(name) => name,
        };
        Problem::new(format!("expected {expected}, found {found}")).hint(meant)
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::{show_duration, show_size};
    use super::*;

    #[test]
    fn durations() {
        let timeout = |text| Value::Text(text).to_timeout().ok();
        assert_eq!(timeout("10s"), Some(Some(Duration::from_secs(10))));
        assert_eq!(timeout("250ms"), Some(Some(Duration::from_millis(250))));
        assert_eq!(timeout("1h 30m"), Some(Some(Duration::from_secs(5400))));
        assert_eq!(timeout("0"), Some(None));
        assert_eq!(timeout("0s"), Some(None));
        for bad in ["", "10", "10parsecs", "-1s", "1us", "1500us", "20years", "s", "1..2s"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
        assert_eq!(timeout("99999999999999999999s"), None);
        assert_eq!(timeout("18446744073709551615s"), None);
        assert_eq!(Value::Integer(0).to_timeout().ok(), Some(None));
        assert!(Value::Integer(10).to_timeout().is_err());
        assert_eq!(Value::Integer(0).to_drain().ok(), Some(Duration::ZERO));
    }

    #[test]
    fn sizes() {
        let size = |text| Value::Text(text).to_size().ok();
        assert_eq!(size("256MiB"), Some(256 * MIB));
        assert_eq!(size("1MB"), None);
        assert_eq!(size("1MiB"), Some(MIB));
        assert_eq!(size("1.5 GiB"), Some(1536 * MIB));
        for bad in ["", "MiB", "1048576", "1e9", "-1MiB", "1XiB", "99999999999EiB", "8EiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [MIB, MIB + 1, 1536 * MIB, 5 << 40, 3 << 50] {
            let shown = show_size(bytes);
            assert_eq!(Value::Text(shown.trim_matches('"')).to_size().ok(), Some(bytes), "{shown}");
        }
        for millis in [0, 1, 999, 60_000, 7_200_001, 86_400_000 * 366] {
            let (duration, shown) =
                (Duration::from_millis(millis), show_duration(Duration::from_millis(millis)));
            assert_eq!(
                Value::Text(shown.trim_matches('"')).to_drain().ok(),
                Some(duration),
                "{shown}"
            );
        }
    }
}
