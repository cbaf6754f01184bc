//! How far a merge came, kept with its end.

use serde::{Deserialize, Serialize};

/// The figures of a merge that has ended. Times are in its record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Bytes of finished tasks and parts.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// The size of the output's weight files.
    pub output_bytes: u64,
    /// Finished tasks.
    pub tasks_done: u32,
    /// Tasks in all.
    pub tasks_total: u32,
    /// Parts that the last run journaled.
    pub parts_new: u64,
    /// Parts that earlier runs journaled.
    pub parts_kept: u64,
    /// Attempts that had to be made again.
    pub retries: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Second attempts at tasks that were slow.
    pub repeated: u64,
    /// Reports that came too late.
    pub late: u64,
}
