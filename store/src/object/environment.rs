//! Environment variables, as far as clients take settings from them.

use std::collections::BTreeMap;
use std::fmt;

/// The environment variables of the process, as they were when it began.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// Values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl Environment {
    /// That of this process. What is not UTF-8 is left out.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The value of a variable; an empty one counts as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Those that begin like this, in lower case, as the clients' settings are named.
    pub(super) fn settings(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let names = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        names.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}
