//! Weights that code of its own stores as [in, out].

use super::*;

const C_PROJ: &str = "h.0.attn.c_proj.weight";

fn jais(fan: bool, base: &[(&'static str, &[u64])]) -> Case {
    let pair: [(&str, &[u64]); 2] = [
        ("base_model.model.h.0.attn.c_proj.lora_A.weight", &[2, 6]),
        ("base_model.model.h.0.attn.c_proj.lora_B.weight", &[6, 2]),
    ];
    Case::new(json!({"model_type": "jais"}), base).adapter(json!({"fan_in_fan_out": fan}), &pair)
}

fn is_transposed(case: &Case) -> bool {
    super::is_transposed(case.ops(C_PROJ)[0].delta().unwrap())
}

#[test]
fn a_square_weight_of_an_unknown_type_is_stored_as_its_neighbours_show() {
    let base = |c_attn: &'static [u64]| [(C_PROJ, &[6u64, 6][..]), ("h.0.attn.c_attn.weight", c_attn)];
    assert!(is_transposed(&jais(true, &base(&[6, 18]))));
    assert!(!is_transposed(&jais(true, &base(&[18, 6]))));
    assert!(!is_transposed(&jais(false, &base(&[6, 18]))), "PEFT met no Conv1D");
    let (kind, text) = jais(true, &[(C_PROJ, &[6, 6])]).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("h.0.attn.c_proj") && text.contains("fan_in_fan_out"), "{text}");
}

#[test]
fn a_weight_that_is_not_square_tells_by_itself() {
    let pair: [(&str, &[u64]); 2] = [
        ("base_model.model.h.0.mlp.c_fc.lora_A.weight", &[2, 6]),
        ("base_model.model.h.0.mlp.c_fc.lora_B.weight", &[24, 2]),
    ];
    for (shape, transposed) in [([6u64, 24], true), ([24, 6], false)] {
        let case = Case::new(json!({"model_type": "jais"}), &[("h.0.mlp.c_fc.weight", &shape)])
            .adapter(json!({"fan_in_fan_out": true}), &pair);
        assert_eq!(super::is_transposed(case.ops("h.0.mlp.c_fc.weight")[0].delta().unwrap()), transposed, "{shape:?}");
    }
}
