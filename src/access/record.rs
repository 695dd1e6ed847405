use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use super::escape::escape;
use crate::metrics::{Datagrams, DropReason, Traffic};
use crate::outcome::Outcome;
use crate::proto::{Command, Target};

/// What there is to tell of one session, filled in as it goes: a value that is moved, not built.
///
/// `Display` is its line. Every line has the same keys in the same order and no space but between
/// them, so that `awk` and `cut` can count on their places; a value that there is not is `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which of its reactor's sessions it is.
    pub number: u64,
    /// Whose session it is.
    pub reactor: u16,
    /// Whether the client has sent a whole greeting or SOCKS4 request.
    pub greeted: bool,
    /// The address the client came to.
    pub listener: SocketAddr,
    /// The address the client came from.
    pub client: SocketAddr,
    /// The name the client has given, whether or not it was let in.
    pub user: Option<Box<[u8]>>,
    /// What it asked for.
    pub command: Option<Command>,
    /// With whom.
    pub target: Option<Target>,
    /// The address it was connected to.
    pub connected: Option<SocketAddr>,
    /// Our own address towards the target, or where it was to come.
    pub outgoing: Option<SocketAddr>,
    /// The port that the client was given, if it asked for one.
    pub given: Option<Box<GivenPort>>,
    /// The REP octet it was told, also where SOCKS4 has another for it.
    pub rep: Option<u8>,
    /// What was relayed.
    pub traffic: Traffic,
    /// How long it took to find out who the client is.
    pub auth: Option<Span>,
    /// How long the name took.
    pub resolve: Option<Span>,
    /// How long the connection to the target took.
    pub connect: Option<Span>,
    /// How long the session took.
    pub duration: Duration,
    /// When it was over, by the wall clock.
    pub ended: SystemTime,
    /// How it was over.
    pub outcome: Outcome,
}

/// A port of ours that a client was given (BIND, UDP ASSOCIATE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenPort {
    /// What the client was told that its address is.
    pub bnd: SocketAddr,
    /// The datagrams of an association.
    pub datagrams: Option<Box<Datagrams>>,
}

// One stands in every session.
const _: () = assert!(size_of::<Record>() <= 264);

impl Record {
    /// A session that has just begun; what is known at its end only holds nothing yet.
    pub fn new(reactor: u16, number: u64, listener: SocketAddr, client: SocketAddr) -> Record {
        Record {
            number,
            reactor,
            greeted: false,
            listener,
            client,
            user: None,
            command: None,
            target: None,
            connected: None,
            outgoing: None,
            given: None,
            rep: None,
            traffic: Traffic::default(),
            auth: None,
            resolve: None,
            connect: None,
            duration: Duration::ZERO,
            ended: SystemTime::UNIX_EPOCH,
            outcome: Outcome::ClientGone,
        }
    }

    /// Whether it gets a line. Health probes, scanners and whoever never said a whole greeting are
    /// counted only: they would bury the others.
    pub fn is_logged(&self) -> bool {
        match self.outcome {
            Outcome::Empty | Outcome::Noise => false,
            Outcome::ClientGone
            | Outcome::ClientReset
            | Outcome::HandshakeTimeout
            | Outcome::Drained => self.greeted,
            _ => true,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic { up, down } = self.traffic;
        let given = self.given.as_deref();
        write!(f, "time={} id={}-{}", Time(self.ended), self.reactor, self.number)?;
        write!(f, " listener={} client={}", self.listener, self.client)?;
        write!(f, " user={}", OrNone(self.user.as_deref().map(escape)))?;
        write!(f, " command={}", OrNone(self.command.map(command_name)))?;
        write!(f, " target={}", OrNone(self.target.as_ref()))?;
        write!(f, " connected={}", OrNone(self.connected))?;
        write!(f, " outgoing={}", OrNone(self.outgoing))?;
        write!(f, " bnd={}", OrNone(given.map(|it| it.bnd).or(self.outgoing)))?;
        write!(f, " rep={}", OrNone(self.rep.map(Rep)))?;
        write!(f, " bytes_up={up} bytes_down={down}")?;
        let datagrams = given.and_then(|it| it.datagrams.as_deref());
        let relayed = datagrams.map(|it| it.relayed);
        write!(f, " datagrams_up={}", OrNone(relayed.map(|it| it.up)))?;
        write!(f, " datagrams_down={}", OrNone(relayed.map(|it| it.down)))?;
        write!(f, " drops={}", OrNone(datagrams.and_then(Drops::of)))?;
        write!(f, " auth_ms={} resolve_ms={}", OrNone(self.auth), OrNone(self.resolve))?;
        write!(f, " connect_ms={}", OrNone(self.connect))?;
        write!(f, " duration_ms={}", Millis(self.duration.as_micros()))?;
        write!(f, " end={} fault={}", self.outcome, self.outcome.fault())
    }
}

/// A time that passed, in microseconds up to 71 minutes; what took longer took 71 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(NonZeroU32);

impl From<Duration> for Span {
    fn from(time: Duration) -> Span {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Span(NonZeroU32::MIN.saturating_add(micros))
    }
}

/// Milliseconds with a tenth.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Millis(u128::from(self.0.get() - 1)).fmt(f)
    }
}

/// Microseconds, shown as milliseconds with a tenth.
struct Millis(u128);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 / 100 % 10)
    }
}

/// RFC 3339, in UTC.
struct Time(SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A clock that is set beyond these has no such form.
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let time = self.0.clamp(SystemTime::UNIX_EPOCH, last);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

/// `reason:count` of each reason that there was, by comma.
struct Drops<'a>(&'a Datagrams);

impl Drops<'_> {
    fn of(datagrams: &Datagrams) -> Option<Drops<'_>> {
        let any = DropReason::ALL.into_iter().any(|reason| datagrams.dropped(reason) > 0);
        any.then_some(Drops(datagrams))
    }
}

impl fmt::Display for Drops<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for reason in DropReason::ALL {
            let count = self.0.dropped(reason);
            if count > 0 {
                write!(f, "{comma}{reason}:{count}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

struct Rep(u8);

impl fmt::Display for Rep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

struct OrNone<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrNone<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn command_name(command: Command) -> &'static str {
    match command {
        Command::Connect => "connect",
        Command::Bind => "bind",
        Command::UdpAssociate => "udp_associate",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::escape::tests::unescape;
    use super::*;
    use crate::outcome::Refusal;
    use crate::proto::{Host, strategies};

    pub(crate) fn record(number: u64) -> Record {
        let (listener, client) = ("127.0.0.1:1080", "127.0.0.1:50000");
        let outcome = Outcome::Finished;
        let new = Record::new(0, number, listener.parse().unwrap(), client.parse().unwrap());
        Record { outcome, greeted: true, ..new }
    }

    fn full() -> Record {
        let micros = |n| Some(Span::from(Duration::from_micros(n)));
        let host = Host::parse_name(b"example.com").unwrap();
        Record {
            user: Some(b"alice".as_slice().into()),
            command: Some(Command::Connect),
            target: Some(Target { host, port: 443 }),
            connected: Some("192.0.2.1:443".parse().unwrap()),
            outgoing: Some("10.0.0.5:41234".parse().unwrap()),
            rep: Some(0),
            traffic: Traffic { up: 517, down: 4242 },
            auth: micros(899),
            resolve: micros(12_100),
            connect: micros(8_000),
            duration: Duration::from_micros(1_043_099),
            ended: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_543_956_123),
            ..record(1234)
        }
    }

    #[test]
    fn a_session_is_one_line() {
        assert_eq!(
            full().to_string(),
            "time=2026-11-24T18:12:36.123Z id=0-1234 listener=127.0.0.1:1080 \
             client=127.0.0.1:50000 user=alice command=connect target=example.com:443 \
             connected=192.0.2.1:443 outgoing=10.0.0.5:41234 bnd=10.0.0.5:41234 rep=00 \
             bytes_up=517 bytes_down=4242 datagrams_up=- datagrams_down=- drops=- \
             auth_ms=0.8 resolve_ms=12.1 connect_ms=8.0 duration_ms=1043.0 end=finished fault=none"
        );
    }

    #[test]
    fn what_there_is_not_keeps_its_place() {
        let refused = Outcome::Refused(Refusal::CommandUnsupported);
        let line = Record { outcome: refused, rep: Some(7), ..record(1) }.to_string();
        assert_eq!(
            line,
            "time=1970-01-01T00:00:00.000Z id=0-1 listener=127.0.0.1:1080 client=127.0.0.1:50000 \
             user=- command=- target=- connected=- outgoing=- bnd=- rep=07 bytes_up=0 \
             bytes_down=0 datagrams_up=- datagrams_down=- drops=- auth_ms=- resolve_ms=- connect_ms=- duration_ms=0.0 end=refused_07 fault=client"
        );
    }

    #[test]
    fn datagrams_and_why_they_were_dropped_have_their_places() {
        let mut datagrams = Datagrams::default();
        datagrams.relayed = Traffic { up: 5, down: 3 };
        let line = |datagrams: &Datagrams| {
            let bnd = "203.0.113.7:40001".parse().unwrap();
            let given = GivenPort { bnd, datagrams: Some(datagrams.clone().into()) };
            Record { given: Some(given.into()), ..full() }.to_string()
        };
        let clean = line(&datagrams);
        assert!(clean.contains(" outgoing=10.0.0.5:41234 bnd=203.0.113.7:40001 "), "{clean}");
        assert!(clean.contains(" datagrams_up=5 datagrams_down=3 drops=- "), "{clean}");
        datagrams.count_drop(DropReason::Stranger, 2);
        datagrams.count_drop(DropReason::Overflow, 1);
        let lossy = line(&datagrams);
        assert!(lossy.contains(" drops=stranger:2,overflow:1 "), "{lossy}");
    }

    #[test]
    fn a_clock_far_off_still_has_a_form() {
        let year = Duration::from_secs(366 * 24 * 60 * 60);
        for (ended, expected) in [
            (SystemTime::UNIX_EPOCH - year, "time=1970-01-01T00:00:00.000Z "),
            (SystemTime::UNIX_EPOCH + year * 10_000, "time=9999-12-31T23:59:59.000Z "),
        ] {
            let line = Record { ended, ..full() }.to_string();
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn a_span_keeps_what_fits_and_no_time_at_all_is_a_span() {
        let shown = |time| Span::from(time).to_string();
        assert_eq!(shown(Duration::ZERO), "0.0");
        assert_eq!(shown(Duration::from_micros(99)), "0.0");
        assert_eq!(shown(Duration::from_micros(1_999)), "1.9");
        assert_eq!(shown(Duration::from_micros(u64::from(u32::MAX))), "4294967.2");
        assert_eq!(shown(Duration::MAX), "4294967.2");
        assert_eq!(size_of::<Option<Span>>(), 4);
    }

    #[test]
    fn probes_and_scanners_get_no_line() {
        let is_logged = |outcome, greeted| Record { outcome, greeted, ..full() }.is_logged();
        let always: Vec<_> = Outcome::ALL.into_iter().filter(|it| is_logged(*it, false)).collect();
        let greeted: Vec<_> = Outcome::ALL.into_iter().filter(|it| is_logged(*it, true)).collect();
        for outcome in [Outcome::Empty, Outcome::Noise] {
            assert!(!greeted.contains(&outcome) && !always.contains(&outcome));
        }
        for outcome in [Outcome::ClientGone, Outcome::ClientReset, Outcome::HandshakeTimeout] {
            assert!(greeted.contains(&outcome) && !always.contains(&outcome));
        }
        assert!(always.contains(&Outcome::NoMethod) && always.contains(&Outcome::BadLogin));
        assert_eq!((always.len(), greeted.len()), (Outcome::COUNT - 6, Outcome::COUNT - 2));
    }

    proptest! {
        #[test]
        fn whatever_the_names_it_is_one_line_of_fields(
            user in strategies::field(),
            host in strategies::host(),
            addresses: [SocketAddr; 4],
            port: u16,
            outcome in prop::sample::select(&Outcome::ALL[..]),
        ) {
            let [listener, client, connected, outgoing] = addresses;
            let line = Record {
                listener,
                client,
                user: Some(user.clone().into()),
                target: Some(Target { host, port }),
                connected: Some(connected),
                outgoing: Some(outgoing),
                outcome,
                ..full()
            }
            .to_string();
            prop_assert!(line.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            prop_assert!(line.len() < 2048);
            let fields: Vec<_> =
                line.split(' ').map(|field| field.split_once('=').unwrap()).collect();
            let keys: Vec<_> = fields.iter().map(|(key, _)| *key).collect();
            prop_assert_eq!(keys, KEYS);
            prop_assert_eq!(unescape(fields[4].1), user);
        }
    }

    const KEYS: [&str; 22] = [
        "time",
        "id",
        "listener",
        "client",
        "user",
        "command",
        "target",
        "connected",
        "outgoing",
        "bnd",
        "rep",
        "bytes_up",
        "bytes_down",
        "datagrams_up",
        "datagrams_down",
        "drops",
        "auth_ms",
        "resolve_ms",
        "connect_ms",
        "duration_ms",
        "end",
        "fault",
    ];
}
