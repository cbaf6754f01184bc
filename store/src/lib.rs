//! Bytes at a URL.
//!
//! One trait, [`Store`], covers what a merge needs from the place where its inputs lie and its output grows: ranged reads
//! held to a version, atomic small writes, create-if-absent, and uploads whose parts any process may put in any order.
//! The crate knows nothing of checkpoints, plans or workers, and nothing above it opens a file by itself.
//!
//! A location is a local file, given as a path or as a `file://` URL ([`Local`]), or an object in S3, Google Cloud Storage
//! or Azure Blob Storage. An upload has an opaque id, a part has an opaque id, and completing names both.
//!
//! | to | see |
//! |---|---|
//! | name a place | [`Location`] |
//! | get the store of a place | [`Stores`] |
//! | hold a fleet to some places | [`Allow`] |
//! | say which endpoint and credentials belong to which URLs | [`Config`] |
//! | know whether to try again, or leave it to a store | [`ErrorKind`], [`Retrying`] |
//! | read a small object that must be whole | [`settled`] |
//! | limit the rate of writing | [`Throttled`] |
//! | have a store in memory for a test | [`memory::Memory`] |
//! | make a store fail in a test | [`fault::Faulty`] |
//! | do something with every call to a store | [`Decorator`] |
//! | digest a file part by part | [`digest`] |
//! | have a store copy bytes into an upload by itself | [`Store::copies`], [`Store::compose_part`] |
//! | test a backend | `conformance` (with the feature of that name) |

pub mod allow;
pub mod chunk;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod copy;
pub mod counted;
pub mod decorator;
pub mod digest;
pub mod error;
#[cfg(test)]
mod fails;
pub mod fault;
pub mod http;
pub mod hub;
mod id;
pub mod local;
pub mod location;
pub mod memory;
mod object;
pub mod open;
pub mod operation;
pub mod place;
mod read_only;
mod refused;
pub mod retry;
pub mod settled;
pub mod store;
pub mod throttle;
mod token;
pub mod web;

pub use allow::Allow;
pub use chunk::{Chunk, Copies};
pub use config::Config;
pub use counted::Counted;
pub use decorator::Decorator;
pub use error::{Error, ErrorKind, Result};
pub use http::{Token, Web};
pub use hub::Hub;
pub use id::{PartId, Pin, UploadId};
pub use local::Local;
pub use location::{Location, Scheme};
pub use open::Stores;
pub use operation::Operation;
pub use place::Place;
pub use retry::Retrying;
pub use store::{Completion, Entry, EntryKind, Hold, Limits, Lock, Meta, PartSlot, Store};
pub use throttle::Throttled;
