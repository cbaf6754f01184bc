//! The binary as a user runs it, on real files.

mod commands;
mod determinism;
mod fixture;
mod formats;
mod kill;
mod output;
mod refusals;
mod resume;
mod tool;
