//! A merge in this process, over stores that stop, stall and fail wherever they are told to: what a coordinator leaves
//! behind at every step, and what the next one makes of it.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod cleaning;
mod copies;
mod crashes;
mod failures;
mod interrupted;
mod model;
mod rivals;
