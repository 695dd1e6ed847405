use std::net::Ipv4Addr;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use super::super::hashes::Stored;
use super::*;

/// Of "wonder", by the crypt(3) of libxcrypt.
const HASHED: &str = "$5$rounds=1000$saltstring$Z4xLbzgmCD3nbrfsc5CyyT2VowNm8Go7JkTLgVWPj0A";

const WRONG: Checked = Checked { result: Err(Failure::WrongPassword), is_wrong: true };
const UNKNOWN: Checked = Checked { result: Err(Failure::UnknownUser), is_wrong: true };
const RIGHT: Checked = Checked { result: Ok(()), is_wrong: false };
const LOCKED: Checked = Checked { result: Err(Failure::Locked), is_wrong: false };
const LOCKED_WRONG: Checked = Checked { result: Err(Failure::Locked), is_wrong: true };

fn auth(users: &[(&str, &str)]) -> Auth {
    let mut compiled = Users::default();
    for (name, value) in users {
        let Ok(stored) = Stored::parse(value.as_bytes()) else { panic!("{value}") };
        compiled.add(name.as_bytes(), stored).unwrap();
    }
    Auth::new(Passwords::Users(Arc::new(compiled)), Groups::default(), None)
}

fn log_in(auth: &Auth, uname: &str, passwd: &str, is_locked: bool, now: Instant) -> LogIn {
    let credentials = Credentials { uname: uname.as_bytes(), passwd: passwd.as_bytes() };
    auth.log_in(&credentials, Ipv4Addr::LOCALHOST.into(), is_locked, now)
}

fn known(log_in: LogIn) -> Checked {
    match log_in {
        LogIn::Known(checked) => checked,
        LogIn::Unknown(_) => panic!("it is not known"),
    }
}

fn unknown(log_in: LogIn) -> PasswordCheck {
    match log_in {
        LogIn::Unknown(check) => check,
        LogIn::Known(checked) => panic!("it is known: {checked:?}"),
    }
}

fn run(check: PasswordCheck) -> Checked {
    assert_eq!(check.kind(), CheckKind::Hash);
    let (sender, receiver) = mpsc::channel();
    check.run(Box::new(move |checked| sender.send(checked).unwrap()));
    receiver.try_recv().expect("nobody else checks it")
}

#[test]
fn plain_passwords_are_known_at_once() {
    let (auth, now) = (auth(&[("alice", "plain:wonder")]), Instant::now());
    for (uname, passwd, is_locked, expected) in [
        ("alice", "wonder", false, RIGHT),
        ("alice", "wonders", false, WRONG),
        ("bob", "wonder", false, UNKNOWN),
        ("alice", "wonder", true, LOCKED),
        ("alice", "wonders", true, LOCKED_WRONG),
        ("bob", "wonder", true, LOCKED_WRONG),
    ] {
        assert_eq!(known(log_in(&auth, uname, passwd, is_locked, now)), expected);
    }
    assert_eq!(auth.hashes(), 0);
}

#[test]
fn nobody_comes_in_where_there_are_no_passwords() {
    let auth = Auth::new(Passwords::Nobody, Groups::default(), None);
    let now = Instant::now();
    assert_eq!(known(log_in(&auth, "alice", "wonder", false, now)), UNKNOWN);
    assert_eq!(known(log_in(&auth, "", "", true, now)), LOCKED_WRONG);
    let empty = self::auth(&[]);
    assert_eq!(known(log_in(&empty, "", "", false, now)), UNKNOWN);
}

#[test]
fn whoever_fails_costs_one_hash_however_it_fails() {
    let (auth, now) = (auth(&[("alice", HASHED)]), Instant::now());
    assert_eq!(run(unknown(log_in(&auth, "alice", "wonder", false, now))), RIGHT);
    assert_eq!(auth.hashes(), 1);
    for (n, (uname, passwd, is_locked, expected)) in [
        ("alice", "wonders", false, WRONG),
        ("bob", "wonder", false, UNKNOWN),
        ("bob", "", false, UNKNOWN),
        // What another has proven does not make it faster.
        ("alice", "wonder", true, LOCKED),
        ("alice", "wonder", true, LOCKED),
        ("alice", "wonders", true, LOCKED_WRONG),
        ("bob", "wonder", true, LOCKED_WRONG),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(run(unknown(log_in(&auth, uname, passwd, is_locked, now))), expected);
        assert_eq!(auth.hashes(), n as u64 + 2);
    }
}

#[test]
fn a_right_password_is_known_for_a_minute() {
    let auth = auth(&[("alice", HASHED), ("bob", HASHED)]);
    assert_eq!(run(unknown(log_in(&auth, "alice", "wonder", false, Instant::now()))), RIGHT);
    let now = Instant::now();
    assert_eq!(known(log_in(&auth, "alice", "wonder", false, now)), RIGHT);
    assert_eq!(known(log_in(&auth, "alice", "wonder", false, now)), RIGHT);
    unknown(log_in(&auth, "bob", "wonder", false, now));
    unknown(log_in(&auth, "alice", "wonders", false, now));
    unknown(log_in(&auth, "alice", "wonder", true, now));
    unknown(log_in(&auth, "alice", "wonder", false, now + Duration::from_secs(60)));
    assert_eq!(auth.hashes(), 1);
}

#[test]
fn a_new_snapshot_has_verified_nothing_and_counts_on() {
    let (old, now) = (auth(&[("alice", HASHED)]), Instant::now());
    assert_eq!(run(unknown(log_in(&old, "alice", "wonder", false, now))), RIGHT);
    let late = unknown(log_in(&old, "alice", "wonders", false, now));
    let new = auth(&[("alice", HASHED)]).in_place_of(&old);
    assert_eq!(new.hashes(), 1);
    assert_eq!(run(unknown(log_in(&new, "alice", "wonder", false, now))), RIGHT);
    assert_eq!(run(late), WRONG);
    assert_eq!(new.hashes(), 3);
}

#[test]
fn a_check_that_was_begun_twice_is_made_once_if_it_succeeds() {
    let (auth, now) = (auth(&[("alice", HASHED)]), Instant::now());
    let (first, second) = (
        unknown(log_in(&auth, "alice", "wonder", false, now)),
        unknown(log_in(&auth, "alice", "wonder", false, now)),
    );
    assert_eq!((run(first), run(second)), (RIGHT, RIGHT));
    assert_eq!(auth.hashes(), 1);
}

#[test]
fn a_crowd_with_the_same_password_costs_one_hash() {
    const CROWD: usize = 16;
    let hashed = super::super::hash_password(b"wonder");
    let auth = auth(&[("alice", &hashed)]);
    let (gate, (sender, receiver)) = (Barrier::new(CROWD), mpsc::channel());
    thread::scope(|scope| {
        for _ in 0..CROWD {
            let check = unknown(log_in(&auth, "alice", "wonder", false, Instant::now()));
            let (gate, sender) = (&gate, sender.clone());
            scope.spawn(move || {
                gate.wait();
                check.run(Box::new(move |checked| sender.send(checked).unwrap()));
            });
        }
    });
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [RIGHT; CROWD]);
    assert_eq!(auth.hashes(), 1);
}

#[test]
fn a_stranger_looks_like_one_of_the_users_and_always_the_same() {
    let users = [("a", HASHED), ("b", "plain:x"), ("c", "plain:y"), ("d", "plain:z")];
    let (auth, now) = (auth(&users), Instant::now());
    let later = self::auth(&users).in_place_of(&auth);
    let takes_a_hash =
        |auth: &Auth, name: &str| matches!(log_in(auth, name, "x", false, now), LogIn::Unknown(_));
    let names: Vec<_> = (0..2000).map(|n| format!("stranger-{n}")).collect();
    let hashed = names.iter().filter(|name| takes_a_hash(&auth, name)).count();
    // A quarter of the users has a hash; thirteen standard deviations around it.
    assert!((250..750).contains(&hashed), "{hashed}");
    for name in &names {
        assert_eq!(takes_a_hash(&later, name), takes_a_hash(&auth, name), "{name}");
    }
}

#[test]
fn groups_have_their_members_and_no_group_has_everyone() {
    let groups = Groups::new([("staff", vec!["alice"]), ("root", vec!["bob"])]);
    let auth = Auth::new(Passwords::Nobody, groups, None);
    let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert!(auth.is_in_group(b"carol", &[]));
    assert!(auth.is_in_group(b"alice", &named(&["staff"])));
    assert!(auth.is_in_group(b"bob", &named(&["staff", "root"])));
    assert!(!auth.is_in_group(b"carol", &named(&["staff", "root"])));
    assert!(!auth.is_in_group(b"alice", &named(&["root", "other"])));
}

#[test]
fn debug_output_has_no_secret() {
    let auth = auth(&[("alice", "plain:canary-7f3a"), ("bob", HASHED)]);
    let shown = format!("{auth:?}");
    assert!(!shown.contains("canary") && !shown.contains("saltstring"), "{shown}");
}
