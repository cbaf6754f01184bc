//! Which names a rule is for.

use serde::Deserialize;

/// Beginnings of the names that a rule is for, the longest first. They stay as they are. A rule without any is for all names.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Scope(Vec<String>);

impl Scope {
    /// A name's beginning and the rest of it, if it is in scope.
    pub fn within<'a>(&self, name: &'a str) -> Option<(&'a str, &'a str)> {
        match self.0.as_slice() {
            [] => Some(("", name)),
            scopes => scopes.iter().find(|scope| name.starts_with(*scope)).map(|scope| name.split_at(scope.len())),
        }
    }
}

#[cfg(test)]
impl From<&[&str]> for Scope {
    fn from(scopes: &[&str]) -> Scope {
        Scope(scopes.iter().map(|s| (*s).to_owned()).collect())
    }
}
