//! Servers that echo datagrams, and what a client says that sent them a load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::program::Ended;
use crate::support::server::Server;
use crate::support::udp::{SameNumber, bind_target};

/// How often an echo looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

const RECEIVE_BUFFER: usize = 1 << 20;

/// Sends every datagram back, until dropped.
pub(crate) struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _same_number: SameNumber,
}

#[derive(Default)]
struct Heard {
    datagrams: u64,
    sources: BTreeSet<SocketAddr>,
}

impl Echo {
    /// On 127.0.0.1.
    pub(crate) fn start() -> Echo {
        Echo::start_on(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn start_on(ip: IpAddr) -> Echo {
        let (socket, _same_number) = bind_target(ip);
        socket.set_read_timeout(Some(GLANCE)).expect("a deadline above zero");
        // As much as the kernel gives: nothing gets lost at our end.
        SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER).expect("a size");
        let address = socket.local_addr().expect("a bound socket has an address");
        let (heard, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (heard_by_thread, over_for_thread) = (Arc::clone(&heard), Arc::clone(&over));
        let thread = thread::spawn(move || serve(&socket, &heard_by_thread, &over_for_thread));
        Echo { address, heard, over, thread: Some(thread), _same_number }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many datagrams have come.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.lock().unwrap().datagrams
    }

    /// Where they came from.
    pub(crate) fn sources(&self) -> BTreeSet<SocketAddr> {
        self.heard.lock().unwrap().sources.clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has said itself why it failed, if it did.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, heard: &Mutex<Heard>, over: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !over.load(Ordering::Relaxed) {
        // A time-out, or what became of an echo that nobody waited for.
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut heard = heard.lock().unwrap();
        heard.datagrams += 1;
        heard.sources.insert(from);
        drop(heard);
        // The other side may be gone.
        let _ = socket.send_to(&buffer[..len], from);
    }
}

/// So many datagrams of this length, to some echoes in turn.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) len: u64,
    pub(crate) count: u64,
}

impl Load {
    /// To see that it works.
    pub(crate) const FEW: Load = Load { len: 100, count: 60 };

    /// As much as QUIC sends for a page, in datagrams of its size.
    pub(crate) const QUIC: Load = Load { len: 1200, count: 5000 };

    /// Length and count, as the scripts take them.
    pub(crate) fn args(self) -> [String; 2] {
        [self.len.to_string(), self.count.to_string()]
    }

    /// A client of ours has sent it to these echoes, by these names, through a server that had
    /// nothing else to do: all of it was answered byte by byte, each datagram by the echo that it
    /// was for, and nothing was lost.
    #[track_caller]
    pub(crate) fn assert_echoed(self, ended: Ended, echoes: &[(&str, &Echo)], server: &Server) {
        let said = ended.expect_success().text();
        let (counts, rest) = said.split_once(" answers\n").expect("counts");
        let (sent, answers) = counts.split_once(" sent, ").expect("how many it sent");
        let [sent, answers] = [sent, answers].map(|it| it.parse::<u64>().expect("a number"));
        assert!(sent >= self.count, "not all was sent: {said}");
        let places = echoes.iter().enumerate();
        let expected: String = places.map(|(at, echo)| self.line(at, echoes.len(), echo)).collect();
        assert_eq!(rest, expected, "who answered");

        let heard: u64 = echoes.iter().map(|(_, echo)| echo.heard()).sum();
        let counters = server.counters();
        let relayed = ["datagrams_up", "datagrams_down"].map(|name| counters[name]);
        assert_eq!([heard, answers, relayed[0], relayed[1]], [sent; 4], "lost: {counters:?}");
        let bytes = ["bytes_up", "bytes_down"].map(|name| counters[name]);
        assert_eq!(bytes, [sent * self.len; 2], "{counters:?}");
        assert_eq!(drops(&counters), 0, "datagrams dropped: {counters:?}");
        assert_eq!(counters["finished"], 1, "associations finished: {counters:?}");
    }

    fn line(self, place: usize, echoes: usize, (name, echo): &(&str, &Echo)) -> String {
        let (echoes, place) = (echoes as u64, place as u64);
        let answered = self.count / echoes + u64::from(self.count % echoes > place);
        let (ip, port) = (echo.address.ip(), echo.port());
        format!("{name}:{port} answered {answered} from {ip}:{port}\n")
    }
}

/// Every datagram that a server has dropped, for whatever reason.
pub(crate) fn drops(counters: &BTreeMap<String, u64>) -> u64 {
    let reasons = counters.iter().filter(|(name, _)| name.starts_with("drops_"));
    let counts: Vec<u64> = reasons.map(|(_, count)| *count).collect();
    assert!(!counts.is_empty(), "no drops are counted: {counters:?}");
    counts.iter().sum()
}
