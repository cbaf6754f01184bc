//! The forms of ids. They come back from journals and over the wire, so each is checked before it is sent anywhere.

use md5::{Digest, Md5};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, UploadId};
use crate::location::Location;
use crate::store::is_plain;
use crate::token::token;

/// Whether a text can be an ETag: what may stand in a header, and is not a list of several.
pub(super) fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// Whether two texts are one ETag. Some stores leave out the quotes in one of their answers.
pub(super) fn is_same_tag(one: &str, other: &str) -> bool {
    one.trim_matches('"') == other.trim_matches('"')
}

/// An upload, written `<version before>.<id of the store>`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upload {
    /// Stands for the version of the object that was at the path when the upload began.
    before: String,
    /// The store's id; on Azure, a name of our own.
    pub(super) id: String,
}

impl Upload {
    /// A new upload to where `tag` is the ETag of what is there.
    pub(super) fn new(tag: Option<&str>, id: String) -> Self {
        Self { before: version(tag), id }
    }

    /// What to write down.
    pub(super) fn written(&self) -> UploadId {
        UploadId::new(format!("{}.{}", self.before, self.id))
    }

    /// Takes back what was written down; `None` for what this store never wrote.
    pub(super) fn parse(upload: &UploadId) -> Option<Self> {
        let (before, id) = upload.as_str().split_once('.')?;
        let hex = before.len() == 16 && before.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (hex && is_plain(id)).then(|| Self { before: before.to_owned(), id: id.to_owned() })
    }

    /// Whether an object with this ETag came after the upload began.
    pub(super) fn is_older_than(&self, tag: &str) -> bool {
        self.before != version(Some(tag))
    }
}

fn version(tag: Option<&str>) -> String {
    tag.map_or_else(|| "0".repeat(16), |tag| blake3::hash(tag.as_bytes()).to_hex()[..16].to_owned())
}

/// A name for an upload where the store has none.
pub(super) fn name() -> String {
    format!("{}{}", token(), token())
}

/// Whether a name is one of ours.
pub(super) fn is_name(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A part, written `<length>.<id of the store>`.
pub(super) fn part(length: usize, id: &str) -> PartId {
    PartId::new(format!("{length}.{id}"))
}

/// The length and the store's id in what was written down for a part.
fn read(part: &PartId) -> Option<(u64, &str)> {
    let (length, id) = part.as_str().split_once('.')?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    Some((length.parse().ok().filter(|_| digits)?, id))
}

/// Whether a text can stand for a part of this length. Where the client `names` the parts (Azure's blocks), an id is 32
/// hexadecimal digits; elsewhere it is an ETag. One that begins as XML is none: the client would read more out of it.
pub(super) fn may_be_part(part: &PartId, expected: u64, names: bool) -> bool {
    let form = |id: &str| if names { is_name(id) } else { is_tag(id) && !id.contains('<') };
    read(part).is_some_and(|(length, id)| length == expected && form(id))
}

/// The store's ids of parts that, one behind the other, have `size` bytes.
pub(super) fn parts(at: &Location, parts: &[(u32, PartId)], size: u64) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(parts.len());
    let mut end = 0u64;
    for (expected, (number, part)) in (0u32..).zip(parts) {
        match read(part) {
            Some((length, id)) if *number == expected && is_plain(id) => {
                end = end.saturating_add(length);
                ids.push(id.to_owned());
            }
            _ => {
                let message = format!("part {number} ({part}) is not what follows {expected} parts");
                return Err(Error::new(ErrorKind::InvalidPart, at, message));
            }
        }
    }
    match end == size {
        true => Ok(ids),
        false => Err(Error::new(ErrorKind::InvalidPart, at, format!("the parts have {end} bytes of {size}"))),
    }
}

/// The ETag that S3 gives an object of these parts: the MD5 of the MD5s of the parts, and their number. `None` where the
/// parts' ETags are not MD5s.
pub(super) fn composite(parts: &[String]) -> Option<String> {
    let mut all = Md5::new();
    for tag in parts {
        let hex = tag.trim_matches('"');
        if hex.len() != 32 {
            return None;
        }
        for pair in 0..16 {
            all.update([u8::from_str_radix(hex.get(2 * pair..2 * pair + 2)?, 16).ok()?]);
        }
    }
    let digest: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("\"{digest}-{}\"", parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_reads_back_and_nothing_else_does() {
        let upload = Upload::new(Some("\"abc\""), "2~x.y/z+w=".to_owned());
        assert_eq!(Upload::parse(&upload.written()), Some(upload));
        for text in ["", ".", "x", "0123456789abcdef", "0123456789abcdef.", "0123456789abcdeg.x", "../../../etc/passwd"]
        {
            assert_eq!(Upload::parse(&UploadId::new(text)), None, "{text:?}");
        }
        let long = format!("0123456789abcdef.{}", "x".repeat(3000));
        for text in ["0123456789abcdef.a b", "0123456789abcdef.a\r\nb", "0123456789abcdef.ü", &long] {
            assert_eq!(Upload::parse(&UploadId::new(text)), None, "{text:?}");
        }
    }

    #[test]
    fn an_object_that_was_there_before_is_told_from_a_newer_one() {
        let over = Upload::new(Some("\"abc\""), name());
        assert!(over.is_older_than("\"abd\"") && !over.is_older_than("\"abc\""));
        assert!(Upload::new(None, name()).is_older_than("\"abc\""));
    }

    #[test]
    fn parts_follow_one_another_and_make_up_the_size() {
        let at = "s3://bucket/x".parse().unwrap();
        let list = |ids: &[(u32, &str)]| ids.iter().map(|(n, id)| (*n, PartId::new(*id))).collect::<Vec<_>>();
        let good = list(&[(0, "5.\"a\""), (1, "3.b")]);
        assert_eq!(parts(&at, &good, 8).unwrap(), ["\"a\"", "b"]);
        assert!(parts(&at, &good, 9).is_err());
        assert!(parts(&at, &[], 0).unwrap().is_empty());
        for bad in [list(&[(1, "5.a")]), list(&[(0, "5.a"), (0, "3.b")]), list(&[(0, "a")]), list(&[(0, "8.a b")])] {
            assert!(parts(&at, &bad, 8).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_has_the_form_of_its_store_and_the_parts_length() {
        let name = "0123456789abcdef0123456789abcdef";
        for (id, length, tag, named) in [
            (format!("5.\"{name}\""), 5, true, false),
            (format!("5.{name}"), 5, true, true),
            ("5.\"0x8DAF\"".to_owned(), 5, true, false),
            (format!("5.{name}"), 6, false, false),
            (format!("05.{name}"), 5, false, false),
            (format!("+5.{name}"), 5, false, false),
            (name.to_owned(), 5, false, false),
            ("5.".to_owned(), 5, false, false),
            (String::new(), 0, false, false),
            (format!("5.{}", name.to_uppercase()), 5, true, false),
            ("5.\"a\",\"b\"".to_owned(), 5, false, false),
            ("5.<PartMetadata><ETag>a</ETag></PartMetadata>".to_owned(), 5, false, false),
            ("5.a b".to_owned(), 5, false, false),
            ("5.a\r\nb".to_owned(), 5, false, false),
            (format!("5.{}", "x".repeat(300)), 5, false, false),
        ] {
            let part = PartId::new(&id);
            assert_eq!((may_be_part(&part, length, false), may_be_part(&part, length, true)), (tag, named), "{id:?}");
        }
        assert!(may_be_part(&part(0, name), 0, true));
    }

    /// Against the output of `md5sum`.
    #[test]
    fn composite_tags_are_md5s_of_md5s() {
        // md5("a") and md5("b"); their 32 bytes have the MD5 below.
        let tags = ["\"0cc175b9c0f1b6a831c399e269772661\"".to_owned(), "92eb5ffee6ae2fec3ad71c777531578f".to_owned()];
        assert_eq!(composite(&tags).unwrap(), "\"96e024ba2074fe77e8e965ba43a704be-2\"");
        assert_eq!(composite(&["\"0x8DAF\"".to_owned()]), None);
    }
}
