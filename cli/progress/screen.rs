//! The one way to a terminal: whatever is written above a bar clears it first, and the bar is drawn again below.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// The bars of this process. Where stderr is no terminal nothing is drawn.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The bars.
pub fn bars() -> &'static MultiProgress {
    &BARS
}

/// Writes lines to stderr, above the bars.
pub fn write(lines: &[u8]) -> io::Result<()> {
    BARS.suspend(|| io::stderr().lock().write_all(lines))
}

/// Whether the last word is said.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Ends the log: what tasks in the background still have to say would come behind the failure, which is the last line.
pub fn end_log() {
    ENDED.store(true, Ordering::Relaxed);
}

/// Stderr, for log lines. Each is written in one piece.
#[derive(Debug, Clone, Copy)]
pub struct Screen;

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match ENDED.load(Ordering::Relaxed) {
            true => Ok(bytes.len()),
            false => write(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Screen;

    fn make_writer(&self) -> Screen {
        Screen
    }
}
