//! Passwords by modules: of a stub that does what its service's name says, and of the system's
//! library with a module for tests.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ringsocks::auth::{Failure, Pam};

use crate::support::stubs::Stub;

const HOST: &str = "192.0.2.7";

fn host() -> IpAddr {
    HOST.parse().unwrap()
}

/// What the stub says of alice and her password where its service has this name.
fn ask(stub: &Stub, service: &str) -> Result<(), Failure> {
    let pam = Pam::open(service, stub.library(), None).unwrap();
    pam.check(b"alice", b"wonder", host())
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let error = Pam::open("ringsocks", "libpam_none_such.so.0".as_ref(), None).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("PAM: library \"libpam_none_such.so.0\" cannot be used"), "{text}");
    assert!(text.ends_with("(Debian has it in libpam0g)"), "{text}");
    let error = Pam::open("ringsocks", "libc.so.6".as_ref(), None).err().unwrap();
    assert!(error.to_string().contains("it has no function pam_start_confdir"), "{error}");
}

#[test]
fn a_service_that_cannot_be_is_an_error() {
    let stub = Stub::build("pam");
    let open = |service: &str, confdir: Option<&Path>| {
        Pam::open(service, stub.library(), confdir).err().map(|error| error.to_string())
    };
    for service in ["", "../login", "a\0b"] {
        let expected = format!("PAM: service {service:?} cannot be the name of a file");
        assert_eq!(open(service, None), Some(expected));
    }
    let said = "start: said by the stub (error 26)";
    assert_eq!(open("start=26", None), Some(format!("PAM: service \"start=26\": {said}")));
    let folder = |path: &str| open("x", Some(path.as_ref())).expect("it is no folder");
    assert!(folder("/none/such").starts_with("PAM: this is no folder: No such file"));
    assert_eq!(folder("/dev/null"), "PAM: this is no folder: not a directory");
    assert!(folder("a\0b").starts_with("PAM: this is no folder: "));
    assert_eq!(open("x", Some("/dev".as_ref())), Some(format!("PAM: service \"x\": {said}")));
    assert!(open("start=0", None).is_some(), "there is nothing to ask");
    assert!(open("start=666", None).unwrap().ends_with("start: no text (error 666)"));
    assert_eq!(open("x", None), None);
}

#[test]
fn only_the_very_name_and_password_pass_from_where_they_may() {
    let stub = Stub::build("pam");
    let pam = Pam::open("x", stub.library(), None).unwrap();
    assert_eq!(pam.check(b"alice", b"wonder", host()), Ok(()));
    assert_eq!(pam.check(b"alice", b"wonder", "::ffff:192.0.2.7".parse().unwrap()), Ok(()));
    let elsewhere = "2001:db8::1".parse().unwrap();
    assert_eq!(pam.check(b"alice", b"wonder", elsewhere), Err(Failure::Account));
    for (user, password) in [
        (&b"alice"[..], &b"builder"[..]),
        (b"bob", b"wonder"),
        (b"alice", b""),
        (b"", b"wonder"),
        (b"", b""),
        (b"alice", b"wonder\0"),
        (b"alice\0", b"wonder"),
        (b"alice", b"\0"),
        (b"\xff\xfe", b"\xff"),
        (&[b'x'; 255], &[b'y'; 255]),
    ] {
        let checked = pam.check(user, password, host());
        assert_eq!(checked, Err(Failure::WrongPassword), "{}", user.escape_ascii());
    }
}

#[test]
fn whose_fault_it_is_depends_on_the_step() {
    let stub = Stub::build("pam");
    let (wrong, account, broken) = (Failure::WrongPassword, Failure::Account, Failure::Broken);
    // Each code of PAM's, and what it is where a user is authenticated and where the account is.
    let known = [
        (6, account, account),
        (7, wrong, account),
        (10, wrong, account),
        (11, wrong, account),
        (12, account, account),
        (13, account, account),
        (16, account, account),
        (27, account, account),
    ];
    for code in (1..32).chain([99, 666]) {
        let row = known.iter().find(|row| row.0 == code);
        let &(_, auth, acct) = row.unwrap_or(&(code, broken, broken));
        assert_eq!(ask(&stub, &format!("auth={code}")), Err(auth), "authenticating: {code}");
        assert_eq!(ask(&stub, &format!("acct={code}")), Err(acct), "account: {code}");
    }
    assert_eq!(ask(&stub, "auth=0.acct=0"), Ok(()));
}

#[test]
fn a_module_that_asks_too_much_is_broken() {
    let stub = Stub::build("pam");
    assert_eq!(ask(&stub, "wide"), Err(Failure::Broken));
    assert_eq!(ask(&stub, "binary"), Err(Failure::Broken));
}

#[test]
fn a_failure_holds_no_thread() {
    let stub = Stub::build("pam");
    let pam = Pam::open("delay", stub.library(), None).unwrap();
    let begun = Instant::now();
    assert_eq!(pam.check(b"alice", b"builder", host()), Err(Failure::WrongPassword));
    assert!(begun.elapsed() < Duration::from_secs(10), "the stub waits for ten seconds by itself");

    let begun = Instant::now();
    assert_eq!(ask(&stub, "sleep=300"), Ok(()));
    assert!(begun.elapsed() >= Duration::from_millis(300), "modules may take their time");
}

/// The module of Debian's package libpam-wrapper, which knows users from a file.
fn matrix() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut modules = folders.map(|folder| folder.join("pam_wrapper/pam_matrix.so"));
    modules.find(|module| module.exists()).expect("libpam-wrapper is installed")
}

#[test]
#[ignore = "needs libpam-wrapper: tests/run"]
fn the_systems_library_asks_the_modules_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::write(&users, "alice:wonder:ringsocks\nbob:builder:sshd\n").unwrap();
    let rule = |kind: &str, option: &str| {
        format!("{kind} required {} passdb={}{option}\n", matrix().display(), users.display())
    };
    for (service, option) in [("ringsocks", ""), ("talking", " verbose"), ("seen", " echo")] {
        let account = if service == "ringsocks" { rule("account", "") } else { String::new() };
        let account = account + "account required pam_permit.so\n";
        fs::write(folder.path().join(service), rule("auth", option) + &account).unwrap();
    }
    let open = |service| Pam::open(service, "libpam.so.0".as_ref(), Some(folder.path()));

    let pam = open("ringsocks").unwrap();
    for _ in 0..3 {
        assert_eq!(pam.check(b"alice", b"wonder", host()), Ok(()));
        assert_eq!(pam.check(b"alice", b"builder", host()), Err(Failure::WrongPassword));
        assert_eq!(pam.check(b"carol", b"wonder", host()), Err(Failure::WrongPassword));
        assert_eq!(pam.check(b"bob", b"builder", host()), Err(Failure::Account));
    }
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(pam.check(b"alice", b"wonder", host()), Ok(()));
                    let wrong = pam.check(b"alice", b"builder", host());
                    assert_eq!(wrong, Err(Failure::WrongPassword));
                }
            });
        }
    });
    let talking = open("talking").unwrap();
    assert_eq!(talking.check(b"alice", b"wonder", host()), Ok(()));
    assert_eq!(talking.check(b"alice", b"builder", host()), Err(Failure::WrongPassword));
    // What is asked for to be seen is the name, and no password of anybody's.
    assert_eq!(
        open("seen").unwrap().check(b"alice", b"wonder", host()),
        Err(Failure::WrongPassword)
    );

    let error = open("none-such").err().unwrap().to_string();
    assert!(error.starts_with("PAM: service \"none-such\": start: "), "{error}");
}
