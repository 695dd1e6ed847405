//! What becomes of names: the resolver in the real binary, before name servers of every kind.
//!
//! The rows of names in the catalogue of faults, and the tests that prove them:
//!
//! | row | test |
//! |---|---|
//! | D6 | `names::asking::a_silent_server_is_given_up_and_the_next_is_asked` |
//! | D6 | `names::crowds::who_waits_for_a_slow_name_waits_alone` |
//! | D7 | `names::answers::there_is_a_rep_for_every_bad_answer` |
//! | D7 | `names::asking::what_is_not_there_is_kept_as_long_as_it_says` |
//! | D8 | `names::answers::what_answers_nothing_is_ignored_and_the_true_answer_counts` |
//! | D8 | `names::answers::what_does_not_fit_comes_over_tcp` |
//! | D8 | `names::answers::a_stream_that_breaks_off_or_stalls_is_a_failure` |
//! | D8 | `names::lies::an_answer_to_another_question_is_none` |
//! | D8 | `names::lies::a_pointer_that_leads_nowhere_is_garbage` |
//! | D8 | `names::streams::streams_that_stall_do_not_hold_up_the_others` |
//! | D9 | `names::answers::nobody_else_can_answer` |
//! | D9 | `names::answers::guessing_at_one_port_leads_nowhere` |
//! | D9 | `names::lies::whoever_guesses_the_id_must_guess_the_letters_as_well` |
//! | D10 | `names::strangers::no_name_leads_a_stranger_to_what_is_not_public` |
//! | D11 | `names::strangers::of_many_addresses_only_public_ones_are_tried` |
//! | D12 | `names::eyeballs::a_deaf_v6_address_costs_a_quarter_of_a_second` |
//! | D13 | `names::files::what_changes_is_read_again` |
//! | D14 | `names::answers::aliases_are_followed_eight_links_far` |
//! | D15 | `names::crowds::many_names_do_not_fill_the_memory` |
//! | D15 | `names::crowds::names_that_do_not_exist_do_not_fill_the_memory` |
//! | D15 | `names::lies::what_an_answer_says_of_other_names_is_not_kept` |

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod asking;
mod crowds;
mod eyeballs;
mod files;
mod lies;
mod nameserver;
mod strangers;
mod streams;

use support::peer::Peer;
use support::server::Server;
use support::socks::{connect_to_name, greeting};

use crate::nameserver::Nameserver;

/// The real binary that asks these servers.
fn server_asking(nameservers: &[&Nameserver], env: &[(&str, &str)]) -> Server {
    let list: Vec<String> = nameservers.iter().map(|it| it.text()).collect();
    let list = list.join(",");
    let all = [&[("RINGSOCKS_RESOLVER", list.as_str())], env].concat();
    Server::start_with_env(&[], &all)
}

/// A client that has asked for a name and heard nothing yet.
#[track_caller]
fn asking(server: &Server, name: &str, port: u16) -> Peer {
    let client = Peer::connect(server.address());
    client.send(&greeting(&[0]));
    client.expect(&[5, 0]);
    client.send(&connect_to_name(name.as_bytes(), port));
    client
}

/// What a client hears that asks for a name, if it is refused: else 0.
#[track_caller]
fn rep(server: &Server, name: &str, port: u16) -> u8 {
    asking(server, name, port).expect_reply().rep
}
