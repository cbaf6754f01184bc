//! The adapter's name in its keys.
//!
//! A state dict that was saved without PEFT's `save_pretrained` keeps it: `q_proj.lora_A.default.weight`. One that holds
//! two names holds two adapters, which act on other modules or on the same ones; merging both as one would be wrong.

use super::key::TOKEN_ROWS;
use super::kind::Row;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// Refuses keys of more than one adapter.
///
/// # Errors
/// `conflict`, naming both and a key of each.
pub fn refuse_several(tensors: &[Source], kind: &Row) -> Result<()> {
    let mut first: Option<(&str, &str)> = None;
    for tensor in tensors {
        let Some(name) = name_in(&tensor.name, kind) else { continue };
        match first {
            Some((one, key)) if one != name => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("the file holds two adapters, {one} ({key}) and {name} ({})", tensor.name),
                )
                .hint("save each of them to a folder of its own: save_pretrained(folder, selected_adapters=[NAME])"));
            }
            Some(_) => {}
            None => first = Some((name, &tensor.name)),
        }
    }
    Ok(())
}

/// The adapter's name in a key: it follows the component that tells what the tensor is.
fn name_in<'a>(key: &'a str, kind: &Row) -> Option<&'a str> {
    let marker = |part: &str| part == TOKEN_ROWS || kind.parts.iter().any(|own| own.marker == part);
    let mut parts = key.split('.').skip_while(|part| !marker(part)).skip(1);
    parts.next().filter(|part| !matches!(*part, "weight" | "bias"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::kind::KINDS;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    fn check(keys: &[&str]) -> Result<()> {
        let source = |name: &&str| Source {
            name: (*name).to_owned(),
            object: ObjectId(0),
            offset: 0,
            dtype: Dtype::F32,
            shape: vec![1],
        };
        refuse_several(&keys.iter().map(source).collect::<Vec<_>>(), KINDS[0])
    }

    #[test]
    fn two_adapters_in_one_file_are_refused_naming_both() {
        for (a, b) in [
            ("m.q.lora_A.default.weight", "m.v.lora_A.reward.weight"),
            ("m.q.lora_embedding_A.default", "m.q.lora_B.reward.weight"),
            ("m.q.lora_magnitude_vector.default.weight", "m.q.lora_magnitude_vector.reward.weight"),
            ("m.e.token_adapter.trainable_tokens_delta.default", "m.q.lora_B.reward.bias"),
        ] {
            let error = check(&[a, b]).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().contains("default") && error.message().contains("reward"), "{error}");
        }
    }

    #[test]
    fn one_name_and_keys_without_one_are_one_adapter() {
        let keys = [
            "m.q.lora_A.default.weight",
            "m.q.lora_B.weight",
            "m.q.lora_B.bias",
            "m.q.lora_magnitude_vector",
            "m.e.lora_embedding_A",
            "m.norm.weight",
        ];
        assert!(check(&keys).is_ok());
    }
}
