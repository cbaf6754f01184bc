//! The binary as a user runs it, on real files.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod clients;
mod commands;
mod determinism;
mod device;
mod files;
mod fixture;
#[path = "../attacks/fleet.rs"]
#[allow(dead_code, reason = "shared with the attacks, which use all of it")]
mod fleet;
mod formats;
mod kill;
mod metrics;
mod output;
mod places;
mod refusals;
mod remote_inputs;
mod resume;
#[path = "../servers/mod.rs"]
mod servers;
mod tool;
mod unloadable;
mod worker;
