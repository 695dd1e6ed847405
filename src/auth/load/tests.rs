use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use proptest::prelude::*;

use super::super::{Checked, LogIn};
use super::*;
use crate::proto::socks5::Credentials;

const HASHED: &str = "$6$rounds=1000$saltstring$uBoZdlN1nycsR8aSfQJ9iGabvmouxfrMLxEMu0CDIi6VUU51F9q1.TBeKq6jmRhf7R8.AfTyKX/uw098zVp4m/";

/// The users of a file with this text, called USERS.
fn users(text: impl AsRef<[u8]>) -> Result<Users, String> {
    let mut users = Users::default();
    let added = add_users_file(&mut users, Path::new("USERS"), text.as_ref());
    added.map(|()| users).map_err(|error| error.to_string())
}

fn groups(text: impl AsRef<[u8]>) -> Result<Groups, String> {
    let mut groups = Groups::default();
    let added = groups.add_file(Path::new("GROUPS"), text.as_ref());
    added.map(|()| groups).map_err(|error| error.to_string())
}

fn knows(users: &Users, uname: impl AsRef<[u8]>, passwd: &str) -> bool {
    users.entrant(uname.as_ref(), |_| 0).verify(passwd.as_bytes()).is_ok()
}

/// Asserts that a file is not taken, and what the first line of the message is.
#[track_caller]
fn assert_refused(text: impl AsRef<[u8]>, problem: &str) {
    let error = users(text).unwrap_err();
    assert_eq!(error.lines().next(), Some(problem));
    assert!(error.lines().nth(1).is_some_and(|hint| hint.starts_with("  = ")), "{error}");
}

#[test]
fn a_file_has_a_user_a_line() {
    let text = format!(
        "# who may come\n\nalice:{HASHED}\r\n  # and\nbob:plain:bu:ilder # 1\n\t\nO'Neil Jr:plain:\n"
    );
    let users = users(text).unwrap();
    assert!(knows(&users, "alice", "wonder"));
    assert!(!knows(&users, "alice", "wonders"));
    assert!(knows(&users, "bob", "bu:ilder # 1"));
    assert!(knows(&users, "O'Neil Jr", ""));
    assert!(!knows(&users, "# and", ""));
    assert!(!knows(&users, "carol", "wonder"));
}

#[test]
fn names_are_bytes_and_a_mark_of_their_encoding_is_none() {
    let users = users(b"\xef\xbb\xbfalice:plain:x\n\xe9\xff:plain:y\n").unwrap();
    assert!(knows(&users, "alice", "x"));
    assert!(knows(&users, b"\xe9\xff", "y"));
    let groups = groups("\u{feff}staff: \u{e9}lodie\n").unwrap();
    assert!(groups.has_member("staff", "\u{e9}lodie".as_bytes()));
}

#[test]
fn an_error_names_the_line_and_what_to_do() {
    let error = users("# DES:\nalice:ab5da3hZp5iFU\n").unwrap_err();
    assert_eq!(
        error,
        "USERS:2: DES-crypt hashes are not safe, nor accepted\n  = accepted are \
         argon2id ($argon2id$v=19$...), bcrypt ($2a$, $2b$, $2y$), sha256-crypt ($5$), \
         sha512-crypt ($6$), yescrypt ($y$) and plain:PASSWORD; `ringsocks passwd NAME` makes a \
         line of them"
    );
    assert_refused(
        format!("alice:{HASHED}\n\nalice:plain:x"),
        "USERS:3: user \"alice\" is there more than once",
    );
    assert_refused("alice\n", "USERS:1: there is no colon after a user's name");
    assert_refused("alice:\n", "USERS:1: there is no hash");
    assert_refused("alice: \n", "USERS:1: this is no hash that is known here");
    assert_refused(
        format!("alice:{HASHED}:19000:0:99999:7:::\n"),
        "USERS:1: the sha512-crypt hash is not whole",
    );
    assert_refused(
        "alice:$2y$31$abcdefghijklmnopqrstuuetGRvO6QNMBbbIoo5tpQkbPXg26U9Qu",
        "USERS:1: the bcrypt hash needs a cost of 4 to 14",
    );
    assert_refused(
        format!("{}:{HASHED}", "x".repeat(256)),
        "USERS:1: a user's name may have 255 bytes, no client can send more",
    );
    assert_refused(
        format!(" alice:{HASHED}"),
        "USERS:1: a user's name cannot begin or end with a space",
    );
    assert_refused(
        format!("al\tice:{HASHED}"),
        "USERS:1: a user's name cannot have control characters in it",
    );
    for empty in ["", "\n", "# alice:plain:x\n", "\r\n \n"] {
        assert_refused(empty, "USERS: there is no user in it");
    }
}

#[test]
fn no_error_repeats_a_password_or_a_hash() {
    for text in [
        "canary-7f3a\n".to_owned(),
        "alice:canary-7f3a".to_owned(),
        "alice:{SHA}canary-7f3a".to_owned(),
        "alice:$6$canary-7f3a$x".to_owned(),
        "alice:$argon2id$v=19$canary-7f3a".to_owned(),
        format!("alice:plain:canary-7f3a{}", "x".repeat(256)),
        "alice:plain:x\nalice:plain:canary-7f3a".to_owned(),
        format!("\t canary-7f3a{}:x", "x".repeat(256)),
        "canary-7f3a:alice".to_owned(),
    ] {
        let error = users(&text).unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn users_of_the_configuration_and_of_the_file_come_together() {
    let inline = |value: &str| [("alice", Zeroizing::new(value.as_bytes().to_vec()))];
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "bob:plain:builder\n").unwrap();
    let users = read_users(inline(HASHED), Some(file.path())).unwrap();
    assert!(knows(&users, "alice", "wonder") && knows(&users, "bob", "builder"));

    fs::write(file.path(), "bob:plain:builder\nalice:plain:x\n").unwrap();
    let error = read_users(inline(HASHED), Some(file.path())).unwrap_err().to_string();
    let place = format!("{}:2: user \"alice\" is there more than once", file.path().display());
    assert!(error.starts_with(&place), "{error}");

    let error = read_users(inline("canary"), None).unwrap_err().to_string();
    assert!(error.starts_with("users.alice: this is no hash"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn what_is_not_a_text_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    let error = |what: &str| {
        let error = read_users([], Some(&path)).unwrap_err().to_string();
        assert!(error.starts_with(&*path.to_string_lossy()), "{error}");
        assert!(error.contains(what), "{error}");
    };
    error("cannot be read: No such file");
    fs::create_dir(&path).unwrap();
    error("not a regular file");
    fs::remove_dir(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    error("not a regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "alice:plain:x\0\n").unwrap();
    error("not a text file");
    fs::write(&path, "").unwrap();
    error("there is no user in it");
    fs::File::create(&path).unwrap().set_len(FILE_MAX + 1).unwrap();
    error("larger than 64 MiB");
}

#[test]
fn a_group_has_its_members() {
    let groups =
        groups("# Apache's form\nstaff: alice bob\n\nroot:\tbob\r\nstaff:carol\nnobody:\n")
            .unwrap();
    for (group, members) in
        [("staff", &["alice", "bob", "carol"][..]), ("root", &["bob"]), ("nobody", &[])]
    {
        assert!(groups.contains(group));
        for user in ["alice", "bob", "carol", "dave", ""] {
            let is_member = groups.has_member(group, user.as_bytes());
            assert_eq!(is_member, members.contains(&user), "{group} {user}");
        }
    }
    assert!(!groups.contains("other") && !groups.has_member("other", b"alice"));
    let is_known = |name: &[u8]| name == b"bob";
    let strangers: Vec<_> = groups.strangers(is_known).collect();
    assert_eq!(strangers, [("staff", vec![&b"alice"[..], b"carol"])]);
}

#[test]
fn a_garbled_groups_file_is_an_error() {
    for (text, problem) in [
        ("", "GROUPS: there is no group in it"),
        ("# staff: alice", "GROUPS: there is no group in it"),
        ("staff: alice\nbob\n", "GROUPS:2: there is no colon after a group's name"),
        (": alice", "GROUPS:1: before the colon stands the name of one group"),
        ("staff root: alice", "GROUPS:1: before the colon stands the name of one group"),
        ("staff: a\x01", "GROUPS:1: a user's name cannot have control characters in it"),
    ] {
        let error = groups(text).unwrap_err();
        assert_eq!(error.lines().next(), Some(problem));
    }
    assert!(groups(b"staff: \xff").unwrap_err().starts_with("GROUPS:1: this is not UTF-8"));

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "root: bob\nstaff: bob\n").unwrap();
    let inline = |group: &str| BTreeMap::from([(group.to_owned(), vec!["alice".to_owned()])]);
    let groups = read_groups(&inline("admin"), Some(file.path())).unwrap();
    assert!(groups.has_member("admin", b"alice") && groups.has_member("root", b"bob"));
    let error = read_groups(&inline("staff"), Some(file.path())).unwrap_err();
    assert!(error.to_string().contains(":2: the group \"staff\" is also"), "{error}");
}

#[test]
fn the_configuration_says_who_may_come() {
    let config = Config::parse("test", "users = { alice = \"plain:wonder\" }").unwrap();
    let auth = Auth::load(&config).unwrap();
    let lets_in = |auth: &Auth| {
        let credentials = Credentials { uname: b"alice", passwd: b"wonder" };
        let from = Ipv4Addr::LOCALHOST.into();
        let known = auth.log_in(&credentials, from, false, Instant::now());
        matches!(known, LogIn::Known(Checked { result: Ok(()), .. }))
    };
    assert!(lets_in(&auth) && auth.mechanism().is_none());
    assert!(!lets_in(&Auth::load(&Config::default()).unwrap()));
    assert!(!lets_in(&auth.reload(&Config::default()).unwrap()));
}

proptest! {
    #[test]
    fn any_bytes_are_users_or_an_error(text in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(users) = users(&text) {
            prop_assert!(!users.is_empty());
        }
        if let Err(error) = groups(&text) {
            prop_assert!(error.starts_with("GROUPS:"));
        }
    }

    #[test]
    fn any_lines_are_users_or_an_error(
        lines in prop::collection::vec("[ab:#]{0,3}(plain:|\\$6\\$)?[ab:$]{0,4}", 0..6),
    ) {
        let said = |line: &&String| {
            line.starts_with(|c| c != '#') && !line.is_empty()
        };
        let text = lines.join("\n");
        if let Ok(users) = users(&text) {
            for line in lines.iter().filter(said) {
                let (name, value) = line.split_once(':').expect("a user has a colon");
                let password = value.strip_prefix("plain:").expect("no hash is that short");
                prop_assert!(knows(&users, name, password));
                let longer = password.to_owned() + "x";
                prop_assert!(!knows(&users, name, &longer));
            }
        }
    }
}

fn problem(name: &str, text: &str) -> String {
    let config = Config::parse(name, text).unwrap();
    Auth::load(&config).expect_err("it is refused").to_string()
}

#[test]
fn what_the_configuration_has_wrong_is_said_where_it_stands() {
    let error = problem("r.toml", "[users]\nbob = \"plain:x\"\nalice = \"$9$canary\"");
    let expected = "r.toml:3:9: users.alice: this is no hash";
    assert!(error.starts_with(expected) && !error.contains("canary"), "{error}");
    let error = problem("r.toml", "[gssapi]\nlibrary = \"./nothing.so\"\nservice = \"rcmd\"");
    assert!(error.starts_with("r.toml:2:11: gssapi.library: "), "{error}");
    let pam = "pam_service = \"none-such\"\npam_library = \"./nothing.so\"";
    let error = problem("r.toml", pam);
    assert!(error.starts_with("r.toml:2:15: pam_library: PAM: library "), "{error}");
    let pam = "pam_service = \"other\"\npam_confdir = \"/none/such\"";
    let error = problem("r.toml", pam);
    assert!(error.starts_with("r.toml:2:15: pam_confdir: PAM: this is no folder: "), "{error}");
}

#[test]
fn a_rule_of_a_group_that_no_file_has_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let text = format!(
        "users.alice = \"plain:x\"\ngroups_file = \"{path}\"\n[[listen]]\naddress = 1\n\
         auth = [{{ methods = [\"password\"], groups = [\"staff\"] }}]"
    );
    fs::write(file.path(), "stuff: alice\n").unwrap();
    let error = problem("r.toml", &text);
    assert!(error.starts_with("r.toml:5:9: there is no group \"staff\"\n"), "{error}");
    fs::write(file.path(), "stuff: alice\nstaff: alice\n").unwrap();
    assert!(Auth::load(&Config::parse("r.toml", &text).unwrap()).is_ok());
}
