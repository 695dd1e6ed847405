//! Each kind of work, against the real origin in this process.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::Waker;

use super::*;
use crate::origin::Server;

/// The origin in a thread, until it is dropped.
struct Origin {
    ports: Ports,
    waker: Arc<Waker>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Origin {
    fn start() -> Origin {
        let server = Server::bind().unwrap();
        let (ports, waker) = (server.ports(), server.waker());
        Origin { ports, waker, server: Some(thread::spawn(|| server.run())) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.waker.wake().unwrap();
        let served = self.server.take().unwrap().join();
        assert!(matches!(served, Ok(Ok(()))) || thread::panicking(), "the origin has failed");
    }
}

fn load(way: Way, origin: Ports, kind: Kind) -> Load {
    let (duration, warm_up) = (Duration::from_millis(200), Duration::from_millis(20));
    Load { way, origin, kind, duration, warm_up }
}

/// Measures a kind of work straight to the origin, which must go without an error.
#[track_caller]
fn measure(kind: Kind) -> Measured {
    let origin = Origin::start();
    let calls = std::cell::RefCell::new(Vec::new());
    let load = load(Way::Direct, origin.ports, kind);
    let measured =
        run(&load, || calls.borrow_mut().push("start"), || calls.borrow_mut().push("end")).unwrap();
    assert_eq!(*calls.borrow(), ["start", "end"]);
    assert!(measured.units > 0, "{measured:?}");
    assert_eq!(measured.errors, 0, "{measured:?}");
    assert!(measured.elapsed_seconds >= 0.2, "{measured:?}");
    measured
}

#[test]
fn bytes_go_down() {
    assert!(measure(Kind::Down { flows: 1 }).latency.is_none());
    measure(Kind::Down { flows: 33 });
}

#[test]
fn bytes_go_up() {
    assert!(measure(Kind::Up { flows: 1 }).latency.is_none());
    measure(Kind::Up { flows: 33 });
}

#[test]
fn paced_bytes_are_no_more_than_were_asked_for() {
    let before = Instant::now();
    let beside = Some(10_000_000);
    let measured = measure(Kind::Requests { size: 64, connections: 4, rate: None, beside });
    let most = 10_000_000.0 * before.elapsed().as_secs_f64();
    assert!(measured.beside_bytes > 0, "{measured:?}");
    assert!((measured.beside_bytes as f64) <= most, "{measured:?}");
}

#[test]
fn sessions_are_whole() {
    let measured = measure(Kind::Sessions { concurrent: 8 });
    let latency = measured.latency.unwrap();
    assert!(0.0 < latency.p50_us && latency.p50_us <= latency.max_us, "{latency:?}");
}

#[test]
fn requests_are_answered() {
    for size in [1, 64, 4096, PIECE] {
        let kind = Kind::Requests { size, connections: 5, rate: None, beside: None };
        assert!(measure(kind).latency.is_some());
    }
}

#[test]
fn no_requests_are_sent_before_their_times() {
    let before = Instant::now();
    let kind = Kind::Requests { size: 64, connections: 3, rate: Some(2000.0), beside: None };
    let measured = measure(kind);
    // And one to begin with on each connection.
    let most = 3.0 + 2000.0 * before.elapsed().as_secs_f64();
    assert!((measured.units as f64) <= most, "{measured:?}");
}

#[test]
fn a_flow_may_go_beside_requests() {
    for pace in [1_000_000, u64::MAX] {
        let kind = Kind::Requests { size: 64, connections: 3, rate: None, beside: Some(pace) };
        assert!(measure(kind).beside_bytes > 0);
    }
}

#[test]
fn sessions_are_held() {
    let origin = Origin::start();
    let ports = origin.ports;
    for (held, port) in [(Held::Idle, ports.echo), (Held::Stalled, ports.source)] {
        let open = hold(&Way::Direct, ports, 100, held, || established_to(port)).unwrap();
        assert_eq!(open, 100, "{held:?}");
    }
}

/// How many connections to a port of this host there are. The table names some twice while others
/// come and go.
fn established_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let local = |line| match Vec::from_iter(str::split_whitespace(line))[..] {
        [_, local, to, "01", ..] if to.ends_with(&remote) => Some(local),
        _ => None,
    };
    BTreeSet::from_iter(table.lines().filter_map(local)).len()
}

/// An answer that is held back makes all that were intended meanwhile late, not only one.
#[test]
fn what_waits_for_an_answer_is_as_late_as_it_was_intended() {
    let mut ports = Origin::start().ports;
    ports.echo = proxy_once(|mut client| {
        let mut message = [0; 8];
        client.read_exact(&mut message).unwrap();
        client.write_all(&message).unwrap();
        client.read_exact(&mut message).unwrap();
        thread::sleep(Duration::from_millis(200));
        client.write_all(&message).unwrap();
        while client.read_exact(&mut message).is_ok() {
            client.write_all(&message).unwrap();
        }
    });
    let kind = Kind::Requests { size: 8, connections: 1, rate: Some(1000.0), beside: None };
    let load = Load { warm_up: Duration::ZERO, ..load(Way::Direct, ports, kind) };
    let measured = run(&load, || {}, || {}).unwrap();
    let latency = measured.latency.unwrap();
    assert!(latency.p50_us > 50_000.0, "{latency:?}");
}

#[test]
fn a_wrong_byte_ends_the_run() {
    let mut ports = Origin::start().ports;
    ports.source = proxy_once(|mut client| {
        client.read_exact(&mut [0; 8]).unwrap();
        let pattern = crate::pattern::Pattern::default();
        let mut piece = pattern.at(0, 1000).to_vec();
        piece[999] ^= 1;
        client.write_all(&piece).unwrap();
        // Until the generator is gone.
        let _gone = client.read(&mut [0]);
    });
    let error = run(&load(Way::Direct, ports, Kind::Down { flows: 1 }), || {}, || {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn a_wrong_byte_that_the_origin_gets_ends_the_run() {
    let origin = Origin::start();
    let mut ports = origin.ports;
    ports.sink = proxy_once(move |mut client| {
        let mut sink = TcpStream::connect((Ipv4Addr::LOCALHOST, origin.ports.sink)).unwrap();
        let mut piece = vec![0; PIECE];
        client.read_exact(&mut piece).unwrap();
        piece[0] ^= 1;
        // It may be gone before it has taken all of it.
        let _sent = sink.write_all(&piece);
        let mut verdict = [0; 8];
        sink.read_exact(&mut verdict).unwrap();
        client.write_all(&verdict).unwrap();
        let _gone = io::copy(&mut client, &mut io::sink());
    });
    let error = run(&load(Way::Direct, ports, Kind::Up { flows: 1 }), || {}, || {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn whoever_refuses_is_counted() {
    let origin = Origin::start();
    let way = Way::Socks5 {
        proxy: (Ipv4Addr::LOCALHOST, proxy_often(refuse_second)).into(),
        login: None,
        target: Target::Address,
    };
    let measured =
        run(&load(way, origin.ports, Kind::Sessions { concurrent: 1 }), || {}, || {}).unwrap();
    assert!(measured.units > 0 && measured.errors > 0, "{measured:?}");
}

/// Serves as a SOCKS5 proxy whose every second client is refused.
fn refuse_second(mut client: TcpStream, nth: usize) {
    client.read_exact(&mut [0; 3]).unwrap();
    client.write_all(&[5, 0]).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    let reply = if nth.is_multiple_of(2) { 0 } else { 4 };
    client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut byte = [0];
    if client.read_exact(&mut byte).is_ok() {
        client.write_all(&byte).unwrap();
    }
}

#[test]
fn nobody_there_is_an_error_that_says_so() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ports = Ports { address: Ipv4Addr::LOCALHOST, source: 1, sink: 1, echo: 1 };
    let load = load(Way::Forward(closed), ports, Kind::Sessions { concurrent: 2 });
    let (jobs, context) = job(&load).unwrap();
    let mut driver = Driver::new((jobs, context)).unwrap();
    let error = driver.open(Instant::now() + Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let ports = Ports { address: Ipv4Addr::LOCALHOST, source: 1, sink: 1, echo: 1 };
    let requests = |size, rate| Kind::Requests { size, connections: 1, rate, beside: None };
    for kind in [
        Kind::Down { flows: 0 },
        requests(0, None),
        requests(PIECE + 1, None),
        requests(1, Some(0.0)),
        requests(1, Some(f64::NAN)),
    ] {
        let error = run(&load(Way::Direct, ports, kind), || {}, || {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{kind:?}");
    }
}

/// A port whose first client is served like this.
fn proxy_once(serve: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    port
}

/// A port each of whose clients is served like this, one after the other.
fn proxy_often(serve: fn(TcpStream, usize)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        listener.incoming().enumerate().for_each(|(nth, client)| serve(client.unwrap(), nth))
    });
    port
}
