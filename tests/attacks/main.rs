//! What somebody tries who is let in too far, or not at all: against a real coordinator and real workers over mutual TLS.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod connections;
mod deaths;
#[path = "../e2e/fixture.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod fixture;
mod fleet;
mod messages;
mod places;
mod roles;
mod secrets;
