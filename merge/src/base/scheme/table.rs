//! The table of schemes.

use super::claim::Scheme;
use super::quantised::{awq, bitsandbytes, fp8, gptq, llm_int8, mxfp4, mxfp4_packed, nvfp4, packed};
use super::{opaque, plain, seen};

/// The schemes, in the order in which they are asked. Scales are plain floats, so what has scales is asked first, and AWQ, whose
/// names are GPTQ's with one missing, after GPTQ. The last one claims every tensor.
pub(super) static SCHEMES: [&dyn Scheme; 12] = [
    &fp8::Fp8,
    &nvfp4::Nvfp4,
    &mxfp4::Mxfp4,
    &mxfp4_packed::Mxfp4Packed,
    &packed::Packed,
    &gptq::Gptq,
    &awq::Awq,
    &bitsandbytes::BitsAndBytes,
    &llm_int8::LlmInt8,
    &seen::Seen,
    &plain::Plain,
    &opaque::Opaque,
];

/// The scheme of a name.
pub(super) fn named(name: &str) -> Option<&'static dyn Scheme> {
    SCHEMES.into_iter().find(|scheme| scheme.name() == name)
}
