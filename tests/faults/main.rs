//! What becomes of the real binary when the machine, the network or the operator fails it.
//!
//! Each row of the catalogue of faults, and the tests that prove it, wherever they stand. L is about
//! listeners, descriptors and memory, H the handshake, D connections and names, R the relay, U
//! datagrams, O operations, S security. The rows of names (D6 and on) have their table where their tests are.
//!
//! | row | test |
//! |---|---|
//! | L1 | `faults::descriptors::out_of_descriptors_everyone_is_served_in_the_end_and_nobody_spins` |
//! | L1 | `faults::descriptors::a_release_on_any_reactor_wakes_who_is_parked` |
//! | L2 | `faults::injected::an_accept_that_fails_now_and_then_loses_no_client` |
//! | L2 | `faults::injected::accepts_that_fail_for_a_while_are_made_up_for` |
//! | L2 | `faults::injected::who_cannot_be_watched_is_closed_or_refused_and_the_next_is_served` |
//! | L2 | `faults::binds::an_accept_that_fails_now_and_then_loses_no_peer` |
//! | L2 | `faults::binds::accepts_that_fail_for_long_cost_nothing_and_are_made_up_for` |
//! | L2 | `faults::binds::who_cannot_be_watched_is_refused_or_turned_away_and_the_next_is_served` |
//! | L3 | `faults::injected::a_client_for_whom_there_is_no_socket_hears_01_and_the_next_is_served` |
//! | L3 | `faults::injected::a_client_whose_bnd_cannot_be_told_hears_01` |
//! | L3 | `faults::descriptors::out_of_descriptors_a_request_is_refused_with_01` |
//! | L3 | `faults::binds::a_port_that_cannot_be_had_is_01_and_the_next_is_granted` |
//! | L3 | `faults::associations::without_a_port_left_a_bind_is_refused_with_01_until_one_comes_back` |
//! | L4 | `faults::descriptors::fewer_descriptors_than_sessions_lower_the_limit_and_say_so` |
//! | L4 | `faults::descriptors::the_soft_limit_is_raised_to_the_hard_one` |
//! | L5 | `faults::descriptors::twice_as_many_clients_as_sessions_are_served_in_turn_and_nobody_spins` |
//! | L5 | `faults::crowds::one_client_cannot_have_every_session` |
//! | L5 | `faults::crowds::addresses_of_one_v6_network_are_one_client` |
//! | L5 | `lifecycle::limits::at_the_session_limit_clients_wait_their_turn` |
//! | L7 | `faults::crowds::thousands_of_silent_clients_cost_little` |
//! | L7 | `faults::crowds::one_client_cannot_have_every_handshake` |
//! | L7 | `faults::crowds::by_default_one_client_has_256_handshakes` |
//! | L7 | `lifecycle::deadlines::handshake_ends_every_state_before_the_request_without_a_reply` |
//! | L7 | `faults::binds::thousands_wait_at_once_and_leave_nothing` |
//! | L9 | `faults::descriptors::an_address_of_nobody_is_named_and_nothing_runs` |
//! | L9 | `faults::descriptors::a_port_that_needs_a_privilege_is_named_and_nothing_runs` |
//! | L9 | `lifecycle::starting::a_second_instance_on_the_port_is_refused` |
//! | L11 | `faults::injected::a_reactor_that_cannot_go_on_ends_the_process` |
//! | L11 | `faults::injected::a_reactor_that_crashes_takes_the_process_along` |
//! | L12 | `faults::descriptors::killed_a_hundred_times_under_load_it_is_back_at_once` |
//! | L13 | `faults::descriptors::without_threads_it_says_so_and_ends` |
//! | H1 | `faults::crowds::thousands_of_slow_clients_cost_little` |
//! | H1 | `lifecycle::deadlines::handshake_is_one_deadline_and_not_one_per_byte` |
//! | H2 | `faults::handshakes::whatever_follows_a_prefix_of_a_handshake_the_session_ends` |
//! | H2 | `conformance::connect::n11_h02_reset_after_every_prefix` |
//! | H3 | `conformance::methods::n01_greeting_split_everywhere` |
//! | H3 | `conformance::login::u01_credentials_split_everywhere` |
//! | H3 | `conformance::request::r05_name_request_split_everywhere` |
//! | H3 | `conformance::socks4::socks4a_granted_at_every_split` |
//! | H3 | `conformance::connect::n10_q09_everything_in_one_segment_cut_everywhere` |
//! | H3 | `conformance::connect::q08_one_byte_at_a_time` |
//! | H4 | `faults::handshakes::a_hundred_mebibytes_nobody_asked_for_cost_no_memory` |
//! | H4 | `conformance::socks4::socks4_endless_userid_is_closed` |
//! | H5 | `faults::handshakes::garbage_is_counted_and_floods_no_log` |
//! | H5 | `conformance::methods::q43_every_other_first_byte_is_closed_silently` |
//! | H8 | `faults::handshakes::a_client_that_logs_in_and_vanishes_is_freed_at_the_deadline` |
//! | H9 | `faults::injected::a_reply_that_cannot_be_written_is_given_up` |
//! | H9 | `conformance::reply::p03_gone_within_ten_seconds_though_the_client_never_reads` |
//! | H9 | `conformance::reply::p03_gone_within_ten_seconds_though_the_client_never_stops_sending` |
//! | H10 | `conformance::connect::q40_half_close_right_behind_early_data` |
//! | H10 | `conformance::connect::n11_fin_behind_a_bare_request_is_a_hang_up` |
//! | D1 | `faults::unreachable::a_dropped_syn_is_answered_06_when_the_time_is_over` |
//! | D1 | `lifecycle::deadlines::connect_answers_06` |
//! | D2 | `faults::unreachable::each_rejection_has_its_rep` |
//! | D2 | `faults::unreachable::each_missing_route_has_its_rep` |
//! | D2 | `faults::unreachable::a_neighbour_that_is_not_there_is_unreachable` |
//! | D3 | `faults::unreachable::a_target_that_resets_at_once_ends_the_session` |
//! | D3 | `faults::unreachable::a_target_that_dies_while_it_is_connected_to_is_refused` |
//! | D4 | `faults::ports::without_a_port_left_a_request_is_refused_and_other_targets_are_not` |
//! | D5 | `faults::ports::ports_that_rest_are_no_loss_for_other_targets` |
//! | R1 | `faults::relaying::a_stopped_client_stops_its_target_and_costs_nothing` |
//! | R1 | `faults::relaying::a_stopped_target_stops_its_client_and_costs_nothing` |
//! | R1 | `relay::stalled_readers_bound_memory_and_stop_nobody` |
//! | R3 | `relay::half_close_by_the_client_leaves_the_answer_whole` |
//! | R3 | `relay::half_close_by_the_target_leaves_the_answer_whole` |
//! | R3 | `conformance::connect::c04_both_end_at_once` |
//! | R3 | `faults::binds::a_peer_that_half_closes_at_once_is_answered_whole` |
//! | R4 | `lifecycle::deadlines::half_closed_resets_what_is_left` |
//! | R5 | `faults::relaying::resets_by_the_thousand_leave_nothing` |
//! | R5 | `relay::a_reset_stays_a_reset_wherever_it_cuts` |
//! | R5 | `faults::binds::a_peer_that_resets_at_once_ends_the_session` |
//! | R6 | `faults::vanishing::a_target_that_vanishes_is_given_up_when_idle` |
//! | R6 | `faults::vanishing::a_target_that_acknowledges_nothing_is_given_up` |
//! | R6 | `faults::vanishing::a_client_that_vanishes_is_given_up_at_every_stage` |
//! | R6 | `faults::vanishing::the_kernel_looks_after_both_ends_of_an_idle_session` |
//! | R7 | `faults::injected::interrupted_calls_change_no_byte` |
//! | R7 | `faults::injected::calls_that_fail_for_want_of_memory_change_no_byte` |
//! | R7 | `simulation::thousands_of_seeds` |
//! | R8 | `faults::splicing::splices_that_are_refused_change_no_byte` |
//! | R8 | `faults::splicing::interrupted_splices_change_no_byte` |
//! | R8 | `faults::splicing::without_a_pipe_bulk_is_copied` |
//! | R8 | `faults::splicing::a_pipe_that_may_not_grow_is_used_as_it_is` |
//! | R8 | `faults::splicing::a_user_who_has_used_up_its_pages_copies` |
//! | R9 | `faults::relaying::a_byte_at_a_time_in_both_directions_is_no_burden` |
//! | R12 | `faults::relaying::a_session_at_full_speed_leaves_a_thousand_others_their_turn` |
//! | R14 | `faults::injected::a_write_to_who_is_gone_ends_the_session_and_nothing_else` |
//! | R14 | `faults::logs::a_dead_log_pipe_hinders_neither_service_nor_stop` |
//! | R14 | `lifecycle::stopping::other_signals_do_no_harm` |
//! | R15 | `faults::relaying::slots_used_again_and_again_mix_no_two_sessions_up` |
//! | R15 | `relay::a_storm_of_short_lives_leaves_nothing_and_mixes_nothing_up` |
//! | U1 | `faults::associations::datagrams_of_others_are_not_relayed` |
//! | U1 | `faults::associations::datagrams_of_others_that_are_queued_already_are_dropped_and_counted` |
//! | U2 | `faults::associations::a_client_that_tells_its_port_cannot_be_forestalled` |
//! | U3 | `faults::associations::thousands_of_associations_at_once_leave_nothing` |
//! | U3 | `faults::associations::fifty_thousand_destinations_cost_no_descriptor_and_little_memory` |
//! | U3 | `faults::associations::without_a_port_left_an_association_is_refused_with_01_until_one_comes_back` |
//! | U3 | `faults::associations::one_client_may_have_so_many_ports_and_no_more` |
//! | U3 | `faults::unsendable::a_socket_that_cannot_be_had_is_01_or_a_datagram_and_the_next_is_served` |
//! | U4 | `faults::floods::fragments_without_an_end_are_bounded_and_given_up` |
//! | U4 | `faults::floods::fragments_without_an_order_harm_nobody` |
//! | U5 | `faults::associations::who_was_never_asked_cannot_answer` |
//! | U6 | `faults::loops::no_address_of_this_host_leads_datagrams_back_to_our_own_ports` |
//! | U6 | `faults::loops::datagrams_go_round_between_two_servers_until_they_are_used_up` |
//! | U7 | `faults::unsendable::targets_that_refuse_by_the_thousand_cost_no_healthy_datagram` |
//! | U7 | `faults::unsendable::a_client_that_refuses_answers_loses_no_datagram_later` |
//! | U7 | `faults::unsendable::a_report_about_another_datagram_costs_none` |
//! | U8 | `faults::floods::what_a_queue_has_no_room_for_is_counted` |
//! | U8 | `faults::floods::every_datagram_of_a_flood_of_garbage_is_counted` |
//! | U8 | `faults::floods::a_flood_of_datagrams_leaves_others_their_turn` |
//! | U8 | `faults::floods::a_flood_of_echoes_leaves_others_their_turn` |
//! | U8 | `faults::floods::a_flood_of_the_longest_datagrams_leaves_others_their_turn` |
//! | U8 | `faults::floods::a_flood_of_garbage_leaves_others_their_turn` |
//! | U9 | `faults::unsendable::what_a_firewall_rejects_or_drops_costs_no_healthy_datagram` |
//! | U9 | `faults::unsendable::where_no_route_leads_a_datagram_is_lost_and_no_other` |
//! | U9 | `faults::unsendable::a_host_without_ipv6_relays_ipv4` |
//! | U9 | `faults::unsendable::a_cable_that_is_pulled_and_put_back_ends_no_association` |
//! | U9 | `faults::unsendable::sends_that_fail_cost_what_they_would_have_sent_and_no_more` |
//! | U9 | `faults::unsendable::sends_that_fail_for_good_end_nothing_and_keep_nobody_busy` |
//! | U9 | `faults::unsendable::receives_that_fail_lose_nothing` |
//! | U9 | `faults::unsendable::receives_that_fail_for_long_keep_nobody_busy_and_lose_nothing` |
//! | U9 | `faults::unsendable::without_a_socket_to_send_with_datagrams_are_lost_until_there_is_one` |
//! | U9 | `faults::unsendable::without_what_a_socket_can_do_without_everything_works` |
//! | U9 | `faults::unsendable::a_name_of_both_families_is_reached_by_the_one_there_is_a_way_to` |
//! | U10 | `faults::associations::nothing_is_relayed_once_the_control_connection_has_ended` |
//! | U10 | `faults::associations::a_client_that_ends_in_the_middle_of_a_stream_of_datagrams_leaves_nothing` |
//! | U10 | `faults::associations::a_client_that_vanishes_is_given_up_and_its_port_with_it` |
//! | U10 | `faults::unsendable::an_end_that_cannot_be_heard_at_once_is_heard_later` |
//! | U10 | `lifecycle::deadlines::idle_associations_are_reset` |
//! | U10 | `lifecycle::hang_ups::an_association_that_ends_gives_up_what_waits` |
//! | U10 | `lifecycle::hang_ups::stray_bytes_on_a_control_connection_are_thrown_away` |
//! | U11 | `faults::datagrams::every_size_arrives_whole_in_both_directions` |
//! | U11 | `faults::datagrams::what_is_too_long_is_dropped_and_counted` |
//! | U11 | `faults::datagrams::an_empty_datagram_is_no_end` |
//! | U11 | `faults::datagrams::runs_arrive_whole_in_both_directions` |
//! | U11 | `faults::datagrams::runs_stay_runs_where_both_ends_know_them` |
//! | U11 | `faults::datagrams::runs_that_are_refused_go_one_by_one` |
//! | U11 | `faults::datagrams::bursts_to_several_targets_arrive_whole_and_in_order` |
//! | U11 | `faults::datagrams::every_datagram_names_its_own_source` |
//! | U11 | `faults::datagrams::runs_longer_than_the_way_is_wide_arrive_whole` |
//! | U11 | `faults::datagrams::runs_longer_than_the_way_to_the_client_is_wide_arrive_whole` |
//! | U12 | `faults::floods::names_without_an_answer_leave_others_theirs` |
//! | U12 | `faults::floods::a_flood_of_names_is_dropped_and_others_have_theirs_resolved` |
//! | U12 | `faults::floods::datagrams_to_a_slow_name_wait_in_order_and_hold_nobody_up` |
//! | U13 | `faults::associations::a_client_whose_port_changes_is_kept_out_unless_it_may` |
//! | U14 | `faults::associations::a_client_whose_address_changes_asks_again` |
//! | O7 | `lifecycle::stopping::sigterm_loses_no_client_that_waits_to_be_accepted` |
//! | O7 | `lifecycle::stopping::sessions_finish_after_sigterm` |
//! | O7 | `lifecycle::stopping::what_is_left_when_the_drain_time_is_over_is_reset` |
//! | O7 | `lifecycle::stopping::a_second_signal_ends_at_once` |
//! | O7 | `lifecycle::stopping::associations_and_waiting_clients_go_on_after_sigterm` |
//! | O7 | `lifecycle::stopping::associations_and_waiting_clients_are_reset_when_the_drain_time_is_over` |
//! | O7 | `lifecycle::stopping::a_second_signal_ends_associations_and_waiting_clients_at_once` |
//! | O8 | `faults::signals::a_storm_of_signals_during_the_drain_confuses_nobody` |
//! | O8 | `faults::signals::a_second_signal_ends_the_drain_in_the_middle_of_a_storm` |
//! | O8 | `faults::signals::a_storm_of_signals_under_load_confuses_nobody` |
//! | O9 | `faults::logs::a_full_disk_costs_lines_that_are_counted_and_nothing_else` |
//! | O9 | `faults::logs::a_file_that_may_not_grow_costs_lines_that_are_counted_and_nothing_else` |
//! | O9 | `faults::logs::a_stopped_reader_of_the_access_log_costs_lines_that_are_counted_and_nothing_else` |
//! | O9 | `faults::logs::a_stopped_reader_of_the_access_log_does_not_hinder_the_end` |
//! | O9 | `faults::logs::a_dead_pipe_costs_lines_that_are_counted_and_nothing_else` |
//! | O9 | `faults::logs::a_full_disk_under_the_log_costs_lines_that_are_told_later` |
//! | O9 | `lifecycle::stopping::a_log_that_nobody_reads_hinders_neither_service_nor_stop` |
//! | S1 | `lifecycle::starting::an_open_proxy_is_refused` |
//! | S2 | `faults::loops::no_address_of_this_host_leads_back_to_our_own_listeners` |
//! | S2 | `faults::loops::two_chained_servers_loop_no_further_than_a_client_may_go` |
//! | S5 | `faults::logs::nobody_writes_into_the_log_but_the_server` |
//! | S7 | `faults::strangers::no_spelling_of_the_loopback_is_connected_to_for_a_stranger` |
//! | S7 | `conformance::request::r08_inet_aton_forms_are_no_addresses` |
//! | S7 | `conformance::request::r09_mapped_v4_is_v4` |
//! | S10 | `house::every_table_is_hashed_with_a_seed` |
//! | S13 | `faults::relaying::slots_used_again_and_again_mix_no_two_sessions_up` |
//! | S14 | `faults::strangers::no_private_address_is_connected_to_for_a_stranger` |
//! | S14 | `faults::strangers::a_stranger_reaches_public_addresses_and_those_that_are_allowed` |
//! | S14 | `faults::strangers::public_is_public_for_clients_on_this_host_too_where_it_is_said` |
//! | U13 | `faults::nat::a_client_that_gets_another_port_meanwhile_is_heard_where_that_is_wanted` |

#[path = "../support/mod.rs"]
mod support;

mod associations;
mod binds;
mod crowds;
mod datagrams;
mod descriptors;
mod floods;
mod handshakes;
mod injected;
mod logs;
mod loops;
mod nat;
mod ports;
mod relaying;
mod signals;
mod splicing;
mod strangers;
mod table;
mod unreachable;
mod unsendable;
mod vanishing;

use std::num::NonZero;
use std::thread;

/// At most `wanted`, and no more than there are processors for us.
fn workers_possible(wanted: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(wanted)
}
