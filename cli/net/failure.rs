//! What went wrong with a coordinator, as the failure of a command.

use shardfuse_merge::Error;

use super::endpoint::{Target, unreachable};

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
