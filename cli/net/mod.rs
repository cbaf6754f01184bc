//! The network's edge: who listens where, who is who, and how a coordinator is reached.
//!
//! Services decide by the role that a request carries. This is where it comes from: from the client's certificate on a
//! listener with mutual TLS; without TLS everybody who reaches the port is trusted, which is why such a listener stays
//! on this machine unless it is told otherwise.

mod authority;
mod certificate;
mod connections;
mod endpoint;
mod health;
mod listen;
mod requests;
mod roles;
#[cfg(test)]
mod tests;
mod tls;

pub use authority::{Authority, Bearer, Pair};
pub use endpoint::{Target, connect};
pub use health::Health;
pub use listen::{Services, listen, serve};

use std::time::Duration;

use shardfuse_merge::{Error, Kind};

/// A ping goes out this often on a connection that is silent: a peer that vanished without a word is noticed before a lease
/// of 30 s ends, and the way through address translation stays open.
const PING_EVERY: Duration = Duration::from_secs(10);
/// The answer to a ping may take so long before the connection counts as broken.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An error and its causes on one line. A cause that its parent's text repeats is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What the coordinator answered, or that it was not reached, as a failure of the command.
pub fn failure(target: &Target, status: &tonic::Status) -> Error {
    match std::error::Error::source(status) {
        // A broken transport has a cause; what the coordinator says has none.
        Some(cause) if status.details().is_empty() => unreachable(target, cause),
        _ => shardfuse_coordinator::service::status::error(status),
    }
}

/// Whether a status says that the connection broke, and not what the coordinator thinks of the request.
pub fn is_broken(status: &tonic::Status) -> bool {
    status.details().is_empty()
        && (std::error::Error::source(status).is_some() || status.code() == tonic::Code::Unavailable)
}

fn unreachable(target: &Target, cause: &(dyn std::error::Error + 'static)) -> Error {
    let text = chain(cause);
    let error = Error::new(Kind::Io, format!("the coordinator at {target} cannot be reached: {text}"));
    error.hint(match target.is_tls() {
        true => {
            "is it running there, and did one authority (--tls-ca) sign both certificates? \
             A name that differs from the one in the coordinator's certificate is given with --tls-name"
        }
        false => "is it running there? If it speaks TLS, write https:// and give --tls-ca, --tls-cert and --tls-key",
    })
}
