use super::*;
use crate::error::Kind;
use crate::recipe::DoraNorm;

fn spec() -> MergeSpec {
    MergeSpec::of("/base", [LoraSpec::new("/a")], "/out")
}

/// What a stored spec sets.
type Meant = fn(&mut MergeSpec);

/// Specs as the version before this table stored them in plans, and what they meant.
const STORED: [(&str, Meant); 3] = [
    (
        r#"{"base": "/base", "lora": [{"path": "/a", "weight": 1.0}], "output": "/out", "dtype": "keep", "part_size": 67108864, "dora_norm": "standing", "partial_weight": false, "tokenizer": "auto"}"#,
        |_| {},
    ),
    (
        r#"{"base": "/base", "lora": [{"path": "/a", "weight": 1.0}], "output": "/out", "dtype": "bf16", "max_shard_size": 5000000000, "part_size": 67108864, "dora_norm": "original", "partial_weight": true, "tokenizer": {"folder": "/tok"}, "ignore_files": ["unused.safetensors"]}"#,
        |spec| {
            spec.dtype = OutputDtype::Bf16;
            spec.max_shard_size = Some(5_000_000_000);
            spec.dora_norm = DoraNorm::Original;
            spec.partial_weight = true;
            spec.tokenizer = Tokenizer::Folder("/tok".into());
            spec.ignore_files = vec!["unused.safetensors".into()];
        },
    ),
    (
        r#"{"base": "/base", "lora": [{"path": "/a", "weight": 1.0}], "output": "/out", "dtype": "keep", "part_size": 67108864, "dora_norm": "standing", "partial_weight": false, "tokenizer": "base", "tied": true, "extra_weights": ["unused.safetensors"]}"#,
        |spec| {
            spec.tokenizer = Tokenizer::Base;
            spec.tied = Some(true);
            spec.extra_weights = vec!["unused.safetensors".into()];
        },
    ),
];

#[test]
fn a_spec_of_an_earlier_plan_is_read_and_stored_with_the_same_bytes() {
    for (stored, meant) in STORED {
        let mut expected = spec();
        meant(&mut expected);
        let read: MergeSpec = serde_json::from_str(stored).unwrap();
        assert_eq!(read, expected);
        let compact: serde_json::Value = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), compact.to_string(), "the digest of the plan stays");
    }
}

#[test]
fn a_stored_weight_is_read_back_to_the_last_digit() {
    // If the first is read one unit in the last place off, an interrupted merge with it cannot be resumed: its spec differs.
    for weight in [1.7815320455759613, 0.1, 1.0 / 3.0, f64::MIN_POSITIVE, f64::MAX] {
        let lora = LoraSpec { path: "/a".into(), weight };
        let stored = serde_json::to_string(&lora).unwrap();
        assert_eq!(serde_json::from_str::<LoraSpec>(&stored).unwrap(), lora, "{stored}");
    }
}

/// A value of each option that is not its default.
fn other(option: &SpecOption) -> &'static str {
    match option.field {
        "dtype" => "f16",
        "quantised" => "dequantise",
        "survival" => "0.5",
        "base_as" => "nf4,from=bf16,skip=mlp.gate",
        "max_shard_size" => "5000000000",
        "part_size" => "1MiB",
        "dora_norm" => "original",
        "rounding" => "per-adapter",
        "expert_order" => "slowest",
        "combine" => "sequence",
        "density" => "0.25",
        "tokenizer" => "/tokenizer",
        "card" | "store_copies" => "none",
        "digests" => "complete",
        "base_index" => "/index.json",
        "architecture" => "LlamaForSequenceClassification",
        "partial_weight" | "tied" => "true",
        "extra_weights" | "ignore_files" => "a/b.bin",
        new => panic!("a value for {new}, please"),
    }
}

#[test]
fn every_option_gives_back_the_text_that_it_took() {
    for option in OPTIONS {
        let mut spec = spec();
        option.add(&mut spec, other(option)).unwrap();
        assert_eq!(option.get(&spec), [other(option)], "{option:?}");
        for others in OPTIONS.iter().filter(|o| o.field != option.field) {
            assert_eq!(others.get(&spec), others.get(&self::spec()), "{option:?} leaves {others:?} alone");
        }
    }
}

#[test]
fn every_field_of_a_stored_spec_is_an_option_or_a_place() {
    let mut full = spec();
    for option in OPTIONS {
        option.add(&mut full, other(option)).unwrap();
    }
    let stored = serde_json::to_value(&full).unwrap();
    for field in stored.as_object().unwrap().keys() {
        let place = ["base", "lora", "output"].contains(&field.as_str());
        assert!(place || SpecOption::named(field).is_some_and(|o| o.field == field), "{field} has no row in OPTIONS");
    }
}

#[test]
fn a_named_value_has_one_text_for_people_and_for_stored_plans() {
    for option in OPTIONS.iter().filter(|o| o.takes == Takes::Value && o.values.contains('|')) {
        for value in option.values.split('|').filter(|v| *v != "PATH") {
            let mut spec = spec();
            option.add(&mut spec, value).unwrap();
            let stored = serde_json::to_value(&spec).unwrap()[option.field].clone();
            if stored.is_null() {
                assert_eq!(option.get(&spec), option.get(&self::spec()), "only a default is left out");
                continue;
            }
            let text = stored.as_str().map_or_else(|| stored.to_string(), str::to_owned);
            assert_eq!((text.as_str(), option.get(&spec)), (value, vec![value.to_owned()]), "{option:?}");
        }
    }
}

#[test]
fn a_dtype_may_have_the_name_that_other_tools_give_it() {
    for (other, name) in
        [("bfloat16", "bf16"), ("float16", "f16"), ("fp16", "f16"), ("half", "f16"), ("float32", "f32")]
    {
        let mut spec = spec();
        SpecOption::named("dtype").unwrap().add(&mut spec, other).unwrap();
        assert_eq!(spec.dtype.to_string(), name);
    }
}

#[test]
fn a_wrong_value_is_refused_with_the_flag_and_what_is_expected() {
    for (name, text, kind, says) in [
        (
            "dtype",
            "int8",
            Kind::Usage,
            "--dtype: \"int8\" is unknown, expected keep, bf16, f16, f32 (or bfloat16, fp16, float16, half, fp32, float32, float)",
        ),
        ("max_shard_size", "5 parsecs", Kind::Usage, "--max-shard-size: \"5 parsecs\" is not a size"),
        ("tied", "maybe", Kind::Usage, "--tied: \"maybe\" is unknown, expected true, false"),
        ("combine", "ties", Kind::Unsupported, "--combine: ties is not supported yet, only sequence is"),
        ("combine", "dare_ties", Kind::Unsupported, "--combine: dare_ties is not supported yet, only sequence is"),
        ("combine", "magic", Kind::Usage, "--combine: \"magic\" is unknown, expected sequence"),
        ("density", "half", Kind::Usage, "--density: \"half\" is not a number from 0 to 1"),
        ("tokenizer", "", Kind::Usage, "--tokenizer: \"\" is unknown, expected auto, base or a folder"),
    ] {
        let error = SpecOption::named(name).unwrap().add(&mut spec(), text).unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, says));
    }
    assert!(SpecOption::named("loras").is_none());
}

#[test]
fn names_of_files_have_no_order_and_no_duplicates() {
    let mut spec = spec();
    let option = SpecOption::named("ignore_file").unwrap();
    ["b", "a", "b"].iter().for_each(|name| option.add(&mut spec, name).unwrap());
    assert_eq!(spec.ignore_files, ["a", "b"]);
}

#[test]
fn a_density_without_a_combination_that_prunes_is_refused() {
    let error = MergeSpec { density: Some(0.5), ..spec() }.check().unwrap_err();
    assert_eq!(error.message(), "--density 0.5 has no meaning for --combine sequence, which prunes nothing");
}

#[test]
fn names_of_values_are_taken_in_any_case() {
    for (field, text) in [
        ("dtype", "BF16"),
        ("dtype", "Float16"),
        ("quantised", "Dequantise"),
        ("base_as", "NF4"),
        ("dora_norm", "Original"),
        ("partial_weight", "True"),
        ("rounding", "Per-Adapter"),
        ("expert_order", "SLOWEST"),
        ("tokenizer", "Base"),
        ("card", "NONE"),
        ("tied", "FALSE"),
    ] {
        let option = SpecOption::named(field).unwrap();
        let of = |text: &str| {
            let mut spec = spec();
            option.add(&mut spec, text).unwrap_or_else(|e| panic!("{field} {text}: {e}"));
            option.get(&spec)
        };
        assert_eq!(of(text), of(&text.to_lowercase()), "{field}");
    }
    assert_eq!("/Base".parse(), Ok(Tokenizer::Folder("/Base".into())), "a folder keeps its name");
}
