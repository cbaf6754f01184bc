//! Names from a list of modules: PEFT takes one for a path if it equals the path or ends it after a dot.

/// Every name that names this path: the path itself, and what follows each of its dots.
pub fn suffixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(path.match_indices('.').map(|(at, _)| &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_by_its_ends_after_dots() {
        assert_eq!(suffixes("a.b.c").collect::<Vec<_>>(), ["a.b.c", "b.c", "c"]);
        assert_eq!(suffixes("abc").collect::<Vec<_>>(), ["abc"]);
        assert_eq!(suffixes("a.").collect::<Vec<_>>(), ["a.", ""]);
    }
}
