//! What is not begun with where nobody could be known: no socket is opened for anybody.

use std::fs;
use std::path::Path;

use crate::support::server::{Ended, run, run_under};
use crate::world::{text, write_secret};

const EX_CONFIG: Option<i32> = Some(78);

const PAM_AND_USERS: &str = "pam_service = \"ringsocks\"\nusers = { alice = \"plain:canary\" }\n";

/// Files that nobody can start with, by their names.
fn write_files(folder: &Path) -> Vec<(&'static str, String)> {
    let users = |name: &'static str, content: Option<&str>| {
        let path = folder.join(name);
        if let Some(content) = content {
            write_secret(&path, content);
        }
        let config = format!("users_file = \"{}\"\n", path.display());
        (name, config)
    };
    let none = "library = \"/none/such.so\"";
    vec![
        users("missing", None),
        users("empty", Some("")),
        users("comments", Some("# alice:plain:canary\n")),
        users("garbled", Some("\0\x01canary")),
        users("apr1", Some("alice:$apr1$canary$riN4ZzSK8ZdP5yRn/zrQi0\n")),
        users("des", Some("alice:ab5da3hZp5iFU\n")),
        ("groups", "groups_file = \"/none/such\"\nusers = { alice = \"plain:canary\" }\n".into()),
        ("pam", "pam_service = \"ringsocks\"\npam_library = \"/none/such.so\"\n".into()),
        ("both", PAM_AND_USERS.into()),
        ("gssapi", format!("[gssapi]\nservice = \"rcmd\"\n{none}\n")),
    ]
}

#[track_caller]
fn expect_refused(name: &str, ended: &Ended, what: &str) {
    assert_eq!(ended.code, EX_CONFIG, "{name}: {}", ended.stderr);
    assert!(ended.stderr.contains(what), "{name}: no {what:?} in {}", ended.stderr);
    assert!(!ended.stderr.contains("listening"), "{name}: {}", ended.stderr);
}

#[test]
#[ignore = "needs strace: tests/run"]
fn no_socket_is_opened_for_anybody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("ringsocks.toml");
    let calls = folder.path().join("calls");
    let strace = ["strace", "-f", "-qq", "-e", "trace=bind,listen,execve", "-o", text(&calls)];
    let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    for (name, said) in write_files(folder.path()) {
        // What follows a table would be part of it.
        write_secret(&config, &format!("{said}{listen}"));
        let ended = run_under(&strace, &["-c", text(&config)], &[]);
        expect_refused(name, &ended, "");
        let calls = fs::read_to_string(&calls).expect("strace has written");
        assert!(calls.contains("execve("), "{name}: strace saw nothing");
        assert!(!calls.contains("bind(") && !calls.contains("listen("), "{name}: {calls}");
    }
    // The same way of looking finds who does listen.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it has one").to_string();
    let ended = run_under(&strace, &["--listen", &address], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(fs::read_to_string(&calls).expect("strace has written").contains("bind("));
}

#[test]
fn what_is_missing_is_named() {
    let listen = ["--listen", "127.0.0.1:0"];
    let pam = [("RINGSOCKS_PAM_SERVICE", "ringsocks"), ("RINGSOCKS_PAM_LIBRARY", "/none/such.so")];
    expect_refused("pam", &run(&listen, &pam), "/none/such.so");
    let gssapi =
        [("RINGSOCKS_GSSAPI_SERVICE", "rcmd"), ("RINGSOCKS_GSSAPI_LIBRARY", "/none/such.so")];
    expect_refused("gssapi", &run(&listen, &gssapi), "/none/such.so");
    let both = [("RINGSOCKS_PAM_SERVICE", "ringsocks"), ("RINGSOCKS_USERS_alice", "plain:canary")];
    expect_refused("both", &run(&listen, &both), "pam_service");
    let file = [("RINGSOCKS_PAM_SERVICE", "ringsocks"), ("RINGSOCKS_USERS_FILE", "/none/such")];
    expect_refused("both, of a file", &run(&listen, &file), "pam_service");
    let nobody = [("RINGSOCKS_LISTEN_AUTH", "password")];
    expect_refused("nobody", &run(&listen, &nobody), "password");
    let group = "users = { alice = \"plain:canary\" }\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
                 auth = [{ methods = [\"password\"], groups = [\"staff\"] }]\n";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("ringsocks.toml");
    write_secret(&config, group);
    expect_refused("group", &run(&["-c", text(&config)], &[]), "staff");
}
