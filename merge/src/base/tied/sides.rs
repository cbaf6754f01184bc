//! The input and the output embedding of a model by the names of its family, for a class that the table of ties does not
//! know and for files of old releases.

use serde_json::Value;

/// Names of the input and the output embedding.
pub type Sides = (&'static str, &'static str);

/// Input embedding and the output embedding that is its partner.
const SIDES: [Sides; 12] = [
    ("model.embed_tokens.weight", "lm_head.weight"),
    ("model.language_model.embed_tokens.weight", "lm_head.weight"),
    ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
    ("transformer.wte.weight", "lm_head.weight"),
    ("wte.weight", "lm_head.weight"),
    ("gpt_neox.embed_in.weight", "embed_out.weight"),
    ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    ("transformer.word_embeddings.weight", "lm_head.weight"),
    ("word_embeddings.weight", "lm_head.weight"),
    ("transformer.tokens_embed.weight", "lm_head.weight"),
    ("backbone.embeddings.weight", "lm_head.weight"),
    ("shared.weight", "lm_head.weight"),
];

/// The names of input and output embedding, from the tensors that the base holds.
pub fn sides(config: &Value, has: impl Fn(&str) -> bool) -> Option<Sides> {
    let (input, output) = SIDES.into_iter().find(|(input, _)| has(input))?;
    let whisper = config.get("model_type").and_then(Value::as_str) == Some("whisper");
    Some((input, if whisper { "proj_out.weight" } else { output }))
}
