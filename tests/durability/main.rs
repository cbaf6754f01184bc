//! A merge in this process, over stores that stop, stall and fail wherever they are told to: what a coordinator leaves
//! behind at every step, and what the next one makes of it.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod cleaning;
mod crashes;
mod failures;
#[allow(dead_code, reason = "shared with the tests of the binary, which use all of it")]
#[path = "../e2e/fixture.rs"]
mod fixture;
mod interrupted;
mod model;
mod rivals;
mod run;
