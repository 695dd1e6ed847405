//! What becomes of a name: the real binary against name servers that do right and wrong, and the
//! connections that it makes of their answers.
//!
//! The rows about names in the catalogue of faults, and the tests that prove them.
//!
//! | row | test |
//! |---|---|
//! | D6 | `names::servers::a_silent_server_is_given_up_when_the_time_is_over` |
//! | D6 | `names::servers::the_next_server_is_asked_where_one_is_silent` |
//! | D6 | `names::servers::a_server_that_refuses_is_passed_over_at_once` |
//! | D6 | `names::stalls::eight_thousand_names_under_a_silent_server_leave_a_known_name_alone` |
//! | D7 | `names::answers::each_failure_is_answered_04` |
//! | D7 | `names::cache::that_there_is_nothing_is_kept_for_its_time` |
//! | D7 | `names::cache::a_failure_is_kept_for_a_moment` |
//! | D8 | `names::streams::a_truncated_answer_is_fetched_over_a_stream` |
//! | D8 | `names::streams::the_longest_answer_is_read` |
//! | D8 | `names::hostile::what_is_no_answer_is_passed_over` |
//! | D8 | `names::hostile::answers_that_break_the_rules_end_in_04` |
//! | D8 | `names::hostile::an_answer_from_elsewhere_is_never_believed` |
//! | D9 | `names::hostile::a_forger_who_knows_the_port_is_not_believed` |
//! | D9 | `names::hostile::ids_and_ports_follow_no_pattern` |
//! | D9 | `names::hostile::letters_are_mixed` |
//! | D10 | `names::targets::a_name_leads_a_stranger_to_no_private_address` |
//! | D10 | `names::targets::the_address_that_was_checked_is_the_one_that_is_connected_to` |
//! | D11 | `names::targets::of_a_mixed_answer_only_what_is_allowed_is_tried` |
//! | D12 | `names::attempts::a_blackholed_v6_costs_a_quarter_of_a_second` |
//! | D13 | `names::files::resolv_conf_is_read_again_when_it_changes` |
//! | D13 | `names::files::hosts_is_read_again_when_it_changes` |
//! | D13 | `names::files::a_hangup_reads_both_files_again` |
//! | D13 | `names::files::files_that_disappear_stay_true` |
//! | D14 | `names::chains::eight_aliases_are_followed_and_nine_are_not` |
//! | D14 | `names::chains::eight_aliases_are_asked_for_one_by_one_and_nine_are_not` |
//! | D14 | `names::chains::aliases_in_a_circle_are_given_up` |
//! | D15 | `names::cache::thousands_of_names_and_long_answers_cost_bounded_memory` |
//! | D15 | `names::cache::thousands_of_names_that_do_not_exist_cost_bounded_memory` |
//! | D15 | `ringsocks::dns::cache::tests::a_million_names_leave_what_is_used_and_a_bounded_rest` |

mod answers;
mod attempts;
mod cache;
mod chains;
mod etc;
mod files;
mod hostile;
mod servers;
mod stalls;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod system;
mod targets;
mod wire;
mod world;

use support::finish;
use support::origin::Origin;
use support::peer::Peer;
use support::server::Server;
use support::socks::request_name;

/// By this name a client reaches `origin`.
#[track_caller]
fn assert_reaches(server: &Server, name: &str, origin: &Origin) {
    let client = request_name(server.address(), name, origin.port());
    client.expect_granted();
    let target = origin.accept();
    client.send(b"here");
    target.expect(b"here");
    finish(client, &target);
}

/// A client that asks for this name hears this REP.
#[track_caller]
fn assert_refused(server: &Server, name: &str, rep: u8) {
    request_name(server.address(), name, 80).expect_refused(rep);
}

/// As [`assert_refused`], for many at a time: who waits does so beside the others.
#[track_caller]
fn assert_all_refused(server: &Server, names: impl IntoIterator<Item = String>, rep: u8) {
    let names: Vec<String> = names.into_iter().collect();
    let clients: Vec<Peer> =
        names.iter().map(|name| request_name(server.address(), name, 80)).collect();
    for (client, name) in clients.iter().zip(&names) {
        assert_eq!(client.expect_reply().rep, rep, "{name}");
        client.expect_eof();
    }
}
