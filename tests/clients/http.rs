//! A small HTTP origin: `GET /LEN` answers with a stream of that length, `PUT /` compares its
//! body with the stream of its length. Every connection carries one request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::stream::Stream;

/// The seed of every body.
pub(crate) const BODY_SEED: u64 = 42;

/// What a body of `len` bytes is.
pub(crate) fn body(len: u64) -> Stream {
    Stream::new(BODY_SEED, len)
}

/// What the origin answers to an upload of `len` bytes that arrived unchanged.
pub(crate) fn receipt(len: u64) -> String {
    format!("{len} bytes, all as expected\n")
}

/// A running origin, on a port of the kernel's choice.
pub(crate) struct HttpOrigin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl HttpOrigin {
    /// On 127.0.0.1.
    pub(crate) fn start() -> HttpOrigin {
        HttpOrigin::start_on(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn start_on(ip: IpAddr) -> HttpOrigin {
        let listener = TcpListener::bind((ip, 0)).expect("the kernel has a port for us");
        let address = listener.local_addr().expect("a listener has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
                // A client that goes away ends its exchange; the test sees that at the client.
                thread::spawn(move || serve(&stream));
            }
        });
        HttpOrigin { address, connections }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of `path` below this origin's address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The URL of `path` below `host`, at this origin's port.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}/{path}", self.port())
    }

    /// How many connections have come so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// What a client asked for.
pub(crate) struct Request {
    method: String,
    pub(crate) path: String,
    body_len: u64,
    expects_continue: bool,
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let request = read_request(&mut reader)?;
    match request.method.as_str() {
        "GET" => download(stream, request.path.trim_start_matches('/'))?,
        "PUT" => upload(stream, &mut reader, &request)?,
        _ => answer(stream, "405 Method Not Allowed", "GET or PUT\n")?,
    }
    stream.shutdown(Shutdown::Write)?;
    // What the client still sends is read, so that closing does not reset our answer away.
    io::copy(&mut reader, &mut io::sink())?;
    Ok(())
}

/// Reads a request up to its body.
pub(crate) fn read_request(reader: &mut impl BufRead) -> io::Result<Request> {
    let line = read_line(reader)?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        body_len: 0,
        expects_continue: false,
    };
    loop {
        let header = read_line(reader)?.to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", len)) => request.body_len = len.parse().unwrap_or(0),
            Some(("expect", "100-continue")) => request.expects_continue = true,
            Some(_) => {}
            None => return Ok(request),
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn download(mut stream: &TcpStream, len: &str) -> io::Result<()> {
    let Ok(len) = len.parse::<u64>() else {
        return answer(stream, "404 Not Found", "a path is a length\n");
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n")?;
    io::copy(&mut body(len), &mut stream)?;
    Ok(())
}

fn upload(mut stream: &TcpStream, reader: &mut impl Read, request: &Request) -> io::Result<()> {
    if request.expects_continue {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    match body(request.body_len).compare(reader.take(request.body_len)) {
        Ok(()) => answer(stream, "200 OK", &receipt(request.body_len)),
        Err(difference) => answer(stream, "422 Unprocessable Content", &difference),
    }
}

fn answer(mut stream: &TcpStream, status: &str, text: &str) -> io::Result<()> {
    let len = text.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{text}")
}
