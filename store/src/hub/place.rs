//! What a location of the hub names: a model, a revision, a file or folder.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The parts of `hf://org/model@revision/file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub org: &'a str,
    pub model: &'a str,
    /// As in the URL, so a branch `refs/pr/1` is `refs%2Fpr%2F1`.
    pub revision: Option<&'a str>,
    /// Without a leading slash; empty for the whole model.
    pub file: &'a str,
}

/// The revision that is meant where none is named.
const DEFAULT_REVISION: &str = "main";

impl<'a> Place<'a> {
    pub fn of(at: &'a Location) -> Result<Self> {
        let parsed = || {
            let (org, rest) = at.key().split_once('/')?;
            let (model, file) = rest.split_once('/').unwrap_or((rest, ""));
            let (model, revision) = model.split_once('@').map_or((model, None), |(model, at)| (model, Some(at)));
            (!org.is_empty() && !model.is_empty()).then_some(Self { org, model, revision, file })
        };
        parsed().ok_or_else(|| Error::new(ErrorKind::Permanent, at, "names no model of the hub"))
    }

    pub fn revision(&self) -> &'a str {
        self.revision.unwrap_or(DEFAULT_REVISION)
    }

    /// The commit, where the revision is one in full: that name never moves.
    pub fn commit(&self) -> Option<&'a str> {
        self.revision.filter(|revision| is_commit(revision))
    }

    /// The same place at a commit.
    pub fn at_commit(&self, commit: &str) -> Result<Location> {
        let separator = if self.file.is_empty() { "" } else { "/" };
        format!("hf://{}/{}@{commit}{separator}{}", self.org, self.model, self.file).parse()
    }
}

/// `org/model`.
impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.model)
    }
}

/// Whether this is a commit's name in full: 40 lowercase hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_apart_and_together() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (text, revision, file, at_commit) in [
            ("hf://o/m", "main", "", format!("hf://o/m@{commit}")),
            ("hf://o/m@v1/config.json", "v1", "config.json", format!("hf://o/m@{commit}/config.json")),
            ("hf://o/m@refs%2Fpr%2F1/a b/c@d", "refs%2Fpr%2F1", "a b/c@d", format!("hf://o/m@{commit}/a b/c@d")),
        ] {
            let at: Location = text.parse().unwrap();
            let place = Place::of(&at).unwrap();
            assert_eq!((place.to_string().as_str(), place.revision(), place.file), ("o/m", revision, file));
            assert_eq!(place.commit(), None);
            let resolved = place.at_commit(commit).unwrap();
            assert_eq!(resolved.to_string(), at_commit);
            assert_eq!(Place::of(&resolved).unwrap().commit(), Some(commit));
        }
        assert!(!is_commit("main") && !is_commit(&commit[1..]) && !is_commit(&commit.to_uppercase()));
    }
}
