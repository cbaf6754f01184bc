//! Where a location really is, so that two names of one place can be told to be one.
//!
//! The facts are gathered by [`Stores::place`](crate::Stores::place); the comparison here is a pure function of them.
//!
//! | a place in | is |
//! |---|---|
//! | a file system | the device and inode of the nearest existing ancestor, and the names that remain below it |
//! | an object store | scheme, bucket and key |
//! | Azure | account, container and key, whichever of the two URL forms names them |
//!
//! What cannot be seen from one machine is not known here: one export mounted twice over a network with different
//! options, a bucket with two names, an object store that is also mounted as a file system.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::location::{Location, Scheme};

/// A file or folder, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device of its file system.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

/// A place in a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPlace {
    /// The nearest ancestor that exists, or the place itself.
    pub nearest: FileId,
    /// The names below `nearest`, which do not exist yet. Empty if the place exists.
    pub rest: Vec<String>,
    /// Every folder that holds `nearest`, under any of its names on this machine, and `nearest` itself.
    pub holders: BTreeSet<FileId>,
    /// Every path of `nearest` on this machine, without symbolic links.
    pub paths: Vec<PathBuf>,
}

/// A place in a store of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace {
    /// Which store.
    pub scheme: Scheme,
    /// The bucket, container, or host.
    pub bucket: String,
    /// The Azure account, if it is known.
    pub account: Option<String>,
    /// The names of the path.
    pub names: Vec<String>,
}

/// A place, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file system.
    Local(LocalPlace),
    /// In a store of objects.
    Object(ObjectPlace),
}

/// How one place lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Neither holds the other.
    Apart,
    /// They are one place.
    Same,
    /// The first lies in the second.
    Inside,
    /// The first holds the second.
    Around,
}

impl Place {
    /// The place that a URL names, compared by name alone.
    pub fn named(at: &Location) -> Self {
        let names = at.key().split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Self::Object(ObjectPlace { scheme: at.scheme(), bucket: at.authority().to_owned(), account: None, names })
    }

    /// The same for Azure, where a URL names the account or leaves that to the settings.
    pub(crate) fn azure(at: &Location, configured: Option<&str>) -> Self {
        let (container, host) = at.authority().split_once('@').unwrap_or((at.authority(), ""));
        let named = host.split_once('.').map(|(account, _)| account);
        match Self::named(at) {
            Self::Object(place) => Self::Object(ObjectPlace {
                bucket: container.to_ascii_lowercase(),
                account: named.or(configured).map(str::to_ascii_lowercase),
                ..place
            }),
            local => local,
        }
    }

    /// How this place lies to another.
    pub fn relation(&self, other: &Self) -> Relation {
        match (self, other) {
            (Self::Local(a), Self::Local(b)) => local(a, b),
            (Self::Object(a), Self::Object(b)) if a.in_one_bucket_with(b) => by_names(&a.names, &b.names),
            _ => Relation::Apart,
        }
    }

    /// Whether the place is a folder of this name, or lies below one.
    pub fn is_below_name(&self, name: &str) -> bool {
        let is_it = |component: Component<'_>| component.as_os_str() == name;
        match self {
            Self::Local(place) => {
                place.rest.iter().any(|n| n == name)
                    || place.paths.iter().any(|path| Path::new(path).components().any(is_it))
            }
            Self::Object(place) => place.names.iter().any(|n| n == name),
        }
    }
}

impl ObjectPlace {
    /// An Azure account that is not known counts as any account: two containers of one name may then be one.
    fn in_one_bucket_with(&self, other: &Self) -> bool {
        let accounts = matches!((&self.account, &other.account), (Some(a), Some(b)) if a != b);
        self.scheme == other.scheme && self.bucket == other.bucket && !accounts
    }
}

fn local(a: &LocalPlace, b: &LocalPlace) -> Relation {
    if a.nearest == b.nearest {
        return by_names(&a.rest, &b.rest);
    }
    // What does not exist holds nothing that exists.
    if b.rest.is_empty() && a.holders.contains(&b.nearest) {
        return Relation::Inside;
    }
    if a.rest.is_empty() && b.holders.contains(&a.nearest) {
        return Relation::Around;
    }
    Relation::Apart
}

fn by_names(a: &[String], b: &[String]) -> Relation {
    match (a.starts_with(b), b.starts_with(a)) {
        (true, true) => Relation::Same,
        (true, false) => Relation::Inside,
        (false, true) => Relation::Around,
        (false, false) => Relation::Apart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Location {
        text.parse().unwrap()
    }

    fn id(inode: u64) -> FileId {
        FileId { device: 1, inode }
    }

    /// A place below the folders of these inodes, the nearest first.
    fn place(holders: &[u64], rest: &[&str]) -> Place {
        Place::Local(LocalPlace {
            nearest: id(holders[0]),
            rest: rest.iter().map(|n| (*n).to_owned()).collect(),
            holders: holders.iter().map(|n| id(*n)).collect(),
            paths: Vec::new(),
        })
    }

    #[test]
    fn local_places_are_compared_by_inode_and_by_the_names_that_remain() {
        let base = place(&[7, 3, 1], &[]);
        for (other, says) in [
            (place(&[7, 9, 1], &[]), Relation::Same),
            (place(&[7, 3, 1], &["merged"]), Relation::Inside),
            (place(&[8, 7, 3, 1], &["a", "b"]), Relation::Inside),
            (place(&[3, 1], &[]), Relation::Around),
            // `base` exists, so a name that does not exist beside it is another place.
            (place(&[3, 1], &["out"]), Relation::Apart),
            (place(&[8, 3, 1], &[]), Relation::Apart),
        ] {
            assert_eq!(other.relation(&base), says, "{other:?}");
        }
        let (out, below) = (place(&[3, 1], &["out"]), place(&[3, 1], &["out", "x"]));
        assert_eq!(below.relation(&out), Relation::Inside);
        assert_eq!(out.relation(&below), Relation::Around);
        assert_eq!(out.relation(&place(&[3, 1], &["outer"])), Relation::Apart);
        let elsewhere = Place::Local(LocalPlace {
            nearest: FileId { device: 2, inode: 7 },
            rest: Vec::new(),
            holders: BTreeSet::new(),
            paths: Vec::new(),
        });
        assert_eq!(elsewhere.relation(&base), Relation::Apart, "another device has inodes of its own");
    }

    #[test]
    fn objects_are_compared_by_whole_names() {
        for (a, b, says) in [
            ("s3://m/base", "s3://m/base/", Relation::Same),
            ("s3://m/base/out", "s3://m/base", Relation::Inside),
            ("s3://m", "s3://m/base", Relation::Around),
            ("s3://m/base-2", "s3://m/base", Relation::Apart),
            ("s3://m/base", "s3://n/base", Relation::Apart),
            ("s3://m/base", "gs://m/base", Relation::Apart),
            ("s3://m/base", "/m/base", Relation::Apart),
        ] {
            assert_eq!(Place::named(&at(a)).relation(&Place::named(&at(b))), says, "{a} {b}");
        }
    }

    #[test]
    fn both_forms_of_an_azure_container_are_one_place() {
        let full = |host: &str| Place::azure(&at(&format!("abfss://models@{host}/base")), None);
        let (dfs, blob) = (full("Mine.dfs.core.windows.net"), full("mine.blob.core.windows.net"));
        let short = |account| Place::azure(&at("az://models/base"), account);
        assert_eq!(dfs.relation(&blob), Relation::Same);
        assert_eq!(short(Some("mine")).relation(&dfs), Relation::Same);
        assert_eq!(short(Some("other")).relation(&dfs), Relation::Apart);
        assert_eq!(short(None).relation(&dfs), Relation::Same, "an unknown account may be that one");
        let other = Place::azure(&at("az://other/base"), Some("mine"));
        assert_eq!(other.relation(&dfs), Relation::Apart);
    }

    #[test]
    fn a_folder_is_found_by_name_on_the_way() {
        let Place::Local(local) = place(&[3], &["journal"]) else { unreachable!() };
        for (paths, rest, says) in [
            (["/out/.shardfuse"].as_slice(), ["x"].as_slice(), true),
            (&["/mnt", "/out/.shardfuse/upload"], &[], true),
            (&["/out"], &[".shardfuse", "x"], true),
            (&["/out/.shardfuse-state"], &["x"], false),
        ] {
            let paths = paths.iter().map(PathBuf::from).collect();
            let rest = rest.iter().map(|n| (*n).to_owned()).collect();
            let place = Place::Local(LocalPlace { paths, rest, ..local.clone() });
            assert_eq!(place.is_below_name(".shardfuse"), says, "{place:?}");
        }
        assert!(Place::named(&at("s3://m/out/.shardfuse/x")).is_below_name(".shardfuse"));
        assert!(!Place::named(&at("s3://m/out")).is_below_name(".shardfuse"));
    }
}
