//! The merge spec on the wire.

use shardfuse_merge::plan::recipe::DoraNorm;
use shardfuse_merge::plan::spec::{DEFAULT_PART_SIZE, LoraSpec, MergeSpec, OutputDtype, Tokenizer};

use super::{Malformed, Result};
use crate::v1;

/// Adapters of one merge, at the most.
const MAX_ADAPTERS: usize = 1024;
/// Bytes of one URL, at the most.
const MAX_URL: usize = 4096;

impl From<&MergeSpec> for v1::MergeSpec {
    fn from(spec: &MergeSpec) -> Self {
        v1::MergeSpec {
            base: spec.base.clone(),
            lora: spec.lora.iter().map(|l| v1::Lora { path: l.path.clone(), weight: Some(l.weight) }).collect(),
            output: spec.output.clone(),
            dtype: match spec.dtype {
                OutputDtype::Keep => "keep",
                OutputDtype::Bf16 => "bf16",
                OutputDtype::F16 => "f16",
                OutputDtype::F32 => "f32",
            }
            .into(),
            max_shard_size: spec.max_shard_size.unwrap_or(0),
            part_size: spec.part_size,
            dora_norm: match spec.dora_norm {
                DoraNorm::Standing => "standing",
                DoraNorm::Original => "original",
            }
            .into(),
            partial_weight: spec.partial_weight,
            tokenizer: match &spec.tokenizer {
                Tokenizer::Auto => "auto".into(),
                Tokenizer::Base => "base".into(),
                Tokenizer::Folder(url) => url.clone(),
            },
            tied: spec.tied,
        }
    }
}

impl TryFrom<v1::MergeSpec> for MergeSpec {
    type Error = Malformed;
    fn try_from(spec: v1::MergeSpec) -> Result<Self> {
        let url = |name: &str, url: String| match url.len() {
            0 => Err(Malformed(format!("{name} is missing"))),
            1..=MAX_URL => Ok(url),
            long => Err(Malformed(format!("{name} is {long} bytes long, at most {MAX_URL} are taken"))),
        };
        if spec.lora.len() > MAX_ADAPTERS {
            return Err(Malformed(format!("{} adapters, at most {MAX_ADAPTERS} are taken", spec.lora.len())));
        }
        let lora = |l: v1::Lora| Ok(LoraSpec { path: url("lora.path", l.path)?, weight: l.weight.unwrap_or(1.0) });
        Ok(MergeSpec {
            base: url("base", spec.base)?,
            lora: spec.lora.into_iter().map(lora).collect::<Result<_>>()?,
            output: url("output", spec.output)?,
            dtype: match spec.dtype.as_str() {
                "" | "keep" => OutputDtype::Keep,
                "bf16" => OutputDtype::Bf16,
                "f16" => OutputDtype::F16,
                "f32" => OutputDtype::F32,
                other => return Err(Malformed(format!("dtype is {other:?}, expected keep, bf16, f16 or f32"))),
            },
            max_shard_size: (spec.max_shard_size > 0).then_some(spec.max_shard_size),
            part_size: if spec.part_size == 0 { DEFAULT_PART_SIZE } else { spec.part_size },
            dora_norm: match spec.dora_norm.as_str() {
                "" | "standing" => DoraNorm::Standing,
                "original" => DoraNorm::Original,
                other => return Err(Malformed(format!("dora_norm is {other:?}, expected standing or original"))),
            },
            partial_weight: spec.partial_weight,
            tokenizer: match spec.tokenizer.as_str() {
                "" | "auto" => Tokenizer::Auto,
                "base" => Tokenizer::Base,
                _ => Tokenizer::Folder(url("tokenizer", spec.tokenizer)?),
            },
            tied: spec.tied,
        })
    }
}
