//! GSSAPI (RFC 1961): the real binary, a real KDC of MIT's on loopback, and contexts of MIT's
//! library whose every message the test has in its hands. Where no real library would do, a stub
//! stands for it.
//!
//! Each row of the specification, and the tests that prove it: G of RFC 1961, H, R and S of the
//! faults.
//!
//! | row | test |
//! |---|---|
//! | G1 | `gssapi::contexts::a_session_is_granted_at_each_level` |
//! | G2 | `gssapi::contexts::a_context_of_three_legs_ends_with_a_token_of_no_bytes` |
//! | G2 | `gssapi::stubbed::eight_legs_are_walked_and_no_ninth` |
//! | G3 | `gssapi::contexts::a_context_of_three_legs_ends_with_a_token_of_no_bytes` |
//! | G3 | `gssapi::stubbed::an_answer_of_no_bytes_is_told_where_it_is_the_last` |
//! | G4 | `gssapi::contexts::a_session_is_granted_at_each_level` |
//! | G5 | `gssapi::contexts::a_context_that_comes_byte_by_byte_is_one` |
//! | G6 | `gssapi::contexts::garbage_is_refused_however_long_it_is` |
//! | G6 | `gssapi::contexts::messages_of_another_kind_are_refused` |
//! | G6 | `gssapi::contexts::a_refusal_arrives_though_more_comes_behind` |
//! | G6 | `gssapi::users::a_principal_that_no_rule_names_is_refused` |
//! | G7 | `gssapi::contexts::the_context_is_mutual_and_no_more_than_was_asked_for` |
//! | G7 | `gssapi::contexts::a_context_that_is_not_mutual_or_lets_messages_come_twice_is_refused` |
//! | G7 | `gssapi::contexts::delegated_credentials_are_taken_and_thrown_away` |
//! | G8 | `gssapi::levels::a_level_in_another_message_is_refused` |
//! | G8 | `gssapi::levels::a_level_that_nobody_has_wrapped_is_refused` |
//! | G9 | `gssapi::levels::what_is_asked_for_is_agreed_on_and_a_free_choice_is_confidentiality` |
//! | G9 | `gssapi::levels::where_confidentiality_is_required_it_is_answered` |
//! | G10 | `gssapi::levels::what_is_no_level_is_refused` |
//! | G10 | `gssapi::levels::no_protection_is_agreed_on_where_that_is_configured` |
//! | G11 | `gssapi::levels::a_level_that_was_changed_on_its_way_is_refused` |
//! | G12 | `gssapi::streams::every_failure_is_told_under_the_context` |
//! | G12 | `gssapi::order::instead_of_the_request_each_of_them_is_refused` |
//! | G12 | `gssapi::binds::both_replies_come_under_the_context` |
//! | G13 | `gssapi::order::a_message_that_is_not_protected_as_agreed_ends_the_session` |
//! | G13 | `gssapi::levels::a_client_that_does_less_than_was_answered_is_refused` |
//! | G14 | `gssapi::streams::a_request_may_come_a_byte_a_message` |
//! | G14 | `gssapi::streams::data_may_come_in_the_message_of_the_request` |
//! | G14 | `gssapi::streams::data_may_come_in_messages_behind_the_request` |
//! | G14 | `gssapi::levels::all_that_follows_the_context_may_come_at_once` |
//! | G15 | `gssapi::streams::the_longest_messages_go_both_ways` |
//! | G15 | `gssapi::enctypes::aes256_with_sha384` |
//! | G15 | `gssapi::enctypes::camellia256` |
//! | G15 | `gssapi::enctypes::rc4` |
//! | G16 | `gssapi::contexts::a_first_token_of_no_bytes_is_refused` |
//! | G16 | `gssapi::order::what_is_no_message_ends_the_session` |
//! | G17 | `gssapi::order::a_message_that_comes_again_ends_the_session` |
//! | G17 | `gssapi::order::messages_that_change_places_end_the_session` |
//! | G17 | `gssapi::order::a_message_that_is_missing_ends_the_session` |
//! | G17 | `gssapi::datagrams::what_comes_twice_is_relayed_once` |
//! | G17 | `gssapi::datagrams::what_is_lost_is_missed_by_nobody` |
//! | G17 | `gssapi::datagrams::what_overtakes_is_relayed_as_it_comes` |
//! | G18 | `gssapi::memory::ten_thousand_sessions_leave_nothing` |
//! | G18 | `gssapi::memory::ten_thousand_refusals_leave_nothing` |
//! | G19 | `gssapi::datagrams::datagrams_go_both_ways` |
//! | G19 | `gssapi::datagrams::what_is_not_under_the_context_is_dropped` |
//! | G19 | `gssapi::datagrams::what_is_longer_or_shorter_than_it_says_is_dropped` |
//! | G20 | `gssapi::contexts::a_promise_of_bytes_that_never_come_costs_nothing` |
//! | G21 | `gssapi::stubbed::a_library_that_sleeps_keeps_nobody_else_waiting` |
//! | G21 | `gssapi::stubbed::a_crowd_that_is_slow_to_prove_itself_is_served_in_turn` |
//! | G22 | `gssapi::contexts::a_mechanism_that_is_not_kerberos_is_refused` |
//! | H6 | `gssapi::contexts::garbage_is_refused_however_long_it_is` |
//! | H6 | `gssapi::stubbed::eight_legs_are_walked_and_no_ninth` |
//! | H6 | `gssapi::stubbed::a_library_that_sleeps_keeps_nobody_else_waiting` |
//! | H6 | `gssapi::stubbed::a_library_that_sleeps_too_long_does_not_move_the_deadline` |
//! | R1 | `gssapi::room::stalled_readers_of_sealed_messages_bound_memory_and_stop_nobody` |
//! | R1 | `gssapi::room::five_bytes_of_a_message_keep_no_ring` |
//! | R1 | `gssapi::room::a_message_that_others_wait_for_is_given_a_minute` |
//! | S12 | `gssapi::contexts::a_token_that_has_been_seen_is_refused` |
//! | S12 | `gssapi::order::a_message_that_was_changed_ends_the_session` |
//! | S12 | `gssapi::order::a_message_that_comes_again_later_ends_the_session` |
//! | S12 | `gssapi::order::a_message_that_is_not_protected_as_agreed_ends_the_session` |

#[path = "../support/mod.rs"]
mod support;

mod binds;
mod client;
mod contexts;
mod datagrams;
mod enctypes;
mod levels;
mod memory;
mod methods;
mod order;
mod reload;
mod room;
mod starting;
mod streams;
mod stubbed;
mod users;
mod world;
