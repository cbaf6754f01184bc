//! Names of files below the folders of base and adapters: `--extra-weights` and `--ignore-file`.

use crate::error::{Error, Kind, Result};

/// Adds a name to a sorted list without duplicates: the order of the names means nothing, and equal merges have equal specs.
pub(super) fn insert(list: &mut Vec<String>, name: &str) {
    if let Err(at) = list.binary_search_by(|n| n.as_str().cmp(name)) {
        list.insert(at, name.to_owned());
    }
}

/// Every name stays below its folder, and no file is both merged and left out.
pub(super) fn check(extra_weights: &[String], ignore_files: &[String]) -> Result<()> {
    for (flag, names) in [("--extra-weights", extra_weights), ("--ignore-file", ignore_files)] {
        let folder = flag == "--ignore-file";
        let leaves = |n: &&String| {
            let name = n.strip_suffix('/').filter(|_| folder).unwrap_or(n);
            name.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if let Some(name) = names.iter().find(leaves) {
            return Err(Error::new(
                Kind::Usage,
                format!("{flag} is {name:?}, expected the name of a file below the input's folder"),
            ));
        }
    }
    match extra_weights.iter().find(|name| ignore_files.contains(name)) {
        Some(both) => {
            Err(Error::new(Kind::Usage, format!("{both} is given with --extra-weights and with --ignore-file"))
                .hint("merge the file or leave it out: keep one of the two"))
        }
        None => Ok(()),
    }
}
