//! What we do with libraries of others, which may do anything: they are replaced by stubs.

#[path = "../support/mod.rs"]
mod support;

mod gssapi;
mod pam;
