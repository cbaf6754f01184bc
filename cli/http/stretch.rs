//! A part or block of the task stream as the page draws it.

use serde::Serialize;
use shardfuse_coordinator::hub;

/// No stage of a part takes longer: what says so is not true, or would hide everything else.
const LONGEST_US: u64 = 3_600_000_000;

/// A finished part or block.
#[derive(Debug, Serialize)]
pub struct Stretch {
    number: u64,
    /// In milliseconds since 1970.
    ended: u64,
    worker: String,
    task: u32,
    piece: u32,
    bytes: u64,
    /// Wait, fetch, fuse, wait again, put: in milliseconds, one after another.
    stages: [f64; 5],
}

impl From<hub::Stretch> for Stretch {
    fn from(it: hub::Stretch) -> Stretch {
        let times = it.times;
        let stages = [times.wait_us, times.fetch_us, times.fuse_us, times.hold_us, times.put_us];
        Stretch {
            number: it.number,
            ended: it.ended,
            worker: it.worker,
            task: it.task,
            piece: it.piece,
            bytes: it.bytes,
            stages: stages.map(|us| us.min(LONGEST_US) as f64 / 1000.0),
        }
    }
}
