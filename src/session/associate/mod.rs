//! UDP ASSOCIATE (RFC 1928 section 7): what a client's datagrams go through.

pub mod contacts;
pub mod reassembly;
