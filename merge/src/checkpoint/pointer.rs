//! Git LFS pointers: small texts that stand for a large file in a checkout that did not fetch it.

use crate::error::{Error, Kind};

/// No pointer is longer, in bytes; the format's own limit.
pub const MAX_POINTER: u64 = 1024;

/// Whether a file that begins so is a pointer.
pub fn is_pointer(start: &[u8]) -> bool {
    start.starts_with(b"version https://git-lfs.github.com/spec/")
        || start.starts_with(b"version https://hawser.github.com/spec/")
}

/// The refusal of a pointer. The place comes in front of it.
pub fn refusal(kind: Kind, size: u64) -> Error {
    Error::new(kind, format!("is a Git LFS pointer of {size} bytes, not the file that it stands for"))
        .hint("the checkout did not fetch its large files: run `git lfs pull` in it, or download the model again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_known_by_its_first_line() {
        let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(is_pointer(text));
        assert!(!is_pointer(b"version 3\n") && !is_pointer(b"") && !is_pointer(b"{\"a\": 1}"));
    }
}
