//! How things end: why a request was refused, and how a session ended.
//!
//! [`Refusal`] is what the client hears (the REP octet of RFC 1928 section 6), [`Outcome`] is what
//! the operator reads. Every failure a session can meet is turned into one of them here, once.

use std::fmt;
use std::io;

/// Why a request is refused. The discriminant is the REP octet (RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// Something of ours failed or ran out, or the request names no possible target.
    General = 1,
    /// A rule denies this target to this client.
    Denied = 2,
    /// No route to the target's network, or no address of a family we can use.
    NetworkUnreachable = 3,
    /// The host does not answer, or its name does not resolve.
    HostUnreachable = 4,
    /// The target refused the connection, or reset it while it was being made.
    ConnectionRefused = 5,
    /// The target did not answer in time.
    TimedOut = 6,
    /// The command is unknown or switched off.
    CommandUnsupported = 7,
    /// The address type is unknown.
    AddressUnsupported = 8,
}

impl Refusal {
    /// Every refusal there is, by REP.
    pub const ALL: [Refusal; 8] = [
        Refusal::General,
        Refusal::Denied,
        Refusal::NetworkUnreachable,
        Refusal::HostUnreachable,
        Refusal::ConnectionRefused,
        Refusal::TimedOut,
        Refusal::CommandUnsupported,
        Refusal::AddressUnsupported,
    ];

    /// The REP octet.
    pub fn rep(self) -> u8 {
        self as u8
    }

    /// What a failed connection attempt means to the client.
    pub fn of_connect(error: &io::Error) -> Refusal {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOPROTOOPT) => {
                Refusal::ConnectionRefused
            }
            Some(libc::ETIMEDOUT) => Refusal::TimedOut,
            Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => Refusal::HostUnreachable,
            Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT) => {
                Refusal::NetworkUnreachable
            }
            Some(libc::EACCES | libc::EPERM) => Refusal::Denied,
            _ => Refusal::General,
        }
    }

    fn fault(self) -> Fault {
        match self {
            Refusal::General => Fault::Gateway,
            Refusal::Denied => Fault::Policy,
            Refusal::NetworkUnreachable => Fault::Network,
            Refusal::HostUnreachable | Refusal::ConnectionRefused | Refusal::TimedOut => {
                Fault::Target
            }
            Refusal::CommandUnsupported | Refusal::AddressUnsupported => Fault::Client,
        }
    }

    /// Of two failed attempts at the same target, the one that tells the client more.
    ///
    /// 05 > 06 > 04 > 03 > 01; 02 only where every address was denied.
    pub fn most_informative(self, other: Refusal) -> Refusal {
        fn weight(refusal: Refusal) -> u8 {
            match refusal {
                Refusal::ConnectionRefused => 6,
                Refusal::TimedOut => 5,
                Refusal::HostUnreachable => 4,
                Refusal::NetworkUnreachable => 3,
                Refusal::General => 2,
                Refusal::CommandUnsupported | Refusal::AddressUnsupported => 1,
                Refusal::Denied => 0,
            }
        }
        if weight(other) > weight(self) { other } else { self }
    }
}

/// Whether a call failed for want of something that others may give back.
pub fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// How a session ended: one per session, the label of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Both directions ended cleanly.
    Finished,
    /// The client closed without having sent a byte: a health probe or a port scan.
    Empty,
    /// The first byte is not of a protocol we speak: HTTP, TLS, or SOCKS4 where users are required.
    Noise,
    /// The client offered no method we accept.
    NoMethod,
    /// Unknown user, wrong password, or no security context.
    BadLogin,
    /// What the client sent is not under its seal: changed, repeated, missing, or not sealed at all.
    BadToken,
    /// The client hung up before it had its reply.
    ClientGone,
    /// The client did not finish its request in time.
    HandshakeTimeout,
    /// The request was refused, with this REP.
    Refused(Refusal),
    /// The client reset the connection.
    ClientReset,
    /// The target reset the connection.
    TargetReset,
    /// Nothing moved for the idle timeout; or a message of the client's kept its room for a minute while
    /// others waited for some.
    IdleTimeout,
    /// One direction had ended and nothing moved in the other for its timeout.
    HalfClosedTimeout,
    /// Still open when the server's drain time was over.
    Drained,
}

impl Outcome {
    /// How many outcomes there are: the length of a table indexed by [`index`](Self::index).
    pub const COUNT: usize = 13 + Refusal::ALL.len();

    /// Every outcome there is; `ALL[i].index() == i`.
    pub const ALL: [Outcome; Outcome::COUNT] = {
        let mut all = [Outcome::Finished; Outcome::COUNT];
        let plain = [
            Outcome::Finished,
            Outcome::Empty,
            Outcome::Noise,
            Outcome::NoMethod,
            Outcome::BadLogin,
            Outcome::BadToken,
            Outcome::ClientGone,
            Outcome::HandshakeTimeout,
            Outcome::ClientReset,
            Outcome::TargetReset,
            Outcome::IdleTimeout,
            Outcome::HalfClosedTimeout,
            Outcome::Drained,
        ];
        let mut i = 0;
        while i < plain.len() {
            all[i] = plain[i];
            i += 1;
        }
        let mut rep = 0;
        while rep < Refusal::ALL.len() {
            all[plain.len() + rep] = Outcome::Refused(Refusal::ALL[rep]);
            rep += 1;
        }
        all
    };

    /// This outcome's place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        match self {
            Outcome::Finished => 0,
            Outcome::Empty => 1,
            Outcome::Noise => 2,
            Outcome::NoMethod => 3,
            Outcome::BadLogin => 4,
            Outcome::BadToken => 5,
            Outcome::ClientGone => 6,
            Outcome::HandshakeTimeout => 7,
            Outcome::ClientReset => 8,
            Outcome::TargetReset => 9,
            Outcome::IdleTimeout => 10,
            Outcome::HalfClosedTimeout => 11,
            Outcome::Drained => 12,
            Outcome::Refused(refusal) => 12 + refusal.rep() as usize,
        }
    }

    /// Who is to blame.
    ///
    /// REP 01 is also told for a malformed name, and blames the gateway all the same: its operator
    /// must not overlook a failure of ours. A timeout of ours that ends a quiet session is nobody's.
    pub fn fault(self) -> Fault {
        match self {
            Outcome::Finished
            | Outcome::Empty
            | Outcome::IdleTimeout
            | Outcome::HalfClosedTimeout => Fault::Nobody,
            Outcome::Noise
            | Outcome::NoMethod
            | Outcome::BadLogin
            | Outcome::BadToken
            | Outcome::ClientGone
            | Outcome::HandshakeTimeout
            | Outcome::ClientReset => Fault::Client,
            Outcome::TargetReset => Fault::Target,
            Outcome::Drained => Fault::Gateway,
            Outcome::Refused(refusal) => refusal.fault(),
        }
    }
}

/// Who is to blame for how a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody: it ended as sessions do.
    Nobody,
    /// The client: what it sent, or that it left.
    Client,
    /// The target: it is down, refuses, resets, or its name does not resolve.
    Target,
    /// The rules of this gateway, or of its host's firewall.
    Policy,
    /// This gateway: something ran out, failed, or was shut down.
    Gateway,
    /// The network: no route leads to the target.
    Network,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Nobody => "none",
            Fault::Client => "client",
            Fault::Target => "target",
            Fault::Policy => "policy",
            Fault::Gateway => "gateway",
            Fault::Network => "network",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Finished => "finished",
            Outcome::Empty => "empty",
            Outcome::Noise => "noise",
            Outcome::NoMethod => "no_method",
            Outcome::BadLogin => "bad_login",
            Outcome::BadToken => "bad_token",
            Outcome::ClientGone => "client_gone",
            Outcome::HandshakeTimeout => "handshake_timeout",
            Outcome::ClientReset => "client_reset",
            Outcome::TargetReset => "target_reset",
            Outcome::IdleTimeout => "idle_timeout",
            Outcome::HalfClosedTimeout => "half_closed_timeout",
            Outcome::Drained => "drained",
            Outcome::Refused(refusal) => return write!(f, "refused_{:02x}", refusal.rep()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place_and_name() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), place);
        }
        let mut names: Vec<_> = Outcome::ALL.iter().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Outcome::COUNT);
    }

    #[test]
    fn connect_errors_are_told_apart() {
        let rep = |errno| Refusal::of_connect(&io::Error::from_raw_os_error(errno)).rep();
        assert_eq!(rep(libc::ECONNREFUSED), 5);
        assert_eq!(rep(libc::ECONNRESET), 5);
        assert_eq!(rep(libc::ENOPROTOOPT), 5);
        assert_eq!(rep(libc::ETIMEDOUT), 6);
        assert_eq!(rep(libc::EHOSTUNREACH), 4);
        assert_eq!(rep(libc::ENETUNREACH), 3);
        assert_eq!(rep(libc::ENETDOWN), 3);
        assert_eq!(rep(libc::EACCES), 2);
        assert_eq!(rep(libc::EPERM), 2);
        assert_eq!(rep(libc::EADDRNOTAVAIL), 1);
        assert_eq!(rep(libc::EMFILE), 1);
    }

    #[test]
    fn every_end_has_somebody_to_blame_or_nobody() {
        let blamed: Vec<_> = Outcome::ALL.iter().map(|it| format!("{it} {}", it.fault())).collect();
        assert_eq!(
            blamed,
            [
                "finished none",
                "empty none",
                "noise client",
                "no_method client",
                "bad_login client",
                "bad_token client",
                "client_gone client",
                "handshake_timeout client",
                "client_reset client",
                "target_reset target",
                "idle_timeout none",
                "half_closed_timeout none",
                "drained gateway",
                "refused_01 gateway",
                "refused_02 policy",
                "refused_03 network",
                "refused_04 target",
                "refused_05 target",
                "refused_06 target",
                "refused_07 client",
                "refused_08 client",
            ]
        );
    }

    #[test]
    fn a_denied_address_never_hides_another_error() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::Denied.most_informative(refusal), refusal);
            assert_eq!(refusal.most_informative(Refusal::Denied), refusal);
        }
        assert_eq!(
            Refusal::TimedOut.most_informative(Refusal::ConnectionRefused),
            Refusal::ConnectionRefused
        );
    }
}
