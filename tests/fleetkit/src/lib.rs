//! Merges for tests: processes of the binary with certificates of their own, or all of it in this process.

#![allow(missing_docs, reason = "tests read it, and names say most")]
#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

pub mod local;
mod processes;

pub use processes::{Fleet, TIMEOUT, command, failed, walk};
