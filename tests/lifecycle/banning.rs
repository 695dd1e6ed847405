//! `src/auth/fail2ban.conf` finds who guesses, and nobody else, in what the binary writes.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::server::Server;
use crate::{file, log_in_from};

const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/auth/fail2ban.conf");

const FAILED: &str = " auth_failed ip=";

/// What fail2ban finds in these lines: an address and a time for each that it counts.
fn found(lines: &str) -> Vec<(String, String)> {
    let log = file(lines);
    let mut command = Command::new("fail2ban-regex");
    // Our times are of Greenwich wherever it runs.
    command.env("TZ", "Asia/Tokyo").args(["--out", "<ip> <time>"]);
    let output = command.arg(log.path()).arg(FILTER).output().expect("fail2ban-regex runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines()
        .filter_map(|it| it.split_once(' '))
        .map(|(ip, at)| (ip.into(), at.into()))
        .collect()
}

fn addresses(lines: &str) -> Vec<String> {
    found(lines).into_iter().map(|(address, _)| address).collect()
}

/// The lines of failed logins, once there are so many; there are no more.
fn failures(server: &Server, count: usize) -> String {
    let lines = || -> Vec<String> {
        server.stderr().into_iter().filter(|line| line.contains(FAILED)).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    while lines().len() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let lines = lines();
    assert_eq!(lines.len(), count, "one line each: {lines:#?}");
    lines.iter().map(|line| format!("{line}\n")).collect()
}

const USER: (&str, &str) = ("RINGSOCKS_USERS_alice", "plain:canary-7f3a");

#[test]
#[ignore = "needs fail2ban-regex: tests/run"]
fn who_guesses_is_found_wherever_the_lines_end_up() {
    let server = Server::start_with_env(&[], &[USER]);
    assert!(!log_in_from([127, 0, 0, 2], &server, b"alice", b"canary-guess"));
    assert!(!log_in_from([127, 0, 0, 3], &server, b"bob", b"canary-7f3a"));
    let lines = failures(&server, 2);
    assert_eq!(addresses(&lines), ["127.0.0.2", "127.0.0.3"], "{lines}");
    for prefix in [
        // As a line of the journal, and of two forms of syslog's files.
        "gate ringsocks[7]: ",
        "Nov 26 05:30:21 gate ringsocks[7]: ",
        "2026-11-26T05:30:21.123456+01:00 gate ringsocks[7]: ",
    ] {
        let lines: String = lines.lines().map(|line| format!("{prefix}{line}\n")).collect();
        assert_eq!(addresses(&lines), ["127.0.0.2", "127.0.0.3"], "{lines}");
    }
}

#[test]
#[ignore = "needs fail2ban-regex: tests/run"]
fn a_name_forges_neither_a_line_nor_an_address() {
    let server = Server::start_with_env(&[], &[USER]);
    let another = "auth_failed ip=192.0.2.1 user=x method=password reason=wrong_password";
    let names = [
        another.to_owned(),
        format!("x\n[2026-11-26T05:30:21Z WARN  ringsocks] {another}"),
        format!("x\r\n[2026-11-26T05:30:21Z WARN  ringsocks] {another}\r\n"),
        format!("x method=password reason=wrong_password\n{another}"),
        "x\u{2028}ip=192.0.2.1\u{85}ip=192.0.2.1".to_owned(),
        "ip=192.0.2.1".to_owned(),
        "\" ip=192.0.2.1 user=\"".to_owned(),
        "%(ip)s<HOST>\x1b[2J\0".to_owned(),
        "-".to_owned(),
        "192.0.2.1 ".repeat(25),
    ];
    for (number, name) in (2..).zip(&names) {
        assert!(!log_in_from([127, 0, 0, number], &server, name.as_bytes(), b"canary-guess"));
    }
    let lines = failures(&server, names.len());
    let expected: Vec<String> =
        (2..).take(names.len()).map(|number| format!("127.0.0.{number}")).collect();
    assert_eq!(addresses(&lines), expected, "{lines}");
    // Nor does it in any other line of ours.
    let said = server.stderr();
    let others: String =
        said.iter().filter(|line| !line.contains(FAILED)).map(|line| format!("{line}\n")).collect();
    assert_eq!(addresses(&others), [""; 0], "{others}");
}

#[test]
#[ignore = "needs fail2ban-regex: tests/run"]
fn who_does_not_guess_is_not_found_and_ipv6_is() {
    let line = |what: &str| format!("[2026-11-26T05:30:21Z WARN  ringsocks::session] {what}\n");
    let failed = |ip: &str, reason: &str| {
        line(&format!("auth_failed ip={ip} user=alice method=password reason={reason}"))
    };
    let guesses = ["unknown_user", "wrong_password", "locked"]
        .map(|reason| failed("2001:db8::7", reason))
        .concat();
    let at = || ("2001:db8::7".to_owned(), "1795671021".to_owned());
    assert_eq!(found(&guesses), [at(), at(), at()]);

    let others = ["account", "group", "token", "principal", "protection", "broken", "lockedx"];
    let mut lines: String = others.map(|reason| failed("192.0.2.1", reason)).concat();
    let text = "auth_failed ip=192.0.2.1 user=x method=password reason=locked";
    lines += &line(&format!("cannot serve x: {text}"));
    lines += &line(&format!("{text} and more"));
    lines += &format!("time=2026-11-26T05:30:21Z user={text}\n{text}\n");
    lines += &failed("192.0.2.1", "locked").replace("WARN ", "INFO ");
    lines += &failed("192.0.2.1", "locked").replace("ringsocks::session", "other");
    lines += &failed("host.example", "locked");
    assert_eq!(found(&lines), [], "{lines}");
}
