//! Servers that play a web server and the hub, for the tests of the store and of the binary. They listen on 127.0.0.1 and
//! a free port, serve from memory, and note every request.

mod answer;
mod files;
mod hub;
mod server;
mod web;

pub use files::Files;
pub use hub::Hub;
pub use server::{Seen, Server};
pub use web::{Body, Marks, Quirks, Web};
