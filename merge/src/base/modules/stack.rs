//! Tensors that the model joins into one parameter: experts that are stored one by one, or parts of one weight.

use fancy_regex::Regex;

use super::scope::Scope;

/// How stored tensors fill a parameter [experts, rows, columns]: expert `e` has the rows of part 0, then those of part 1, and so
/// on [`core_model_loading.py`, `MergeModulelist(dim=0)` and `Concatenate(dim=1)`]. Without experts it is [rows, columns]
/// (`Concatenate(dim=0)`).
#[derive(Debug)]
pub struct Stack {
    pub(super) scope: Scope,
    /// What matches the name of a tensor of each part. The first group is the expert's number; without one there are no experts.
    pub(super) parts: Vec<Regex>,
    /// What replaces the match. Where there are several, the experts are shared out: the first parameter has the first of them.
    pub(super) into: Vec<String>,
    /// Whether the tensor of each part holds all experts [`Concatenate(dim=1)` alone].
    pub(super) across: bool,
}

/// What a stored tensor is in a stacked parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The parameter, or the parameters that share the experts.
    pub parameters: Vec<String>,
    /// The part of its rows.
    pub part: usize,
    /// How many parts there are.
    pub parts: usize,
    /// The expert, if each has a tensor.
    pub expert: Option<u64>,
    /// Whether the tensor holds all experts.
    pub across: bool,
}

impl Stack {
    /// What a tensor of this name is; `None` if it is not one of this stack.
    pub fn member(&self, name: &str) -> Option<Member> {
        let (prefix, rest) = self.scope.within(name)?;
        self.parts.iter().enumerate().find_map(|(part, regex)| {
            let found = regex.captures(rest).ok()??;
            let expert = found.get(1).map(|number| number.as_str().parse()).transpose().ok()?;
            let before = &rest[..found.get(0)?.start()];
            let parameters = self.into.iter().map(|into| format!("{prefix}{before}{into}")).collect();
            Some(Member { parameters, part, parts: self.parts.len(), expert, across: self.across })
        })
    }

    /// Whether it is one of experts, rather than of the parts of one weight.
    pub fn has_experts(&self) -> bool {
        self.parts.iter().any(|part| part.as_str().contains('('))
    }

    /// The parameter that it makes of a module's experts.
    pub fn parameter_of(&self, module: &str) -> Option<&str> {
        let (_, rest) = self.scope.within(module)?;
        self.into.iter().find_map(|into| {
            let (path, parameter) = into.rsplit_once('.')?;
            let before = rest.strip_suffix(path.trim_start_matches('.'))?;
            (before.is_empty() || before.ends_with('.')).then_some(parameter)
        })
    }

    /// In how many parts the rows of an expert are stored, if the parameter is one of this stack.
    pub fn parts_of(&self, parameter: &str) -> Option<usize> {
        let (_, rest) = self.scope.within(parameter)?;
        self.into.iter().any(|into| rest.ends_with(into)).then_some(self.parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(scope: &[&str]) -> Stack {
        let part = |name: &str| Regex::new(&format!(r"mlp\.experts\.(\d+)\.{name}\.weight$")).unwrap();
        let parts = vec![part("gate_proj"), part("up_proj")];
        Stack { scope: scope.into(), parts, into: vec!["mlp.experts.gate_up_proj".into()], across: false }
    }

    #[test]
    fn a_stored_tensor_is_a_part_of_an_expert() {
        let up = stack(&[]).member("model.layers.3.mlp.experts.17.up_proj.weight").unwrap();
        let parameters = vec!["model.layers.3.mlp.experts.gate_up_proj".to_owned()];
        assert_eq!(up, Member { parameters, part: 1, parts: 2, expert: Some(17), across: false });
        assert_eq!(stack(&[]).member("model.layers.3.mlp.experts.17.down_proj.weight"), None);
        assert_eq!(stack(&[]).member("model.layers.3.mlp.shared_expert.up_proj.weight"), None);
    }

    #[test]
    fn parts_of_one_weight_have_no_expert() {
        let part = |name: &str| Regex::new(&format!(r"\.{name}\.weight$")).unwrap();
        let parts = vec![part("gate_proj"), part("up_proj")];
        let stack = Stack { scope: Scope::default(), parts, into: vec![".gate_up_proj.weight".into()], across: false };
        let up = stack.member("model.layers.3.mlp.up_proj.weight").unwrap();
        let parameters = vec!["model.layers.3.mlp.gate_up_proj.weight".to_owned()];
        assert_eq!(up, Member { parameters, part: 1, parts: 2, expert: None, across: false });
        assert!(!stack.has_experts() && self::stack(&[]).has_experts());
    }

    #[test]
    fn a_scope_stays() {
        let scoped = stack(&["model.language_model."]);
        let name = "layers.0.mlp.experts.1.gate_proj.weight";
        let member = scoped.member(&format!("model.language_model.{name}")).unwrap();
        assert_eq!(member.parameters[0], "model.language_model.layers.0.mlp.experts.gate_up_proj");
        assert_eq!(scoped.member(name), None);
        assert_eq!(scoped.parts_of(&member.parameters[0]), Some(2));
        assert_eq!(scoped.parts_of("model.language_model.layers.0.mlp.experts.down_proj"), None);
        assert_eq!(scoped.parameter_of("model.language_model.layers.0.mlp.experts"), Some("gate_up_proj"));
        assert_eq!(scoped.parameter_of("model.language_model.layers.0.shared_mlp.experts"), None);
    }
}
