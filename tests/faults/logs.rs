//! Logs that cannot be written, and what strangers would like to write into them.

use std::fs::{self, File};
use std::io::pipe;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::netns::run_script;
use crate::support::origin::ClosedPort;
use crate::support::peer::Peer;
use crate::support::server::{Server, binary};
use crate::support::socks::{
    connect_to, connect_to_name, credentials, greeting, request_session, socks4,
};
use crate::support::{finish, session, wait_until};

const ONE_WORKER: [&str; 2] = ["--workers", "1"];

/// An access log in a folder of its own.
struct Log {
    folder: TempDir,
}

impl Log {
    fn new() -> Log {
        Log { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// On a disk of 64 KiB.
    fn on_small_disk() -> Log {
        let log = Log::new();
        run_script(&format!("mount -t tmpfs -o size=64k none {}", log.folder.path().display()));
        log
    }

    fn path(&self) -> String {
        self.folder.path().join("access.log").to_str().expect("a UTF-8 path").to_owned()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the log is there and UTF-8")
    }

    /// Whole lines: of one that did not fit there may be a part.
    fn lines(&self) -> usize {
        whole_lines(&self.text())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Most are no mount point.
        let umount = Command::new("umount").arg(self.folder.path()).stderr(Stdio::null()).status();
        let _ = umount;
    }
}

fn whole_lines(text: &str) -> usize {
    let is_whole = |line: &&str| {
        line.starts_with("time=")
            && (line.ends_with(" fault=target") || line.ends_with(" fault=none"))
    };
    text.lines().filter(is_whole).count()
}

/// Sessions of one line each.
#[track_caller]
fn sessions(address: SocketAddr, count: usize) {
    let closed = ClosedPort::everywhere().address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..count / 4 {
                    request_session(address, closed).expect_refused(5);
                }
            });
        }
    });
}

/// Every line that it told to be lost, and no other, is in the counter.
#[track_caller]
fn assert_losses_counted(server: &Server) {
    assert_eq!(server.counters()["access_dropped"], lost(server) as u64);
}

/// How many lines of the access log are lost, as far as it has been told.
fn lost(server: &Server) -> usize {
    let told = |line: &String| {
        let (_, told) = line.split_once("access log: ")?;
        let (number, _) = told.split_once(" line")?;
        number.parse::<usize>().ok()
    };
    server.stderr().iter().filter_map(told).sum()
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_full_disk_costs_lines_that_are_counted_and_nothing_else() {
    let log = Log::on_small_disk();
    let server = Server::start_with_env(&[], &[("RINGSOCKS_ACCESS_LOG", &log.path())]);
    let baseline = server.baseline();
    sessions(server.address(), 1000);
    wait_until("every line is written or told to be lost", || log.lines() + lost(&server) == 1000);
    assert!(lost(&server) > 0, "64 KiB hold 1000 lines");
    baseline.assert_at_rest();

    let kept = log.lines();
    File::options().write(true).open(log.path()).unwrap().set_len(0).expect("our own file");
    sessions(server.address(), 20);
    wait_until("lines are written again", || log.lines() == 20);
    assert_eq!(kept + lost(&server), 1000);
    assert_losses_counted(&server);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_file_that_may_not_grow_costs_lines_that_are_counted_and_nothing_else() {
    let log = Log::new();
    let env = [("RINGSOCKS_ACCESS_LOG", &*log.path())];
    let server = Server::start_under(&["prlimit", "--fsize=16384:"], &[], &env);
    let baseline = server.baseline();
    sessions(server.address(), 400);
    wait_until("every line is written or told to be lost", || log.lines() + lost(&server) == 400);
    assert!(lost(&server) > 0, "16 KiB hold 400 lines");
    run_script(&format!("prlimit --pid {} --fsize=1000000:", server.pid()));
    let before = log.lines();
    sessions(server.address(), 20);
    wait_until("lines are written again", || log.lines() == before + 20);
    assert_losses_counted(&server);
    baseline.assert_at_rest();
}

/// Reads a pipe with a name into a file, until it is stopped.
struct Reader(Killed);

/// A process that does not outlive its test.
struct Killed(Child);

impl Killed {
    #[track_caller]
    fn assert_ends_well(&mut self) {
        let mut status = None;
        wait_until("it ends", || {
            status = self.0.try_wait().expect("our own child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reader {
    fn start(log: &Log, into: &Path) -> Reader {
        run_script(&format!("mkfifo {}", log.path()));
        // Open for writing too, it never ends.
        let fifo = File::options().read(true).write(true).open(log.path()).expect("our own pipe");
        let into = File::create(into).expect("room for a file");
        let cat = Command::new("cat").stdin(fifo).stdout(into).spawn();
        Reader(Killed(cat.expect("cat runs")))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0.0), signal).expect("our own child");
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_stopped_reader_of_the_access_log_costs_lines_that_are_counted_and_nothing_else() {
    // More than may wait, in the queue and in the pipe.
    const SESSIONS: usize = 10_000;
    let log = Log::new();
    let read = log.folder.path().join("read");
    let reader = Reader::start(&log, &read);
    let env = [("RINGSOCKS_ACCESS_LOG", &*log.path())];
    let server = Server::start_with_env(&ONE_WORKER, &env);
    let baseline = server.baseline();
    reader.signal(Signal::STOP);
    sessions(server.address(), SESSIONS);
    server.wait_line("access log: ");
    baseline.assert_at_rest();
    let (client, target) = session(&server);
    finish(client, &target);

    reader.signal(Signal::CONT);
    wait_until("every line is read or told to be lost", || {
        let read = fs::read_to_string(&read).expect("a file of lines");
        whole_lines(&read) + lost(&server) == SESSIONS + 1
    });
    assert_losses_counted(&server);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_stopped_reader_of_the_access_log_does_not_hinder_the_end() {
    let log = Log::new();
    let reader = Reader::start(&log, &log.folder.path().join("read"));
    let env = [("RINGSOCKS_ACCESS_LOG", &*log.path())];
    let mut server = Server::start_with_env(&ONE_WORKER, &env);
    reader.signal(Signal::STOP);
    sessions(server.address(), 1000);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn a_dead_pipe_costs_lines_that_are_counted_and_nothing_else() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = Command::new(binary());
    command.args(["--listen", "127.0.0.1:0", "--access-log", "stdout"]);
    let mut server = Server::spawn_writing_to(command, writer.into());
    drop(reader);
    let baseline = server.baseline();
    sessions(server.address(), 100);
    wait_until("every line is told to be lost", || lost(&server) == 100);
    assert_losses_counted(&server);
    baseline.assert_at_rest();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_full_disk_under_the_log_costs_lines_that_are_told_later() {
    let log = Log::on_small_disk();
    let stderr = File::options().create(true).append(true).open(log.path()).expect("room");
    let address = ClosedPort::everywhere().address();
    let mut command = Command::new(binary());
    command.args(["--listen", &address.to_string()]).stdout(Stdio::null()).stderr(stderr);
    let mut server = Killed(command.spawn().expect("the binary starts"));
    let pid = Pid::from_child(&server.0);
    wait_until("it serves", || log.text().contains("listening on"));
    let mut told = 0;
    wait_until("the disk is full", || {
        kill_process(pid, Signal::USR1).expect("our own child");
        sessions(address, 4);
        let len = fs::metadata(log.path()).expect("the log is there").len();
        told = if len > 60 * 1024 { told + 1 } else { 0 };
        told > 50
    });
    File::options().write(true).open(log.path()).unwrap().set_len(0).expect("our own file");
    wait_until("a line tells of the lost ones", || {
        kill_process(pid, Signal::USR1).expect("our own child");
        let text = log.text();
        text.contains("counters ") && text.contains("lost")
    });
    kill_process(pid, Signal::TERM).expect("our own child");
    server.assert_ends_well();
}

#[test]
fn a_dead_log_pipe_hinders_neither_service_nor_stop() {
    let (reader, writer) = pipe().expect("a pipe");
    let address = ClosedPort::everywhere().address();
    let mut command = Command::new(binary());
    command.args(["--listen", &address.to_string()]).stdout(Stdio::null()).stderr(writer);
    let mut server = Killed(command.spawn().expect("the binary starts"));
    let pid = Pid::from_child(&server.0);
    wait_until("it serves", || std::net::TcpStream::connect(address).is_ok());
    drop(reader);
    for _ in 0..10 {
        kill_process(pid, Signal::USR1).expect("our own child");
        sessions(address, 4);
    }
    kill_process(pid, Signal::TERM).expect("our own child");
    server.assert_ends_well();
}

/// What must not come out of a log as it went in.
fn nasty_texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        &b"a\r\ntime=2026-01-01T00:00:00.000Z id=0-1 user=root"[..],
        b"a\nb",
        b"\x1b]0;owned\x07\x1b[31m",
        b"end=finished fault=none",
        b"\"quoted\\\"",
        b"-",
        b" ",
        b"\t",
        b"\x7f\x80\x9b31m\xff\xfe",
        "\u{202e}gnp.exe\u{2028}\u{0085}".as_bytes(),
        &[0xff; 255],
        &[b'\n'; 255],
        &[b'"'; 255],
    ]
    .map(<[u8]>::to_vec)
    .into();
    texts.extend((1..=255).map(|byte| vec![b'x', byte, b'y']));
    texts
}

#[test]
fn nobody_writes_into_the_log_but_the_server() {
    let log = Log::new();
    let env = [("RINGSOCKS_ACCESS_LOG", &*log.path())];
    let closed = ClosedPort::everywhere();
    let open = Server::start_with_env(&["--log", "trace"], &env);
    let baseline = open.baseline();
    let mut sessions = 0;
    let mut say = |server: &Server, messages: &[u8]| {
        let client = Peer::connect(server.address());
        client.send(messages);
        client.fin();
        client.read_to_end();
        sessions += 1;
    };
    for text in nasty_texts() {
        let with_nul = [&text[..text.len().min(254)], b"\0"].concat();
        for name in [&text, &with_nul] {
            say(&open, &[greeting(&[0]), connect_to_name(name, closed.port())].concat());
        }
        say(&open, &socks4(1, [127, 0, 0, 1], closed.port(), &text, None));
        say(&open, &socks4(1, [0, 0, 0, 1], closed.port(), b"", Some(&text)));
    }
    baseline.assert_at_rest();
    let login = Server::start_with_env(&["--log", "trace", "-u", "alice:canary-7f3a"], &env);
    for text in nasty_texts() {
        let with_nul = [&text[..text.len().min(254)], b"\0"].concat();
        for name in [&text, &with_nul] {
            let messages =
                [greeting(&[2]), credentials(name, b"canary-7f3a"), connect_to(closed.address())];
            say(&login, &messages.concat());
        }
    }
    wait_until("every session has its line", || log.text().lines().count() >= sessions);
    drop((open, login));
    assert_clean(&log.text(), sessions);
}

#[track_caller]
fn assert_clean(text: &str, sessions: usize) {
    let is_plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    assert!(text.bytes().all(is_plain), "unprintable: {}", text.escape_debug());
    assert_eq!(text.lines().count(), sessions);
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(line.starts_with("time=") && fields.len() == 22, "{line}");
        assert!(fields.iter().all(|field| field.contains('=')), "{line}");
        assert!(!line.contains("canary"), "{line}");
    }
}
