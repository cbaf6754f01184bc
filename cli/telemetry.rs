//! Log lines on stderr.

use tracing_subscriber::EnvFilter;

use crate::args::Format;

/// Starts logging. `SHARDFUSE_LOG` says what, by tracing's directives; warnings are the default.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_env("SHARDFUSE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Starting twice in one process is not possible: main calls this once.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}
