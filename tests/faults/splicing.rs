//! Pipes that are not to be had, are small, or cannot be spliced: bulk is copied instead.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::descriptors::{INSTEAD, binary_for_everyone};
use crate::injected::Faulty;
use crate::support::server::Server;
use crate::support::{assert_carries_whole, session};

/// So many bytes at once are bulk, and do not fit between the sockets.
const BULK: usize = 24 << 20;

const AUTO: [(&str, &str); 1] = [("RINGSOCKS_RELAY", "auto")];

#[test]
fn bulk_is_spliced_and_nothing_else_is() {
    let server = Server::start_with_env(&["--workers", "1"], &AUTO);
    let baseline = server.baseline();
    let (client, target) = session(&server);
    for _ in 0..100 {
        client.send(b"a short question");
        target.expect(b"a short question");
    }
    drop((client, target));
    assert_eq!(server.counters()["pipes_open"], 0);
    assert_carries_whole(&server, BULK, "bulk");
    let counters = server.counters();
    assert!(counters["pipes_open"] > 0, "{counters:?}");
    assert_eq!(counters["lanes_unspliceable"], 0, "{counters:?}");
    baseline.assert_at_rest();
}

#[test]
fn who_wants_copies_gets_copies() {
    let server = Server::start_with_env(&["--workers", "1"], &[("RINGSOCKS_RELAY", "copy")]);
    assert_carries_whole(&server, BULK, "bulk");
    assert_eq!(server.counters()["pipes_open"], 0);
}

#[test]
#[ignore = "needs root: tests/run"]
fn splices_that_are_refused_change_no_byte() {
    for mode in ["auto", "splice"] {
        for errno in ["EINVAL", "ENOMEM", "ENOSYS", "EPERM"] {
            for when in ["1+", "2+3", "7+"] {
                let env = [("RINGSOCKS_RELAY", mode)];
                let fault = format!("error={errno}:when={when}");
                let server = Faulty::start(1, &env, "splice", &fault);
                let baseline = server.baseline();
                assert_carries_whole(&server, BULK, &format!("{mode} {fault}"));
                let counters = server.counters();
                assert!(counters["lanes_unspliceable"] > 0, "{mode} {fault}: {counters:?}");
                baseline.assert_at_rest();
            }
        }
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn interrupted_splices_change_no_byte() {
    let env = [("RINGSOCKS_RELAY", "splice")];
    let server = Faulty::start(1, &env, "splice", "error=EINTR:when=2+3");
    let baseline = server.baseline();
    assert_carries_whole(&server, BULK, "bulk");
    assert_eq!(server.counters()["lanes_unspliceable"], 0);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn without_a_pipe_bulk_is_copied() {
    for errno in ["EMFILE", "ENFILE"] {
        let server = Faulty::start(1, &AUTO, "pipe2", &format!("error={errno}"));
        let baseline = server.baseline();
        assert_carries_whole(&server, BULK, "bulk");
        let counters = server.counters();
        assert!(counters["pipes_denied"] > 0, "{counters:?}");
        assert_eq!(counters["pipes_open"], 0, "{counters:?}");
        baseline.assert_at_rest();
    }
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_pipe_that_may_not_grow_is_used_as_it_is() {
    // Growing is the first of the two calls that a pipe is made with.
    let server = Faulty::start(1, &AUTO, "fcntl", "error=EPERM:when=1+2");
    let baseline = server.baseline();
    assert_carries_whole(&server, BULK, "bulk");
    assert!(server.counters()["pipes_open"] > 0);
    baseline.assert_at_rest();
}

#[test]
#[ignore = "needs root: tests/run"]
fn a_user_who_has_used_up_its_pages_copies() {
    let _hoard = Hoard::start();
    let (_folder, copy) = binary_for_everyone();
    let wrapper = [&AS_SOMEBODY[..], &["sh", "-c", INSTEAD, &copy]].concat();
    let env = [("RINGSOCKS_RELAY", "splice")];
    let server = Server::start_under(&wrapper, &["--workers", "1"], &env);
    assert_carries_whole(&server, BULK, "bulk");
    let counters = server.counters();
    assert!(counters["pipes_denied"] > 0, "{counters:?}");
    assert_eq!(counters["pipes_open"], 0, "{counters:?}");
}

const AS_SOMEBODY: [&str; 4] = ["setpriv", "--reuid=64322", "--regid=64322", "--clear-groups"];

/// A process that holds as many pages of pipes as its user may have.
struct Hoard(Child);

impl Hoard {
    fn start() -> Hoard {
        let script = "import os, time\n\
                      held = [os.pipe() for _ in range(1100)]\n\
                      print('!', end='', flush=True)\n\
                      time.sleep(600)";
        let mut command = Command::new(AS_SOMEBODY[0]);
        command.args(&AS_SOMEBODY[1..]).args(["/usr/bin/python3", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut ready = [0];
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        stdout.read_exact(&mut ready).expect("it says that it has them");
        Hoard(child)
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
