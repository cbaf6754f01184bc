//! Adapters: their configuration, the meaning of their keys, and the edits that they make to a base.

pub mod config;
pub mod conv1d;
pub mod key;
pub mod pattern;
pub mod rename;
pub mod resolve;
