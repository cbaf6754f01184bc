//! The network's edge: who listens where, who is who, and how a coordinator is reached.
//!
//! Services decide by the role that a request carries. This is where it comes from: from the client's certificate on a
//! listener with mutual TLS; without TLS everybody who reaches the port is trusted, which is why such a listener stays
//! on this machine unless it is told otherwise.

mod authority;
mod certificate;
mod chain;
mod connections;
mod endpoint;
mod failure;
mod health;
mod listen;
mod ping;
mod requests;
mod roles;
#[cfg(test)]
mod tests;
mod tls;

pub use authority::{Authority, Bearer, Pair};
pub use endpoint::{Target, connect};
pub use failure::{failure, is_broken};
pub use health::Health;
pub use listen::{Services, address, listen, serve};
