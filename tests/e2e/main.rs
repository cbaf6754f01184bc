//! The binary as a user runs it, on real files.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod commands;
mod determinism;
mod device;
mod fixture;
mod formats;
mod kill;
mod output;
mod refusals;
mod remote_inputs;
mod resume;
#[path = "../servers/mod.rs"]
mod servers;
mod tool;
