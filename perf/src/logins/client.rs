use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long any answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

const GREETING: [u8; 3] = [5, 1, 2];
const METHOD: [u8; 2] = [5, 2];

/// What came of a login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) is_good: bool,
    /// From the login to its answer.
    pub(super) took: Duration,
}

/// The message of RFC 1929.
pub(super) fn login(user: &str, password: &str) -> Vec<u8> {
    let field = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [&[1], field(user).as_slice(), &field(password)].concat()
}

/// What a client sends that does not wait to be asked for its password.
pub(super) fn impatient_login(user: &str, password: &str) -> Vec<u8> {
    [GREETING.as_slice(), &login(user, password)].concat()
}

/// A socket of `from`, whose close is a reset: no port of it is kept.
pub(super) fn socket(from: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    Ok(socket)
}

/// Logs in and leaves. Answers are waited for without sleeping, which takes a time of its own.
pub(super) fn log_in(proxy: SocketAddr, from: Ipv4Addr, login: &[u8]) -> io::Result<Answer> {
    let socket = socket(from)?;
    socket.connect(&proxy.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    stream.write_all(&GREETING)?;
    let method = read_two(&mut stream)?;
    if method != METHOD {
        return Err(io::Error::other(format!("{method:02x?} is no wish for a password")));
    }
    let start = Instant::now();
    stream.write_all(login)?;
    match read_two(&mut stream)? {
        [1, status] => Ok(Answer { is_good: status == 0, took: start.elapsed() }),
        answer => Err(io::Error::other(format!("{answer:02x?} answers no login"))),
    }
}

fn read_two(stream: &mut TcpStream) -> io::Result<[u8; 2]> {
    let (mut bytes, mut heard) = ([0; 2], 0);
    let deadline = Instant::now() + PATIENCE;
    while heard < bytes.len() {
        match stream.read(&mut bytes[heard..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => heard += more,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_lengths_before_its_fields() {
        assert_eq!(login("ab", "c"), [1, 2, b'a', b'b', 1, b'c']);
        assert_eq!(impatient_login("a", "b"), [5, 1, 2, 1, 1, b'a', 1, b'b']);
    }
}
