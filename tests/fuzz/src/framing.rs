//! Whatever a client with a security context sends: it is heard the same however it is cut, in
//! bounded room, and nothing is heard that was not sealed, in its order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use ringsocks::config::RelayMode;
use ringsocks::proto::gssapi::MessageType;
use ringsocks::relay::{Buffers, Endpoint, Readiness, Received, Socket, Stage, Tokens};
use ringsocks::sys;

use super::mechanism::MockSeal;
use super::script::Script;

const KEY: u64 = 0x5eed;

/// Who says that much has said enough.
const STREAM_MAX: usize = 300_000;

/// The most that one is to hold: a ring for a token, or an inbox.
const HELD_MAX: usize = 1;

/// `input` is a script: what is sealed, and what is done to it.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let confidential = script.number() & 1 != 0;
    let count = 1 + script.number() % 16;
    let cuts: Vec<usize> = (0..count).map(|_| 1 + below(&mut script, 4000)).collect();
    let Said { stream, datagrams, messages } = Said::by(&mut script, confidential);
    let whole = hear(&stream, &[], confidential);
    assert_eq!(hear(&stream, &cuts, confidential), whole, "cut at {cuts:?}");
    if stream.len() < 5000 {
        assert_eq!(hear(&stream, &[1], confidential), whole, "byte by byte");
    }
    let all = messages.concat();
    assert!(all.starts_with(&whole.bytes), "{} bytes that nobody sealed", whole.bytes.len());
    check_datagrams(&datagrams, &messages, confidential);
}

/// A number of two bytes below `end`.
fn below(script: &mut Script<'_>, end: usize) -> usize {
    (script.number() as usize * 256 + script.number() as usize) % end
}

/// What a client has said, or somebody in its place.
struct Said {
    stream: Vec<u8>,
    datagrams: Vec<Vec<u8>>,
    /// What it has sealed, in order.
    messages: Vec<Vec<u8>>,
}

impl Said {
    fn by(script: &mut Script<'_>, confidential: bool) -> Said {
        let mut seal = MockSeal::initiator(KEY);
        let mut said = Said { stream: Vec::new(), datagrams: Vec::new(), messages: Vec::new() };
        while let Some(op) = script.byte().filter(|_| said.stream.len() < STREAM_MAX) {
            let mut datagram = match op % 8 {
                6 => script.bytes().to_vec(),
                7 if !said.datagrams.is_empty() => {
                    said.datagrams[below(script, said.datagrams.len())].clone()
                }
                _ => {
                    let len = match op & 0x30 {
                        0x10 => below(script, 65_000),
                        0x20 => 0,
                        _ => below(script, 40),
                    };
                    let message = vec![said.messages.len() as u8 + 1; len];
                    let framed = seal.framed(MessageType::Data, &message, confidential);
                    said.messages.push(message);
                    framed
                }
            };
            if op % 8 == 5 {
                let at = below(script, datagram.len());
                datagram[at] ^= script.number() as u8;
            }
            said.stream.extend_from_slice(&datagram);
            said.datagrams.push(datagram);
        }
        said
    }
}

/// What was heard of a stream, and how that went.
#[derive(Debug, PartialEq)]
struct Heard {
    bytes: Vec<u8>,
    is_forged: bool,
}

/// Hears a stream that comes in pieces of these lengths, over and over, or at once.
fn hear(stream: &[u8], cuts: &[usize], confidential: bool) -> Heard {
    let segments: Rc<RefCell<VecDeque<Vec<u8>>>> = Rc::default();
    let mut buffers = Buffers::new(4, RelayMode::Copy, 0);
    let mut endpoint = Endpoint::new(Segments(Rc::clone(&segments)));
    let seal = Box::new(MockSeal::acceptor(KEY));
    endpoint.seal(Stage::new(seal, confidential, Tokens::default()));
    let mut heard = Heard { bytes: Vec::new(), is_forged: false };
    let mut room = [0; 4096];
    let mut rest = stream;
    for cut in cuts.iter().copied().chain([stream.len()]).cycle() {
        if rest.is_empty() {
            break;
        }
        let (segment, left) = rest.split_at(cut.min(rest.len()));
        segments.borrow_mut().push_back(segment.to_vec());
        rest = left;
        while !segments.borrow().is_empty() {
            endpoint.handle_readiness(Readiness { readable: true, ..Readiness::default() });
            while let Received::Bytes(n) = endpoint.recv(&mut room, &mut buffers) {
                heard.bytes.extend_from_slice(&room[..n]);
            }
            let held = buffers.rings_lent() + buffers.inboxes_lent();
            assert!(held <= HELD_MAX, "{held} buffers");
            if endpoint.is_forged() {
                break;
            }
        }
        if endpoint.is_forged() {
            heard.is_forged = true;
            break;
        }
    }
    endpoint.release(&mut buffers);
    assert_eq!(buffers.rings_lent() + buffers.inboxes_lent(), 0, "something is kept");
    heard
}

/// Each is opened once at most, and to what was sealed.
fn check_datagrams(datagrams: &[Vec<u8>], messages: &[Vec<u8>], confidential: bool) {
    let seal = Box::new(MockSeal::acceptor(KEY));
    let mut stage = Stage::new(seal, confidential, Tokens::default());
    let mut opened = 0;
    for datagram in datagrams {
        let mut datagram = datagram.clone();
        let Some(place) = stage.open_datagram(&mut datagram) else { continue };
        opened += 1;
        let message = &datagram[place];
        assert!(messages.iter().any(|sealed| sealed == message), "a message that nobody sealed");
    }
    assert!(opened <= messages.len(), "a datagram was opened twice");
}

/// What has come and was not received.
struct Segments(Rc<RefCell<VecDeque<Vec<u8>>>>);

impl Socket for Segments {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut segments = self.0.borrow_mut();
        let mut segment = segments.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let n = segment.len().min(into.len());
        into[..n].copy_from_slice(&segment[..n]);
        if n < segment.len() {
            segments.push_front(segment.split_off(n));
        }
        Ok(n)
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("what is sealed is received")
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn discard(&mut self, _: usize) -> io::Result<usize> {
        unreachable!("nothing is thrown away")
    }

    fn splice_in(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        unreachable!("what is sealed is not spliced")
    }

    fn splice_out(&mut self, _: &sys::Pipe, _: usize) -> io::Result<usize> {
        unreachable!("what is sealed is not spliced")
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn reset_on_close(&mut self) {}

    fn keep_alive(&mut self) {}
}
