//! Quantised parameters: codes, and the tensors beside them that say what the codes mean. One file for each form.
//!
//! A parameter is told from others by the names and types of its tensors. What nothing touches is copied with all of them.

pub(super) mod awq;
pub(super) mod bitsandbytes;
mod companions;
mod fp4;
pub(super) mod fp8;
pub(super) mod gptq;
mod grouped;
mod lanes;
pub(super) mod llm_int8;
pub(super) mod mxfp4;
pub(super) mod mxfp4_packed;
pub(super) mod nvfp4;
pub(super) mod packed;
mod told;
mod values;

#[cfg(test)]
mod tests;
