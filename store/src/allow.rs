//! Which places a process may read and write on behalf of somebody else.
//!
//! A coordinator and a worker of a fleet act with their own credentials on URLs that a submitter wrote. The list says
//! where. [`Allow::check`] goes by names, before anything is opened. Stores that are held to the list
//! ([`Stores::only`](crate::Stores::only)) also look where a file really lies, and where a redirect leads.

use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, Scheme};

/// The places that may be reached.
///
/// ```
/// # use shardfuse_store::{Allow, ErrorKind, Location};
/// let allow = Allow::prefixes(vec!["s3://models/public".parse()?]);
/// assert!(allow.check(&"s3://models/public/base".parse()?).is_ok());
/// let error = allow.check(&"s3://models/private".parse()?).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotAllowed);
/// assert!(error.to_string().contains("s3://models/public"));
/// # Ok::<(), shardfuse_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    rule: Rule,
    /// A folder in which no file is touched, although the rule covers it.
    closed: Option<Location>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Everything,
    /// Every store that checks who asks for what: all but files and unencrypted web servers.
    Remote,
    Prefixes(Vec<Location>),
}

impl Allow {
    /// No limits, for a command that a user runs for himself.
    pub fn everything() -> Self {
        Self { rule: Rule::Everything, closed: None }
    }

    /// Only what is one of these places or lies below one.
    ///
    /// With no prefix at all everything is allowed but `file://` and `http://`: the one would show the machine's own
    /// files to a submitter, the other its network.
    pub fn prefixes(prefixes: Vec<Location>) -> Self {
        let rule = if prefixes.is_empty() { Rule::Remote } else { Rule::Prefixes(prefixes) };
        Self { rule, closed: None }
    }

    /// The same without a folder: what a coordinator keeps for itself may lie below a prefix. [`Stores::only`](crate::Stores::only)
    /// holds files to it, by where they really lie; [`Self::check`] goes by the prefixes alone.
    #[must_use]
    pub fn except(self, closed: Location) -> Self {
        Self { closed: Some(closed), ..self }
    }

    /// The folder that stays closed.
    pub(crate) fn closed(&self) -> Option<&Location> {
        self.closed.as_ref()
    }

    /// The prefixes; `None` without limits. The list is empty where every store but files and plain http is allowed.
    pub(crate) fn limits(&self) -> Option<&[Location]> {
        match &self.rule {
            Rule::Everything => None,
            Rule::Remote => Some(&[]),
            Rule::Prefixes(prefixes) => Some(prefixes),
        }
    }

    /// Refuses a place that is not allowed (`NotAllowed`).
    pub fn check(&self, at: &Location) -> Result<()> {
        let allowed = match &self.rule {
            Rule::Everything => return Ok(()),
            Rule::Remote => match at.scheme() {
                scheme @ (Scheme::File | Scheme::Http) => format!("{scheme}:// is not, without a prefix that names it"),
                _ => return Ok(()),
            },
            Rule::Prefixes(prefixes) => {
                if prefixes.iter().any(|prefix| covers(prefix, at)) {
                    return Ok(());
                }
                let named: Vec<String> = prefixes.iter().map(Location::to_url).collect();
                format!("allowed is {}", named.join(", "))
            }
        };
        Err(Error::new(ErrorKind::NotAllowed, at, format!("is not a place that may be used here; {allowed}")))
    }
}

/// A model of the hub named without a revision stands for all of them.
fn covers(prefix: &Location, at: &Location) -> bool {
    at.is_within(prefix) || at.without_revision().is_some_and(|plain| plain.is_within(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_end_at_whole_names() {
        let allow = Allow::prefixes(vec![at("s3://models/a"), at("/data")]);
        for inside in ["s3://models/a", "s3://models/a/b/c", "/data/x", "file:///data"] {
            assert!(allow.check(&at(inside)).is_ok(), "{inside}");
        }
        for outside in ["s3://models/ab", "s3://models", "s3://other/a", "gs://models/a", "/database", "/data/../etc"] {
            assert_eq!(allow.check(&at(outside)).unwrap_err().kind(), ErrorKind::NotAllowed, "{outside}");
        }
    }

    #[test]
    fn files_and_plain_http_need_a_prefix() {
        let allow = Allow::prefixes(Vec::new());
        for open in ["s3://a/b", "gs://a/b", "az://a/b", "https://example.com/b", "hf://a/b"] {
            assert!(allow.check(&at(open)).is_ok(), "{open}");
        }
        for closed in ["/etc/passwd", "http://169.254.169.254/latest"] {
            assert_eq!(allow.check(&at(closed)).unwrap_err().kind(), ErrorKind::NotAllowed, "{closed}");
        }
        assert!(Allow::everything().check(&at("/etc/passwd")).is_ok());
    }

    #[test]
    fn a_model_without_a_revision_stands_for_all_of_them() {
        let allow = Allow::prefixes(vec![at("hf://org/model"), at("hf://org/fixed@v1")]);
        for inside in ["hf://org/model/config.json", "hf://org/model@main/config.json", "hf://org/fixed@v1"] {
            assert!(allow.check(&at(inside)).is_ok(), "{inside}");
        }
        for outside in ["hf://org/model2", "hf://org/fixed", "hf://org/fixed@v2", "hf://other/model@main"] {
            assert!(allow.check(&at(outside)).is_err(), "{outside}");
        }
    }
}
