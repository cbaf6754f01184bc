//! Adapters: their configuration, the meaning of their keys, and the edits that they make to a base.

pub mod config;
pub mod delta;
pub mod edit;
mod extra;
mod heads;
pub mod key;
pub mod kind;
mod lines;
pub mod literal;
mod marked;
pub mod module;
pub mod orientation;
pub mod parameter;
pub mod pattern;
mod piece;
pub mod rename;
mod replaced;
pub mod resolve;
mod rows;
pub mod scale;
pub mod strays;
mod suffix;
mod target;
pub mod tied;
mod unmatched;
mod wrapper;
