//! Which protocol, which method (RFC 1928 section 3).

use crate::bench::Bench;
use crate::support::origin::Origin;
use crate::support::socks::{connect_to, greeting};

crate::rows! {
    Anything:
        n01_greeting_split_everywhere
        n02_n03_only_unknown_methods_are_refused
        n04_q06_no_methods_at_all
        n05_ff_is_never_selected
        n11_fin_before_the_first_byte
        n11_fin_in_the_middle_of_the_greeting
        n11_fin_after_the_greeting
        n11_fin_in_the_middle_of_the_request
        n06_q43_http_is_closed_silently
        n06_q43_tls_is_closed_silently
        q43_proxy_protocol_is_closed_silently
        q43_every_other_first_byte_is_closed_silently
        q44_health_probes_do_no_harm;
    Open:
        n05_many_equal_methods
        n08_none_is_chosen_whatever_the_order
        q01_q02_curl_with_credentials_at_an_open_server
        q03_password_only_at_an_open_server
        q04_gssapi_offered_at_an_open_server
        q07_every_method_at_an_open_server;
    Users:
        n07_socks4_is_closed_silently_where_users_are_required
        n08_password_is_chosen_whatever_the_order
        q01_curl_with_credentials_at_a_server_with_users
        q04_gssapi_offered_at_a_server_with_users
        q05_browser_without_credentials
        q07_every_method_at_a_server_with_users;
}

fn n01_greeting_split_everywhere(bench: &Bench) {
    let (message, answer) = bench.prologue().swap_remove(0);
    for cut in 1..message.len() {
        let client = bench.client();
        client.send_split(&message, &[cut]);
        client.expect(&answer);
    }
    let client = bench.client();
    client.send_byte_by_byte(&message);
    client.expect(&answer);
}

fn n02_n03_only_unknown_methods_are_refused(bench: &Bench) {
    expect_no_method(bench, &greeting(&[0x80, 0x81]));
}

fn n04_q06_no_methods_at_all(bench: &Bench) {
    expect_no_method(bench, &greeting(&[]));
}

fn n05_ff_is_never_selected(bench: &Bench) {
    expect_no_method(bench, &greeting(&[0xff]));
}

fn n05_many_equal_methods(bench: &Bench) {
    expect_method(bench, &greeting(&[0; 255]), 0);
}

fn n08_none_is_chosen_whatever_the_order(bench: &Bench) {
    expect_method(bench, &greeting(&[0, 2]), 0);
    expect_method(bench, &greeting(&[2, 0]), 0);
    expect_method(bench, &greeting(&[0x80, 0]), 0);
}

fn n08_password_is_chosen_whatever_the_order(bench: &Bench) {
    expect_method(bench, &greeting(&[0, 2]), 2);
    expect_method(bench, &greeting(&[2, 0]), 2);
    expect_method(bench, &greeting(&[0x80, 2]), 2);
}

fn n07_socks4_is_closed_silently_where_users_are_required(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let [high, low] = origin.port().to_be_bytes();
    let client = bench.client();
    client.send(&[4, 1, high, low, 127, 0, 0, 1, b'a', 0]);
    client.expect_silent_close();
    origin.expect_nobody();
}

fn n11_fin_before_the_first_byte(bench: &Bench) {
    let client = bench.client();
    client.fin();
    client.expect_silent_close();
}

fn n11_fin_in_the_middle_of_the_greeting(bench: &Bench) {
    for message in [&[5][..], &[5, 2], &[5, 2, 0]] {
        let client = bench.client();
        client.send(message);
        client.fin();
        client.expect_silent_close();
    }
}

fn n11_fin_after_the_greeting(bench: &Bench) {
    let (message, answer) = bench.prologue().swap_remove(0);
    let client = bench.client();
    client.send(&message);
    client.fin();
    client.expect(&answer);
    client.expect_eof();
}

fn n11_fin_in_the_middle_of_the_request(bench: &Bench) {
    let origin = Origin::start_everywhere();
    let request = connect_to(bench.sees(&origin));
    let (prologue, answers) = bench.pipelined_prologue();
    for cut in 1..request.len() {
        let client = bench.client();
        client.send(&[&prologue, &request[..cut]].concat());
        client.fin();
        client.expect(&answers);
        client.expect_eof();
    }
    origin.expect_nobody();
}

fn q01_q02_curl_with_credentials_at_an_open_server(bench: &Bench) {
    expect_method(bench, &[5, 2, 0, 2], 0);
}

fn q01_curl_with_credentials_at_a_server_with_users(bench: &Bench) {
    expect_method(bench, &[5, 2, 0, 2], 2);
}

fn q03_password_only_at_an_open_server(bench: &Bench) {
    expect_no_method(bench, &[5, 1, 2]);
}

fn q04_gssapi_offered_at_an_open_server(bench: &Bench) {
    expect_method(bench, &[5, 3, 0, 1, 2], 0);
}

fn q04_gssapi_offered_at_a_server_with_users(bench: &Bench) {
    expect_method(bench, &[5, 3, 0, 1, 2], 2);
}

fn q05_browser_without_credentials(bench: &Bench) {
    expect_no_method(bench, &[5, 1, 0]);
}

fn q07_every_method_at_an_open_server(bench: &Bench) {
    expect_method(bench, &every_method(), 0);
}

fn q07_every_method_at_a_server_with_users(bench: &Bench) {
    expect_method(bench, &every_method(), 2);
}

fn n06_q43_http_is_closed_silently(bench: &Bench) {
    expect_silence_and_close(bench, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    expect_silence_and_close(bench, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n");
}

fn n06_q43_tls_is_closed_silently(bench: &Bench) {
    expect_silence_and_close(bench, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
}

fn q43_proxy_protocol_is_closed_silently(bench: &Bench) {
    expect_silence_and_close(bench, b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1080\r\n");
    expect_silence_and_close(bench, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
}

fn q43_every_other_first_byte_is_closed_silently(bench: &Bench) {
    for first in (0..=255).filter(|first| !matches!(first, 4 | 5)) {
        expect_silence_and_close(bench, &[first]);
    }
}

fn q44_health_probes_do_no_harm(bench: &Bench) {
    for _ in 0..50 {
        drop(bench.client());
        bench.client().reset();
    }
    bench.negotiated();
}

fn every_method() -> Vec<u8> {
    greeting(&(0..=0xfe).collect::<Vec<u8>>())
}

#[track_caller]
fn expect_method(bench: &Bench, greeting: &[u8], method: u8) {
    let client = bench.client();
    client.send(greeting);
    client.expect(&[5, method]);
}

/// `05 FF` and the end: the server does not wait for the client's.
#[track_caller]
fn expect_no_method(bench: &Bench, greeting: &[u8]) {
    let client = bench.client();
    client.send(greeting);
    client.expect(&[5, 0xff]);
    client.expect_eof();
}

#[track_caller]
fn expect_silence_and_close(bench: &Bench, noise: &[u8]) {
    let client = bench.client();
    client.send(noise);
    client.expect_silent_close();
}
