//! A hub with real merges on local files, and workers that follow a script.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

mod crowds;
mod ending;
mod fixture;
mod forging;
mod held;
mod idling;
mod logging;
mod recovery;
mod service;
mod sharing;
mod showing;
mod verifying;
mod worker;
