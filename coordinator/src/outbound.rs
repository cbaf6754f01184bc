//! What waits in a worker's session to be sent to it.
//!
//! Hub and drivers fill the queue without waiting. Only the service knows how its entries go over the wire.

use shardfuse_merge::Error;
use shardfuse_proto::v1::to_worker;

/// An entry of a session's queue.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "almost every entry is a message")]
pub enum ToWorker {
    /// A message.
    Message(to_worker::Message),
    /// The session ends with this failure.
    Refused(Error),
}
