//! Where bytes are: a scheme, a bucket or host, and an absolute path.
//!
//! A location is parsed once, at the edge, and holds no secret: what a user typed is refused, not kept, when it carries
//! credentials or a query, and the refusal repeats neither.
//!
//! | written as | means |
//! |---|---|
//! | `/a/b`, `a/b`, `file:///a/b` | a file |
//! | `s3://bucket/key`, `gs://bucket/key` | an object; the key is taken literally, `%` included |
//! | `az://container/key` | a blob of the account that `--stores` or the environment names |
//! | `abfss://container@account.dfs.core.windows.net/key` | a blob of that account |
//! | `http://host[:port]/path`, `https://…` | read only; the path is percent-encoded, as it goes over the wire |
//! | `hf://org/model[@revision]/file` | a file of a model on the hub, read only |
//!
//! `..` is resolved by name only at the front of a relative path, against the current directory: that directory is
//! given as the system reports it, without symbolic links, so there the name and the file system agree. Anywhere else
//! `link/..` need not be where it seems to be, so it stays for the file system to resolve.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

mod scheme;
#[cfg(test)]
mod tests;
mod url;

pub use scheme::Scheme;

use url::Parsed;

/// The place of an object or a folder. Shown the way a user would write it, and what is shown parses back.
///
/// `FromStr` takes only what is absolute, for text that comes from a plan or the wire; [`Location::parse`] also takes
/// a path relative to a folder.
///
/// ```
/// # use shardfuse_store::Location;
/// # use std::path::Path;
/// let base = Location::parse("../models/base", Path::new("/home/me/work"))?;
/// assert_eq!(base.to_string(), "/home/me/models/base");
/// assert_eq!(base.join("config.json")?.file_name(), Some("config.json"));
/// assert!(base.join("../config.json").is_err());
/// # Ok::<(), shardfuse_store::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    scheme: Scheme,
    /// The bucket, `container` or `container@account host`, or host and port; empty for files and the hub.
    authority: String,
    /// Absolute, without empty or `.` components and without a slash at the end.
    path: String,
}

impl Location {
    /// Parses a URL, or a path that `current_dir` makes absolute.
    ///
    /// `current_dir` must be free of symbolic links, as `std::env::current_dir` returns it. A `file://` URL is
    /// percent-decoded, a plain path is taken literally.
    pub fn parse(text: &str, current_dir: &Path) -> Result<Self> {
        match url::parse(text)? {
            Some(Parsed::File(path)) => return Self::at_path(&path),
            Some(Parsed::Remote { scheme, authority, path }) => return Ok(Self { scheme, authority, path }),
            None => {}
        }
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Permanent, "\"\"", "an empty path"));
        }
        check_text(text, text)?;
        let (mut folder, mut rest) = (current_dir, Path::new(text));
        if rest.is_relative() {
            while let Ok(shorter) = rest.strip_prefix("..") {
                (folder, rest) = (folder.parent().unwrap_or(folder), shorter);
            }
        }
        Self::at_path(&folder.join(rest))
    }

    /// The location of an absolute path, taken literally.
    pub fn at_path(path: &Path) -> Result<Self> {
        let text = path
            .to_str()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, path.display(), "a path that is not UTF-8"))?;
        check_text(text, text)?;
        if !path.is_absolute() {
            return Err(Error::new(ErrorKind::Permanent, text, "not an absolute path"));
        }
        let mut plain = String::with_capacity(text.len());
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    plain.push('/');
                    plain.push_str(name.to_str().unwrap_or_default());
                }
                // The root's parent is the root, for every file system.
                Component::ParentDir if !plain.is_empty() => plain.push_str("/.."),
                _ => {}
            }
        }
        if plain.is_empty() {
            plain.push('/');
        }
        Ok(Self { scheme: Scheme::File, authority: String::new(), path: plain })
    }

    /// What kind of store holds it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The path in the file system, for a file.
    pub fn local_path(&self) -> Option<&Path> {
        (self.scheme == Scheme::File).then(|| Path::new(&self.path))
    }

    /// The bucket, the container (with `@account host` where the URL names one), or host and port; empty for files and
    /// the hub.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The absolute path behind the authority; `/` for the whole bucket or host. For the hub `/org/model[@revision]/…`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path without its leading slash: an object's key.
    pub fn key(&self) -> &str {
        self.path.strip_prefix('/').unwrap_or(&self.path)
    }

    /// The location of `name` below this one: one or more plain components, separated by slashes.
    ///
    /// Names come from indexes and listings, so whatever would lead out of the folder is refused: an absolute path,
    /// `..`, and the empty name.
    pub fn join(&self, name: &str) -> Result<Self> {
        check_text(name, name)?;
        let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain {
            return Err(Error::new(ErrorKind::Permanent, self, format!("{name:?} does not name a file below it")));
        }
        let separator = if self.path.ends_with('/') { "" } else { "/" };
        let name = match self.scheme {
            Scheme::Http | Scheme::Https => url::encode(name),
            _ => name.to_owned(),
        };
        Ok(Self { path: format!("{}{separator}{name}", self.path), ..self.clone() })
    }

    /// The folder that holds it; `None` for the root, for a model of the hub, and where the path ends in `..`, whose
    /// parent only the file system knows.
    pub fn parent(&self) -> Option<Self> {
        self.file_name()?;
        let path: PathBuf = Path::new(&self.path).parent()?.into();
        if self.scheme == Scheme::Hub && path.components().count() < 3 {
            return None;
        }
        Some(Self { path: path.to_str()?.to_owned(), ..self.clone() })
    }

    /// The last component, if it is a name.
    pub fn file_name(&self) -> Option<&str> {
        Path::new(&self.path).file_name()?.to_str()
    }

    /// Whether this is `folder` or lies below it, judged by names: whole components, and never across a `..`.
    ///
    /// Symbolic links are not followed, so this says what was asked for, not where the bytes are.
    pub fn is_within(&self, folder: &Self) -> bool {
        let path = Path::new(&self.path);
        self.scheme == folder.scheme
            && self.authority == folder.authority
            && path.starts_with(&folder.path)
            && !path.components().any(|component| component == Component::ParentDir)
    }

    /// The folder of a Hugging Face hub cache to which the links of a snapshot lead, if this is a snapshot or lies below
    /// one: `models--org--name/blobs` for `models--org--name/snapshots/0123…`.
    pub fn hub_cache_blobs(&self) -> Option<Self> {
        let is = |path: &Path, fits: fn(&str) -> bool| path.file_name().and_then(|n| n.to_str()).is_some_and(fits);
        let snapshots = self.local_path()?.ancestors().skip(1).find(|path| {
            is(path, |name| name == "snapshots")
                && path.parent().is_some_and(|model| is(model, |name| name.starts_with("models--")))
        })?;
        Self::at_path(&snapshots.with_file_name("blobs")).ok()
    }

    /// The same place of the hub with no revision named; `None` for what names none.
    pub(crate) fn without_revision(&self) -> Option<Self> {
        let (organisation, rest) = self.key().split_once('/').filter(|_| self.scheme == Scheme::Hub)?;
        let (model, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (model, _) = model.split_once('@')?;
        Some(Self { path: format!("/{organisation}/{model}{below}"), ..self.clone() })
    }

    /// The location as a URL, for those who read nothing else.
    pub fn to_url(&self) -> String {
        match self.scheme {
            Scheme::File => url::of_path(&self.path),
            _ => self.to_string(),
        }
    }
}

fn check_text(text: &str, shown: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::Permanent, shown.escape_debug(), "a path with a zero byte"));
    }
    Ok(())
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match url::parse(text)? {
            Some(Parsed::File(path)) => Self::at_path(&path),
            Some(Parsed::Remote { scheme, authority, path }) => Ok(Self { scheme, authority, path }),
            None => Self::at_path(Path::new(text)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::File => f.write_str(&self.path),
            Scheme::Azure if self.authority.contains('@') => write!(f, "abfss://{}{}", self.authority, self.path),
            Scheme::Hub => write!(f, "hf:/{}", self.path),
            _ => write!(f, "{}://{}{}", self.scheme, self.authority, self.path),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
