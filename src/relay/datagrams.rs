use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::num::NonZeroU16;

use arrayvec::ArrayVec;

use super::Readiness;
use crate::proto::udp::Header;
use crate::sys::{Batch, Outgoing};

/// How many parcels are sent at a time.
pub const PARCELS_MAX: usize = Batch::LEN_MAX;

/// A bound, non-blocking datagram socket, as far as an association needs one.
///
/// The reactor's is a UDP socket; the simulator's is a model of one.
pub trait DatagramSocket {
    /// Lets in only what comes from `peer`, port 0 being any, and sends there what is sent to nobody
    /// in particular. What is queued already stays.
    fn connect(&mut self, peer: SocketAddr) -> io::Result<()>;
    /// Receives up to `max` messages, each of which may be a run of datagrams.
    fn receive(&mut self, batch: &mut Batch, max: usize) -> io::Result<usize>;
    /// Sends some of these, one at least; an error is the first one's.
    fn send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize>;
}

/// A [`DatagramSocket`] with what is remembered of it.
pub struct DatagramEndpoint<D> {
    socket: D,
    /// What an earlier datagram met may be reported instead of sending one.
    is_connected: bool,
    readable: bool,
    /// What an earlier datagram met was reported, and there may be something behind that.
    error_reported: bool,
    starved: bool,
    /// What the kernel has told of datagrams that came too fast.
    lost: u32,
    /// How many messages to receive at a time.
    batch_max: u8,
    /// The longest datagram that may be part of a run.
    segment_max: u16,
}

/// A datagram to be sent.
#[derive(Clone, Copy)]
pub struct Parcel<'a> {
    /// To whom; none: to where the socket is connected.
    pub to: Option<SocketAddr>,
    /// What goes before the data.
    pub header: Option<Header>,
    /// What it carries.
    pub data: &'a [u8],
    /// How many bytes of that count for nobody: the seal's, and a header's that is within.
    pub wrapping: usize,
}

/// Parcels on their way.
pub type Parcels<'a> = ArrayVec<Parcel<'a>, PARCELS_MAX>;

/// What came of sending some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// How many the kernel took.
    pub parcels: u64,
    /// The data in them.
    pub bytes: u64,
    /// How many it did not.
    pub unsent: u64,
    /// How many were too long for it.
    pub too_large: u64,
}

/// Whether runs of datagrams may go as one message (UDP_SEGMENT, udp(7)); a host that cannot do it
/// never can.
pub struct Segmentation(bool);

/// Datagrams of one length to one peer, the last of which may be shorter.
const SEGMENTS_MAX: usize = 64;
/// What they come to at most: below the longest packet with room for every header.
const RUN_BYTES_MAX: usize = 65_000;

impl<D: DatagramSocket> DatagramEndpoint<D> {
    /// What a batch comes to if its messages are as those of the last one: a turn is to be short,
    /// and what comes in a run is received at one message's price but handled at its own.
    const BATCH_BYTES: usize = 256 * 1024;
    const BATCH_DATAGRAMS: usize = 256;
    const SMALL_BATCH: usize = 4;
    /// What earlier datagrams met is reported instead of what was received, each once.
    const ERRORS_MAX: usize = 8;

    /// An endpoint of which nothing has been reported yet.
    pub fn new(socket: D) -> DatagramEndpoint<D> {
        DatagramEndpoint {
            socket,
            is_connected: false,
            readable: false,
            error_reported: false,
            starved: false,
            lost: 0,
            batch_max: Batch::LEN_MAX as u8,
            segment_max: RUN_BYTES_MAX as u16,
        }
    }

    /// Remembers what the poll reported.
    pub fn handle_readiness(&mut self, readiness: Readiness) {
        self.error_reported |= readiness.error;
        self.readable |= readiness.readable | readiness.error;
    }

    /// Whether something may be there to receive.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether the kernel could not say whether something is: no edge will tell when it can.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Finds out what no edge may ever tell.
    pub fn look_again(&mut self) {
        self.readable |= self.starved;
        self.starved = false;
    }

    /// Lets in only what comes from `peer`.
    pub fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        self.socket.connect(peer)?;
        self.is_connected = true;
        Ok(())
    }

    /// Receives what one turn is enough for, in `max` messages at most. Returns how many datagrams
    /// came too fast since.
    pub fn receive(&mut self, batch: &mut Batch, max: usize) -> u32 {
        batch.clear();
        let max = max.min(self.batch_max.into());
        for _ in 0..Self::ERRORS_MAX {
            match self.socket.receive(batch, max) {
                Ok(n) => {
                    // A short batch has emptied the queue, unless it ended at an error.
                    self.readable = n == max || self.error_reported;
                    return self.adapt_to(batch);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (self.readable, self.error_reported) = (false, false);
                    return 0;
                }
                Err(_) => {}
            }
        }
        (self.readable, self.starved) = (false, true);
        0
    }

    fn adapt_to(&mut self, batch: &Batch) -> u32 {
        let messages = batch.messages().len();
        let bytes: usize = batch.messages().map(|message| message.bytes.len()).sum();
        let datagrams: usize = batch.messages().map(|message| message.datagrams().count()).sum();
        let fitting = |max: usize, had: usize| max * messages / had.max(1);
        let fitting =
            fitting(Self::BATCH_BYTES, bytes).min(fitting(Self::BATCH_DATAGRAMS, datagrams));
        self.batch_max = fitting.clamp(Self::SMALL_BATCH, Batch::LEN_MAX) as u8;
        let Some(lost) = batch.lost() else { return 0 };
        let before = std::mem::replace(&mut self.lost, lost);
        lost.wrapping_sub(before)
    }

    /// Sends these parcels and forgets them, whatever becomes of each: a datagram is not waited for.
    pub fn post(&mut self, parcels: &mut Parcels<'_>, segmentation: &mut Segmentation) -> Posted {
        let mut posted = Posted::default();
        self.post_runs(parcels, segmentation, &mut posted);
        parcels.clear();
        posted
    }

    fn post_runs(
        &mut self,
        parcels: &[Parcel<'_>],
        segmentation: &mut Segmentation,
        posted: &mut Posted,
    ) {
        let segment_max = if segmentation.0 { self.segment_max } else { 0 };
        let runs = runs(parcels, segment_max.into());
        let mut slices = ArrayVec::<IoSlice<'_>, { 2 * PARCELS_MAX }>::new();
        for parcel in parcels {
            if let Some(header) = &parcel.header {
                slices.push(IoSlice::new(header.as_slice()));
            }
            slices.push(IoSlice::new(parcel.data));
        }
        let mut rest = &slices[..];
        let mut messages = ArrayVec::<Outgoing<'_>, PARCELS_MAX>::new();
        for run in &runs {
            let headers = run.iter().filter(|parcel| parcel.header.is_some()).count();
            let (parts, others) = rest.split_at(headers + run.len());
            rest = others;
            let segment = if run.len() > 1 { segment_of(run) } else { None };
            messages.push(Outgoing { to: run[0].to, parts, segment });
        }
        self.post_messages(&messages, &runs, segmentation, posted);
    }

    /// `runs` are what `messages` carry.
    fn post_messages(
        &mut self,
        messages: &[Outgoing<'_>],
        runs: &[&[Parcel<'_>]],
        segmentation: &mut Segmentation,
        posted: &mut Posted,
    ) {
        let (mut at, mut is_retried) = (0, false);
        while at < messages.len() {
            let error = match self.socket.send(&messages[at..]) {
                Ok(n) => {
                    runs[at..at + n].iter().for_each(|run| posted.count_sent(run));
                    (at, is_retried) = (at + n, false);
                    continue;
                }
                Err(error) => error,
            };
            let run = runs[at];
            match error.raw_os_error() {
                // There is room for none of the others either.
                Some(libc::EAGAIN) => {
                    posted.unsent += parcels_in(&runs[at..]);
                    return;
                }
                // It may be what an earlier one met.
                _ if self.is_connected && !is_retried => {
                    is_retried = true;
                    continue;
                }
                Some(errno) if run.len() > 1 && self.lowers_segments(errno, run, segmentation) => {
                    self.post_runs(run, segmentation, posted);
                }
                Some(libc::EMSGSIZE) => posted.too_large += run.len() as u64,
                _ => posted.unsent += run.len() as u64,
            }
            (at, is_retried) = (at + 1, false);
        }
    }

    /// Whether a run that was refused may go datagram by datagram. It is remembered.
    fn lowers_segments(
        &mut self,
        errno: i32,
        run: &[Parcel<'_>],
        segmentation: &mut Segmentation,
    ) -> bool {
        match errno {
            // The device has no checksums to offer.
            libc::EIO => segmentation.0 = false,
            // They do not fit the way, or this kernel or socket does not know of segments.
            libc::EINVAL | libc::EMSGSIZE | libc::ENOPROTOOPT | libc::EOPNOTSUPP => {
                self.segment_max = run[0].wire_len() as u16 - 1;
            }
            _ => return false,
        }
        true
    }
}

impl Parcel<'_> {
    /// How long its datagram is.
    pub fn wire_len(&self) -> usize {
        self.header.map_or(0, |header| header.as_slice().len()) + self.data.len()
    }
}

impl Posted {
    fn count_sent(&mut self, run: &[Parcel<'_>]) {
        self.parcels += run.len() as u64;
        self.bytes += run.iter().map(|it| (it.data.len() - it.wrapping) as u64).sum::<u64>();
    }
}

impl Segmentation {
    /// As long as nothing says otherwise, runs go as one message.
    pub fn new() -> Segmentation {
        Segmentation(true)
    }
}

impl Default for Segmentation {
    fn default() -> Segmentation {
        Segmentation::new()
    }
}

/// Divides parcels into runs of those that may go as one message, none longer than `segment_max`.
fn runs<'p, 'd>(
    mut parcels: &'p [Parcel<'d>],
    segment_max: usize,
) -> ArrayVec<&'p [Parcel<'d>], PARCELS_MAX> {
    let mut runs = ArrayVec::new();
    while !parcels.is_empty() {
        let (run, rest) = parcels.split_at(run_len(parcels, segment_max));
        runs.push(run);
        parcels = rest;
    }
    runs
}

/// How many of the first parcels make one run.
fn run_len(parcels: &[Parcel<'_>], segment_max: usize) -> usize {
    let (first, others) = parcels.split_first().expect("there is one");
    let segment = first.wire_len();
    if segment == 0 || segment > segment_max {
        return 1;
    }
    let (mut count, mut bytes) = (1, segment);
    for parcel in others {
        let len = parcel.wire_len();
        let fits = (1..=segment).contains(&len) && bytes + len <= RUN_BYTES_MAX;
        if count == SEGMENTS_MAX || !fits || parcel.to != first.to {
            break;
        }
        (count, bytes) = (count + 1, bytes + len);
        if len < segment {
            break;
        }
    }
    count
}

fn segment_of(run: &[Parcel<'_>]) -> Option<NonZeroU16> {
    u16::try_from(run[0].wire_len()).ok().and_then(NonZeroU16::new)
}

fn parcels_in(runs: &[&[Parcel<'_>]]) -> u64 {
    runs.iter().map(|run| run.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "192.0.2.1:53";
    const OTHER: &str = "192.0.2.2:53";

    /// A socket that does what it is told, call by call.
    #[derive(Default)]
    struct Scripted {
        /// How many messages each send takes, or an `errno`; none left: all.
        sends: VecDeque<Result<usize, i32>>,
        /// The longest segment that its way takes.
        segment_max: Option<usize>,
        /// What each receive gives: messages, or an `errno`; none left: there are none.
        receives: VecDeque<Result<Vec<Vec<u8>>, i32>>,
        sent: Vec<(Option<SocketAddr>, Vec<u8>)>,
        /// In how many messages.
        messages: usize,
        calls: usize,
    }

    impl DatagramSocket for Scripted {
        fn connect(&mut self, _: SocketAddr) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self, batch: &mut Batch, max: usize) -> io::Result<usize> {
            self.calls += 1;
            let messages = self.receives.pop_front().unwrap_or(Err(libc::EAGAIN));
            let messages = messages.map_err(io::Error::from_raw_os_error)?;
            assert!((1..=max).contains(&messages.len()));
            messages.iter().for_each(|bytes| assert!(batch.put(at(PEER), bytes, None)));
            Ok(messages.len())
        }

        fn send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
            self.calls += 1;
            let max = self.sends.pop_front().unwrap_or(Ok(usize::MAX));
            let max = max.map_err(io::Error::from_raw_os_error)?.min(messages.len());
            for (index, message) in messages[..max].iter().enumerate() {
                let bytes: Vec<u8> = message.parts.iter().flat_map(|part| part.to_vec()).collect();
                let segment = message.segment.map_or(usize::MAX, |it| it.get().into());
                if message.segment.is_some() && self.segment_max.is_some_and(|max| segment > max) {
                    let refused = Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
                    return if index > 0 { Ok(index) } else { refused };
                }
                assert!(bytes.len() <= 65_507 && bytes.len().div_ceil(segment) <= SEGMENTS_MAX);
                let datagrams = bytes.chunks(segment.min(bytes.len().max(1)));
                let datagrams: Vec<_> = datagrams.map(<[u8]>::to_vec).collect();
                let empty = datagrams.is_empty().then(Vec::new);
                let datagrams = datagrams.into_iter().chain(empty);
                self.sent.extend(datagrams.map(|it| (message.to, it)));
                self.messages += 1;
            }
            Ok(max)
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn endpoint(socket: Scripted) -> DatagramEndpoint<Scripted> {
        DatagramEndpoint::new(socket)
    }

    /// So many bytes to each of these.
    fn parcels<'d>(wanted: &[(&str, usize)], data: &'d [u8]) -> Parcels<'d> {
        let parcel = |(to, len): &(&str, usize)| Parcel {
            to: Some(at(to)),
            header: None,
            data: &data[..*len],
            wrapping: 0,
        };
        wanted.iter().map(parcel).collect()
    }

    fn post(
        endpoint: &mut DatagramEndpoint<Scripted>,
        wanted: &[(&str, usize)],
        segmentation: &mut Segmentation,
    ) -> Posted {
        let data = vec![7; 65_507];
        let mut parcels = parcels(wanted, &data);
        let posted = endpoint.post(&mut parcels, segmentation);
        assert!(parcels.is_empty());
        posted
    }

    fn run_lens(wanted: &[(&str, usize)], segment_max: usize) -> Vec<usize> {
        let data = vec![7; 65_507];
        runs(&parcels(wanted, &data), segment_max).iter().map(|run| run.len()).collect()
    }

    #[test]
    fn a_run_is_of_one_length_to_one_peer_and_may_end_with_a_shorter_one() {
        assert_eq!(run_lens(&[(PEER, 9), (PEER, 9), (PEER, 9)], 100), [3]);
        assert_eq!(run_lens(&[(PEER, 9), (PEER, 9), (PEER, 3), (PEER, 3)], 100), [3, 1]);
        assert_eq!(run_lens(&[(PEER, 9), (PEER, 10), (PEER, 10)], 100), [1, 2]);
        assert_eq!(run_lens(&[(PEER, 9), (OTHER, 9), (OTHER, 9)], 100), [1, 2]);
        assert_eq!(run_lens(&[(PEER, 9), (PEER, 0), (PEER, 9)], 100), [1, 1, 1]);
        assert_eq!(run_lens(&[(PEER, 9), (PEER, 9)], 8), [1, 1], "no segment is so long");
        assert_eq!(run_lens(&[(PEER, 1); 64], 100), [64]);
        let long = run_lens(&[(PEER, 20_000); 7], 65_000);
        assert_eq!(long, [3, 3, 1], "a message has its limit");
        assert_eq!(run_lens(&[], 100), [0; 0]);
    }

    #[test]
    fn a_run_is_one_message_of_the_same_datagrams() {
        let mut endpoint = endpoint(Scripted::default());
        let header = Some(Header::new(at(PEER)));
        let mut parcels = Parcels::new();
        for data in [&b"one"[..], b"two", b"3"] {
            parcels.push(Parcel { to: None, header, data, wrapping: 0 });
        }
        let posted = endpoint.post(&mut parcels, &mut Segmentation::new());
        assert_eq!(posted, Posted { parcels: 3, bytes: 7, ..Posted::default() });
        let head = Header::new(at(PEER));
        let expected = [&b"one"[..], b"two", b"3"].map(|it| [head.as_slice(), it].concat());
        assert_eq!(endpoint.socket.sent, expected.map(|datagram| (None, datagram)));
        assert_eq!(endpoint.socket.messages, 1);
    }

    #[test]
    fn a_run_that_does_not_fit_its_way_goes_one_by_one_and_so_do_the_next() {
        let socket = Scripted { segment_max: Some(1400), ..Scripted::default() };
        let (mut endpoint, mut segmentation) = (endpoint(socket), Segmentation::new());
        let wanted = [(PEER, 1500), (PEER, 1500), (PEER, 900)];
        for round in 1..=2 {
            assert_eq!(post(&mut endpoint, &wanted, &mut segmentation).parcels, 3);
            assert_eq!(endpoint.socket.sent.len(), 3 * round);
            assert_eq!(endpoint.socket.messages, 3 * round);
        }
        assert_eq!(endpoint.socket.calls, 3, "it is asked once");
        post(&mut endpoint, &[(PEER, 1000); 4], &mut segmentation);
        assert_eq!(endpoint.socket.messages, 7, "shorter ones still go as one");
        assert!(segmentation.0);
    }

    #[test]
    fn a_device_without_checksums_ends_all_runs() {
        let socket = Scripted { sends: [Err(libc::EIO)].into(), ..Scripted::default() };
        let (mut endpoint, mut segmentation) = (endpoint(socket), Segmentation::new());
        assert_eq!(post(&mut endpoint, &[(PEER, 9); 3], &mut segmentation).parcels, 3);
        assert!(!segmentation.0);
        assert_eq!((endpoint.socket.messages, endpoint.socket.calls), (3, 2));
    }

    #[test]
    fn one_that_cannot_be_sent_costs_no_other() {
        let lens = [(PEER, 1), (OTHER, 2), (PEER, 3)];
        for (errno, too_large) in [(libc::EPERM, 0), (libc::EMSGSIZE, 1), (libc::ENOBUFS, 0)] {
            let socket = Scripted { sends: [Ok(1), Err(errno)].into(), ..Scripted::default() };
            let mut endpoint = endpoint(socket);
            let posted = post(&mut endpoint, &lens, &mut Segmentation::new());
            assert_eq!((posted.parcels, posted.bytes), (2, 4));
            assert_eq!((posted.too_large, posted.unsent), (too_large, 1 - too_large));
        }
    }

    #[test]
    fn where_there_is_no_room_nothing_is_tried_again() {
        let socket = Scripted { sends: [Ok(1), Err(libc::EAGAIN)].into(), ..Scripted::default() };
        let mut endpoint = endpoint(socket);
        let posted =
            post(&mut endpoint, &[(PEER, 1), (OTHER, 2), (PEER, 3)], &mut Segmentation::new());
        assert_eq!((posted.parcels, posted.unsent), (1, 2));
        assert_eq!(endpoint.socket.calls, 2);
    }

    #[test]
    fn what_an_earlier_one_met_costs_none() {
        let sends = [Err(libc::ECONNREFUSED), Ok(1), Err(libc::ENOPROTOOPT)];
        let mut connected = endpoint(Scripted { sends: sends.into(), ..Scripted::default() });
        connected.connect(at(PEER)).unwrap();
        let wanted = [(PEER, 1), (OTHER, 2), (PEER, 3)];
        assert_eq!(post(&mut connected, &wanted, &mut Segmentation::new()).parcels, 3);
        assert_eq!(connected.socket.sent.len(), 3);

        let twice = [Err(libc::ECONNREFUSED), Err(libc::ECONNREFUSED)];
        let mut broken = endpoint(Scripted { sends: twice.into(), ..Scripted::default() });
        broken.connect(at(PEER)).unwrap();
        let posted = post(&mut broken, &wanted, &mut Segmentation::new());
        assert_eq!((posted.parcels, posted.unsent), (2, 1));
    }

    const READABLE: Readiness = Readiness {
        readable: true,
        writable: false,
        read_closed: false,
        urgent: false,
        error: false,
    };

    #[test]
    fn a_short_batch_ends_a_turn_and_a_full_one_does_not() {
        let full = vec![b"x".to_vec(); Batch::LEN_MAX];
        let receives = [Ok(full), Ok(vec![b"y".to_vec()])];
        let mut endpoint = endpoint(Scripted { receives: receives.into(), ..Scripted::default() });
        let mut batch = Batch::new();
        assert!(!endpoint.is_readable());
        endpoint.handle_readiness(READABLE);
        endpoint.receive(&mut batch, Batch::LEN_MAX);
        assert!(endpoint.is_readable());
        assert_eq!(batch.messages().len(), Batch::LEN_MAX);
        endpoint.receive(&mut batch, Batch::LEN_MAX);
        assert!(!endpoint.is_readable());
        assert_eq!(endpoint.socket.calls, 2);
    }

    #[test]
    fn an_error_hides_nothing_behind_it() {
        let one = || Ok(vec![b"x".to_vec()]);
        let receives = [Err(libc::ECONNREFUSED), one(), one()];
        let mut endpoint = endpoint(Scripted { receives: receives.into(), ..Scripted::default() });
        let mut batch = Batch::new();
        endpoint.handle_readiness(Readiness { error: true, ..READABLE });
        for left in [true, true, false] {
            endpoint.receive(&mut batch, Batch::LEN_MAX);
            assert_eq!(batch.messages().len(), usize::from(left));
            assert_eq!(endpoint.is_readable(), left);
        }
    }

    #[test]
    fn errors_without_end_are_looked_at_again_later() {
        let receives = [const { Err(libc::ENOMEM) }; 20];
        let mut endpoint = endpoint(Scripted { receives: receives.into(), ..Scripted::default() });
        endpoint.handle_readiness(READABLE);
        endpoint.receive(&mut Batch::new(), Batch::LEN_MAX);
        assert!(!endpoint.is_readable() && endpoint.is_starved());
        assert!(endpoint.socket.calls < 20);
        endpoint.look_again();
        assert!(endpoint.is_readable() && !endpoint.is_starved());
    }

    #[test]
    fn after_a_large_batch_the_next_is_a_small_one() {
        let large = || Ok(vec![vec![0; 65_000]; 4]);
        let receives = [Ok(vec![vec![0; 65_000]; 5]), large(), Ok(vec![vec![0]])];
        let mut endpoint = endpoint(Scripted { receives: receives.into(), ..Scripted::default() });
        let mut batch = Batch::new();
        endpoint.handle_readiness(READABLE);
        endpoint.receive(&mut batch, Batch::LEN_MAX);
        assert!(!endpoint.is_readable(), "it was short");
        endpoint.handle_readiness(READABLE);
        endpoint.receive(&mut batch, Batch::LEN_MAX);
        assert!(endpoint.is_readable(), "four are all that it takes now");
        endpoint.receive(&mut batch, Batch::LEN_MAX);
        assert_eq!(usize::from(endpoint.batch_max), Batch::LEN_MAX);
    }

    proptest! {
        /// Whatever the lengths, peers and refusals: each datagram goes out once and whole, in
        /// order, or is counted.
        #[test]
        fn nothing_is_cut_doubled_or_forgotten(
            wanted in prop::collection::vec(
                (0..3usize, prop_oneof![Just(5usize), Just(0), 0..2000usize], any::<bool>()),
                0..=PARCELS_MAX,
            ),
            sends in prop::collection::vec(
                prop_oneof![
                    4 => (1..70usize).prop_map(Ok),
                    1 => prop::sample::select(vec![
                        libc::EPERM,
                        libc::EIO,
                        libc::EINVAL,
                        libc::EMSGSIZE,
                        libc::EAGAIN,
                        libc::ECONNREFUSED,
                    ])
                    .prop_map(Err),
                ],
                0..20,
            ),
            segment_max in prop::option::of(0..2000usize),
            connects: bool,
        ) {
            let data: Vec<u8> = (0..2000).map(|n| n as u8).collect();
            let peers = [None, Some(at(PEER)), Some(at(OTHER))];
            let header = |has: bool| has.then(|| Header::new(at(OTHER)));
            let all: Vec<Parcel<'_>> = wanted
                .iter()
                .map(|&(to, len, has)| {
                    Parcel { to: peers[to], header: header(has), data: &data[..len], wrapping: 0 }
                })
                .collect();
            let socket =
                Scripted { sends: sends.into(), segment_max, ..Scripted::default() };
            let mut endpoint = endpoint(socket);
            if connects {
                endpoint.connect(at(PEER)).unwrap();
            }
            let mut parcels: Parcels<'_> = all.iter().copied().collect();
            let posted = endpoint.post(&mut parcels, &mut Segmentation::new());
            prop_assert!(parcels.is_empty());
            prop_assert_eq!(posted.parcels + posted.unsent + posted.too_large, all.len() as u64);
            prop_assert_eq!(posted.parcels, endpoint.socket.sent.len() as u64);
            let whole = all.iter().map(|parcel| {
                let header = parcel.header.iter().flat_map(|it| it.as_slice().to_vec());
                (parcel.to, header.chain(parcel.data.iter().copied()).collect::<Vec<u8>>())
            });
            let mut rest = whole;
            for sent in &endpoint.socket.sent {
                prop_assert!(rest.any(|parcel| parcel == *sent), "it was not to be sent, or not now");
            }
        }
    }
}
