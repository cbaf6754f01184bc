//! What somebody tries who is let in too far, or not at all: against a real coordinator and real workers over mutual TLS.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod connections;
mod deaths;
mod messages;
mod places;
mod roles;
mod secrets;

/// The binary that is attacked.
const BINARY: &str = env!("CARGO_BIN_EXE_shardfuse");
