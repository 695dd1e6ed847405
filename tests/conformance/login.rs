//! User name and password (RFC 1929).

use crate::bench::Bench;
use crate::connect::expect_exactly_once;
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::socks::{connect_to, credentials, greeting};

crate::rows! {
    Users:
        u01_credentials_split_everywhere
        u01_q13_longest_credentials_are_read_whole
        u02_right_password
        u03_q10_wrong_password_ends_it_and_nothing_after_it_counts
        u03_unknown_user
        u07_unknown_user_and_wrong_password_are_answered_alike
        u04_q11_empty_password
        u04_empty_user
        u04_q12_empty_user_and_password
        u05_q14_wrong_version
        u06_nul_is_part_of_the_name
        u06_nul_is_part_of_the_password
        u06_a_prefix_is_not_the_password
        u09_one_attempt
        q10_everything_in_one_segment_with_password
        s03_request_without_login
        s03_second_greeting_instead_of_login
        s03_second_login_instead_of_request
        s03_greeting_after_login
        n11_fin_in_the_middle_of_the_credentials;
    Ours:
        u01_longest_credentials_log_in
        q11_empty_password_where_configured;
}

fn u01_credentials_split_everywhere(bench: &Bench) {
    let message = right_credentials(bench);
    for cut in 1..message.len() {
        let client = asked_for_password(bench);
        client.send_split(&message, &[cut]);
        client.expect(&[1, 0]);
    }
    let client = asked_for_password(bench);
    client.send_byte_by_byte(&message);
    client.expect(&[1, 0]);
}

fn u01_q13_longest_credentials_are_read_whole(bench: &Bench) {
    let message = credentials(&[b'u'; 255], &[b'p'; 255]);
    for cuts in [&[][..], &[1], &[2], &[256], &[257], &[258], &[512]] {
        let client = asked_for_password(bench);
        client.send_split(&message, cuts);
        expect_denied(&client);
    }
}

fn u01_longest_credentials_log_in(_: &Bench) {
    let bench = Bench::own_with_user(&"u".repeat(255), &"p".repeat(255));
    u01_credentials_split_everywhere(&bench);
}

fn u02_right_password(bench: &Bench) {
    let client = asked_for_password(bench);
    client.send(&right_credentials(bench));
    client.expect(&[1, 0]);
}

fn u03_q10_wrong_password_ends_it_and_nothing_after_it_counts(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let wrong = credentials(&bench.login().uname, b"wrong");
    let request = connect_to(bench.sees(&origin));
    let client = bench.client();
    client.send(&[greeting(&[2]), wrong, request, b"EARLY".to_vec()].concat());
    client.expect(&[5, 2]);
    expect_denied(&client);
    origin.expect_nobody();
}

fn u03_unknown_user(bench: &Bench) {
    expect_login_denied(bench, b"nobody-of-that-name", &bench.login().passwd);
}

fn u07_unknown_user_and_wrong_password_are_answered_alike(bench: &Bench) {
    for (uname, passwd) in [(&bench.login().uname[..], &b"wrong"[..]), (b"nobody", b"wrong")] {
        let client = asked_for_password(bench);
        client.send(&credentials(uname, passwd));
        client.expect(&[1, 1]);
    }
}

fn u04_q11_empty_password(bench: &Bench) {
    expect_login_denied(bench, &bench.login().uname, b"");
}

fn q11_empty_password_where_configured(_: &Bench) {
    let bench = Bench::own_with_user("bob", "");
    u02_right_password(&bench);
    expect_login_denied(&bench, b"bob", b"x");
}

fn u04_empty_user(bench: &Bench) {
    expect_login_denied(bench, b"", &bench.login().passwd);
}

fn u04_q12_empty_user_and_password(bench: &Bench) {
    expect_login_denied(bench, b"", b"");
}

fn u05_q14_wrong_version(bench: &Bench) {
    for version in [0, 2, 4, 5, 0xff] {
        let mut message = right_credentials(bench);
        message[0] = version;
        let client = asked_for_password(bench);
        client.send(&message);
        expect_denied(&client);
    }
}

fn u06_nul_is_part_of_the_name(bench: &Bench) {
    let login = bench.login();
    expect_login_denied(bench, &[&login.uname[..], b"\0x"].concat(), &login.passwd);
    expect_login_denied(bench, &[&login.uname[..], b"\0"].concat(), &login.passwd);
}

fn u06_nul_is_part_of_the_password(bench: &Bench) {
    let login = bench.login();
    expect_login_denied(bench, &login.uname, &[&login.passwd[..], b"\0x"].concat());
    expect_login_denied(bench, &login.uname, &[&login.passwd[..], b"\0"].concat());
}

fn u06_a_prefix_is_not_the_password(bench: &Bench) {
    let login = bench.login();
    expect_login_denied(bench, &login.uname, &login.passwd[..login.passwd.len() - 1]);
    expect_login_denied(bench, &login.uname, &[&login.passwd[..], b"x"].concat());
}

fn u09_one_attempt(bench: &Bench) {
    let client = asked_for_password(bench);
    client.send(&[credentials(b"nobody", b"x"), right_credentials(bench)].concat());
    expect_denied(&client);
}

fn q10_everything_in_one_segment_with_password(bench: &Bench) {
    expect_exactly_once(bench, |origin| connect_to(bench.sees(origin)));
}

fn s03_request_without_login(bench: &Bench) {
    expect_no_way_in(bench, &[]);
}

fn s03_second_greeting_instead_of_login(bench: &Bench) {
    expect_no_way_in(bench, &greeting(&[0]));
}

fn s03_second_login_instead_of_request(bench: &Bench) {
    expect_general_refusal(bench, &right_credentials(bench));
}

fn s03_greeting_after_login(bench: &Bench) {
    // `05 01 00` begins like a CONNECT; what follows must not make it one to our origin.
    let origin = Origin::start_everywhere();
    let client = bench.requesting(&greeting(&[0]));
    client.send(&connect_to(bench.sees(&origin)));
    assert_ne!(client.expect_reply().rep, 0, "a greeting is no request");
    client.expect_eof();
    origin.expect_nobody();
}

fn n11_fin_in_the_middle_of_the_credentials(bench: &Bench) {
    let message = right_credentials(bench);
    for cut in 0..message.len() {
        let client = asked_for_password(bench);
        client.send(&message[..cut]);
        client.fin();
        client.expect_silent_close();
    }
}

/// Instead of the credentials: `instead` and a request, which must not be granted.
#[track_caller]
fn expect_no_way_in(bench: &Bench, instead: &[u8]) {
    let origin = Origin::start_everywhere();
    let client = asked_for_password(bench);
    client.send(&[instead, &connect_to(bench.sees(&origin))].concat());
    expect_denied(&client);
    origin.expect_nobody();
}

/// Instead of the request, something of another version.
#[track_caller]
fn expect_general_refusal(bench: &Bench, message: &[u8]) {
    bench.requesting(message).expect_refused(1);
}

#[track_caller]
fn expect_login_denied(bench: &Bench, uname: &[u8], passwd: &[u8]) {
    let client = asked_for_password(bench);
    client.send(&credentials(uname, passwd));
    expect_denied(&client);
}

/// `01` and any STATUS but 00, the end, and nothing after it.
#[track_caller]
fn expect_denied(client: &Peer) {
    client.expect(&[1]);
    let status = client.read_exact(1);
    if status == [0] {
        client.fail("01 and a STATUS that is not 00", "01 00");
    }
    client.expect_eof();
}

fn asked_for_password(bench: &Bench) -> Peer {
    let client = bench.client();
    client.send(&greeting(&[2]));
    client.expect(&[5, 2]);
    client
}

fn right_credentials(bench: &Bench) -> Vec<u8> {
    let login = bench.login();
    credentials(&login.uname, &login.passwd)
}
