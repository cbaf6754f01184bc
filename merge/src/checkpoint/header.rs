//! The header of a safetensors file, read strictly.
//!
//! Layout (<https://huggingface.co/docs/safetensors>): 8 bytes little-endian header length `n`, `n` bytes of JSON, then
//! the data. The `safetensors` crate wants the whole file and lets a repeated name win silently, so the header is taken
//! apart here: only `8 + n` bytes are ever read, names are unique, and every length is checked against the object.

use std::collections::BTreeMap;
use std::fmt;

use hashbrown::HashSet;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::tensor::{Dtype, DtypeExt};

/// The name that is no tensor's.
const METADATA: &str = "__metadata__";

/// The longest header that is read, in bytes. The format's own limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// One tensor of a file: where its bytes lie in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape; empty for a scalar.
    pub shape: Vec<u64>,
    /// The first byte, from the start of the object.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
}

/// A whole header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The `__metadata__` map.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorEntry>,
}

/// The length of the JSON header, from the object's first eight bytes and its size in bytes.
pub fn header_length(first: [u8; 8], object_size: u64) -> Result<u64> {
    let n = u64::from_le_bytes(first);
    if n > MAX_HEADER {
        return Err(bad(format!("header length {n} is above the limit of {MAX_HEADER} bytes")));
    }
    if n < 2 || n.checked_add(8).is_none_or(|end| end > object_size) {
        return Err(bad(format!("header length {n} does not fit into {object_size} bytes")));
    }
    Ok(n)
}

/// Parses the JSON header (without the 8 length bytes) of an object of `object_size` bytes.
pub fn parse(json: &[u8], object_size: u64) -> Result<Header> {
    if json.first() != Some(&b'{') {
        return Err(bad("header does not start with '{'"));
    }
    let raw: RawHeader = serde_json::from_slice(json).map_err(|e| bad(format!("header is not valid: {e}")))?;
    let data_start = 8 + json.len() as u64;
    let mut tensors = Vec::with_capacity(raw.tensors.len());
    for (name, info) in raw.tensors {
        tensors.push(entry(name, info, data_start)?);
    }
    tensors.sort_by(|a, b| (a.offset, a.length).cmp(&(b.offset, b.length)).then_with(|| a.name.cmp(&b.name)));
    let mut at = data_start;
    for t in &tensors {
        if t.offset != at {
            return Err(bad(format!(
                "tensor {} starts at byte {} of the data, expected {}",
                t.name,
                t.offset - data_start,
                at.saturating_sub(data_start)
            )));
        }
        at = t.offset.checked_add(t.length).ok_or_else(|| bad(format!("tensor {} is out of bounds", t.name)))?;
    }
    if at != object_size {
        return Err(bad(format!("the header describes {at} bytes, the file has {object_size}"))
            .hint("the file was cut off or not written to its end; fetch it again"));
    }
    Ok(Header { metadata: raw.metadata, tensors })
}

/// The bytes of a header for tensors laid out in the given order, padded with spaces so that the data starts at a
/// multiple of 8. `tensors` holds name, dtype, shape and length in bytes.
pub fn render<'a>(
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [u64], u64)>,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut json = br#"{"__metadata__":"#.to_vec();
    put(&mut json, metadata);
    let mut at = 0u64;
    for (name, dtype, shape, length) in tensors {
        json.push(b',');
        put(&mut json, name);
        json.push(b':');
        put(&mut json, &Described { dtype, shape, data_offsets: (at, at + length) });
        at += length;
    }
    json.push(b'}');
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.append(&mut json);
    out
}

/// Pads a rendered header with spaces to this many bytes, its length prefix included. One that is longer already stays.
pub fn lengthen(header: &mut Vec<u8>, length: u64) {
    if length > header.len() as u64 {
        header.resize(length as usize, b' ');
        header[..8].copy_from_slice(&(length - 8).to_le_bytes());
    }
}

/// A tensor as a header describes it.
#[derive(Serialize)]
struct Described<'a> {
    dtype: Dtype,
    shape: &'a [u64],
    data_offsets: (u64, u64),
}

/// Appends a value as JSON.
fn put<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) {
    // Writing to memory cannot fail, and neither can texts and numbers.
    let _ = serde_json::to_writer(json, value);
}

/// Bytes of a tensor of this dtype and shape; `None` on overflow or where the bits do not fill whole bytes.
pub fn tensor_bytes(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

fn entry(name: String, info: TensorInfo, data_start: u64) -> Result<TensorEntry> {
    let TensorInfo { dtype, shape, data_offsets: (begin, end) } = info;
    let want = tensor_bytes(dtype, &shape);
    let have = end.checked_sub(begin);
    if want.is_none() || want != have {
        let want = want.map_or("too many".to_owned(), |n| n.to_string());
        return Err(bad(format!(
            "tensor {name}: {} of shape {shape:?} takes {want} bytes, its offsets {begin}..{end} do not",
            dtype.name()
        )));
    }
    let offset = data_start.checked_add(begin).ok_or_else(|| bad(format!("tensor {name} is out of bounds")))?;
    Ok(TensorEntry { name, dtype, shape, offset, length: end - begin })
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadSafetensors, message)
}

/// A tensor as a header describes it.
#[derive(Deserialize)]
struct TensorInfo {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a safetensors header")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut metadata: Option<Option<BTreeMap<String, String>>> = None;
                let mut tensors: Vec<(String, TensorInfo)> = Vec::new();
                let twice = |name: &str| A::Error::custom(format!("the name {name} appears twice"));
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        tensors.push((name, map.next_value()?));
                    } else if metadata.replace(map.next_value()?).is_some() {
                        return Err(twice(METADATA));
                    }
                }
                if let Some(name) = repeated(&tensors) {
                    return Err(twice(name));
                }
                // As the safetensors library reads it: null is no metadata.
                Ok(RawHeader { metadata: metadata.flatten().unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// The first name that stands there a second time.
fn repeated(tensors: &[(String, TensorInfo)]) -> Option<&str> {
    let mut seen = HashSet::with_capacity(tensors.len());
    tensors.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> (Vec<u8>, u64) {
        (json.as_bytes().to_vec(), 8 + json.len() as u64 + data as u64)
    }

    #[test]
    fn reads_tensors_in_data_order() {
        let (json, size) = file(
            r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#,
            12,
        );
        let header = parse(&json, size).unwrap();
        assert_eq!(header.tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(header.tensors[1].offset, 8 + json.len() as u64 + 4);
    }

    #[test]
    fn a_header_has_two_bytes_at_least_and_fits_into_its_object() {
        let length = |n: u64, size| header_length(n.to_le_bytes(), size);
        assert_eq!(length(2, 10), Ok(2));
        for (n, size) in [(1, 10), (2, 9), (u64::MAX, 10), (MAX_HEADER + 1, u64::MAX)] {
            assert_eq!(length(n, size).unwrap_err().kind(), Kind::BadSafetensors, "{n} of {size}");
        }
        assert_eq!(length(MAX_HEADER, MAX_HEADER + 8), Ok(MAX_HEADER));
    }

    #[test]
    fn a_repeated_name_is_refused() {
        let one = r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        let (json, size) = file(&format!("{{{one},{one}}}"), 1);
        let error = parse(&json, size).unwrap_err();
        assert_eq!(error.kind(), Kind::BadSafetensors);
        assert!(error.message().contains("appears twice"), "{error}");
    }

    #[test]
    fn metadata_that_is_null_is_none() {
        let (json, size) = file(r#"{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1);
        let header = parse(&json, size).unwrap();
        assert_eq!((header.metadata.len(), header.tensors.len()), (0, 1));
    }

    #[test]
    fn gaps_overlaps_wrong_sizes_and_short_files_are_refused() {
        for (json, data) in [
            (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                3,
            ),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 3),
            (r#"{"a":{"dtype":"U8","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#, 4),
            (r#"{"a":{"dtype":"NOPE","shape":[4],"data_offsets":[0,4]}}"#, 4),
            (r#"[]"#, 0),
        ] {
            let (json, size) = file(json, data);
            assert_eq!(
                parse(&json, size).unwrap_err().kind(),
                Kind::BadSafetensors,
                "{}",
                String::from_utf8_lossy(&json)
            );
        }
    }

    #[test]
    fn header_length_is_bounded_by_the_object() {
        assert!(header_length(100u64.to_le_bytes(), 108).is_ok());
        assert!(header_length(100u64.to_le_bytes(), 107).is_err());
        assert!(header_length(u64::MAX.to_le_bytes(), u64::MAX).is_err());
        assert!(header_length(0u64.to_le_bytes(), 8).is_err());
    }

    #[test]
    fn what_is_rendered_is_what_is_read() {
        let meta = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let shape = [3u64, 2];
        let bytes = render([("x", Dtype::BF16, &shape[..], 12), ("s", Dtype::F32, &[][..], 4)].into_iter(), &meta);
        assert_eq!(bytes.len() % 8, 0);
        let header = parse(&bytes[8..], bytes.len() as u64 + 16).unwrap();
        assert_eq!(header.metadata, meta);
        assert_eq!(header.tensors[0].shape, shape);
        assert_eq!(header.tensors[1].offset, bytes.len() as u64 + 12);
    }
}
