use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &str) -> Value {
    parse("config.json", text.as_bytes()).unwrap()
}

#[test]
fn what_python_writes_beyond_the_standard_is_read_and_written_back() {
    for text in [
        "[\n  NaN,\n  Infinity,\n  -Infinity\n]",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "18446744073709551616",
        "1e999",
        "{\n  \"a\": {\n    \"time_step_limit\": [\n      0.0,\n      Infinity\n    ]\n  }\n}",
    ] {
        assert_eq!(render(&read(text)), text);
    }
}

#[test]
fn numbers_beyond_the_standard_have_their_value() {
    assert!(number(&read("NaN")).unwrap().is_nan());
    assert_eq!(number(&read("-Infinity")), Some(f64::NEG_INFINITY));
    assert_eq!(number(&read("1e999")), Some(f64::INFINITY));
    assert_eq!(number(&read("100000000000000000000")), Some(1e20));
    assert_eq!((number(&read("2.5")), number(&read("\"2.5\""))), (Some(2.5), None));
    assert_eq!(show(&read("[Infinity]")), "[Infinity]");
    assert_eq!(standard(&read("{\"a\": [NaN]}")), json!({"a": ["NaN"]}));
}

#[test]
fn names_of_numbers_within_strings_stay_text() {
    let text = r#"{"NaN": "Infinity", "a\"b": "-Infinity 12345678901234567890123", "c": "\\"}"#;
    assert_eq!(read(text), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(parse("c", b"\xef\xbb\xbf{\"r\": 8}").unwrap(), json!({"r": 8}));
}

#[test]
fn what_python_refuses_is_refused() {
    for text in
        ["", "nan", "Infinit", "NaNs", "+Infinity", "--Infinity", "{a: 1}", "01", "1.", ".5", "[1,]", "{} {}", "'a'"]
    {
        let error = parse("config.json", text.as_bytes()).unwrap_err();
        assert!(error.message().starts_with("config.json is not JSON: "), "{text}: {error}");
    }
    for text in ["\"\u{10ffff}NaN\"", r#"["\uDBFF\uDFFFNaN"]"#] {
        assert!(parse("c", text.as_bytes()).unwrap_err().message().contains("U+10FFFF"), "{text}");
    }
}

#[test]
fn a_float_is_kept_as_text_only_if_it_is_one_and_too_large() {
    assert!(read("1.5").is_number() && read("1e300").is_number());
    assert!(read("1e999").is_string());
    assert!(parse("c", b".1e999").is_err(), "JSON has no number that begins with a point");
}

#[test]
fn a_tree_far_larger_than_its_text_is_refused_before_it_is_built() {
    let list = format!("[{}0]", "0,".repeat(1 << 20));
    let objects = format!("[{}{{}}]", "{\"\":0},".repeat(1 << 20));
    let nested = format!("[{}0]", "[[[[[]]]]],".repeat(1 << 18));
    for text in [list, objects, nested] {
        let error = parse("config.json", text.as_bytes()).unwrap_err();
        assert!(error.message().contains("more than 64 MiB of memory"), "{error}");
    }
    // What real configurations of quantised models look like, at several times their size.
    let layers: Map<String, Value> = (0..20_000)
        .map(|i| (format!("model.layers.{i}.mlp.experts.{i}.down_proj"), json!({"bits": 4, "group_size": 128})))
        .collect();
    let large = json!({"quantization_config": {"layers": layers}}).to_string();
    assert_eq!(read(&large).to_string(), large);
}

proptest! {
    #[test]
    fn standard_json_is_read_as_serde_json_reads_it(text in "[\\[\\]{}:,\"a\\\\0-9.eE+NIn -]{0,24}") {
        if let (Ok(theirs), Ok(Cow::Borrowed(_))) = (serde_json::from_str::<Value>(&text), strict(text.as_bytes())) {
            prop_assert_eq!(parse("c", text.as_bytes()).unwrap(), theirs);
        }
    }

    #[test]
    fn whatever_is_read_is_written_so_that_it_is_read_again(text in "[\\[\\]{}:,\"aNInfity0-9.eE-]{0,32}") {
        if let Ok(value) = parse("c", text.as_bytes()) {
            prop_assert_eq!(read(&render(&value)), value.clone());
        }
    }
}
