//! One end of a TCP connection, as a test holds it: every read has a deadline, and every failed
//! expectation says what was sent, what was expected and what came.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

/// How far a failure message follows a long message.
const HEX_BYTES_MAX: usize = 96;

/// How what was read came to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
    /// Neither byte nor end came before the deadline.
    Silence,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Fin => "FIN",
            End::Reset => "RST",
            End::Silence => "silence",
        })
    }
}

/// Everything one side sent until it ended.
#[derive(Debug)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub end: End,
}

/// One end of a connection.
pub struct Peer {
    stream: TcpStream,
    sent: Mutex<Sent>,
}

impl Peer {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Peer {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => Peer::from(stream),
            Err(error) => panic!("connect to {address}: {error}"),
        }
    }

    /// Connects to who resets at once: the reset may arrive before connect(2) has returned, and is
    /// its error then.
    #[track_caller]
    pub fn connect_and_expect_reset(address: SocketAddr) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => Peer::from(stream).expect_reset(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("connect to {address}: {error}"),
        }
    }

    /// From this address of ours; port 0 is the kernel's choice.
    #[track_caller]
    pub fn connect_from(source: SocketAddr, address: SocketAddr) -> Peer {
        match Peer::try_connect_from(source, address) {
            Ok(peer) => peer,
            Err(error) => panic!("connect from {source} to {address}: {error}"),
        }
    }

    /// As [`connect_from`](Self::connect_from), and leaves it to the caller what a failure means.
    pub fn try_connect_from(source: SocketAddr, address: SocketAddr) -> io::Result<Peer> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Ok(Peer::from(TcpStream::from(socket)))
    }

    /// The connection itself, without deadlines: for a process to be started with it.
    pub fn into_stream(self) -> TcpStream {
        self.stream.set_read_timeout(None).expect("a socket may wait for ever");
        self.stream.set_write_timeout(None).expect("a socket may wait for ever");
        self.stream
    }

    /// Our address and port, unmapped.
    pub fn local_address(&self) -> SocketAddr {
        unmapped(self.stream.local_addr().expect("a connected socket has an address"))
    }

    /// The other side's address and port, unmapped.
    pub fn remote_address(&self) -> SocketAddr {
        unmapped(self.stream.peer_addr().expect("a connected socket has a peer"))
    }

    #[track_caller]
    pub fn send(&self, bytes: &[u8]) {
        if let Err(error) = self.try_send(bytes) {
            self.fail(&format!("to be able to send {}", hex(bytes)), &error.to_string());
        }
    }

    /// Sends, and leaves it to the caller what a connection that ended meanwhile means.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        self.sent.lock().unwrap().note(bytes);
        (&self.stream).write_all(bytes)
    }

    /// Sends `bytes` in pieces that end at `cuts` (ascending), far enough apart to be read apart.
    #[track_caller]
    pub fn send_split(&self, bytes: &[u8], cuts: &[usize]) {
        let mut start = 0;
        for &cut in cuts {
            self.send(&bytes[start..cut]);
            thread::sleep(Duration::from_millis(2));
            start = cut;
        }
        self.send(&bytes[start..]);
    }

    #[track_caller]
    pub fn send_byte_by_byte(&self, bytes: &[u8]) {
        self.send_split(bytes, &(1..bytes.len()).collect::<Vec<_>>());
    }

    /// Ends our direction; the other one lives on.
    pub fn fin(&self) {
        // A peer that is gone already needs no FIN.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER can be set on a socket");
    }

    /// Exactly these bytes come next.
    #[track_caller]
    pub fn expect(&self, expected: &[u8]) {
        let (got, end) = self.read_up_to(expected.len());
        if got != expected {
            self.fail(&hex(expected), &hex_and_end(&got, end));
        }
    }

    /// The other side ends its direction cleanly, and nothing comes before.
    #[track_caller]
    pub fn expect_eof(&self) {
        self.expect_end(&[End::Fin], "FIN and nothing before it");
    }

    /// The other side resets the connection, and nothing comes before.
    #[track_caller]
    pub fn expect_reset(&self) {
        self.expect_end(&[End::Reset], "RST and nothing before it");
    }

    /// The other side is done with us, one way or the other, and says nothing.
    #[track_caller]
    pub fn expect_silent_close(&self) {
        self.expect_end(&[End::Fin, End::Reset], "the end of the connection and no byte");
    }

    /// Whether bytes or the end wait to be read.
    pub fn has_input(&self) -> bool {
        self.has_input_within(Duration::from_millis(1))
    }

    /// Whether bytes or the end come in this time; they still wait to be read.
    pub fn has_input_within(&self, duration: Duration) -> bool {
        self.set_read_deadline(duration);
        let found = self.stream.peek(&mut [0]);
        self.set_read_deadline(PATIENCE);
        !matches!(found, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Neither byte nor end comes for this long.
    #[track_caller]
    pub fn expect_silence(&self, duration: Duration) {
        let (got, end) = self.listen_for(duration);
        if end != Some(End::Silence) {
            self.fail(&format!("silence for {duration:?}"), &hex_and_end(&got, end));
        }
    }

    /// Whether neither byte nor end comes for this long.
    pub fn is_silent_for(&self, duration: Duration) -> bool {
        self.listen_for(duration).1 == Some(End::Silence)
    }

    /// The next `len` bytes.
    #[track_caller]
    pub fn read_exact(&self, len: usize) -> Vec<u8> {
        let (got, end) = self.read_up_to(len);
        if got.len() < len {
            self.fail(&format!("{len} bytes"), &hex_and_end(&got, end));
        }
        got
    }

    /// The next `len` bytes, or fewer where the connection ends or falls silent.
    pub fn read_at_most(&self, len: usize) -> Vec<u8> {
        self.read_up_to(len).0
    }

    pub fn read_to_end(&self) -> Received {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.read(&mut chunk) {
                Ok(len) => bytes.extend_from_slice(&chunk[..len]),
                Err(end) => return Received { bytes, end },
            }
        }
    }

    /// Sends `bytes` and a FIN while reading everything that comes.
    pub fn exchange(&self, bytes: &[u8]) -> Received {
        thread::scope(|scope| {
            scope.spawn(|| {
                // Where the other side is gone early, what was received tells the story.
                let _ = self.try_send(bytes);
                self.fin();
            });
            self.read_to_end()
        })
    }

    /// Fails with the whole story of this connection.
    #[track_caller]
    pub fn fail(&self, expected: &str, got: &str) -> ! {
        let sent = self.sent.lock().unwrap();
        panic!("\n  sent     {sent}\n  expected {expected}\n  got      {got}\n");
    }

    #[track_caller]
    fn expect_end(&self, ends: &[End], expected: &str) {
        let (got, end) = self.read_up_to(1);
        if !got.is_empty() || end.is_none_or(|end| !ends.contains(&end)) {
            self.fail(expected, &hex_and_end(&got, end));
        }
    }

    fn listen_for(&self, duration: Duration) -> (Vec<u8>, Option<End>) {
        self.set_read_deadline(duration);
        let heard = self.read_up_to(1);
        self.set_read_deadline(PATIENCE);
        heard
    }

    fn read_up_to(&self, len: usize) -> (Vec<u8>, Option<End>) {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.read(&mut bytes[filled..]) {
                Ok(len) => filled += len,
                Err(end) => {
                    bytes.truncate(filled);
                    return (bytes, Some(end));
                }
            }
        }
        (bytes, None)
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize, End> {
        loop {
            return match (&self.stream).read(buffer) {
                Ok(0) => Err(End::Fin),
                Ok(len) => Ok(len),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::Silence),
                    _ => Err(End::Reset),
                },
            };
        }
    }

    fn set_read_deadline(&self, deadline: Duration) {
        self.stream.set_read_timeout(Some(deadline)).expect("a deadline above zero");
    }
}

impl From<TcpStream> for Peer {
    fn from(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).expect("NODELAY can be set on a socket");
        let peer = Peer { stream, sent: Mutex::default() };
        peer.set_read_deadline(PATIENCE);
        // A send that gets nowhere for so long fails rather than hangs.
        peer.stream.set_write_timeout(Some(3 * PATIENCE)).expect("a deadline above zero");
        peer
    }
}

/// The beginning of what was sent, piece by piece.
#[derive(Default)]
struct Sent {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

impl Sent {
    fn note(&mut self, bytes: &[u8]) {
        if self.bytes < HEX_BYTES_MAX {
            self.pieces.push(bytes[..bytes.len().min(HEX_BYTES_MAX)].to_vec());
        }
        self.bytes += bytes.len();
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces: Vec<String> = self.pieces.iter().map(|piece| hex(piece)).collect();
        write!(f, "{} ({} bytes in all)", pieces.join(" | "), self.bytes)
    }
}

/// Bytes as the pages about SOCKS write them.
pub fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> =
        bytes.iter().take(HEX_BYTES_MAX).map(|byte| format!("{byte:02x}")).collect();
    match bytes.len() {
        0 => "no bytes".to_owned(),
        len if len <= HEX_BYTES_MAX => shown.join(" "),
        len => format!("{} ... ({len} bytes)", shown.join(" ")),
    }
}

fn hex_and_end(bytes: &[u8], end: Option<End>) -> String {
    match end {
        Some(end) => format!("{}, then {end}", hex(bytes)),
        None => hex(bytes),
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
