//! The binary as a user runs it, on real files.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod base_as;
mod card;
mod chain;
mod clients;
mod commands;
mod determinism;
mod device;
mod diff;
mod errors;
mod experts;
mod files;
mod formats;
mod job;
mod kill;
mod layer;
mod metrics;
mod no_change;
mod output;
mod owner;
mod places;
mod programs;
mod quantised;
mod refusals;
mod remote_inputs;
mod requantised;
mod resume;
mod rounding;
mod small;
mod tool;
mod unloadable;
mod worker;
mod wrappers;

/// The binary that is tested.
const BINARY: &str = env!("CARGO_BIN_EXE_shardfuse");
