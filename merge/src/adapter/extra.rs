//! Files beside an adapter that hold parameters which were trained whole.
//!
//! LLaVA's `non_lora_trainables.bin`, a projector, a vision tower: each tensor replaces the base's, before any delta is
//! added. A tensor that the adapter's own file has too, or that stands in two of these files, must be the same in both.

use std::collections::{BTreeMap, HashMap};

use super::edit::Resolved;
use super::key::{Role, classify};
use super::module::locate;
use super::replaced::{Replaced, Target};
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, Equal, Source};

/// Adds the tensors of an adapter's extra files to what is replaced.
///
/// # Errors
/// `empty_tensor`, `conflict` for a tensor that is no replacement.
pub(super) fn lay<'a>(
    adapter: &'a AdapterInventory,
    base: &Names<'_>,
    replaced: &mut BTreeMap<Target, Replaced<'a>>,
    out: &mut Resolved,
    unmatched: &mut Vec<String>,
) -> Result<()> {
    if adapter.extra.is_empty() {
        return Ok(());
    }
    let own: HashMap<&str, &Source> = adapter.tensors.iter().map(|t| (plain(&t.name), t)).collect();
    for file in &adapter.extra {
        if let Some(empty) = file.tensors.iter().find(|t| t.elements() == 0) {
            return Err(Error::new(
                Kind::EmptyTensor,
                format!("{}: {} is empty, of shape {:?}", file.name, empty.name, empty.shape),
            )
            .hint("DeepSpeed ZeRO-3 saves empty tensors unless they are gathered: save the file again through zero_to_fp32.py"));
        }
        for tensor in &file.tensors {
            let mut same = |other: &Source| {
                let why = format!("{} and another file of the adapter hold it", file.name);
                out.equals.push(Equal::new(other, tensor, false, why));
            };
            if let Some(twin) = own.get(plain(&tensor.name)) {
                same(twin);
                continue;
            }
            let key = classify(&tensor.name, adapter.config.kind.row());
            let (parameter, saved) = match &key.role {
                Role::Plain(p) | Role::BaseLayer(p) => (p, false),
                Role::Saved(p) => (p, true),
                Role::Ignored(why) => {
                    out.ignored.push((format!("{} ({})", tensor.name, file.name), (*why).to_owned()));
                    continue;
                }
                _ => {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!(
                            "{} holds {}, which is part of an adapter and replaces nothing",
                            file.name, tensor.name
                        ),
                    )
                    .hint(format!("leave the file out with --ignore-file {}", file.name)));
                }
            };
            let Some((name, module)) = locate(&key.module, parameter, saved, base) else {
                unmatched.push(format!("{} ({})", tensor.name, file.name));
                continue;
            };
            let entry = replaced.entry((name, None)).or_insert_with(|| Replaced::of(module));
            match entry.standing() {
                Some(other) => same(other),
                None => entry.extra = Some(tensor),
            }
        }
    }
    Ok(())
}

/// A key without the prefix that PEFT's wrapper adds.
fn plain(name: &str) -> &str {
    name.strip_prefix("base_model.model.").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;
    use crate::adapter::edit::{Change, Origin};
    use crate::adapter::resolve::resolve;
    use crate::base::modules::ModelClass;
    use crate::effort::{Cancel, Effort};
    use crate::inventory::{ExtraFile, ObjectId};
    use crate::tensor::Dtype;

    fn source(name: &str, object: u32, shape: &[u64]) -> Source {
        Source { name: name.into(), object: ObjectId(object), offset: 0, dtype: Dtype::F32, shape: shape.into() }
    }

    /// An adapter with a pair on `m.q`, more tensors of its own, and files of one tensor each.
    fn resolved(own: &[&str], files: &[&str], shape: &[u64]) -> Result<Resolved> {
        let pair = [source("m.q.lora_A.weight", 0, &[2, 4]), source("m.q.lora_B.weight", 0, &[4, 2])];
        let extra = |(i, name): (usize, &&str)| ExtraFile {
            name: format!("{i}.bin"),
            tensors: vec![source(name, i as u32 + 1, shape)],
        };
        let adapter = AdapterInventory {
            url: "adapter".into(),
            config: AdapterConfig::parse(br#"{"peft_type": "LORA", "r": 2}"#).unwrap(),
            tensors: pair.into_iter().chain(own.iter().map(|n| source(n, 0, &[4]))).collect(),
            extra: files.iter().enumerate().map(extra).collect(),
            sidecars: Vec::new(),
            skipped: Vec::new(),
            files: Vec::new(),
        };
        let class = ModelClass::default();
        let base = Names::new(
            ["m.norm.weight", "m.q.weight"].into_iter().map(|name| (name, &[][..])),
            std::iter::empty(),
            &class,
        );
        resolve(&adapter, Default::default(), &base, &mut Effort::new(Cancel::default()))
    }

    #[test]
    fn a_tensor_of_an_extra_file_replaces_the_bases_before_any_delta() {
        for name in ["base_model.model.m.q.weight", "m.q.weight", "base_model.model.m.q.base_layer.weight"] {
            let resolved = resolved(&[], &[name], &[4, 4]).unwrap();
            assert_eq!(resolved.edits.len(), 2, "{name}");
            let replaced = &resolved.edits[0];
            assert!(matches!(&replaced.change, Change::Replace { source, origin: Origin::Resized, twin: None }
                if source.object == ObjectId(1) && replaced.tensor == "m.q.weight"));
            assert!(matches!(resolved.edits[1].change, Change::Delta(_)));
        }
    }

    #[test]
    fn a_tensor_that_is_there_twice_counts_once_and_must_be_equal() {
        let norm = "base_model.model.m.norm.weight";
        for (own, files) in [
            (vec![norm], vec!["m.norm.weight"]),
            (vec!["m.norm.modules_to_save.weight"], vec!["m.norm.weight"]),
            (vec![], vec![norm, "m.norm.weight"]),
        ] {
            let resolved = resolved(&own, &files, &[4]).unwrap();
            let replaced = resolved.edits.iter().filter(|e| e.tensor == "m.norm.weight").count();
            assert_eq!((replaced, resolved.equals.len()), (1, 1), "{own:?} {files:?}");
            assert!(resolved.equals[0].why.contains("another file of the adapter"));
        }
        let same_pair = resolved(&[], &["base_model.model.m.q.lora_A.weight"], &[2, 4]).unwrap();
        assert_eq!((same_pair.edits.len(), same_pair.equals.len()), (1, 1));
    }

    #[test]
    fn what_is_no_replacement_or_has_no_place_is_refused_with_its_file() {
        for (name, shape, kind, says) in [
            ("m.v.lora_A.weight", &[2, 4][..], Kind::Conflict, "0.bin holds m.v.lora_A.weight"),
            (
                "m.x.weight",
                &[4],
                Kind::UnmatchedKeys,
                "1 of 3 adapter tensors match no tensor of the base: m.x.weight (0.bin)",
            ),
            ("m.norm.weight", &[0], Kind::EmptyTensor, "0.bin: m.norm.weight is empty"),
        ] {
            let error = resolved(&[], &[name], shape).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }
}
