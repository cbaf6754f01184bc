//! Requests without an answer.

use std::fmt;

/// A request without an answer, or with half of one.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// Whether the next try would break in the same way.
    pub(crate) for_good: bool,
    message: String,
}

impl Broken {
    /// One that may work the next time.
    pub(super) fn for_now(message: impl Into<String>) -> Self {
        Self { for_good: false, message: message.into() }
    }

    /// One that will not.
    pub(super) fn for_good(message: impl Into<String>) -> Self {
        Self { for_good: true, message: message.into() }
    }

    /// A client's error, without the address, which may hold a signature.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        // TLS reports what is wrong with a certificate or a protocol as invalid data.
        let mut for_good = error.is_builder();
        let mut message = String::new();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Several layers say the same.
            if !message.ends_with(&text) {
                message = if message.is_empty() { text } else { format!("{message}: {text}") };
            }
            for_good |=
                error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::InvalidData);
            cause = error.source();
        }
        Self { for_good, message }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Broken {}
