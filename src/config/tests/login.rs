//! Who may log in, and how.

use super::*;

fn shown(rules: &[AuthRule]) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

#[test]
fn every_key_of_authentication_arrives() {
    let config = read(WHOLE).unwrap();
    assert_eq!(config.users_file, Some("/etc/ringsocks/users".into()));
    let members = |group: &str| config.groups[group].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(config.groups.keys().collect::<Vec<_>>(), ["n o", "staff"]);
    assert_eq!((members("staff"), members("n o")), (vec!["alice", "bob b"], vec![]));
    assert_eq!(config.groups_file, Some("groups".into()));
    let expected = Pam {
        service: None,
        library: "/lib/libpam.so.9".into(),
        confdir: Some("/etc/ringsocks/pam.d".into()),
    };
    assert_eq!(config.pam, expected);
    assert_eq!(config.auth_once, Some(Duration::from_secs(600)));
    let penalty = Penalty {
        failure: Duration::from_secs(1),
        threshold: Duration::ZERO,
        max: Duration::from_secs(60),
        exempt: ["10.0.0.0/8", "2001:db8::7/128"].map(|it| it.parse().unwrap()).to_vec(),
    };
    assert_eq!(config.penalty, penalty);
    let gssapi = Gssapi {
        library: "./stub.so".into(),
        keytab: Some("FILE:/etc/ringsocks.keytab".to_owned()),
        service: Some("rcmd".to_owned()),
        realms: Some(vec!["PROXY.TEST".to_owned(), "OTHER.TEST".to_owned()]),
        principals: ["*/admin@PROXY.TEST=admin", "*@*=*"]
            .map(|rule| PrincipalRule::parse(rule).unwrap())
            .to_vec(),
        require: Protection::Confidentiality,
        clear: false,
    };
    assert_eq!(config.gssapi, gssapi);
    let rules = config.auth_rules(&config.listen[0]);
    assert_eq!(
        shown(&rules),
        [
            "{ from = [\"127.0.0.0/8\"], methods = [\"none\"] }",
            "{ from = [\"10.0.0.0/8\", \"::1/128\"], methods = [\"gssapi\", \"password\"], \
             groups = [\"staff\", \"ops\"] }",
            "{ methods = [\"password\"] }",
        ]
    );
    let default = config.auth_rules(&config.listen[1]);
    assert_eq!(shown(&default), ["{ methods = [\"gssapi\", \"password\"] }"]);
    assert_eq!(config.methods(&config.listen[0]), "by network");
    assert_eq!(config.methods(&config.listen[1]), "gssapi or password");
}

#[test]
fn without_rules_everyone_logs_in_who_can() {
    let cases = [
        ("", "none"),
        ("users = {}", "none"),
        ("users = { a = \"plain:b\" }", "password"),
        ("users_file = \"users\"", "password"),
        ("pam_service = \"socks\"", "password"),
        ("gssapi.keytab = \"k\"", "gssapi"),
        ("gssapi.service = \"rcmd\"", "gssapi"),
        ("users_file = \"users\"\ngssapi.service = \"rcmd\"", "gssapi or password"),
        ("gssapi.realms = [\"A\"]\ngssapi.require = \"confidentiality\"", "none"),
        ("groups_file = \"g\"\npam_confdir = \"p\"\nauth_once = \"1m\"", "none"),
    ];
    for (text, expected) in cases {
        let config = read(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.methods(&config.listen[0]), expected, "{text}");
        assert_eq!(config.listen[0].auth, None);
        assert!(config.to_string().contains(&format!("\n# auth: {expected}\n")), "{config}");
    }
}

#[test]
fn a_password_is_itself_or_a_hash() {
    let hashes = [
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
        "$2b$12$abc",
        "$5$salt$hash",
        "$6$salt$hash",
        "$y$j9T$salt$hash",
        "$",
    ];
    for hash in hashes {
        let config = read(&format!("users = {{ alice = {hash:?} }}")).unwrap();
        let of_variable = load(&[], &[("RINGSOCKS_USERS_alice", hash)]).unwrap();
        for config in [config, of_variable] {
            let Password::Hash(secret) = &config.users["alice"] else { panic!("{hash} is none") };
            assert_eq!(secret.expose(), hash.as_bytes());
            assert_eq!(format!("{:?}", config.users), "{\"alice\": ***}");
        }
    }
    let config = load(&["--user", "alice:$2b$12$abc"], &[]).unwrap();
    assert_eq!(plain(&config.users, "alice"), b"$2b$12$abc", "a flag has passwords only");
    let config = load(&[], &[("RINGSOCKS_USER", "alice:plain:x")]).unwrap();
    assert_eq!(plain(&config.users, "alice"), b"plain:x");
    for bad in ["", "x", "argon2id$x", " $2b$x", "{SSHA}x", "Plain:x"] {
        let error = error_of(read(&format!("users = {{ alice = {bad:?} }}")));
        assert!(error.contains("r.toml:1:19: the password is in no known scheme"), "{error}");
    }
}

#[test]
fn what_does_not_fit_together_is_said_where_it_stands() {
    let cases: &[(&str, &[&str])] = &[
        (
            "users = { a = \"plain:b\" }\npam_service = \"socks\"",
            &[
                "r.toml:2:15: `pam_service` and `users` exclude each other",
                "  |",
                "2 | pam_service = \"socks\"",
                "  |               ^^^^^^^",
                "  = passwords are either compared by PAM or by us: leave out `pam_service` or \
                 `users`",
            ],
        ),
        (
            "[gssapi]\nrequire = \"confidentiality\"\nclear = true",
            &[
                "r.toml:3:9: nothing could be clear where gssapi.require = \"confidentiality\"",
                "  |",
                "3 | clear = true",
                "  |         ^^^^",
                "  = leave it out, or say gssapi.require = \"integrity\"",
            ],
        ),
        (
            "[penalty]\nthreshold = \"20m\"",
            &[
                "r.toml:2:13: nobody would be locked: never more than \"10m\" gathers",
                "  |",
                "2 | threshold = \"20m\"",
                "  |             ^^^^^",
                "  = a `penalty.max` of \"20m\" or more; without penalties: penalty.failure = 0",
            ],
        ),
        (
            "[[listen]]\naddress = 1\nauth = [\n  { from = \"::1\", methods = [\"none\"] },\n  \
             { methods = [\"password\"] },\n]",
            &[
                "r.toml:5:3: no password would be right: there are no users",
                "  |",
                "5 |   { methods = [\"password\"] },",
                "  |   ^^^^^^^^^^^^^^^^^^^^^^^^^^",
                "  = say who they are: `users`, `users_file` or `pam_service`",
            ],
        ),
        (
            "users_file = \"u\"\ngroups.staff = [\"a\"]\n[[listen]]\naddress = 1\n[[listen.auth]]\n\
             methods = [\"password\"]\ngroups = [\"staff\", \"stuff\"]",
            &[
                "r.toml:5:1: there is no group \"stuff\"",
                "  |",
                "5 | [[listen.auth]]",
                "  | ^^^^^^^^^^^^^^^",
                "  = did you mean \"staff\"?",
            ],
        ),
        (
            "[[listen]]\naddress = 1\nauth = [\n  { methods = [\"none\"] },\n  \
             { from = \"::1\", methods = [\"gssapi\"] },\n]",
            &[
                "r.toml:5:3: no client would come to this rule",
                "  |",
                "5 |   { from = \"::1\", methods = [\"gssapi\"] },",
                "  |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
                "  = the first that fits counts: small networks first, the rule without `from` last",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error_of(read(text)), lines(expected));
    }
}

#[test]
fn what_is_wrong_with_authentication_is_named() {
    let auth = |rules: &str| format!("[[listen]]\naddress = 1\nauth = {rules}");
    let cases: &[(String, &[&str])] = &[
        // Keys
        ("user_file = \"u\"".into(), &["unknown key `user_file`", "did you mean `users_file`?"]),
        ("group = {}".into(), &["unknown key `group`", "did you mean `groups`?"]),
        ("keytab = \"k\"".into(), &["did you mean `gssapi.keytab`?"]),
        ("gssapi.realm = \"A\"".into(), &["in `gssapi`", "did you mean `realms`?"]),
        ("penalty.time = 1".into(), &["in `penalty`", "`failure`, `threshold`, `max`, `exempt`"]),
        (auth("[{ form = \"::1\" }]"), &["3:11", "in `listen.auth`", "did you mean `from`?"]),
        (auth("[{ who = \"QKXJ\" }]"), &["3:11", "`from`, `methods`, `groups`"]),
        // Types
        ("users_file = 1".into(), &["1:14", "expected a string", "the path of a file"]),
        ("groups = [\"staff\"]".into(), &["1:10", "expected a table of groups, found a list"]),
        ("groups.staff = \"a\"".into(), &["1:16", "expected a list of users, found a string"]),
        ("groups.staff = [\"a\", 1]".into(), &["1:22", "expected a string, found an integer"]),
        ("pam_service = true".into(), &["1:15", "expected a string", "/etc/pam.d"]),
        ("auth_once = 600".into(), &["1:13", "a duration needs a unit", "0 = not at all"]),
        ("penalty = 5".into(), &["expected the table [penalty]", "`failure`"]),
        ("penalty.exempt = \"::1\"".into(), &["expected a list of networks", "= exempt = ["]),
        ("gssapi.realms = \"A\"".into(), &["expected a list of realms, found a string"]),
        ("gssapi.principals = \"a@A=a\"".into(), &["expected a list of rules, found a string"]),
        ("gssapi.require = 1".into(), &["\"integrity\" or \"confidentiality\""]),
        ("gssapi.clear = \"true\"".into(), &["expected a boolean, found a string"]),
        (auth("\"none\""), &["3:8", "expected a list of rules, found a string", "= auth = ["]),
        (auth("[\"none\"]"), &["3:9", "expected a rule, found a string", "= auth = ["]),
        (auth("[{ methods = \"none\" }]"), &["3:21", "expected a list of methods, found a string"]),
        (auth("[{ methods = [1] }]"), &["3:22", "expected a string, found an integer"]),
        (auth("[{ from = 1 }]"), &["3:18", "expected a list of networks, found an integer"]),
        (auth("[{ from = [1] }]"), &["3:19", "expected a string, found an integer"]),
        (auth("[{ groups = \"a\" }]"), &["3:20", "expected a list of groups, found a string"]),
        // Values
        ("users_file = \"\"".into(), &["1:14", "it is empty"]),
        ("users_file = \"a\\u0000b\"".into(), &["1:14", "there is a NUL in it"]),
        ("users_file = \"plain:QKXJ\"".into(), &["1:14", "this is a password, and no file"]),
        ("users_file = \"$2b$QKXJ\"".into(), &["1:14", "this is a password, and no file"]),
        ("groups.\"\" = []".into(), &["1:8", "the group has no name"]),
        ("groups.staff = [\"\"]".into(), &["1:17", "it is empty", "groups = { staff"]),
        ("pam_service = \"../shadow\"".into(), &["1:15", "not the name of a service"]),
        ("pam_service = \".\"".into(), &["1:15", "not the name of a service"]),
        ("pam_service = \"a\"\nusers_file = \"b\"".into(), &["1:15", "`users_file` exclude"]),
        ("penalty.failure = \"1\"".into(), &["1:19", "a duration needs a unit", "\"5s\""]),
        ("penalty.max = 0".into(), &["1:15", "it cannot be 0", "penalty.failure = 0"]),
        ("penalty.max = \"1s\"".into(), &["1:15", "nobody would be locked"]),
        ("penalty.exempt = [\"10.0.0.1/8\"]".into(), &["1:19", "\"10.0.0.0/8\" for the network"]),
        ("gssapi.service = \"\"".into(), &["1:18", "it is empty", "such as \"rcmd\""]),
        ("gssapi.realms = []".into(), &["1:17", "from no realm", "of our own service"]),
        ("gssapi.realms = [\"@A\"]".into(), &["1:18", "a realm is what follows the `@`"]),
        ("gssapi.principals = []".into(), &["1:21", "no principal would be a user"]),
        ("gssapi.principals = [\"a@A\"]".into(), &["1:22", "who is this principal here?"]),
        ("gssapi.require = \"encryption\"".into(), &["did you mean \"confidentiality\"?"]),
        (auth("[]"), &["3:8", "nobody could be served", "= auth = ["]),
        (auth("[{}]"), &["3:9", "this rule has no `methods`", "methods = ["]),
        (auth("[{ methods = [] }]"), &["3:9", "nobody could log in", "leave the rule out"]),
        (auth("[{ methods = [\"gss\"] }]"), &["3:22", "this is no method", "or \"gssapi\""]),
        (auth("[{ methods = [\"None\"] }]"), &["3:22", "did you mean \"none\"?"]),
        (auth("[{ methods = [\"none\", \"none\"] }]"), &["3:9", "\"none\" is given twice"]),
        (
            auth("[{ from = [], methods = [\"none\"] }]"),
            &["3:18", "nobody would come", "for every"],
        ),
        (auth("[{ from = \"lan\" }]"), &["3:18", "this is not an IP address"]),
        (auth("[{ from = [\"::1\", \"10.0.0.0/99\"] }]"), &["3:26", "a number from 0 to 32"]),
        (auth("[{ groups = [], methods = [] }]"), &["3:20", "nobody is in no group"]),
        (auth("[{ groups = [\"\"], methods = [] }]"), &["3:21", "it is empty"]),
        (
            auth("[{ groups = [\"staff\"], methods = [\"password\", \"none\"] }]"),
            &["3:9", "is nobody, and in no group", "leave out \"none\" or `groups`"],
        ),
        (
            auth("[{ groups = [\"staff\"], methods = [\"gssapi\"] }]"),
            &["3:9", "there is no group \"staff\"", "`groups` or `groups_file`"],
        ),
    ];
    for (text, fragments) in cases {
        let error = error_of(read(text));
        assert!(error.starts_with("r.toml:"), "{text}\n{error}");
        for fragment in *fragments {
            assert!(error.contains(fragment), "{fragment:?} is not in:\n{error}");
        }
        assert!(!error.contains("QKXJ"), "{error}");
    }
}

#[test]
fn the_environment_says_who_may_log_in() {
    let variables = [
        ("RINGSOCKS_USERS_FILE", "/u"),
        ("RINGSOCKS_GROUPS_staff", "alice, bob"),
        ("RINGSOCKS_GROUPS_n o", "carol"),
        ("RINGSOCKS_GROUPS_FILE", "/g"),
        ("RINGSOCKS_LISTEN", "1080,:1081"),
        ("RINGSOCKS_LISTEN_AUTH", "127.0.0.0/8 + ::1=none, gssapi+password"),
    ];
    let config = load(&[], &variables).unwrap();
    assert_eq!(config.users_file, Some("/u".into()));
    assert_eq!(config.groups_file, Some("/g".into()));
    assert_eq!(config.groups["staff"], ["alice", "bob"]);
    assert_eq!(config.groups["n o"], ["carol"]);
    let rules = [
        "{ from = [\"127.0.0.0/8\", \"::1/128\"], methods = [\"none\"] }",
        "{ methods = [\"gssapi\", \"password\"] }",
    ];
    assert_eq!(config.listen.len(), 2);
    assert!(config.listen.iter().all(|listen| shown(&config.auth_rules(listen)) == rules));

    let wrong = [
        ("RINGSOCKS_LISTEN_AUTH", "", "this is no method"),
        ("RINGSOCKS_LISTEN_AUTH", "none,10.0.0.0/99=none", "from 0 to 32\n  | 10.0.0.0/99=none\n"),
        ("RINGSOCKS_LISTEN_AUTH", "none,password", "come to this rule\n  | password\n"),
        ("RINGSOCKS_LISTEN_AUTH", "::1=none, password", "there are no users\n  | ::1=none, passw"),
        ("RINGSOCKS_LISTEN_AUT", "none", "did you mean `RINGSOCKS_LISTEN_AUTH`?"),
        ("RINGSOCKS_GROUPS", "a", "did you mean `RINGSOCKS_GROUPS_NAME=USER,USER`?"),
        ("RINGSOCKS_GROUPS_", "a", "RINGSOCKS_GROUPS_: the group has no name"),
        ("RINGSOCKS_GROUPS_a", "b,,c", "RINGSOCKS_GROUPS_a: it is empty"),
        ("RINGSOCKS_PAM_SERVICE", "a/b", "not the name of a service\n  | a/b\n"),
        ("RINGSOCKS_USERS_FILE", "plain:x", "no file\n  = a user who is called FILE: RINGSOCKS_US"),
    ];
    for (name, value, expected) in wrong {
        let error = error_of(load(&[], &[(name, value)]));
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
    let both = [("RINGSOCKS_PAM_SERVICE", "socks")];
    let error = error_of(load(&["--user", "alice:x"], &both));
    let expected = "environment variable RINGSOCKS_PAM_SERVICE: `pam_service` and `users` exclude \
                    each other\n  | socks\n";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_later_layer_replaces_rules_and_groups_as_a_whole() {
    let file = file_of(
        "users_file = \"u\"\ngroups = { staff = [\"a\"] }\n[[listen]]\naddress = 1081\n\
         auth = [{ methods = [\"password\"], groups = [\"staff\"] }]",
    );
    let file = ["-c", name_of(file.path())];
    let config = load(&file, &[("RINGSOCKS_LISTEN", "1082")]).unwrap();
    assert_eq!(config.listen[0].auth, None, "another listener has not its rules");
    let config = load(&file, &[("RINGSOCKS_LISTEN_AUTH", "none")]).unwrap();
    assert_eq!(config.methods(&config.listen[0]), "none");
    let error = error_of(load(&file, &[("RINGSOCKS_GROUPS_ops", "a")]));
    assert!(error.contains(":5:9: there is no group \"staff\""), "{error}");
    let error = error_of(load(&file, &[("RINGSOCKS_LISTEN_AUTH", "none,none")]));
    assert!(error.starts_with("environment variable RINGSOCKS_LISTEN_AUTH: no client"), "{error}");
}

#[test]
fn a_proxy_is_as_open_as_its_rules() {
    let listen = |rules: &str| {
        format!("users_file = \"u\"\n[[listen]]\naddress = \":1080\"\nauth = [{rules}]")
    };
    let none = "methods = [\"none\"]";
    let safe = [
        listen("{ methods = [\"gssapi\", \"password\"] }"),
        listen(&format!("{{ from = [\"127.0.0.0/8\", \"::1\"], {none} }}")),
        listen(&format!("{{ from = \"127.0.0.1\", {none} }}, {{ methods = [\"password\"] }}")),
        format!("open = true\n{}", listen(&format!("{{ {none} }}"))),
        listen(&format!("{{ {none} }}")) + "\nclients = [\"10.0.0.0/8\"]",
        listen(&format!("{{ {none} }}")).replace(":1080", "1080"),
        "pam_service = \"socks\"\n[[listen]]\naddress = \":1080\"".to_owned(),
        "gssapi.service = \"rcmd\"\n[[listen]]\naddress = \":1080\"".to_owned(),
    ];
    for text in &safe {
        read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
    let open = [
        listen(&format!("{{ {none} }}")),
        listen("{ methods = [\"password\", \"none\"] }"),
        listen(&format!("{{ from = \"::/0\", {none} }}, {{ methods = [\"password\"] }}")),
        listen(&format!("{{ from = \"10.0.0.0/8\", {none} }}, {{ methods = [\"password\"] }}")),
        "users_file = \"u\"\n[[listen]]\naddress = 1\n".to_owned()
            + &listen(&format!("{{ {none} }}")).replace("users_file = \"u\"\n", ""),
    ];
    for text in &open {
        let error = error_of(read(text));
        assert!(error.starts_with("the listener \":1080\" would be an open proxy"), "{error}");
    }
}

#[test]
fn what_is_shown_of_authentication_reads_back() {
    let others = "groups = { \"a\\\"b\\n\" = [\"x\\\\y\"], staff = [] }\npam_service = \"socks\"\n\
                  gssapi = { clear = true, principals = [\"a\\\"@A=b c\"], realms = [\"'\"] }\n\
                  [[listen]]\naddress = 1\n\
                  auth = [{ methods = [\"password\"], groups = [\"a\\\"b\\n\"] }]";
    let config = read(others).unwrap();
    let shown = config.to_string();
    assert!(
        shown.contains("pam_service = \"socks\"\n") && shown.contains("clear = true"),
        "{shown}"
    );
    let again = read(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(again.to_string(), shown);
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

#[test]
fn what_was_said_is_known_to_be_said_there() {
    let file = file_of(
        "users = { alice = \"$2b$x\" }\npam_library = \"a\"\n[[listen]]\naddress = 1\n\
         auth = [\n { methods = [\"password\"] },\n]\n[gssapi]\nkeytab = \"k\"",
    );
    let name = name_of(file.path());
    let config = load(&["-c", name], &[("RINGSOCKS_GSSAPI_SERVICE", "rcmd")]).unwrap();
    for (key, place) in [
        ("users.alice", "1:19"),
        ("pam_library", "2:15"),
        ("gssapi", "8:2"),
        ("gssapi.keytab", "9:10"),
    ] {
        assert_eq!(config.place(key), Some(&*format!("{name}:{place}")), "{key}");
    }
    assert_eq!(config.place_of_rule(0, 0), Some(&*format!("{name}:6:2")));
    let variable = "environment variable RINGSOCKS_GSSAPI_SERVICE";
    assert_eq!(config.place("gssapi.service"), Some(variable));
    assert_eq!((config.place("users"), config.place_of_rule(0, 1)), (None, None));
    let variables = [("RINGSOCKS_USERS_bob", "$2b$x"), ("RINGSOCKS_LISTEN_AUTH", "none")];
    let config = load(&["-c", name], &variables).unwrap();
    assert_eq!(config.place("users.bob"), Some("environment variable RINGSOCKS_USERS_bob"));
    let variable = "environment variable RINGSOCKS_LISTEN_AUTH";
    assert_eq!(config.place_of_rule(0, 0), Some(variable));
    assert!(!format!("{config:?}").contains(variable), "where is no part of what");
}
