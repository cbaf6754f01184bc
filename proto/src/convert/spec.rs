//! The merge spec on the wire.

use shardfuse_merge::recipe::DoraNorm;
use shardfuse_merge::spec::{DEFAULT_PART_SIZE, LoraSpec, MergeSpec, OutputDtype, Tokenizer};

use super::{Malformed, Result};
use crate::v1;

/// Adapters of one merge, at the most.
const MAX_ADAPTERS: usize = 1024;
/// Bytes of one URL, at the most.
const MAX_URL: usize = 4096;
/// File names of one list, at the most, and bytes of one of them.
const MAX_NAMES: (usize, usize) = (256, 1024);

/// Names in a fixed order: it means nothing, and equal merges must have equal specs.
fn file_names(field: &str, mut names: Vec<String>) -> Result<Vec<String>> {
    let (most, longest) = MAX_NAMES;
    if names.len() > most {
        return Err(Malformed(format!("{field} has {} names, at most {most} are taken", names.len())));
    }
    match names.iter().find(|name| name.len() > longest) {
        Some(long) => {
            Err(Malformed(format!("{field} has a name of {} bytes, at most {longest} are taken", long.len())))
        }
        None => {
            names.sort_unstable();
            names.dedup();
            Ok(names)
        }
    }
}

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
            extra_weights: spec.extra_weights.clone(),
            ignore_files: spec.ignore_files.clone(),
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
            extra_weights: file_names("extra_weights", spec.extra_weights)?,
            ignore_files: file_names("ignore_files", spec.ignore_files)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(extra_weights: Vec<String>, ignore_files: Vec<String>) -> v1::MergeSpec {
        let (base, output) = ("s3://b/base".to_owned(), "s3://b/out".to_owned());
        v1::MergeSpec { base, output, extra_weights, ignore_files, ..v1::MergeSpec::default() }
    }

    #[test]
    fn names_of_files_come_back_in_one_order() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let spec = MergeSpec::try_from(wire(names(&["b", "a", "b"]), names(&["c"]))).unwrap();
        assert_eq!((&spec.extra_weights, &spec.ignore_files), (&names(&["a", "b"]), &names(&["c"])));
        assert_eq!(MergeSpec::try_from(v1::MergeSpec::from(&spec)).unwrap(), spec);
    }

    #[test]
    fn too_many_names_and_too_long_ones_are_refused() {
        for names in [vec!["x".to_owned(); MAX_NAMES.0 + 1], vec!["x".repeat(MAX_NAMES.1 + 1)]] {
            assert!(MergeSpec::try_from(wire(names.clone(), Vec::new())).is_err());
            assert!(MergeSpec::try_from(wire(Vec::new(), names)).is_err());
        }
    }
}
