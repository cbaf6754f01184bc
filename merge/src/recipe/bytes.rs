//! A recipe as bytes, as it travels to a worker.
//!
//! The first byte is the version. The rest is the recipe in postcard's format. What is read back has been bounded in size by
//! the message that it came in; recipes do not nest, so there is no depth. It is unchecked: see [`super::check`].

use postcard::ser_flavors::Size;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the format.
const VERSION: u8 = 4;

/// A recipe, or a part of one, as bytes.
pub fn write(value: &impl Serialize) -> Vec<u8> {
    let bytes = vec![VERSION];
    // Everything in a recipe has a length that is known beforehand, so this cannot fail.
    postcard::to_extend(value, bytes).unwrap_or_default()
}

/// How many bytes [`write()`] makes of it.
pub fn length(value: &impl Serialize) -> u64 {
    postcard::serialize_with_flavor(value, Size::default()).map_or(u64::MAX, |length| 1 + length as u64)
}

/// A recipe, or a part of one, of bytes.
///
/// # Errors
/// If the bytes are of another version, or are no such value, or hold more than one.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (version, rest) = bytes.split_first().ok_or("a recipe without bytes")?;
    if *version != VERSION {
        return Err(format!("a recipe of version {version}, this version reads {VERSION}"));
    }
    let (value, rest) = postcard::take_from_bytes(rest).map_err(|e| format!("a recipe that cannot be read: {e}"))?;
    match rest.len() {
        0 => Ok(value),
        n => Err(format!("a recipe with {n} bytes behind it")),
    }
}
