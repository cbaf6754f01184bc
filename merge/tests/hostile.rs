//! Whatever a header, an index, a configuration or a key holds: an answer or an error, never a panic.

use proptest::prelude::*;
use serde_json::{Value, json};
use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::adapter::key::classify;
use shardfuse_merge::adapter::kind::KINDS;
use shardfuse_merge::adapter::rename::candidates;
use shardfuse_merge::checkpoint::header;
use shardfuse_merge::checkpoint::index::Index;
use shardfuse_merge::plan::Plan;

/// JSON of the shape that these files have, with wrong types and extreme numbers in every place.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(u64::MAX), Just(0), any::<u64>()].prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z_./]{0,12}".prop_map(Value::from),
        Just(json!("LORA")),
        Just(json!("F32")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key(), inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let known = [
        "dtype",
        "shape",
        "data_offsets",
        "__metadata__",
        "weight_map",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "token_indices",
        "trainable_token_indices",
    ];
    prop_oneof![proptest::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-z.]{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn odd_json_is_answered(value in value(), size in any::<u64>()) {
        let bytes = value.to_string().into_bytes();
        let _ = header::parse(&bytes, size);
        let _ = header::parse(&bytes, bytes.len() as u64 + 8);
        let _ = Index::parse(&bytes);
        let _ = AdapterConfig::parse(&bytes);
        let _ = Plan::from_bytes(&bytes);
    }

    #[test]
    fn odd_configs_are_answered(mut value in value()) {
        if let Some(map) = value.as_object_mut() {
            map.insert("peft_type".into(), "LORA".into());
        }
        let _ = AdapterConfig::parse(value.to_string().as_bytes());
    }

    #[test]
    fn odd_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in any::<u64>()) {
        let _ = header::parse(&bytes, size);
        let _ = Index::parse(&bytes);
        let _ = AdapterConfig::parse(&bytes);
        if let Some(Ok(n)) = bytes.first_chunk::<8>().map(|first| header::header_length(*first, size)) {
            prop_assert!(n <= header::MAX_HEADER && n + 8 <= size);
        }
    }

    #[test]
    fn odd_names_are_classified(name in "(base_model\\.model\\.)?([a-zA-Z_]{0,6}|lora_A|lora_B|base_layer|modules_to_save|token_adapter|trainable_tokens_delta|weight|bias)(\\.([a-z_]{0,4}|lora_A|lora_B|base_layer|modules_to_save|token_adapter|default|weight|bias)){0,5}") {
        for kind in KINDS {
            let key = classify(&name, kind);
            prop_assert!(candidates(&key.module).any(|path| path == key.module));
        }
    }
}
