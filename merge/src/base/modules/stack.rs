//! Experts that a checkpoint stores one by one, and the model holds in one parameter.

use fancy_regex::Regex;

use super::scope::Scope;

/// How stored tensors fill a parameter [experts, rows, columns]: expert `e` has the rows of part 0, then those of part 1, and so
/// on [`core_model_loading.py`, `MergeModulelist(dim=0)` and `Concatenate(dim=1)`].
#[derive(Debug)]
pub struct Stack {
    pub(super) scope: Scope,
    /// What matches the name of a tensor of each part. The first group is the expert's number.
    pub(super) parts: Vec<Regex>,
    /// What replaces the match.
    pub(super) into: String,
}

/// What a stored tensor is in a stacked parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The parameter.
    pub parameter: String,
    /// The part of its rows.
    pub part: usize,
    /// How many parts there are.
    pub parts: usize,
    /// The expert.
    pub expert: u64,
}

impl Stack {
    /// What a tensor of this name is; `None` if it is not one of this stack.
    pub fn member(&self, name: &str) -> Option<Member> {
        let (prefix, rest) = self.scope.within(name)?;
        self.parts.iter().enumerate().find_map(|(part, regex)| {
            let found = regex.captures(rest).ok()??;
            let expert = found.get(1)?.as_str().parse().ok()?;
            let parameter = format!("{prefix}{}{}", &rest[..found.get(0)?.start()], self.into);
            Some(Member { parameter, part, parts: self.parts.len(), expert })
        })
    }

    /// The parameter that it makes of a module's experts.
    pub fn parameter_of(&self, module: &str) -> Option<&str> {
        let (path, parameter) = self.into.rsplit_once('.')?;
        let (_, rest) = self.scope.within(module)?;
        let before = rest.strip_suffix(path.trim_start_matches('.'))?;
        (before.is_empty() || before.ends_with('.')).then_some(parameter)
    }

    /// In how many parts the rows of an expert are stored, if the parameter is one of this stack.
    pub fn parts_of(&self, parameter: &str) -> Option<usize> {
        self.scope.within(parameter).filter(|(_, rest)| rest.ends_with(&self.into)).map(|_| self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(scope: &[&str]) -> Stack {
        let part = |name: &str| Regex::new(&format!(r"mlp\.experts\.(\d+)\.{name}\.weight$")).unwrap();
        let parts = vec![part("gate_proj"), part("up_proj")];
        Stack { scope: scope.into(), parts, into: "mlp.experts.gate_up_proj".into() }
    }

    #[test]
    fn a_stored_tensor_is_a_part_of_an_expert() {
        let up = stack(&[]).member("model.layers.3.mlp.experts.17.up_proj.weight").unwrap();
        let parameter = "model.layers.3.mlp.experts.gate_up_proj".to_owned();
        assert_eq!(up, Member { parameter, part: 1, parts: 2, expert: 17 });
        assert_eq!(stack(&[]).member("model.layers.3.mlp.experts.17.down_proj.weight"), None);
        assert_eq!(stack(&[]).member("model.layers.3.mlp.shared_expert.up_proj.weight"), None);
    }

    #[test]
    fn a_scope_stays() {
        let scoped = stack(&["model.language_model."]);
        let name = "layers.0.mlp.experts.1.gate_proj.weight";
        let member = scoped.member(&format!("model.language_model.{name}")).unwrap();
        assert_eq!(member.parameter, "model.language_model.layers.0.mlp.experts.gate_up_proj");
        assert_eq!(scoped.member(name), None);
        assert_eq!(scoped.parts_of(&member.parameter), Some(2));
        assert_eq!(scoped.parts_of("model.language_model.layers.0.mlp.experts.down_proj"), None);
        assert_eq!(scoped.parameter_of("model.language_model.layers.0.mlp.experts"), Some("gate_up_proj"));
        assert_eq!(scoped.parameter_of("model.language_model.layers.0.shared_mlp.experts"), None);
    }
}
