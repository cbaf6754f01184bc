//! Tied embeddings: whether a model is tied, and what its two sides are called.
//!
//! `tie_word_embeddings` in config.json (at the top or in the language model's own part) decides, else the class's default
//! in transformers 5.23. Neither the lack of an lm_head tensor nor its presence is a test; but a file that holds two
//! different tensors is not tied, whatever its configuration says.

use serde_json::Value;

use super::{classes, levels};
use crate::error::{Error, Kind, Result};
use crate::inventory::BaseInventory;

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

/// Whether the model is tied; `None` where neither the config nor the class tells.
pub fn is_tied(config: &Value) -> Option<bool> {
    if let Some(tied) = levels::get(config, "tie_word_embeddings").and_then(Value::as_bool) {
        return Some(tied);
    }
    let class = config.get("model_type").and_then(Value::as_str)?;
    classes::ties(class)
}

/// Names of the input and the output embedding.
pub type Sides = (&'static str, &'static str);

/// How input and output embedding hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether they are one tensor; `None` where nothing tells.
    pub tied: Option<bool>,
    /// The configuration says that they are one, and the values of the file say that they are two. transformers 5 goes
    /// by the values, older ones by the configuration.
    pub config_is_wrong: bool,
    /// The configuration says that they are one, and the user that they are two.
    pub untied_by_request: bool,
    /// The values of both are known to be the same or not.
    pub compared: bool,
}

/// Decides whether a base is tied: by its values where they are known, else by `--tied`, else by its configuration.
/// `head` tells whether the file holds the output embedding.
///
/// # Errors
/// If `--tied` cannot be obeyed.
pub fn decide(base: &BaseInventory, sides: Option<Sides>, head: bool, asked: Option<bool>) -> Result<Decision> {
    let said = is_tied(&base.config);
    let conflict = |why: String| Err(Error::new(Kind::Conflict, why));
    let (input, output) = sides.unwrap_or(("the input embedding", "the output embedding"));
    match (asked, said) {
        (Some(true), Some(false)) => {
            return conflict(format!(
                "--tied true, but by config.json or its model type {input} and {output} are two tensors"
            ))
            .map_err(|e| e.hint("set tie_word_embeddings in the base's config.json if it is wrong"));
        }
        (Some(true), _) if sides.is_none() => {
            return conflict("--tied true, but the base holds no input embedding under a name that is known".into());
        }
        (Some(true), _) if base.head_is_embedding == Some(false) => {
            return conflict(format!("--tied true, but {input} and {output} hold different values in the base"))
                .map_err(|e| e.hint("--tied false keeps both as they are"));
        }
        (Some(false), Some(true)) if sides.is_some() && !head => {
            return conflict(format!(
                "--tied false, but by config.json or its model type {output} is {input}, and the base holds no {output} of its own"
            ));
        }
        _ => {}
    }
    let differ = base.head_is_embedding == Some(false);
    Ok(Decision {
        tied: if differ { Some(false) } else { asked.or(said) },
        config_is_wrong: differ && said == Some(true) && asked.is_none(),
        untied_by_request: asked == Some(false) && said == Some(true),
        compared: base.head_is_embedding.is_some(),
    })
}

/// The names of input and output embedding, from the tensors that the base holds.
pub fn sides(config: &Value, has: impl Fn(&str) -> bool) -> Option<Sides> {
    let (input, output) = SIDES.into_iter().find(|(input, _)| has(input))?;
    let whisper = config.get("model_type").and_then(Value::as_str) == Some("whisper");
    Some((input, if whisper { "proj_out.weight" } else { output }))
}

/// The two embeddings of a model while adapters are laid onto it.
#[derive(Debug)]
pub struct Tie {
    /// Their names, whether they are tied or not; `None` if the base holds no embedding under a known name.
    pub sides: Option<Sides>,
    /// How they began.
    pub decision: Decision,
    /// Whether they are one tensor now.
    pub shared: bool,
    /// Whether config.json has to say that they are two.
    pub untied: bool,
}

impl Tie {
    /// Decides for a base. `has` tells whether it stores a parameter.
    ///
    /// # Errors
    /// Those of [`decide`].
    pub fn of(base: &BaseInventory, has: impl Fn(&str) -> bool, asked: Option<bool>) -> Result<Tie> {
        let sides = sides(&base.config, &has);
        let head = sides.is_some_and(|(_, output)| has(output));
        let decision = decide(base, sides, head, asked)?;
        let shared = decision.tied == Some(true) && sides.is_some();
        Ok(Tie { sides, decision, shared, untied: decision.untied_by_request })
    }

    /// The names of the two, while they are one tensor.
    pub fn shared(&self) -> Option<Sides> {
        self.sides.filter(|_| self.shared)
    }

    /// Whether this is the name of one of the two.
    pub fn is_side(&self, name: &str) -> bool {
        self.sides.is_some_and(|(input, output)| name == input || name == output)
    }

    /// From here on the two are different tensors.
    pub fn untie(&mut self) {
        (self.shared, self.untied) = (false, true);
    }

    /// Settles what must be known before an adapter changes one of the two; `head` tells whether the output embedding
    /// is stored. What was found, for the report.
    ///
    /// # Errors
    /// If nothing tells whether the two are one tensor.
    pub fn settle(&mut self, head: bool) -> Result<Option<String>> {
        let Some((input, output)) = self.sides else { return Ok(None) };
        if self.decision.tied.is_none() {
            return Err(Error::new(Kind::BadConfig, "the adapter changes an embedding, and neither config.json nor the model type tells whether input and output embedding are one tensor")
                .hint("say so with --tied true or --tied false"));
        }
        if self.shared && head && !self.decision.compared {
            // One would be overwritten with the other.
            return Err(Error::new(Kind::Internal, format!("{input} and {output} were not compared before planning")));
        }
        if !self.decision.config_is_wrong || self.untied {
            return Ok(None);
        }
        self.untied = true;
        Ok(Some(format!(
            "the model is tied by its configuration, but {output} holds other values than {input}: they stay two tensors, and tie_word_embeddings becomes false"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_config_decides_before_the_class() {
        assert_eq!(is_tied(&json!({"model_type": "llama", "tie_word_embeddings": true})), Some(true));
        assert_eq!(
            is_tied(&json!({"model_type": "gemma3", "text_config": {"tie_word_embeddings": false}})),
            Some(false)
        );
        assert_eq!(is_tied(&json!({"model_type": "gpt2"})), Some(true));
        assert_eq!(is_tied(&json!({"model_type": "llama"})), Some(false));
        assert_eq!(is_tied(&json!({"model_type": "unheard_of"})), None);
    }
}
