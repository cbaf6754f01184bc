//! Which program this is.

/// The version, and in parentheses what it was built from, such as `0.1.0 (1a2b3c4d5 2026-11-30)`. `build.rs` makes it.
pub const VERSION: &str = env!("SHARDFUSE_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_begins_with_the_number_of_the_package() {
        let rest = VERSION.strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
        // Scripts take the second word of `shardfuse --version`.
        assert!(rest.is_empty() || rest.starts_with(" (") && rest.ends_with(')'), "{VERSION}");
    }
}
