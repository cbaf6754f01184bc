//! Fixtures that tests share. They know bytes and HTTP, and none of our crates, so the tests of any crate can use them.

#![allow(missing_docs, reason = "tests read it, and names say most")]
#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

pub mod checkpoint;
pub mod servers;
