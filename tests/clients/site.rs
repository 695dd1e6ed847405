//! A web page of 60 files, scripts, style sheets and images, that says itself what of them arrived.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::http::read_request;
use crate::stream::Stream;

/// How many files the page loads.
pub(crate) const FILES: usize = 60;

const LETTERS_PER_FILE: u64 = 20_000;

/// What the page runs: a sum over each file's letters, of an image its width.
const SCRIPT: &str = "
const sums = [];
function arrived(file, text) {
  let sum = 0;
  for (const letter of text) sum = (sum * 31 + letter.charCodeAt(0)) % 1000003;
  sums[file] = sum;
}
addEventListener('load', () => {
  const style = getComputedStyle(document.documentElement);
  document.querySelectorAll('link[id]').forEach((link) => {
    arrived(link.id, style.getPropertyValue(`--file-${link.id}`).replaceAll('\"', ''));
  });
  document.querySelectorAll('img').forEach((image) => { sums[image.id] = image.naturalWidth; });
  document.querySelector('p').textContent = sums.join(' ');
});
";

/// A running site, on a port of 127.0.0.1.
pub(crate) struct Site {
    port: u16,
    visits: Arc<Mutex<Visits>>,
}

/// What was asked for and sent so far.
#[derive(Clone, Default)]
pub(crate) struct Visits {
    /// Paths, one for each request.
    pub(crate) paths: Vec<String>,
    /// Bytes of the answers, headers included.
    pub(crate) bytes: u64,
}

impl Site {
    pub(crate) fn start() -> Site {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for us");
        let port = listener.local_addr().expect("a listener has an address").port();
        let visits = Arc::new(Mutex::new(Visits::default()));
        let shared = Arc::clone(&visits);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let visits = Arc::clone(&shared);
                // A connection ends when the browser is done with it.
                thread::spawn(move || serve(&stream, &visits));
            }
        });
        Site { port, visits }
    }

    /// The page's URL, with the site's host called so.
    pub(crate) fn url_at(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }

    pub(crate) fn visits(&self) -> Visits {
        self.visits.lock().expect("no visit panics").clone()
    }
}

/// The paths of the page and all that it loads.
pub(crate) fn paths() -> Vec<String> {
    let files = (0..FILES).map(|file| format!("/{}", name(file)));
    ["/".to_owned()].into_iter().chain(files).collect()
}

/// What the page says when each of its files has arrived whole.
pub(crate) fn verdict() -> String {
    let sum = |text: String| {
        text.bytes().fold(0, |sum, letter| (sum * 31 + u64::from(letter)) % 1_000_003)
    };
    let sums: Vec<String> = (0..FILES)
        .map(|file| match Kind::of(file) {
            Kind::Image => width(file).to_string(),
            Kind::Script | Kind::StyleSheet => sum(letters(file)).to_string(),
        })
        .collect();
    format!("<p>{}</p>", sums.join(" "))
}

enum Kind {
    Script,
    StyleSheet,
    Image,
}

impl Kind {
    fn of(file: usize) -> Kind {
        match file % 3 {
            0 => Kind::Script,
            1 => Kind::StyleSheet,
            _ => Kind::Image,
        }
    }
}

fn serve(stream: &TcpStream, visits: &Mutex<Visits>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let path = read_request(&mut reader)?.path;
        let answer = answer(&path);
        let mut seen = visits.lock().expect("no visit panics");
        seen.paths.push(path);
        seen.bytes += answer.len() as u64;
        drop(seen);
        (&*stream).write_all(answer.as_bytes())?;
    }
}

fn answer(path: &str) -> String {
    let file = (0..FILES).find(|&file| path == format!("/{}", name(file)));
    let (status, kind, body) = match file {
        Some(file) => ("200 OK", mime(file), content(file)),
        None if path == "/" => ("200 OK", "text/html", page()),
        None => ("404 Not Found", "text/plain", String::new()),
    };
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{body}")
}

fn page() -> String {
    let files: String = (0..FILES).map(|file| tag(file) + "\n").collect();
    // With an icon of its own the page is not asked for one.
    format!(
        "<!doctype html><link rel=\"icon\" href=\"data:,\"><script>{SCRIPT}</script>{files}<p></p>"
    )
}

fn name(file: usize) -> String {
    match Kind::of(file) {
        Kind::Script => format!("{file}.js"),
        Kind::StyleSheet => format!("{file}.css"),
        Kind::Image => format!("{file}.svg"),
    }
}

fn mime(file: usize) -> &'static str {
    match Kind::of(file) {
        Kind::Script => "text/javascript",
        Kind::StyleSheet => "text/css",
        Kind::Image => "image/svg+xml",
    }
}

fn tag(file: usize) -> String {
    let name = name(file);
    match Kind::of(file) {
        Kind::Script => format!("<script src=\"{name}\"></script>"),
        Kind::StyleSheet => format!("<link rel=\"stylesheet\" href=\"{name}\" id=\"{file}\">"),
        Kind::Image => format!("<img src=\"{name}\" id=\"{file}\">"),
    }
}

fn content(file: usize) -> String {
    let letters = letters(file);
    match Kind::of(file) {
        Kind::Script => format!("arrived({file}, \"{letters}\");"),
        Kind::StyleSheet => format!(":root {{ --file-{file}: \"{letters}\"; }}"),
        Kind::Image => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"1\">\
             <!-- {letters} --></svg>",
            width(file)
        ),
    }
}

/// What an image is told apart by.
fn width(file: usize) -> usize {
    100 + file
}

fn letters(file: usize) -> String {
    let bytes = Stream::new(file as u64, LETTERS_PER_FILE).bytes();
    bytes.into_iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}
