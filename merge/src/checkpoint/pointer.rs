//! Small texts that stand in place of a large file: Git LFS pointers in a checkout that did not fetch them, and links of a
//! Hugging Face cache that a tool without links copied as text.

use crate::error::{Error, Kind, Result};

/// No such text is longer, in bytes; the limit of Git LFS's format.
pub const MAX_POINTER: u64 = 1024;

/// Refuses a file of `size` bytes that is only such a text. `start` is its beginning, all of it where it is shorter than
/// [`MAX_POINTER`]. The place comes in front of the message.
///
/// # Errors
/// An error of `kind`.
pub fn refuse(kind: Kind, size: u64, start: &[u8]) -> Result<()> {
    if size > MAX_POINTER {
        return Ok(());
    }
    if start.starts_with(b"version https://git-lfs.github.com/spec/")
        || start.starts_with(b"version https://hawser.github.com/spec/")
    {
        return Err(Error::new(kind, format!("is a Git LFS pointer of {size} bytes, not the file that it stands for"))
            .hint(
                "the checkout did not fetch its large files: run `git lfs pull` in it, or download the model again",
            ));
    }
    match link(start) {
        Some(target) => {
            Err(Error::new(kind, format!("is the text of a link to {target}, not the file that the link leads to"))
                .hint("a cache was copied by a tool that writes links as text: copy it again with links followed, or download the model again"))
        }
        None => Ok(()),
    }
}

/// The target of a link into the cache's `blobs` folder, where a file holds nothing else.
fn link(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let blob = text.strip_prefix("../")?.trim_start_matches("../").strip_prefix("blobs/")?;
    (blob.len() >= 16 && blob.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[u8]) -> Option<String> {
        refuse(Kind::MissingFile, text.len() as u64, text).err().map(|e| e.message().to_owned())
    }

    #[test]
    fn a_pointer_is_known_by_its_first_line() {
        let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(refused(text).unwrap().starts_with("is a Git LFS pointer of 70 bytes"));
        for text in [b"version 3\n".as_slice(), b"", b"{\"a\": 1}"] {
            assert_eq!(refused(text), None);
        }
        assert!(refuse(Kind::MissingFile, MAX_POINTER + 1, text).is_ok(), "too long for a pointer");
    }

    #[test]
    fn a_link_of_a_cache_that_was_copied_as_text_is_known_by_its_target() {
        let said = refused(b"../../blobs/0123456789abcdef").unwrap();
        assert!(said.starts_with("is the text of a link to ../../blobs/0123456789abcdef"), "{said}");
        for text in [b"../../blobs/readme".as_slice(), b"blobs/0123456789abcdef", b"../blobs/0123456789abcdef and more"]
        {
            assert_eq!(refused(text), None);
        }
    }
}
