//! How soon a silent connection counts as broken.

use std::time::Duration;

/// A silent connection gets a ping this often. A peer that vanished is noticed before a lease of 30 s ends, and address
/// translation keeps the connection open.
pub(super) const PING_EVERY: Duration = Duration::from_secs(10);
/// A connection counts as broken if a ping has no answer within this time.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
