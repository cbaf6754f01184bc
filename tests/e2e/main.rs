//! The binary as a user runs it, on real files.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod chain;
mod clients;
mod commands;
mod determinism;
mod device;
mod experts;
mod files;
mod formats;
mod kill;
mod metrics;
mod output;
mod places;
mod quantised;
mod refusals;
mod remote_inputs;
mod resume;
mod rounding;
mod tool;
mod unloadable;
mod worker;
mod wrappers;

/// The binary that is tested.
const BINARY: &str = env!("CARGO_BIN_EXE_shardfuse");
