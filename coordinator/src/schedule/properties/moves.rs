//! What can happen in a history.

use super::WORKERS;
use crate::schedule::ErrorKind;

/// One thing that happens. What it picks from is there only when it happens, so a pick is taken modulo what there is.
#[derive(Debug, Clone)]
pub(super) enum Move {
    Join {
        worker: u64,
        slots: u32,
    },
    /// A worker that is there or not gets another number of slots.
    Slots {
        worker: u64,
        slots: u32,
    },
    /// A heartbeat with all that the worker runs, or with nothing. The attempts went on since the last one, or did not.
    Beat {
        worker: u64,
        truthful: bool,
        moves: bool,
    },
    OddBeat {
        worker: u64,
        task: u32,
        epoch: u32,
    },
    /// A worker reports a piece that was not acknowledged yet; the report may be lost.
    Work {
        pick: usize,
        piece: usize,
        lost: bool,
    },
    /// An earlier event arrives once more.
    Again {
        pick: usize,
    },
    OddReport {
        worker: u64,
        task: u32,
        epoch: u32,
        piece: u32,
    },
    Fail {
        pick: usize,
        kind: ErrorKind,
    },
    OddFailure {
        worker: u64,
        task: u32,
        epoch: u32,
        kind: ErrorKind,
    },
    /// From now on what is sent to the worker is lost, or no longer.
    Deafen {
        worker: u64,
        deaf: bool,
    },
    /// A worker forgets what it runs, and nobody hears of it.
    Restart {
        worker: u64,
    },
    Drain {
        worker: u64,
    },
    Leave {
        worker: u64,
    },
    Tick,
    Pass {
        millis: u64,
    },
    /// The clock goes back.
    Back {
        millis: u64,
    },
    /// One of the waiting receipts is in the journal.
    Journal {
        pick: usize,
    },
    OddJournal {
        task: u32,
        piece: u32,
    },
    Cancel,
}

impl Move {
    /// Reads a move out of the digits of a number, the kind first. Usual things are likely, and what ends a merge is rare.
    pub(super) fn decode(number: u64) -> Self {
        let mut rest = number;
        let mut digit = |base: u64| {
            let digit = rest % base;
            rest /= base;
            digit
        };
        let chance = digit(256);
        let worker = digit(WORKERS);
        let (task, epoch, piece) = (small(digit(9)), small(digit(6)), small(digit(12)));
        let kind = match digit(80) {
            0..=1 => ErrorKind::Permanent,
            2..=30 => ErrorKind::Transient,
            31..=60 => ErrorKind::WorkerLocal,
            _ => ErrorKind::Stale,
        };
        let one_in_eight = digit(8) == 0;
        let amount = digit(60_000);
        let pick = small(digit(1000)) as usize;
        match chance {
            0..=63 => Self::Work { pick, piece: piece as usize, lost: one_in_eight },
            64..=113 => Self::Journal { pick },
            114..=133 => Self::Tick,
            134..=155 => Self::Pass { millis: amount / 20 },
            156..=157 => Self::Pass { millis: amount },
            158..=159 => Self::Back { millis: amount / 20 },
            160..=183 => Self::Beat { worker, truthful: !one_in_eight, moves: amount % 4 == 0 },
            184..=200 => Self::Join { worker, slots: epoch % 4 },
            201..=213 => Self::Again { pick },
            214..=221 => Self::Fail { pick, kind },
            222..=226 => Self::OddReport { worker, task, epoch, piece },
            227..=229 => Self::OddFailure { worker, task, epoch, kind },
            230..=232 => Self::OddBeat { worker, task, epoch },
            233..=235 => Self::OddJournal { task, piece },
            236..=240 => Self::Deafen { worker, deaf: amount % 2 == 0 },
            241..=243 => Self::Restart { worker },
            244..=247 => Self::Drain { worker },
            248..=251 => Self::Leave { worker },
            252 if one_in_eight => Self::Cancel,
            253..=255 => Self::Slots { worker, slots: epoch % 4 },
            _ => Self::Tick,
        }
    }

    /// The same without what ends a merge on purpose.
    pub(super) fn without_end(self) -> Self {
        let kind = |kind| {
            if kind == ErrorKind::Permanent { ErrorKind::Transient } else { kind }
        };
        match self {
            Self::Fail { pick, kind: which } => Self::Fail { pick, kind: kind(which) },
            Self::OddFailure { worker, task, epoch, kind: which } => {
                Self::OddFailure { worker, task, epoch, kind: kind(which) }
            }
            Self::Cancel => Self::Tick,
            other => other,
        }
    }
}

fn small(digit: u64) -> u32 {
    u32::try_from(digit).expect("its base is small")
}
