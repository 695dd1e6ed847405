//! Users and groups of files: who is let in, and what is not even begun with.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringsocks::auth::hash_password;
use tempfile::TempDir;

use crate::log_in_from;
use crate::support::server::{Server, run};

const EX_CONFIG: Option<i32> = Some(78);

/// The password is `canary-wonder` everywhere; of the least cost there is.
const HASHES: [(&str, &str); 5] = [
    ("bcrypt", "$2y$04$36Cs/8mleUHGaY8xajg2LuJn2GgFkcIGoSVObcC.QYdx76wI63DyG"),
    ("sha256", "$5$rounds=1000$saltstring$s/WAOaADEmiuH5DeEjn7zVAOXsTWWThN0iiFm1AsLc4"),
    (
        "sha512",
        "$6$rounds=1000$saltstring$jBDMlYWfYbI4/u1RpRY/9PQNkFvnBEDwZQaxRKj3KyZk\
         FJxbqePW06MOMjRF6q3ooQbuOqtT5KDxILK744je71",
    ),
    ("yescrypt", "$y$j75$YWNaTWScv4as9UAAawP5Y1$SF7KkKNRQpNHN8M4n4Su558NcpM9Mpi0WJoTZfxZvKC"),
    ("plain", "plain:canary-wonder"),
];

/// A folder with a file of this text, which only its owner can read.
fn written(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("room for a few lines");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

fn lets_in(server: &Server, user: &str, password: &str) -> bool {
    log_in_from([127, 0, 0, 1], server, user.as_bytes(), password.as_bytes())
}

#[test]
fn every_kind_of_hash_lets_its_user_in_and_nobody_else() {
    let argon2id = hash_password(b"canary-wonder");
    let users: Vec<_> = HASHES.into_iter().chain([("argon2id", &*argon2id)]).collect();
    let lines: Vec<_> = users.iter().map(|(name, hash)| format!("{name}:{hash}\n")).collect();
    let (_folder, path) = written("users", &lines.concat());
    let server = Server::start_with_env(
        &[],
        &[
            ("RINGSOCKS_USERS_FILE", text(&path)),
            ("RINGSOCKS_USERS_inline", &argon2id),
            ("RINGSOCKS_PENALTY_FAILURE", "0"),
        ],
    );
    for (name, _) in users.into_iter().chain([("inline", "")]) {
        assert!(lets_in(&server, name, "canary-wonder"), "{name}");
        assert!(lets_in(&server, name, "canary-wonder"), "{name} again");
        for wrong in ["", "canary-wonders", "Canary-wonder", "canary-wonde", "canary-wonder\0"] {
            assert!(!lets_in(&server, name, wrong), "{name} {wrong:?}");
        }
        assert!(lets_in(&server, name, "canary-wonder"), "{name} after all");
    }
    for stranger in ["", "carol", "root", "Plain"] {
        assert!(!lets_in(&server, stranger, "canary-wonder"), "{stranger}");
    }
}

/// What a program that is given a password makes of it.
#[track_caller]
fn made_by(command: &[&str], password: &str) -> String {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(password.as_bytes()).expect("it reads its password");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).expect("a hash is text").trim().to_owned()
}

#[test]
#[ignore = "needs argon2, htpasswd, mkpasswd and openssl: tests/run"]
fn the_hashes_that_others_make_let_their_users_in() {
    const PASSWORD: &str = "canary w\u{f6}nder $7: #";
    let commands = [
        &["argon2", "saltsalt", "-id", "-e", "-t", "2", "-k", "1024", "-p", "1"][..],
        &["argon2", "a salt that is long", "-id", "-e", "-m", "12", "-p", "4", "-l", "64"],
        &["htpasswd", "-niB", ""],
        &["htpasswd", "-ni2", ""],
        &["htpasswd", "-ni5", ""],
        &["htpasswd", "-ni5", "-r", "2000", ""],
        &["mkpasswd", "-s", "-m", "bcrypt"],
        &["mkpasswd", "-s", "-m", "bcrypt-a", "-R", "5"],
        &["mkpasswd", "-s", "-m", "sha256crypt"],
        &["mkpasswd", "-s", "-m", "sha512crypt", "-R", "1000"],
        &["mkpasswd", "-s", "-m", "yescrypt"],
        &["mkpasswd", "-s", "-m", "yescrypt", "-R", "1"],
        &["mkpasswd", "-s", "-m", "yescrypt", "-R", "6"],
        &["openssl", "passwd", "-5", "-stdin"],
        &["openssl", "passwd", "-6", "-stdin"],
    ];
    let lines = commands.iter().enumerate().map(|(n, command)| {
        let made = made_by(command, PASSWORD);
        format!("user-{n}:{}\n", made.trim_start_matches(':'))
    });
    let (_folder, path) = written("users", &lines.collect::<String>());
    let environment = [("RINGSOCKS_USERS_FILE", text(&path)), ("RINGSOCKS_PENALTY_FAILURE", "0")];
    let server = Server::start_with_env(&[], &environment);
    for (n, command) in commands.iter().enumerate() {
        let user = format!("user-{n}");
        assert!(!lets_in(&server, &user, "canary-wonder"), "{command:?}");
        assert!(lets_in(&server, &user, PASSWORD), "{command:?}");
    }
}

#[test]
#[ignore = "needs argon2, htpasswd, mkpasswd and openssl: tests/run"]
fn the_weak_hashes_that_others_make_are_refused() {
    for (command, problem) in [
        (&["htpasswd", "-nim", ""][..], "MD5 ($apr1$) hashes are not safe"),
        (&["htpasswd", "-nis", ""], "SHA-1 hashes are not safe"),
        (&["htpasswd", "-nid", ""], "DES-crypt hashes are not safe"),
        (&["htpasswd", "-nip", ""], "no hash that is known here"),
        (&["openssl", "passwd", "-1", "-stdin"], "MD5-crypt ($1$) hashes are not safe"),
        (&["mkpasswd", "-s", "-m", "descrypt"], "DES-crypt hashes are not safe"),
        (&["mkpasswd", "-s", "-m", "bsdicrypt"], "no hash that is known here"),
        (&["mkpasswd", "-s", "-m", "nt"], "no hash that is known here"),
        (&["mkpasswd", "-s", "-m", "scrypt"], "no hash that is known here"),
        (&["mkpasswd", "-s", "-m", "gost-yescrypt"], "no hash that is known here"),
        (&["mkpasswd", "-s", "-m", "yescrypt", "-R", "11"], "at most 256 MiB of memory"),
        (&["argon2", "saltsalt", "-i", "-e"], "no hash that is known here"),
    ] {
        let made = made_by(command, "canary-wonder");
        let made = made.trim_start_matches(':');
        let (_folder, path) = written("users", &format!("alice:{made}\n"));
        let refused = run(&["check"], &[("RINGSOCKS_USERS_FILE", text(&path))]);
        assert_eq!(refused.code, EX_CONFIG, "{command:?} {}", refused.stderr);
        assert!(refused.stderr.contains(problem), "{command:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains(made), "{command:?}: {}", refused.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_used_is_no_start() {
    let twice = "alice:plain:canary\nalice:plain:canary\n";
    for (lines, place, problem) in [
        ("", "", "there is no user in it"),
        ("# alice:plain:canary\n", "", "there is no user in it"),
        ("alice:plain:canary-wonder\ncanary\n", ":2", "there is no colon"),
        ("alice:canary\n", ":1", "no hash that is known here"),
        ("alice:ab5da3hZp5iFU\n", ":1", "DES-crypt hashes are not safe"),
        ("\nalice:$1$canary$hqvCbNwzGGtJDzHd8m2pC1\n", ":2", "MD5-crypt ($1$) hashes are not safe"),
        ("alice:$apr1$canary$riN4ZzSK8ZdP5yRn/zrQi0\n", ":1", "MD5 ($apr1$) hashes are not safe"),
        ("alice:$6$canary\n", ":1", "the sha512-crypt hash is not whole"),
        (twice, ":2", "user \"alice\" is there more than once"),
    ] {
        let (_folder, path) = written("users", lines);
        let env = [("RINGSOCKS_USERS_FILE", text(&path))];
        for arguments in [&["check"][..], &["--listen", "127.0.0.1:0"]] {
            let refused = run(arguments, &env);
            assert_eq!(refused.code, EX_CONFIG, "{lines:?} {}", refused.stderr);
            let said = format!("{}{place}: ", path.display());
            assert!(refused.stderr.contains(&said), "no {said:?} in {}", refused.stderr);
            assert!(refused.stderr.contains(problem), "{}", refused.stderr);
            assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
            assert!(!refused.stderr.contains("listening"), "{}", refused.stderr);
        }
        if problem.contains("not safe") {
            let refused = run(&["check"], &env).stderr;
            assert!(refused.contains("`ringsocks passwd NAME`"), "{refused}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_no_start() {
    let folder = TempDir::new().expect("a temporary folder");
    let missing = folder.path().join("missing");
    for (key, path, problem) in [
        ("RINGSOCKS_USERS_FILE", &missing, "cannot be read: No such file"),
        ("RINGSOCKS_USERS_FILE", &folder.path().to_owned(), "not a regular file"),
        ("RINGSOCKS_GROUPS_FILE", &missing, "cannot be read: No such file"),
    ] {
        let env = [("RINGSOCKS_USERS_bob", "plain:canary-builder"), (key, text(path))];
        let refused = run(&["--listen", "127.0.0.1:0"], &env);
        assert_eq!(refused.code, EX_CONFIG, "{}", refused.stderr);
        let said = format!("{}: it ", path.display());
        assert!(refused.stderr.contains(&said), "no {said:?} in {}", refused.stderr);
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
}

#[test]
fn a_file_that_everyone_can_read_is_complained_about() {
    const COMPLAINT: &str = "everyone on this host can read it";
    for (mode, is_exposed) in [(0o600, false), (0o640, false), (0o604, true), (0o644, true)] {
        let (_folder, path) = written("users", "alice:plain:canary-wonder\n");
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let server = Server::start_with_env(&[], &[("RINGSOCKS_USERS_FILE", text(&path))]);
        let complaint = server.stderr().into_iter().find(|line| line.contains(COMPLAINT));
        assert_eq!(complaint.is_some(), is_exposed, "{mode:o}: {complaint:?}");
        assert!(complaint.is_none_or(|line| line.contains("WARN") && line.contains(text(&path))));
        assert!(lets_in(&server, "alice", "canary-wonder"), "it is used all the same");
    }
}

#[test]
fn only_who_is_in_the_group_is_let_in() {
    let (_folder, groups) = written("groups", "# Apache's form\nstaff: alice dave\nroot: bob\n");
    let config = |group: &str| {
        format!(
            "users = {{ alice = \"plain:canary-wonder\", bob = \"plain:canary-wonder\" }}\n\
             groups_file = \"{}\"\ngroups = {{ admin = [\"carol\"] }}\n[penalty]\nfailure = 0\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\
             auth = [{{ methods = [\"password\"], groups = [\"{group}\"] }}]\n",
            groups.display()
        )
    };
    let file = crate::file(&config("staff"));
    let server = Server::start(&["-c", text(file.path())]);
    let warnings: Vec<_> =
        server.stderr().into_iter().filter(|line| line.contains("who are no users")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].ends_with("the group \"admin\" has members who are no users: carol"));
    assert!(warnings[1].ends_with("the group \"staff\" has members who are no users: dave"));
    assert!(lets_in(&server, "alice", "canary-wonder"));
    assert!(!lets_in(&server, "bob", "canary-wonder"), "he is in another group");
    server.wait_line("auth_failed ip=127.0.0.1 user=bob method=password reason=group");

    let file = crate::file(&config("stuff"));
    let refused = run(&["-c", text(file.path())], &[]);
    assert_eq!(refused.code, EX_CONFIG, "{}", refused.stderr);
    let said = format!("{}:8:9: there is no group \"stuff\"", file.path().display());
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
}
