//! Names that are one parameter.

/// A set of names that are one parameter, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TiedSet {
    /// The names, what the others are tied to first. Those whose stored values differ are not among them.
    pub names: Vec<String>,
    /// The stored name that carries the changes of all.
    pub leader: String,
    /// The names that are an output embedding.
    pub outputs: Vec<String>,
    /// Whether they are one parameter; `None` where nothing tells.
    pub tied: Option<bool>,
    /// Whether the class ties them whatever config.json says.
    pub always: bool,
    /// Of parts of the model that are one, such as layers that share a block: all names in the order in which the class
    /// registers them, in which their changes follow one another. Empty for other sets.
    pub repeated: Vec<String>,
    /// Stored names that configuration or class tie to the others, and whose values differ.
    pub differing: Vec<String>,
    /// A stored name whose values nobody compared with the leader's.
    pub uncompared: Option<String>,
}

impl TiedSet {
    /// Whether several names are one parameter.
    pub fn is_shared(&self) -> bool {
        self.tied == Some(true) && self.names.len() > 1
    }

    /// All its names, those whose values differ too.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.differing).map(String::as_str)
    }

    /// Whether a name is an output embedding.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.iter().any(|own| own == name)
    }

    /// The names beside the leader.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| *name != self.leader)
    }

    /// Whether config.json tells whether they are one: it is about the output embedding.
    pub fn is_by_config(&self) -> bool {
        !self.always && !self.outputs.is_empty()
    }

    /// Parts these names from the others. `stored` tells whether a name has a tensor. What came apart needs tensors:
    /// these names do now.
    pub fn part(&mut self, own: &[String], stored: impl Fn(&str) -> bool) -> Vec<String> {
        let source_parts = self.names.first().is_some_and(|source| own.contains(source));
        let needs = |name: &&String| {
            // A name without a tensor is tied to the source by whoever loads the model.
            self.is_by_config() || own.contains(name) || source_parts || self.names.first() == Some(name)
        };
        let written: Vec<String> = self.names.iter().filter(needs).cloned().collect();
        self.names.retain(|name| !own.contains(name));
        let has = |name: &&String| written.contains(name) || stored(name);
        if let Some(leader) = self.names.iter().find(has) {
            self.leader.clone_from(leader);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str], outputs: &[&str], always: bool) -> TiedSet {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        TiedSet {
            names: owned(names),
            leader: names[0].to_owned(),
            outputs: owned(outputs),
            tied: Some(true),
            always,
            repeated: Vec::new(),
            differing: Vec::new(),
            uncompared: None,
        }
    }

    #[test]
    fn a_pair_of_which_config_json_tells_is_written_whole() {
        for own in ["in", "out"] {
            let mut pair = set(&["in", "out"], &["out"], false);
            assert_eq!(pair.part(&[own.to_owned()], |name| name == "in"), ["in", "out"]);
            assert!(!pair.is_shared());
        }
    }

    #[test]
    fn a_set_of_which_config_json_tells_is_written_whole_and_the_rest_stays_one() {
        let mut four = set(&["shared", "encoder", "decoder", "head"], &["head"], false);
        let written = four.part(&["head".to_owned()], |name| name == "shared");
        assert_eq!(written, ["shared", "encoder", "decoder", "head"], "config.json says then that nothing is tied");
        assert_eq!((four.names.len(), four.is_shared()), (3, true));
    }

    #[test]
    fn a_class_that_always_ties_needs_the_parted_name_and_the_source() {
        let four = || set(&["shared", "encoder", "decoder", "head"], &["head"], true);
        let mut head = four();
        assert_eq!(head.part(&["head".to_owned()], |name| name == "shared"), ["shared", "head"]);
        assert_eq!((head.leader.as_str(), head.is_shared()), ("shared", true));
        let mut source = four();
        let written = source.part(&["shared".to_owned()], |name| name == "shared");
        assert_eq!(written, ["shared", "encoder", "decoder", "head"], "nothing may be tied to the changed source");
        assert_eq!(source.leader, "encoder");
    }
}
