//! The layers together: what each accepts, what wins, what an error says and what it must not.

mod login;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::keys::KEYS;
use super::schema::Form;
use super::*;

fn read(text: &str) -> Result<Config, Error> {
    Config::parse("r.toml", text)
}

fn load(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, Error> {
    let args = ["ringsocks"].iter().chain(args);
    let args = Args::try_parse_from(args).unwrap_or_else(|usage| panic!("{usage}"));
    Config::load(&args, variables.iter().map(|(name, value)| (name.into(), value.into())))
}

fn error_of(result: Result<Config, Error>) -> String {
    match result {
        Ok(config) => panic!("accepted:\n{config}"),
        Err(error) => error.to_string(),
    }
}

fn file_of(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_ref()).unwrap();
    file
}

fn plain<'c>(users: &'c BTreeMap<String, Password>, user: &str) -> &'c [u8] {
    match &users[user] {
        Password::Plain(secret) => secret.expose(),
        Password::Hash(_) => panic!("the password of {user} is a hash"),
    }
}

fn name_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn lines(lines: &[&str]) -> String {
    lines.join("\n")
}

const WHOLE: &str = r#"
workers = 4
cpus = "2-5,8"
poll = "spin"
resolver = ["192.0.2.1", "[2001:db8::1]:5353"]
drain = "45s"
relay = "splice"
access_log = "/var/log/ringsocks.log"
log = "debug"
open = true
users = { alice = "plain:wonder:land", "bob b" = "plain:" }
users_file = "/etc/ringsocks/users"
groups = { staff = ["alice", "bob b"], "n o" = [] }
groups_file = "groups"
pam_library = "/lib/libpam.so.9"
pam_confdir = "/etc/ringsocks/pam.d"
auth_once = "10m"

[[listen]]
address = "0.0.0.0:1080"
clients = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]
targets = ["public", "10.0.0.0/8", "2001:db8::7"]
commands = ["connect", "bind"]
auth = [
  { from = "127.0.0.0/8", methods = ["none"] },
  { from = ["10.0.0.0/8", "::1"], methods = ["gssapi", "password"], groups = ["staff", "ops"] },
  { methods = ["password"] },
]

[[listen]]
address = 1081

[timeout]
handshake = "11s"
resolve = "6s"
connect = "250ms"
idle = 0
half_closed = "0"
closing = "1s"

[limit]
sessions = 9000
sessions_per_client = 500
handshakes_per_client = 0
ports_per_client = 20
buffers = "64MiB"

[udp]
ports = "50000-50099"
advertise = ["10.0.0.0/8=10.0.0.1", "2001:db8::/32=2001:db8::1", "203.0.113.7"]
idle = "90s"
peers = 100
client_check = "address"
filter = "endpoint-independent"
fragments = "drop"

[bind]
ports = 0
advertise = ["203.0.113.8"]
timeout = 0

[penalty]
failure = "1s"
threshold = 0
max = "1m"
exempt = ["10.0.0.0/8", "2001:db8::7"]

[gssapi]
library = "./stub.so"
keytab = "FILE:/etc/ringsocks.keytab"
service = "rcmd"
realms = ["PROXY.TEST", "OTHER.TEST"]
principals = ["*/admin@PROXY.TEST=admin", "*@*=*"]
require = "confidentiality"
clear = false
"#;

#[test]
fn every_key_of_a_file_arrives() {
    let config = read(WHOLE).unwrap();
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(config.workers, Some(4));
    assert_eq!(config.cpus.as_ref().unwrap().iter().collect::<Vec<_>>(), [2, 3, 4, 5, 8]);
    assert_eq!(config.poll, Polling::Spin);
    assert_eq!(config.drain, Duration::from_secs(45));
    let servers = ["192.0.2.1:53", "[2001:db8::1]:5353"].map(|server| server.parse().unwrap());
    assert_eq!(config.resolver, Resolver::Servers(servers.to_vec()));
    assert_eq!(config.relay, RelayMode::Splice);
    assert_eq!(config.access_log, AccessLog::File("/var/log/ringsocks.log".into()));
    assert_eq!(config.log, LevelFilter::Debug);
    assert!(config.open);
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "bob b"]);
    assert_eq!(plain(&config.users, "alice"), b"wonder:land");
    assert_eq!(plain(&config.users, "bob b"), b"");
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.listen[0].address, ListenAddress::Exact("0.0.0.0:1080".parse().unwrap()));
    let clients: Vec<_> = config.listen[0].clients.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    let targets = config.listen[0].targets.as_ref().unwrap();
    let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["public", "10.0.0.0/8", "2001:db8::7/128"]);
    assert_eq!(config.listen[1].address, ListenAddress::Loopback(1081));
    assert_eq!(config.listen[1].targets, None);
    let commands = config.listen[0].commands.as_deref();
    assert_eq!(commands, Some(&[ListenCommand::Connect, ListenCommand::Bind][..]));
    assert_eq!(config.listen[1].commands, None);
    let expected = Timeouts {
        handshake: seconds(11),
        resolve: seconds(6),
        connect: Some(Duration::from_millis(250)),
        idle: None,
        half_closed: None,
        closing: seconds(1),
    };
    assert_eq!(config.timeout, expected);
    let expected = Limits {
        sessions: Some(9000),
        sessions_per_client: Some(500),
        handshakes_per_client: None,
        ports_per_client: Some(20),
        buffers: 64 << 20,
    };
    assert_eq!(config.limit, expected);
    assert_eq!((config.udp.ports.first(), config.udp.ports.count()), (50000, 100));
    assert_eq!((config.udp.idle, config.udp.peers), (seconds(90), 100));
    assert_eq!(config.udp.client_check, ClientCheck::Address);
    assert_eq!(config.udp.filter, Filter::EndpointIndependent);
    assert_eq!(config.udp.fragments, Fragments::Drop);
    let told = |advertise: &Advertise, who: &str, own: &str| {
        advertise.address_for(who.parse().unwrap(), own.parse().unwrap()).to_string()
    };
    assert_eq!(told(&config.udp.advertise, "10.1.2.3", "192.168.0.1"), "10.0.0.1");
    assert_eq!(told(&config.udp.advertise, "2001:db8::9", "fd00::1"), "2001:db8::1");
    assert_eq!(told(&config.udp.advertise, "192.0.2.1", "192.168.0.1"), "203.0.113.7");
    assert_eq!(told(&config.bind.advertise, "10.1.2.3", "192.168.0.1"), "203.0.113.8");
    assert!(config.bind.ports.is_any());
    assert_eq!(config.bind.timeout, None);
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let expected = r#"# workers: one per CPU
# cpus: all that this process may use
poll = "wait"
# resolver: the servers of resolv.conf
drain = "30s"
relay = "auto"
access_log = "stdout"
log = "info"
open = false
users = {}
# users_file: none
groups = {}
# groups_file: none
# pam_service: PAM is not asked
pam_library = "libpam.so.0"
# pam_confdir: the system's
auth_once = 0

[[listen]]
address = "1080" # 127.0.0.1:1080 and [::1]:1080
clients = [] # everyone who can reach it
# targets: everything from this host, public from others
# commands: everything over loopback, connect from others
# auth: none

[timeout]
handshake = "10s"
resolve = "5s"
connect = "10s"
idle = "2h"
half_closed = "1m"
closing = "2s"

[limit]
# sessions: what the descriptor limit allows
sessions_per_client = 0
handshakes_per_client = 256
ports_per_client = 0
buffers = "256MiB"

[udp]
ports = "40000-40999"
# advertise: our own address
idle = "5m"
peers = 4096
client_check = "strict"
filter = "address"
fragments = "reassemble"

[bind]
ports = "41000-41999"
# advertise: our own address
timeout = "2m"

[penalty]
failure = "5s"
threshold = "15s"
max = "10m"
exempt = []

[gssapi]
library = "libgssapi_krb5.so.2"
# keytab: the default of the library
# service: any that there is a key of
# realms: that of our own service
principals = ["*@*=*"]
require = "integrity"
clear = false
"#;
    assert_eq!(Config::default().to_string(), expected);
    assert_eq!(read("").unwrap().to_string(), expected);
    assert_eq!(load(&[], &[("PATH", "/bin"), ("RINGSOCK", "x")]).unwrap().to_string(), expected);
    assert_eq!(read(expected).unwrap().to_string(), expected, "what is shown reads back");
}

#[test]
fn what_is_shown_of_a_whole_file_reads_back() {
    let without_users: String = WHOLE
        .lines()
        .filter(|line| !line.starts_with("users ="))
        .map(|l| format!("{l}\n"))
        .collect();
    let shown = read(&without_users).unwrap().to_string();
    assert!(shown.contains("idle = 0\nhalf_closed = 0\n"), "{shown}");
    assert!(shown.contains("\"10.0.0.0/8\", \"192.0.2.1/32\", \"2001:db8::/32\""), "{shown}");
    assert!(shown.contains("resolver = [\"192.0.2.1:53\", \"[2001:db8::1]:5353\"]\n"), "{shown}");
    assert!(shown.contains("targets = [\"public\", \"10.0.0.0/8\", "), "{shown}");
    assert_eq!(read(&shown).unwrap().to_string(), shown);
    assert!(shown.contains("ports = \"0\"\nadvertise = [\"203.0.113.8\"]\ntimeout = 0"), "{shown}");
    assert!(shown.contains("commands = [\"connect\", \"bind\"]\n"), "{shown}");
    let others = "resolver = \"system\"\naccess_log = \"off\"";
    let shown = read(others).unwrap().to_string();
    assert!(others.lines().all(|line| shown.contains(line)), "{shown}");
    assert_eq!(read(&shown).unwrap().to_string(), shown);
}

#[test]
fn no_key_drives_a_terminal() {
    let error = error_of(read("\"work\\u001b[31m\\ners\" = 4"));
    assert!(error.starts_with("r.toml:1:1: unknown key `work [31m ers`\n"), "{error}");
}

#[test]
fn a_name_is_shown_as_a_file_would_have_it() {
    let shown = read(r#"users = { "bob \b\u00e9" = "plain:x" }"#).unwrap().to_string();
    let read = read(&shown.replace("***", "plain:x")).unwrap();
    assert_eq!(read.users.keys().collect::<Vec<_>>(), ["bob \u{8}é"]);
}

#[test]
fn an_error_shows_the_place_the_line_and_what_was_meant() {
    let cases: &[(&str, &[&str])] = &[
        (
            "workers = 4\n\ntiemout = \"10s\"\n",
            &[
                "r.toml:3:1: unknown key `tiemout`",
                "  |",
                "3 | tiemout = \"10s\"",
                "  | ^^^^^^^",
                "  = did you mean `timeout`?",
            ],
        ),
        (
            "[timeout]\r\n\tidle = 10 # ü\r\n",
            &[
                "r.toml:2:9: a duration needs a unit",
                "  |",
                "2 |  idle = 10 # ü",
                "  |         ^^",
                "  = a duration such as \"10s\", \"250ms\" or \"2h\"; 0 = never",
            ],
        ),
        (
            "workers = \"4\"",
            &[
                "r.toml:1:11: expected a number, found a string",
                "  |",
                "1 | workers = \"4\"",
                "  |           ^^^",
                "  = a whole number, 1 or more",
            ],
        ),
        (
            "idle = \"10s\"",
            &[
                "r.toml:1:1: unknown key `idle`",
                "  |",
                "1 | idle = \"10s\"",
                "  | ^^^^",
                "  = did you mean `timeout.idle`?",
            ],
        ),
        (
            "\n\n\n\n\n\n\n\n[[listen]]\naddress = 1080\n\n[[listen]]\naddress = \"127.0.0.1:1080\"",
            &[
                "r.toml:13:11: 127.0.0.1:1080 is listened on twice",
                "   |",
                "13 | address = \"127.0.0.1:1080\"",
                "   |           ^^^^^^^^^^^^^^^^",
                "   = the listener \"1080\" has it already",
            ],
        ),
        (
            "[[listen]]\naddress = \"1080\"\nclients = [\n  \"10.0.0.0/8\",\n  \"::/129\",\n]",
            &[
                "r.toml:5:3: a prefix is a number from 0 to 128",
                "  |",
                "5 |   \"::/129\",",
                "  |   ^^^^^^^^",
                "  = an IP address or network such as \"192.0.2.1\", \"10.0.0.0/8\" or \
                 \"2001:db8::/32\"",
            ],
        ),
        (
            "resolver = [\n  \"192.0.2.1\",\n  \"dns.example\",\n]",
            &[
                "r.toml:3:3: an IP address is needed, not a name",
                "  |",
                "3 |   \"dns.example\",",
                "  |   ^^^^^^^^^^^^^",
                "  = \"system\", or servers such as \"192.0.2.1\" or [\"192.0.2.1:5353\", \
                 \"2001:db8::1\"]; without it, those of resolv.conf",
            ],
        ),
        (
            "[[listen]]\naddress = 1\ntargets = [\"public\", \"any\"]",
            &[
                "r.toml:3:22: everything is said in networks",
                "  |",
                "3 | targets = [\"public\", \"any\"]",
                "  |                      ^^^^^",
                "  = targets = [\"0.0.0.0/0\", \"::/0\"]",
            ],
        ),
        (
            "[udp]\nadvertise = [\n  \"203.0.113.7\",\n  \"10.0.0.0/8=10.0.0.1\",\n]",
            &[
                "r.toml:4:3: nobody would be told it: \"203.0.113.7\" stands before it",
                "  |",
                "4 |   \"10.0.0.0/8=10.0.0.1\",",
                "  |   ^^^^^^^^^^^^^^^^^^^^^",
                "  = the first that fits counts: small networks first, addresses without last",
            ],
        ),
        (
            "[[listen]]\naddress = 1\ncommands = [\"connect\", \"udp_associate\"]",
            &[
                "r.toml:3:24: this is no command",
                "  |",
                "3 | commands = [\"connect\", \"udp_associate\"]",
                "  |                        ^^^^^^^^^^^^^^^",
                "  = did you mean \"udp\"?",
            ],
        ),
        (
            "[bind]\nports = \"41999-41000\"",
            &[
                "r.toml:2:9: the range 41999-41000 is empty",
                "  |",
                "2 | ports = \"41999-41000\"",
                "  |         ^^^^^^^^^^^^^",
                "  = did you mean \"41000-41999\"?",
            ],
        ),
        (
            "[users]\nbob = \"plain:x\"\nalice = \"hunter2\"",
            &[
                "r.toml:3:9: the password is in no known scheme",
                "  |",
                "3 | alice = ***",
                "  |         ^^^",
                "  = \"plain:PASSWORD\", or a hash of it such as `ringsocks passwd` makes: \
                 \"$argon2id$...\"",
            ],
        ),
        (
            "user = { alice = \"plain:hunter2\" }",
            &[
                "r.toml:1:1: unknown key `user`",
                "  |",
                "1 | user = ***",
                "  | ^^^^",
                "  = did you mean `users`?",
            ],
        ),
        (
            "[users]\nalice = \"plain:hunter2",
            &[
                "r.toml:2:23: invalid basic string, expected `\"`",
                "  = the line is not shown: the file may hold a password",
            ],
        ),
        (
            "workers = 4\nworkers = 5",
            &["r.toml:2:1: duplicate key", "  |", "2 | workers = 5", "  | ^^^^^^^"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error_of(read(text)), lines(expected));
    }
}

#[test]
fn whatever_is_wrong_is_named() {
    let long = "x".repeat(256);
    let long_name = format!("users = {{ {long} = \"plain:\" }}");
    let long_password = format!("users = {{ alice = \"plain:{long}\" }}");
    let nine_servers = format!("resolver = [{}]", "\"::1\", ".repeat(9));
    let cases: &[(&str, &[&str])] = &[
        // Keys
        ("dns = \"system\"", &["unknown key `dns`", "known here: `workers`, `cpus`"]),
        ("resovler = \"system\"", &["unknown key `resovler`", "did you mean `resolver`"]),
        ("acess_log = \"off\"", &["unknown key `acess_log`", "did you mean `access_log`"]),
        ("limit.session_per_client = 1", &["did you mean `sessions_per_client`"]),
        ("handshakes_per_client = 1", &["did you mean `limit.handshakes_per_client`"]),
        ("[[listen]]\ntarget = []", &["2:1", "in `listen`", "did you mean `targets`"]),
        ("\"\" = 1", &["1:1", "unknown key ``"]),
        ("\"timeout.idle\" = \"1s\"", &["unknown key `timeout.idle`"]),
        (
            "timeout.idel = \"1s\"",
            &["1:9", "unknown key `idel` in `timeout`", "did you mean `idle`"],
        ),
        (
            "[limit]\nuser = 1",
            &["2:1", "unknown key `user` in `limit`", "`sessions`, `sessions_per_client`"],
        ),
        ("[[listen]]\ncleints = []", &["2:1", "in `listen`", "did you mean `clients`"]),
        ("[[listen]]\naddress = 1080\nauth = []", &["3:8", "nobody could be served", "= auth = ["]),
        ("upd.ports = 0", &["1:1", "unknown key `upd`", "did you mean `udp`"]),
        ("udp.port = 0", &["1:5", "unknown key `port` in `udp`", "did you mean `ports`"]),
        ("client_check = \"off\"", &["1:1", "did you mean `udp.client_check`"]),
        ("bind.idle = \"1m\"", &["1:6", "unknown key `idle` in `bind`", "`timeout.idle`"]),
        ("bind.peers = 1", &["1:6", "unknown key `peers` in `bind`", "did you mean `udp.peers`"]),
        ("[[listen]]\ncommand = []", &["2:1", "in `listen`", "did you mean `commands`"]),
        ("limit.port_per_client = 1", &["did you mean `ports_per_client`"]),
        // Types
        ("udp = \"40000-40999\"", &["1:7", "expected the table [udp], found a string", "`ports`"]),
        ("[[bind]]\ntimeout = 0", &["expected the table [bind], found a list", "`advertise`"]),
        ("udp.ports = [1, 2]", &["1:13", "expected ports, found a list", "\"40000-40999\""]),
        ("bind.ports = 1.5", &["expected ports, found a number with a fraction"]),
        ("udp.advertise = \"::1\"", &["expected a list of addresses, found a string", "= adv"]),
        ("bind.advertise = [\"::1\", 7]", &["1:26", "expected a string, found an integer"]),
        ("udp.idle = 300", &["1:12", "a duration needs a unit", "0 = never"]),
        ("udp.peers = \"many\"", &["1:13", "expected a number, found a string", "1 or more"]),
        ("udp.client_check = false", &["1:20", "\"strict\", \"address\" or \"off\""]),
        ("udp.filter = [\"address\"]", &["expected a string, found a list", "\"address-port\" or"]),
        (
            "udp.fragments = 5",
            &["expected a string, found an integer", "\"reassemble\" or \"drop\""],
        ),
        ("[[listen]]\ncommands = \"udp\"", &["2:12", "found a string", "= commands = [\"conn"]),
        ("[[listen]]\ncommands = [1]", &["2:13", "expected a string, found an integer"]),
        ("timeout = \"10s\"", &["1:11", "expected the table [timeout], found a string", "`idle`"]),
        ("[[limit]]\nsessions = 1", &["expected the table [limit], found a list"]),
        ("workers = 1.5", &["expected a number, found a number with a fraction"]),
        ("cpus = 3", &["1:8", "expected a string, found an integer", "\"2-5,8\""]),
        ("cpus = [3]", &["expected a string, found a list"]),
        ("poll = true", &["1:8", "expected a string, found a boolean", "\"wait\" or \"spin\""]),
        ("drain = true", &["expected a duration, found a boolean", "0 = end every session"]),
        ("log = 3", &["expected a string, found an integer", "\"trace\""]),
        ("open = \"true\"", &["expected a boolean, found a string", "true or false"]),
        ("limit.buffers = 1979-05-27", &["expected a size, found a date or time", "\"64MiB\""]),
        ("users = [\"alice\"]", &["1:9", "expected a table of users, found a list", "users = ***"]),
        ("users.alice = 7", &["expected a string, found an integer", "alice = ***"]),
        ("listen = \"1080\"", &["expected [[listen]] tables, found a string"]),
        ("listen = [1080]", &["1:11", "expected a [[listen]] table, found an integer"]),
        ("[listen]\naddress = 1080", &["expected [[listen]] tables, found a table"]),
        ("[[listen]]\naddress = true", &["2:11", "expected an address, found a boolean"]),
        ("[[listen]]\nclients = \"::1\"", &["expected a list of networks, found a string"]),
        ("[[listen]]\nclients = [1]", &["2:12", "expected a string, found an integer"]),
        ("[[listen]]\nclients = [[]]", &["2:12", "expected a string, found a list"]),
        ("[[listen]]\ntargets = \"public\"", &["2:11", "found a string", "= targets = [\"pub"]),
        ("[[listen]]\ntargets = [1]", &["2:12", "expected a string, found an integer"]),
        ("resolver = 53", &["1:12", "expected servers, found an integer", "\"system\", or"]),
        ("resolver = {}", &["expected servers, found a table"]),
        ("resolver = [\"::1\", true]", &["1:20", "expected a string, found a boolean"]),
        ("relay = true", &["1:9", "expected a string", "\"copy\""]),
        ("relay = \"slice\"", &["no way to relay", "did you mean \"splice\"?"]),
        ("relay = \"teleport\"", &["no way to relay", "\"auto\", \"copy\" or"]),
        ("access_log = false", &["1:14", "expected a string, found a boolean", "\"off\""]),
        ("access_log = [\"off\"]", &["expected a string, found a list"]),
        ("limit.sessions_per_client = \"1\"", &["expected a number, found a string", "0 = no"]),
        // Values
        ("workers = 0", &["1:11", "it cannot be 0", "1 or more"]),
        ("workers = -0x1", &["1:11"]),
        ("workers = -4", &["it cannot be negative"]),
        ("workers = 0xffff_ffff_ffff_ffff_ffff", &["the number is too large"]),
        ("cpus = \"5-2\"", &["the range 5-2 is empty", "did you mean 2-5?"]),
        ("cpus = \"0-99999999999\"", &["no machine has a CPU 99999999999"]),
        ("poll = \"busy\"", &["1:8", "this is no way to poll", "\"wait\" or \"spin\""]),
        ("poll = \"Spin\"", &["no way to poll", "did you mean \"spin\"?"]),
        ("drain = \"30\"", &["a duration needs a unit"]),
        ("drain = \"30 parsecs\"", &["this unit of time is unknown"]),
        ("drain = \"soon\"", &["this is not a duration"]),
        ("drain = \"99999999999999999999h\"", &["the duration is too long"]),
        ("timeout.idle = \"18446744073709551615s\"", &["longer than ten years", "0 = never"]),
        ("timeout.idle = \"1us\"", &["whole milliseconds"]),
        ("timeout.idle = -1", &["a duration needs a unit"]),
        ("log = \"verbose\"", &["1:7", "this log level is unknown", "\"debug\""]),
        ("limit.sessions = 0", &["1:18", "it cannot be 0"]),
        ("limit.buffers = 1048576", &["a size needs a unit"]),
        ("limit.buffers = \"1023KiB\"", &["less than 1MiB"]),
        ("limit.buffers = \"99999999EiB\"", &["no machine has that much memory"]),
        ("limit.buffers = \"lots\"", &["this is not a size"]),
        ("listen = []", &["1:10", "nothing to listen on"]),
        ("[[listen]]\n", &["1:1", "this [[listen]] has no `address`"]),
        ("[[listen]]\naddress = \"localhost:1080\"", &["2:11", "an IP address is needed"]),
        ("[[listen]]\naddress = \"127.0.0.1\"", &["the port is missing", "\"127.0.0.1:1080\""]),
        ("[[listen]]\naddress = \"::1\"", &["the port is missing", "\"[::1]:1080\""]),
        ("[[listen]]\naddress = \"fe80::ffff:1\"", &["the port is missing"]),
        ("[[listen]]\naddress = \"*:1080\"", &["did you mean \":1080\"?"]),
        ("[[listen]]\naddress = 65536", &["a port is a number from 0 to 65535"]),
        ("[[listen]]\naddress = -1", &["this is not a listen address"]),
        ("[[listen]]\naddress = \"\"", &["this is not a listen address"]),
        ("[[listen]]\naddress = \"127.0.0.1:99999\"", &["a port is a number"]),
        ("[[listen]]\naddress = \"[::ffff:127.0.0.1]:1\"", &["IPv4 address", "\"127.0.0.1:1\""]),
        ("[[listen]]\naddress = 0\nclients = [\"10.0.0.0/33\"]", &["3:12", "from 0 to 32"]),
        (
            "[[listen]]\naddress = 0\nclients = [\"10.1.0.0/8\"]",
            &["\"10.0.0.0/8\" for the network"],
        ),
        ("[[listen]]\naddress = 0\nclients = [\"lan\"]", &["this is not an IP address"]),
        ("users = { alice = \"argon2:x\" }", &["in no known scheme", "ringsocks passwd"]),
        (&long_name, &["1:11", "the user's name is too long", "255 bytes"]),
        (&long_password, &["1:19", "the password is too long", "255 bytes"]),
        ("users = { a = \"plain:\", a = \"plain:\" }", &["duplicate key"]),
        ("resolver = \"\"", &["1:12", "an IP address is needed"]),
        ("resolver = []", &["1:12", "there is no server in it", "those of resolv.conf"]),
        ("resolver = \"192.0.2.1:0\"", &["1:12", "no server has port 0"]),
        ("resolver = [\"192.0.2.1:99999\"]", &["1:13", "from 1 to 65535"]),
        ("resolver = \"0.0.0.0\"", &["no single server has this address"]),
        ("resolver = \"[ff02::fb]:5353\"", &["no single server has this address"]),
        ("resolver = \"[::1]\"", &["brackets are for", "did you mean \"::1\"?"]),
        ("resolver = \"fe80::1\"", &["needs its interface", "\"[fe80::1%2]:53\""]),
        ("resolver = \"::ffff:192.0.2.1\"", &["IPv4 address", "\"192.0.2.1:53\""]),
        ("resolver = [\"system\", \"::1\"]", &["1:13", "stands alone", "resolver = \"system\""]),
        (&nine_servers, &["1:12", "more than 8 servers"]),
        ("access_log = \"\"", &["1:14", "it is empty", "the path of a file"]),
        ("access_log = \"stderr\"", &["1:14", "cannot go to stderr", "operations are logged"]),
        ("access_log = \"Off\"", &["did you mean \"off\"?", "is \"./Off\""]),
        ("[[listen]]\ntargets = []", &["2:11", "nothing could be connected to", "public"]),
        ("[[listen]]\ntargets = [\"*\"]", &["2:12", "\"0.0.0.0/0\", \"::/0\""]),
        ("[[listen]]\ntargets = [\"pubic\"]", &["did you mean \"public\"?"]),
        ("[[listen]]\ntargets = [\"lan\"]", &["neither \"public\" nor an IP network"]),
        ("[[listen]]\ntargets = [\"10.0.0.1/8\"]", &["\"10.0.0.0/8\" for the network"]),
        (
            "[[listen]]\ntargets = [\"::ffff:10.0.0.0/104\"]",
            &["IPv4 network written as IPv6", "\"10.0.0.0/8\""],
        ),
        ("udp.ports = \"40999-40000\"", &["1:13", "40999-40000 is empty", "\"40000-40999\"?"]),
        ("udp.ports = \"0-40000\"", &["1:13", "port 0 stands in no range", "any that is free"]),
        ("bind.ports = 65536", &["1:14", "a port is a number from 0 to 65535"]),
        ("bind.ports = -1", &["1:14", "this is no range of ports"]),
        ("bind.ports = \"40000,40001\"", &["this is no range of ports", "\"40000-40999\""]),
        ("udp.advertise = [\"0.0.0.0\"]", &["1:18", "nobody can send to", "\"203.0.113.7\""]),
        ("udp.advertise = [\"ff02::1\"]", &["nobody can send to this address"]),
        ("udp.advertise = [\"::ffff:192.0.2.1\"]", &["IPv4 address", "= \"192.0.2.1\""]),
        ("udp.advertise = [\"192.0.2.1:40000\"]", &["the port is not told here", "`ports`"]),
        ("bind.advertise = [\"10.0.0.0/8\"]", &["this is a network", "\"10.0.0.0/8=10.0.0.1\""]),
        ("bind.advertise = [\"ftp.example\"]", &["an IP address is needed, not a name"]),
        ("bind.advertise = [\"10.0.0.1/8=::1\"]", &["\"10.0.0.0/8\" for the network"]),
        ("bind.advertise = [\"::2\", \"::3\"]", &["1:26", "nobody would", "\"::2\" stands before"]),
        ("bind.timeout = \"2\"", &["1:16", "a duration needs a unit"]),
        ("udp.peers = 0", &["1:13", "it cannot be 0", "1 or more"]),
        ("udp.client_check = \"none\"", &["this is no check of clients", "or \"off\""]),
        ("udp.filter = \"address_port\"", &["is no filter", "did you mean \"address-port\"?"]),
        ("udp.filter = \"Address-Dependent\"", &["did you mean \"address\"?"]),
        ("udp.filter = \"full cone\"", &["did you mean \"endpoint-independent\"?"]),
        ("udp.fragments = \"keep\"", &["is no way with fragments", "\"reassemble\" or \"drop\""]),
        ("[[listen]]\ncommands = []", &["2:12", "nothing could be asked for", "\"udp\""]),
        ("[[listen]]\ncommands = [\"UDP\"]", &["2:13", "did you mean \"udp\"?"]),
        ("[[listen]]\ncommands = [\"all\"]", &["no command", "\"connect\", \"udp\" or \"bind\""]),
        (
            "[[listen]]\ncommands = [\"udp\", \"bind\", \"udp\"]",
            &["2:28", "\"udp\" is given twice"],
        ),
        ("limit.ports_per_client = -1", &["1:26", "cannot be negative", "0 = no limit"]),
        ("limit.sessions_per_client = -1", &["1:29", "cannot be negative", "0 = no limit"]),
        // Not TOML at all
        ("workers", &["1:8", "expected `=`"]),
        ("workers =", &["1:10"]),
        ("[timeout", &["1:9", "unclosed table"]),
        ("\u{1b}]0;x\u{7}", &["r.toml:1:"]),
    ];
    for (text, fragments) in cases {
        let error = error_of(read(text));
        assert!(error.starts_with("r.toml:"), "{error}");
        for fragment in *fragments {
            assert!(error.contains(fragment), "{fragment:?} is not in:\n{error}");
        }
        assert!(!error.contains(['\u{1b}', '\u{7}', '\r', '\t']), "{error:?}");
    }
}

#[test]
fn an_unreadable_file_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere.toml");
    assert_eq!(
        error_of(load(&["-c", name_of(&missing)], &[])),
        format!(
            "{}: cannot read it: No such file or directory (os error 2)\n  \
             = it is the configuration named by --config",
            missing.display()
        )
    );
    let error = error_of(load(&[], &[("RINGSOCKS_CONFIG", name_of(directory.path()))]));
    assert!(error.contains("cannot read it: Is a directory"), "{error}");
    assert!(error.ends_with("= it is the configuration named by RINGSOCKS_CONFIG"), "{error}");

    let file = file_of(b"workers = 1\nlog = \"\xff\"\n");
    let error = error_of(load(&["-c", name_of(file.path())], &[]));
    assert!(error.contains("it is not UTF-8 text (line 2)"), "{error}");

    let error = error_of(load(&["-c", "/dev/zero"], &[]));
    assert!(error.contains("it is larger than 1024 KiB"), "{error}");
}

#[test]
fn flags_win_over_the_environment_over_the_file() {
    let file = file_of(WHOLE);
    let file = name_of(file.path());
    let from_file = load(&["-c", file], &[]).unwrap();
    assert_eq!((from_file.workers, from_file.drain), (Some(4), Duration::from_secs(45)));

    let variables = [
        ("RINGSOCKS_CONFIG", "/nonexistent"),
        ("RINGSOCKS_WORKERS", "5"),
        ("RINGSOCKS_DRAIN", "46s"),
        ("RINGSOCKS_TIMEOUT_IDLE", "7m"),
        ("RINGSOCKS_LISTEN", "1082, [::1]:1083"),
        ("RINGSOCKS_USER", "carol:pass:word"),
        ("RINGSOCKS_USERS_dave d", "plain:x"),
    ];
    let config = load(&["-c", file], &variables).unwrap();
    assert_eq!((config.workers, config.drain), (Some(5), Duration::from_secs(46)));
    assert_eq!(config.timeout.idle, Some(Duration::from_secs(420)));
    assert_eq!(config.timeout.connect, Some(Duration::from_millis(250)), "the file still counts");
    let addresses: Vec<_> = config.listen.iter().map(|l| l.address.to_string()).collect();
    assert_eq!(addresses, ["1082", "[::1]:1083"]);
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["carol", "dave d"]);
    assert_eq!(plain(&config.users, "carol"), b"pass:word");

    let flags = [
        ["-c", file],
        ["--workers", "6"],
        ["--cpus", "1-7"],
        ["--poll", "wait"],
        ["--resolver", "::1, 192.0.2.7:54"],
        ["--access-log", "off"],
        ["--drain", "47s"],
        ["--log", "off"],
        ["--listen", "1084"],
        ["--listen", ":1085"],
        ["-u", "erin:"],
        ["--user", "frank:a:b"],
    ];
    let config = load(&flags.concat(), &variables).unwrap();
    assert_eq!((config.workers, config.drain), (Some(6), Duration::from_secs(47)));
    assert_eq!(config.cpus.as_ref().unwrap().to_string(), "1-7");
    assert_eq!(config.poll, Polling::Wait, "the file says spin");
    assert_eq!(config.resolver.to_string(), "[\"[::1]:53\", \"192.0.2.7:54\"]");
    assert_eq!(config.access_log, AccessLog::Off);
    assert_eq!(config.log, LevelFilter::Off);
    let addresses: Vec<_> = config.listen.iter().map(|l| l.address.to_string()).collect();
    assert_eq!(addresses, ["1084", ":1085"]);
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["erin", "frank"]);
    assert_eq!(plain(&config.users, "frank"), b"a:b");
    assert_eq!(config.timeout.idle, Some(Duration::from_secs(420)), "the environment still counts");

    let config = load(&[], &[("RINGSOCKS_CONFIG", file)]).unwrap();
    assert_eq!(config.workers, Some(4));
    let not_open = [("RINGSOCKS_CONFIG", file), ("RINGSOCKS_OPEN", "false")];
    assert!(!load(&[], &not_open).unwrap().open);
    assert!(load(&["--open"], &not_open).unwrap().open);
}

#[test]
fn every_variable_sets_its_key() {
    for key in KEYS {
        let (value, shown) = match key.path {
            "workers" | "limit.sessions" => ("7", "7"),
            "limit.sessions_per_client" | "limit.handshakes_per_client" => ("7", "7"),
            "limit.ports_per_client" | "udp.peers" => ("7", "7"),
            "udp.ports" | "bind.ports" => ("50000 - 50009", "\"50000-50009\""),
            "udp.advertise" | "bind.advertise" => {
                ("10.0.0.0/8=10.0.0.1, ::1", "[\"10.0.0.0/8=10.0.0.1\", \"::1\"]")
            }
            "udp.client_check" => ("off", "\"off\""),
            "udp.filter" => ("address-port", "\"address-port\""),
            "udp.fragments" => ("drop", "\"drop\""),
            "cpus" => ("1-3", "\"1-3\""),
            "poll" => ("spin", "\"spin\""),
            "log" => ("trace", "\"trace\""),
            "relay" => ("copy", "\"copy\""),
            "open" => ("true", "true"),
            "resolver" => ("192.0.2.1:5353,::1", "[\"192.0.2.1:5353\", \"[::1]:53\"]"),
            "access_log" => ("/var/log/access", "\"/var/log/access\""),
            "limit.buffers" => ("3MiB", "\"3MiB\""),
            "users" | "groups" => continue,
            "users_file" | "groups_file" | "pam_confdir" => ("/etc/a b", "\"/etc/a b\""),
            "pam_library" | "gssapi.library" => ("./lib.so", "\"./lib.so\""),
            "pam_service" | "gssapi.service" => ("socks", "\"socks\""),
            "gssapi.keytab" => ("/etc/a.keytab", "\"/etc/a.keytab\""),
            "gssapi.realms" => ("A.TEST, B", "[\"A.TEST\", \"B\"]"),
            "gssapi.principals" => ("*@A=*, x@B=y", "[\"*@A=*\", \"x@B=y\"]"),
            "gssapi.require" => ("confidentiality", "\"confidentiality\""),
            "gssapi.clear" => ("true", "true"),
            "penalty.max" => ("20m", "\"20m\""),
            "penalty.exempt" => ("10.0.0.0/8, ::1", "[\"10.0.0.0/8\", \"::1/128\"]"),
            "listen" => ("1099", "\"1099\" # 127.0.0.1:1099 and [::1]:1099"),
            _ => ("77ms", "\"77ms\""),
        };
        let name = if matches!(key.form, Form::Listen) { "address" } else { key.split().1 };
        let config = load(&[], &[(&key.variable(), value)]).unwrap();
        let changed: Vec<_> = Config::default()
            .to_string()
            .lines()
            .zip(config.to_string().lines())
            // What a listener asks for follows from who there is.
            .filter(|(before, after)| before != after && !after.starts_with("# auth: "))
            .map(|(_, after)| after.to_owned())
            .collect();
        assert_eq!(changed, [format!("{name} = {shown}")], "{}", key.path);
    }
}

#[test]
fn a_variable_says_what_a_file_says() {
    let cases = [
        ("udp.ports", "0", "0"),
        ("udp.ports", "\"50000\"", "50000"),
        ("bind.ports", "\"1-65535\"", "1-65535"),
        ("udp.advertise", "[\"::1=::2\", \"192.0.2.1\"]", "::1=::2,192.0.2.1"),
        ("bind.advertise", "[\"10.0.0.0/8 = 10.0.0.1\"]", "10.0.0.0/8 = 10.0.0.1"),
        ("udp.idle", "0", "0"),
        ("bind.timeout", "\"1m 30s\"", "1m 30s"),
        ("udp.peers", "1", "1"),
        ("udp.client_check", "\"off\"", "off"),
        ("udp.client_check", "\"strict\"", "strict"),
        ("udp.filter", "\"address\"", "address"),
        ("udp.filter", "\"address-port\"", "address-port"),
        ("udp.fragments", "\"reassemble\"", "reassemble"),
        ("limit.ports_per_client", "3", "3"),
        ("listen.commands", "[\"udp\", \"connect\", \"bind\"]", "udp, connect,bind"),
    ];
    for (path, value, variable) in cases {
        let text = match path.strip_prefix("listen.") {
            Some(key) => format!("[[listen]]\naddress = 1080\n{key} = {value}"),
            None => format!("{path} = {value}"),
        };
        let from_file = read(&text).unwrap_or_else(|error| panic!("{error}")).to_string();
        let name = format!("RINGSOCKS_{}", path.replace('.', "_").to_uppercase());
        assert_eq!(load(&[], &[(&name, variable)]).unwrap().to_string(), from_file, "{path}");
        assert_eq!(read(&from_file).unwrap().to_string(), from_file, "{path}");
    }
}

#[test]
fn a_bad_variable_or_flag_is_named_and_shown() {
    assert_eq!(
        error_of(load(&[], &[("RINGSOCKS_TIMEOUT_IDLE", "10")])),
        lines(&[
            "environment variable RINGSOCKS_TIMEOUT_IDLE: a duration needs a unit",
            "  | 10",
            "  = a duration such as \"10s\", \"250ms\" or \"2h\"; 0 = never",
        ])
    );
    assert_eq!(
        error_of(load(&["--workers", "0"], &[])),
        "flag --workers: it cannot be 0\n  | 0\n  = a whole number, 1 or more"
    );
    let variables = [
        ("RINGSOCKS_TIMEOUT_IDEL", "1s", "did you mean `RINGSOCKS_TIMEOUT_IDLE`?"),
        ("RINGSOCKS_USERS", "x", "did you mean `RINGSOCKS_USERS_NAME=plain:PASSWORD`?"),
        ("RINGSOCKS_USR", "x", "did you mean `RINGSOCKS_USER`?"),
        ("RINGSOCKS_CONFG", "x", "did you mean `RINGSOCKS_CONFIG`?"),
        ("RINGSOCKS_", "x", "known here: `RINGSOCKS_WORKERS`"),
        ("RINGSOCKS_PORT", "tcp://10.0.0.1:1080", "enableServiceLinks: false"),
        ("RINGSOCKS_WORKERS", "", "RINGSOCKS_WORKERS: this is not a number"),
        ("RINGSOCKS_POLL", "", "\"wait\" or \"spin\""),
        ("RINGSOCKS_OPEN", "yes", "true or false"),
        ("RINGSOCKS_LISTEN", "", "this is not a listen address"),
        ("RINGSOCKS_LISTEN", "1080,x\n:1", "  | x :1\n"),
        ("RINGSOCKS_LISTEN", "1080,1080", "127.0.0.1:1080 is listened on twice"),
        ("RINGSOCKS_LISTEN", ":1080", "would be an open proxy"),
        ("RINGSOCKS_RESOLVER", "", "an IP address is needed"),
        ("RINGSOCKS_RESOLVER", "::1,dns.example, ::2", "  | dns.example\n"),
        ("RINGSOCKS_RESOLVER", "::1,system", "\"system\" stands alone"),
        ("RINGSOCKS_ACCESS_LOG", "", "it is empty"),
        ("RINGSOCKS_LISTEN_TARGETS", "", "neither \"public\" nor"),
        ("RINGSOCKS_LISTEN_TARGETS", "public, 10.0.0.0/99", "  | 10.0.0.0/99\n"),
        ("RINGSOCKS_LISTEN_COMMANDS", "", "this is no command"),
        ("RINGSOCKS_LISTEN_COMMANDS", "connect, tor-resolve", "  | tor-resolve\n"),
        ("RINGSOCKS_LISTEN_COMMANDS", "udp,bind,udp", "\"udp\" is given twice\n  | udp\n"),
        ("RINGSOCKS_LISTEN_COMMAND", "udp", "did you mean `RINGSOCKS_LISTEN_COMMANDS`?"),
        ("RINGSOCKS_UDP_PORT", "0", "did you mean `RINGSOCKS_UDP_PORTS`?"),
        ("RINGSOCKS_UDP_PORTS", "0-1", "port 0 stands in no range\n  | 0-1\n"),
        ("RINGSOCKS_BIND_ADVERTISE", "::2, ::1=x", "needed, not a name\n  | ::1=x\n"),
        ("RINGSOCKS_UDP_FILTER", "off", "this is no filter\n  | off\n"),
        ("RINGSOCKS_LISTEN_TARGET", "public", "did you mean `RINGSOCKS_LISTEN_TARGETS`?"),
        ("RINGSOCKS_USER", "alice", "RINGSOCKS_USER: there is no colon in it\n  = NAME:PASSWORD"),
        ("RINGSOCKS_USERS_alice", "secret", "RINGSOCKS_USERS_alice: the password is in no known"),
    ];
    for (name, value, expected) in variables {
        let error = error_of(load(&[], &[(name, value)]));
        assert!(error.contains(expected), "{expected:?} is not in:\n{error}");
    }
    let flags = [
        ("--cpus", "x", "flag --cpus: this is not a list of CPUs\n  | x\n"),
        ("--resolver", "x", "flag --resolver: an IP address is needed, not a name\n  | x\n"),
        ("--access-log", "stderr", "flag --access-log: the access log cannot go to stderr\n"),
        ("--drain", "1", "flag --drain: a duration needs a unit\n  | 1\n"),
        ("--log", "loud", "flag --log: this log level is unknown\n  | loud\n"),
        ("--listen", "localhost:1", "flag --listen: an IP address is needed, not a name\n"),
        ("--user", "alice", "flag --user: there is no colon in it\n  = NAME:PASSWORD"),
    ];
    for (flag, value, expected) in flags {
        let error = error_of(load(&[flag, value], &[]));
        assert!(error.starts_with(expected), "{expected:?} does not start:\n{error}");
    }
    let twice = [("RINGSOCKS_USER", "alice:x"), ("RINGSOCKS_USERS_alice", "plain:y")];
    let error = error_of(load(&[], &twice));
    assert!(error.contains("the user \"alice\" is given twice"), "{error}");
}

#[test]
fn what_is_not_utf8_is_said_or_kept() {
    let args = Args::try_parse_from(["ringsocks"]).ok().unwrap();
    let load = |name: &[u8], value: &[u8]| {
        let variable = [name, value].map(|bytes| OsString::from_vec(bytes.to_vec()));
        Config::load(&args, [variable.into()])
    };
    let error = error_of(load(b"RINGSOCKS_LOG", b"\xff"));
    assert!(error.contains("RINGSOCKS_LOG: it is not UTF-8 text"), "{error}");
    let error = error_of(load(b"RINGSOCKS_USERS_\xff", b"plain:x"));
    assert!(error.contains("its name is not UTF-8"), "{error}");
    let error = error_of(load(b"RINGSOCKS_USER", b"\xff:x"));
    assert!(error.contains("the user's name is not UTF-8"), "{error}");
    let config = load(b"RINGSOCKS_USER", b"alice:\xff\xfe").unwrap();
    assert_eq!(plain(&config.users, "alice"), b"\xff\xfe");
    assert!(load(b"OTHER_\xff", b"\xff").is_ok());
}

#[test]
fn check_takes_the_same_flags() {
    Args::command().debug_assert();
    let parse = |args: &[&str]| Args::try_parse_from([&["ringsocks"], args].concat());
    assert!(!parse(&["--listen", "1081"]).ok().unwrap().is_check());
    let args = parse(&["check", "--listen", "1081", "-u", "alice:x"]).ok().unwrap();
    assert!(args.is_check());
    let config = Config::load(&args, []).unwrap();
    assert_eq!(config.listen[0].address, ListenAddress::Loopback(1081));
    assert!(parse(&["--listen", "1081", "check"]).is_err(), "not silently dropped");
    let usage = parse(&["--nonsense"]).err().unwrap();
    assert_eq!(usage.exit_code(), 2);
}

#[test]
fn only_what_strangers_could_use_is_refused() {
    let safe = [
        "[[listen]]\naddress = 1080",
        "[[listen]]\naddress = \"127.0.0.9:1080\"",
        "[[listen]]\naddress = \"[::1]:1080\"",
        "[[listen]]\naddress = \":1080\"\nclients = [\"10.0.0.0/8\"]",
        "open = true\n[[listen]]\naddress = \":1080\"",
        "users = { a = \"plain:b\" }\n[[listen]]\naddress = \":1080\"",
    ];
    for text in safe {
        read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
    let open = [":1080", "0.0.0.0:0", "[::]:1080", "192.0.2.1:1080", "[2001:db8::1]:1080"];
    for address in open {
        let text =
            format!("users = {{}}\n[[listen]]\naddress = 1\n[[listen]]\naddress = {address:?}");
        let error = error_of(read(&text));
        let expected = format!("the listener \"{address}\" would be an open proxy");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn who_would_serve_strangers_is_told_what_to_do() {
    for (auth, why, ask) in [
        (
            "",
            "with neither users nor clients, everyone who can reach it may use it",
            &[
                "     require a password:    users = { alice = \"plain:PASSWORD\" }",
                "                            or RINGSOCKS_USERS_alice=plain:PASSWORD",
            ][..],
        ),
        (
            "auth = [{ from = \"10.0.0.0/8\", methods = [\"none\"] }]",
            "without clients, whoever its `auth` asks for nothing may use it",
            &["     ask them who they are: auth = [{ methods = [\"password\"] }]"],
        ),
    ] {
        let first = format!("the listener \":1080\" would be an open proxy: {why}");
        let otherwise = [
            "     say who may connect:   [[listen]]",
            "                            address = \":1080\"",
            "                            clients = [\"10.0.0.0/8\"]",
            "     serve all on purpose:  open = true",
            "                            or --open, or RINGSOCKS_OPEN=true",
        ];
        let expected = [&[&first[..], "  = do one of these:"], ask, &otherwise].concat();
        let text = format!("[[listen]]\naddress = \":1080\"\n{auth}");
        assert_eq!(error_of(read(&text)), lines(&expected));
    }
}

/// Each way to write users, with passwords that show themselves even in part.
const CANARIES: [&str; 4] = [
    "log = \"info\"\nusers = { alice = \"plain:QKXJ-ZVWQ\", bob = 'plain:JQXZ' }\nworkers = 4\n\
     [timeout]\nidle = \"1s\"\n",
    "workers = 2\n[users]\nalice = \"plain:QKXJ-ZVWQ\"\nbob = \"plain:JQXZ\"\n[limit]\n\
     sessions = 5\n[[listen]]\naddress = 1080\n",
    "auth_once = 0\nusers = { alice = \"$2b$QKXJ$ZVWQ\", bob = '$y$JQXZ$QKXJ' }\nworkers = 4\n\
     groups = { staff = ['alice'] }\n[penalty]\nmax = \"1h\"\n",
    "users_file = \"/u\"\n[users]\nalice = \"$6$QKXJ$ZVWQ\"\n[groups]\nstaff = []\n[[listen]]\n\
     address = 1080\nauth = [{ methods = [\"password\"] }]\n[gssapi]\nkeytab = \"/k\"\n",
];

fn assert_tells_no_secret(text: &str, result: &Result<Config, Error>) {
    let told = match result {
        Ok(config) => format!("{config}\n{config:?}"),
        Err(error) => format!("{error}\n{error:?}"),
    };
    for part in ["QKXJ", "ZVWQ", "JQXZ"] {
        assert!(!told.contains(part), "{part} of\n{text}\nis in\n{told}");
    }
}

/// Every file that is one slip away from a good one.
#[test]
fn no_slip_of_the_pen_reveals_a_password() {
    for text in CANARIES {
        assert_tells_no_secret(text, &read(text));
        for at in 0..text.len() {
            let (before, after) = text.split_at(at);
            let mut slips = vec![before.to_owned()];
            slips.push(format!("{before}{}", &after[1..]));
            for c in ["\"", "'", "=", "\n", "[", "]", "{", "}", ".", ",", "#", ":", " ", "x"] {
                slips.push(format!("{before}{c}{after}"));
                slips.push(format!("{before}{c}{}", &after[1..]));
            }
            for slip in slips {
                assert_tells_no_secret(&slip, &read(&slip));
            }
        }
    }
}

#[test]
fn no_variable_or_flag_reveals_a_password() {
    let variables = [
        ("RINGSOCKS_USER", "alice QKXJ"),
        ("RINGSOCKS_USER", "alice:QKXJ"),
        ("RINGSOCKS_USERS", "alice:QKXJ"),
        ("RINGSOCKS_USERS_alice", "QKXJ"),
        ("RINGSOCKS_USERS_alice", "plain:QKXJ"),
        ("RINGSOCKS_USERS_alice", "$2b$QKXJ"),
        ("RINGSOCKS_USERS_FILE", "plain:QKXJ"),
        ("RINGSOCKS_USERS_FILE", "$2b$QKXJ"),
        ("RINGSOCKS_GROUPS", "plain:QKXJ"),
        ("RINGSOCKS_USERSalice", "plain:QKXJ"),
        ("RINGSOCKS_PASSWORD", "QKXJ"),
    ];
    for (name, value) in variables {
        assert_tells_no_secret(value, &load(&[], &[(name, value)]));
    }
    for value in ["alice:QKXJ", "QKXJ"] {
        assert_tells_no_secret(value, &load(&["-u", value], &[]));
    }
    let long = format!("alice:{}", "QKXJ".repeat(70));
    assert_tells_no_secret(&long, &load(&["-u", &long], &[]));
    assert_eq!(format!("{:?}", Secret::new(b"QKXJ")), "***");
}

/// Anything; what resembles durations and sizes; what resembles addresses and networks.
const VALUES: &str = "\\PC*|([0-9.]{0,22} ?[a-zA-Z\u{b5}]{0,4}){1,3}|[0-9a-f.:/,=\\[\\]%-]*";

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[a-z=\\[\\]{}\"'.,#\\n\\r\\t 0-9\u{e9}]*") {
        if let Err(error) = read(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_makes_it_panic(text in VALUES, key in 0..KEYS.len()) {
        let _ = load(&[], &[(&KEYS[key].variable(), &text)]);
        let _ = load(&[], &[("RINGSOCKS_USER", &text)]);
    }
}

#[test]
fn what_the_environment_says_of_listeners_is_said_of_every_one() {
    let clients = ("RINGSOCKS_LISTEN_CLIENTS", "10.0.0.0/8, 192.0.2.1");
    let config = load(&[], &[("RINGSOCKS_LISTEN", ":1080,127.0.0.2:1081"), clients]).unwrap();
    let networks = ["10.0.0.0/8", "192.0.2.1/32"].map(|text| text.parse().unwrap());
    assert_eq!(config.listen.len(), 2);
    assert!(config.listen.iter().all(|listen| listen.clients == networks));
    assert_eq!(load(&[], &[clients]).unwrap().listen[0].clients, networks);
    let targets = ("RINGSOCKS_LISTEN_TARGETS", "public,10.0.0.0/8");
    let rules = vec![TargetRule::Public, TargetRule::Network(networks[0])];
    let commands = ("RINGSOCKS_LISTEN_COMMANDS", "bind, connect");
    let variables = [clients, targets, commands];
    let config = load(&["--listen", ":1082", "--listen", "1083"], &variables).unwrap();
    let asked = [ListenCommand::Bind, ListenCommand::Connect];
    let of_all = |listen: &Listen| {
        listen.clients == networks
            && listen.targets.as_ref() == Some(&rules)
            && listen.commands.as_deref() == Some(&asked)
    };
    assert!(config.listen.iter().all(of_all), "those of flags are listeners too:\n{config}");

    let error = load(&[], &[("RINGSOCKS_LISTEN_CLIENTS", "10.0.0.0/99")]).unwrap_err().to_string();
    assert!(error.contains("RINGSOCKS_LISTEN_CLIENTS") && error.contains("10.0.0.0/99"), "{error}");
}
