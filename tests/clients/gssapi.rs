//! Clients where a server wants security contexts (RFC 1961): Python's `gssapi`, which has them, and
//! curl, which offers them to every server and has none of its own that work.
//!
//! Dante's `socksify` has none either, as Debian builds it.

use std::io::Write;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::http::{self, HttpOrigin};
use crate::program::{Ended, path_of, program, run, run_with_input};
use crate::pysocks::PYTHON;
use crate::stream::Stream;
use crate::support::origin::Service;
use crate::support::realm::{Realm, Tickets};
use crate::support::server::Server;
use crate::{ClosedPort, LOGIN};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/gss_socks.py");

/// More than the buffers of one session hold.
const LEN: u64 = 8_000_000;

/// The script's exit status where there was no session.
const NO_SESSION: i32 = 3;

/// curl's exit status where the proxy does not let it in.
const CURLE_PROXY: i32 = 97;

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn python_gssapi_with_integrity() {
    expect_python_echo("1", "level 1\n");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn python_gssapi_with_confidentiality() {
    expect_python_echo("2", "level 2\n");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn python_gssapi_that_leaves_it_to_the_server() {
    expect_python_echo("3", "level 2\n");
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn python_gssapi_hears_that_the_target_refused() {
    let realm = Realm::start();
    let server = serve(&realm, &[], &[]);
    let baseline = server.baseline();
    let closed = ClosedPort::reserve();
    let tickets = realm.tickets("alice");
    let ended = run(&mut python(&realm, &tickets, &server, "2", closed.port()));
    assert_eq!(ended.expect_code(NO_SESSION).stderr, "level 2\nREP 05\n");
    baseline.assert_restored();
}

#[test]
#[ignore = "needs krb5kdc and python3-gssapi: tests/run"]
fn python_gssapi_of_somebody_else_is_refused() {
    let realm = Realm::start();
    let server = serve(&realm, &[], &[("RINGSOCKS_GSSAPI_PRINCIPALS", "alice@*=alice")]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let tickets = realm.tickets("bob");
    let ended = run(&mut python(&realm, &tickets, &server, "2", echo.address().port()));
    assert_eq!(ended.expect_code(NO_SESSION).stderr, "refused\n");
    baseline.assert_restored();
}

/// curl offers 00 and 01; without a ticket it could not keep the second.
#[test]
#[ignore = "needs krb5kdc and curl: tests/run"]
fn curl_is_let_in_without_a_context_where_that_comes_first() {
    expect_curl_fetches(&[], "none+gssapi", None);
}

#[test]
#[ignore = "needs krb5kdc and curl: tests/run"]
fn curl_is_asked_for_its_password_where_that_comes_first() {
    expect_curl_fetches(&["-u", LOGIN], "password+gssapi", Some(LOGIN));
}

#[test]
#[ignore = "needs krb5kdc and curl: tests/run"]
fn curl_that_is_told_not_to_offer_a_context_is_asked_for_its_password() {
    let realm = Realm::start();
    let server = serve(&realm, &["-u", LOGIN], &[("RINGSOCKS_LISTEN_AUTH", "gssapi+password")]);
    let origin = HttpOrigin::start();
    let mut command = curl(&server, Some(LOGIN));
    command.args(["--socks5-basic", &origin.url("100000")]);
    let ended = run(&mut command).expect_success();
    assert_eq!(http::body(100_000).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
}

/// Even where it agrees with us on a context, it then takes something else for our answer and leaves;
/// what it says of that depends on what it finds there.
#[test]
#[ignore = "needs krb5kdc and curl: tests/run"]
fn curl_fails_where_nothing_but_a_context_is_wanted() {
    let realm = Realm::start();
    let server = serve(&realm, &[], &[("RINGSOCKS_GSSAPI_CLEAR", "true")]);
    let baseline = server.baseline();
    let origin = HttpOrigin::start();
    let tickets = realm.tickets("alice");
    for options in [&[][..], &["--socks5-gssapi"], &["--socks5-gssapi", "--socks5-gssapi-nec"]] {
        let mut command = curl(&server, None);
        command.envs(realm.env()).env("KRB5CCNAME", tickets.cache());
        run(command.args(options).arg(origin.url("1"))).expect_code(CURLE_PROXY);
    }
    baseline.assert_restored();
    assert_eq!(origin.connections(), 0);
}

/// Told to want a context, it says that it cannot and does nothing. Should Debian build it otherwise
/// one day, it belongs among the clients above.
#[test]
#[ignore = "needs socksify and curl: tests/run"]
fn socksify_has_no_contexts() {
    let server = Server::start(&[]);
    let proxy = server.address();
    let mut configuration = NamedTempFile::new().expect("a temporary file");
    write!(
        configuration,
        "logoutput: stderr
         route {{
             from: 0.0.0.0/0 to: 0.0.0.0/0 via: {} port = {}
             proxyprotocol: socks_v5
             method: gssapi
         }}
",
        proxy.ip(),
        proxy.port()
    )
    .expect("a file of our own");
    let mut command = program("socksify");
    command.env("SOCKS_CONF", configuration.path()).arg(path_of("curl"));
    let ended = run(command.args(["-q", "http://192.0.2.1/"])).expect_code(1);
    let why = "Dante must be linked with an external GSSAPI library at compiletime";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    assert_eq!(server.counters()["accepted"], 0);
}

fn expect_curl_fetches(server_args: &[&str], methods: &str, login: Option<&str>) {
    let realm = Realm::start();
    let server = serve(&realm, server_args, &[("RINGSOCKS_LISTEN_AUTH", methods)]);
    let baseline = server.baseline();
    let origin = HttpOrigin::start();
    let ended = run(curl(&server, login).arg(origin.url("100000"))).expect_success();
    assert_eq!(http::body(100_000).compare(&ended.stdout[..]), Ok(()), "what curl downloaded");
    baseline.assert_restored();
}

fn expect_python_echo(level: &str, said: &str) {
    let realm = Realm::start();
    let server = serve(&realm, &[], &[]);
    let baseline = server.baseline();
    let echo = Service::echo();
    let tickets = realm.tickets("alice");
    let mut command = python(&realm, &tickets, &server, level, echo.address().port());
    let ended: Ended = run_with_input(&mut command, Stream::new(31, LEN).bytes()).expect_success();
    assert_eq!(ended.stderr, said);
    assert_eq!(Stream::new(31, LEN).compare(&ended.stdout[..]), Ok(()), "the echo");
    baseline.assert_restored();
}

fn serve(realm: &Realm, args: &[&str], env: &[(&str, &str)]) -> Server {
    let keytab = realm.keytab();
    let ours = realm.env();
    let mut all: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (*name, &value[..])).collect();
    all.push(("RINGSOCKS_GSSAPI_KEYTAB", keytab.to_str().expect("a path of ours")));
    all.extend(env);
    Server::start_with_env(args, &all)
}

/// The script, for a session with a port of this host.
fn python(realm: &Realm, tickets: &Tickets, server: &Server, level: &str, port: u16) -> Command {
    let mut command = program(PYTHON);
    command.envs(realm.env()).env("KRB5CCNAME", tickets.cache());
    let proxy_port = server.address().port().to_string();
    // The server is known to the KDC by this name.
    command.args([SCRIPT, "localhost", &proxy_port, level, "localhost", &port.to_string()]);
    command
}

/// curl through our server, without anybody's curlrc.
fn curl(server: &Server, login: Option<&str>) -> Command {
    let mut command = program("curl");
    command.args(["-q", "--silent", "--show-error", "--fail-with-body", "--noproxy", ""]);
    command.args(["--proxy", &format!("socks5h://localhost:{}", server.address().port())]);
    if let Some(login) = login {
        command.args(["--proxy-user", login]);
    }
    command
}
