//! Who may use the real binary, and how it finds that out: by passwords of its own, PAM's, and
//! security contexts of a library that does what it is told.
//!
//! Each row of the catalogue, and the tests that prove it.
//!
//! | row | test |
//! |---|---|
//! | H6 | `authentication::contexts::tokens_that_take_for_ever_hold_up_nobody_but_their_own_source` |
//! | H6 | `authentication::contexts::a_library_that_is_stuck_and_goes_on_is_there_again` |
//! | H6 | `authentication::pam::modules_that_take_for_ever_hold_up_nobody_else` |
//! | H7 | `authentication::floods::a_flood_of_failures_leaves_others_their_logins_and_their_pace` |
//! | H7 | `authentication::floods::a_full_queue_delays_and_neither_admits_nor_refuses` |
//! | S3 | `authentication::replies::whatever_is_wrong_the_answer_is_the_same_and_costs_one_hash` |
//! | S4 | `authentication::penalties::who_fails_is_locked_the_longer_the_more_often` |
//! | S6 | `authentication::canary::no_password_is_shown_anywhere` |
//! | S6 | `authentication::canary::no_error_repeats_a_password` |
//! | S6 | `authentication::canary::what_shows_a_password_is_found` |

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod canary;
mod contexts;
mod floods;
mod methods;
mod once;
mod pam;
mod penalties;
mod replies;
mod starting;
mod world;
