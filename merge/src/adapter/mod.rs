//! Adapters: their configuration, the meaning of their keys, and the edits that they make to a base.

pub mod config;
pub mod conv1d;
mod extra;
mod group;
pub mod key;
pub mod literal;
pub mod names;
pub mod orientation;
pub mod pattern;
pub mod rename;
pub mod resolve;
mod scale;
pub mod suffix;
mod target;
