//! A merge spec is refused, or survives the wire and the stored plan.
//!
//! Bytes that begin with `{` are a stored spec, others a message.

use prost::Message;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_proto::v1;

use super::memory::within;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let spec = if bytes.starts_with(b"{") {
        within(64, bytes, || serde_json::from_slice::<MergeSpec>(bytes).ok())
    } else {
        within(64, bytes, || v1::MergeSpec::decode(bytes).ok().and_then(|wire| MergeSpec::try_from(wire).ok()))
    };
    let Some(spec) = spec else { return false };
    if spec.check().is_err() {
        return false;
    }
    assert!(!spec.lora.is_empty() && spec.part_size >= 1024 && spec.part_size.is_power_of_two());
    let stored = serde_json::to_vec(&spec).expect("a spec can be stored");
    assert_eq!(serde_json::from_slice::<MergeSpec>(&stored).expect("what is stored can be read"), spec);
    // The wire has bounds of its own, which a stored spec need not keep.
    if let Ok(again) = MergeSpec::try_from(v1::MergeSpec::from(&spec)) {
        assert_eq!(again, spec);
    }
    true
}
