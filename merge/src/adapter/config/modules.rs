//! Which modules an adapter is about.

/// A module selection: PEFT matches a string as a regular expression and a list by suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modules {
    /// Nothing was said.
    None,
    /// A regular expression over the whole module path.
    Regex(String),
    /// Names that equal the module path or end it after a dot.
    List(Vec<String>),
}
