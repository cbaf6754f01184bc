//! What lies in place of weights where a download or a copy went wrong, by the first bytes of the file.

use crate::error::{Error, Kind, Result};

/// The start of a file, what it is, and what to do about it.
const KNOWN: [(&[u8], &str, &str); 7] = [
    (b"<!doctype", "an HTML page", PAGE),
    (b"<html", "an HTML page", PAGE),
    (b"<?xml", "an XML text, such as the error message of an object store", PAGE),
    (b"\x1f\x8b", "compressed with gzip", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", UNPACK),
];
const PAGE: &str =
    "the download got a message in place of the file: look at it with `head`, then download the file again";
const UNPACK: &str = "unpack it, or download the model again";

/// So many readable bytes at the start are a text.
const TEXT: usize = 16;
/// What a zip archive under the name of a safetensors file is.
const ZIP: &[u8] = b"PK\x03\x04";

/// Refuses a weight file that is something else. `start` is its beginning. The place comes in front of the message.
///
/// # Errors
/// An error of `kind`, which is `bad_safetensors` or `bad_pickle`.
pub fn refuse(kind: Kind, start: &[u8]) -> Result<()> {
    let trimmed = start.trim_ascii_start();
    let begins = |with: &[u8]| trimmed.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if let Some((_, what, hint)) = KNOWN.iter().find(|(with, ..)| begins(with)) {
        return Err(Error::new(kind, format!("is {what}, not weights")).hint(*hint));
    }
    // The length of a header, in eight bytes, begins with few of them that are letters.
    let readable = |start: &&[u8]| start.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    if let Some(words) = start.get(..TEXT).filter(readable) {
        let words = String::from_utf8_lossy(words);
        return Err(Error::new(kind, format!("is a text that begins with {words:?}, not weights")).hint(PAGE));
    }
    if kind == Kind::BadSafetensors && start.starts_with(ZIP) {
        return Err(Error::new(kind, "is a zip archive, as torch.save writes, not a safetensors file")
            .hint("give it the ending .bin if torch wrote it, or unpack it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_an_error_message_and_an_archive_are_named() {
        for (start, named) in [
            (b"<!DOCTYPE html><html>".as_slice(), "an HTML page"),
            (b"\n <HTML>", "an HTML page"),
            (b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey", "an XML text"),
            (b"\x1f\x8b\x08\x00", "gzip"),
            (b"PK\x03\x04", "zip archive"),
            (b"{\"error\":\"Unauthorized\"}", "a text that begins with"),
        ] {
            let error = refuse(Kind::BadSafetensors, start).unwrap_err();
            assert!(error.message().contains(named) && error.advice().is_some(), "{error}");
        }
    }

    #[test]
    fn weights_are_let_through() {
        // The length of a header of 0x1f bytes, a pickle, and torch's own archive.
        let header = [&[0x1f, 0, 0, 0, 0, 0, 0, 0][..], b"{\"__metadata__\":{}}"].concat();
        refuse(Kind::BadSafetensors, &header).unwrap();
        refuse(Kind::BadPickle, b"\x80\x02}q\x00").unwrap();
        refuse(Kind::BadPickle, ZIP).unwrap();
        refuse(Kind::BadSafetensors, b"").unwrap();
    }
}
