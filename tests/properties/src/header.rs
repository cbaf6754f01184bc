//! A safetensors header is refused, or describes every byte of the file once and survives being written again.
//!
//! The first eight bytes are what the file holds behind the header, so that a fuzzer can change both.

use std::collections::HashSet;

use shardfuse_merge::checkpoint::header::{MAX_HEADER, header_length, parse, render, tensor_bytes};

use super::memory::within;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let Some((first, json)) = bytes.split_first_chunk::<8>() else { return false };
    let size = (8 + json.len() as u64).saturating_add(u64::from_le_bytes(*first));
    if let Ok(length) = header_length(*first, bytes.len() as u64) {
        assert!((2..=MAX_HEADER).contains(&length) && length + 8 <= bytes.len() as u64);
    }
    let Ok(header) = within(64, json, || parse(json, size)) else { return false };

    let mut at = 8 + json.len() as u64;
    let mut names = HashSet::new();
    for tensor in &header.tensors {
        assert_eq!(tensor.offset, at, "{} leaves a gap or overlaps", tensor.name);
        assert_eq!(Some(tensor.length), tensor_bytes(tensor.dtype, &tensor.shape));
        assert!(names.insert(&tensor.name), "{} is there twice", tensor.name);
        at += tensor.length;
    }
    assert_eq!(at, size, "the tensors do not fill the file");

    let tensors = header.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), t.length));
    let written = render(tensors, &header.metadata);
    let data = size - 8 - json.len() as u64;
    // The written header may be longer, so the file may become too long to be described.
    let Some(size) = data.checked_add(written.len() as u64) else { return true };
    let again = parse(&written[8..], size).expect("what is written can be read");
    assert_eq!(again.metadata, header.metadata);
    for (a, b) in again.tensors.iter().zip(&header.tensors) {
        assert_eq!((&a.name, a.dtype, &a.shape, a.length), (&b.name, b.dtype, &b.shape, b.length));
    }
    assert_eq!(again.tensors.len(), header.tensors.len());
    true
}
