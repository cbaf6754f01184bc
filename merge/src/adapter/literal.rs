//! Keys that are plain names, found by hashing.
//!
//! A dot in a key that is not escaped stands for any character, as in every regular expression. Keys of one length that
//! have such dots at the same places form a group; a path's end is looked up in it with those places blanked.

use std::collections::HashMap;

/// A plain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// Whether it names the whole path (`^name`), and no end of it.
    whole: bool,
    /// Its characters; `None` stands for any.
    characters: Vec<Option<char>>,
}

/// What takes the place of any character. No key holds it.
const BLANK: char = '\0';

/// A key as a plain name; `None` if it is more.
pub fn literal(key: &str) -> Option<Literal> {
    let (whole, rest) = match key.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, key),
    };
    let mut characters = Vec::with_capacity(rest.len());
    let mut rest = rest.chars();
    while let Some(c) = rest.next() {
        characters.push(match c {
            '.' => None,
            '\\' => Some(rest.next().filter(char::is_ascii_punctuation)?),
            _ if c.is_alphanumeric() || matches!(c, '_' | '-' | '/') => Some(c),
            _ => return None,
        });
    }
    Some(Literal { whole, characters })
}

#[derive(Debug)]
struct Group {
    whole: bool,
    /// The places of any character.
    blanks: Vec<usize>,
    /// Numbers of the keys, by their characters.
    keys: HashMap<Vec<char>, Vec<u32>>,
}

/// Numbered names.
#[derive(Debug, Default)]
pub struct Index {
    groups: Vec<Group>,
    by_form: HashMap<(bool, usize, Vec<usize>), usize>,
    by_length: HashMap<usize, Vec<usize>>,
}

impl Index {
    /// Adds a name.
    pub fn add(&mut self, number: u32, name: Literal) {
        let length = name.characters.len();
        let blanks: Vec<usize> =
            name.characters.iter().enumerate().filter(|(_, c)| c.is_none()).map(|(i, _)| i).collect();
        let group = *self.by_form.entry((name.whole, length, blanks.clone())).or_insert_with(|| {
            self.by_length.entry(length).or_default().push(self.groups.len());
            self.groups.push(Group { whole: name.whole, blanks, keys: HashMap::new() });
            self.groups.len() - 1
        });
        let characters = name.characters.into_iter().map(|c| c.unwrap_or(BLANK)).collect();
        self.groups[group].keys.entry(characters).or_default().push(number);
    }

    /// The numbers of all names that match a path, in no order. Adds the characters that were compared to `steps`.
    pub fn matches(&self, path: &str, steps: &mut u64) -> Vec<u32> {
        let mut found = Vec::new();
        if self.groups.is_empty() {
            return found;
        }
        let path: Vec<char> = path.chars().collect();
        for begin in 0..=path.len() {
            // A name begins at the path's beginning or behind a dot; `.*` before it does not go over lines.
            let behind_dot = begin > 0 && path[begin - 1] == '.';
            if begin > 0 && path[begin - 1] == '\n' {
                break;
            }
            if begin > 0 && !behind_dot {
                continue;
            }
            let end = &path[begin..];
            for group in self.by_length.get(&end.len()).into_iter().flatten().map(|g| &self.groups[*g]) {
                *steps += end.len() as u64 + 1;
                if (group.whole && begin > 0) || group.blanks.iter().any(|at| end[*at] == '\n') {
                    continue;
                }
                let mut key = end.to_vec();
                for at in &group.blanks {
                    key[*at] = BLANK;
                }
                found.extend(group.keys.get(&key).into_iter().flatten());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_more_than_a_name_is_no_literal() {
        for key in ["q*", "a|b", "[ab]", "(a)", "a$", "a+", "a?", "a{2}", r"\d", r"\.\w", "a\\", "a b"] {
            assert_eq!(literal(key), None, "{key}");
        }
        for key in ["q_proj", r"layers\.0\.q", "^model.q-1", "", "größe"] {
            assert!(literal(key).is_some(), "{key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The index finds what the expression finds, on paths and keys made to meet.
        #[test]
        fn the_index_answers_as_the_expression_does(
            path in r"[ab.\nü]{0,7}",
            keys in proptest::collection::vec(r"\^?([abü.]|\\\.){0,5}", 1..6),
        ) {
            let mut index = Index::default();
            let mut expected = Vec::new();
            for (number, key) in (0..).zip(&keys) {
                index.add(number, literal(key).unwrap());
                let regex = fancy_regex::Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).unwrap();
                if regex.is_match(&path).unwrap() {
                    expected.push(number);
                }
            }
            let mut found = index.matches(&path, &mut 0);
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
