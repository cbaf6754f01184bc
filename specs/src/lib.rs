//! A model of publication: coordinators of one plan and of another, on one output that holds an older model.
//!
//! Every operation on the store is one step, and steps of coordinators interleave in every order. So a coordinator may be
//! stopped for as long as one likes between any two operations, and one that is never scheduled again was killed there.
//! Kills are steps too, for the question whether the others come to an end.
//!
//! The store is the weakest that the product runs on. It tells versions apart by their bytes alone, as S3 does, and the
//! older `config.json`, that of plan P and that of plan Q have the same bytes.
//!
//! | file | older model | plan P | plan Q |
//! |---|---|---|---|
//! | `config.json` | the same | the same | the same |
//! | weights | its own | its own | its own |
//! | a second weight file | there | not there | there, with the older bytes |
//! | manifest | its own | its own | its own |
//!
//! [`world`] is the store and the state of merges, [`protocol`] the steps of a coordinator in three variants, and
//! [`model`] puts them together with the properties.

pub mod model;
pub mod protocol;
pub mod world;
