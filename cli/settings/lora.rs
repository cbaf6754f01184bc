//! Lists of adapters: `a`, `a,b`, `a, b`, `a=0.5`.

use shardfuse_merge::spec::LoraSpec;
use shardfuse_merge::{Error, Kind, Result};

/// The comma of Chinese text, which is easily typed for the other.
const FULL_WIDTH: char = '\u{ff0c}';
/// What a path takes that has a comma or an equals sign.
const LITERALLY: &str = "a path that holds such a character goes into a --spec file, as `- path: ...` below lora";

/// The adapters in the order given, as the values of a flag.
pub fn split(flag: &str, values: &[String]) -> Result<Vec<LoraSpec>> {
    let mut all = Vec::new();
    for value in values {
        if value.contains(FULL_WIDTH) {
            return Err(Error::new(Kind::Usage, format!("{flag} {value:?} holds a full-width comma"))
                .hint(format!("separate adapters with an ASCII comma; {LITERALLY}")));
        }
        for item in value.split(',').map(str::trim) {
            if item.is_empty() || item.starts_with(['(', '[', '{']) || item.ends_with([')', ']', '}']) {
                return Err(Error::new(Kind::Usage, format!("{flag} {value:?} is not a list of adapters"))
                    .hint(format!("write {flag} a {flag} b, or {flag} a,b, without brackets")));
            }
            let (path, weight) = match item.rsplit_once('=') {
                Some((path, weight)) if !path.is_empty() => {
                    let parsed = weight.trim().parse::<f64>();
                    (
                        path.trim(),
                        parsed.map_err(|_| {
                            Error::new(Kind::Usage, format!("{flag} {item:?}: the weight {weight:?} is not a number"))
                                .hint(LITERALLY)
                        })?,
                    )
                }
                _ => (item, 1.0),
            };
            all.push(LoraSpec { path: path.to_owned(), weight });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(values: &[&str]) -> Vec<(String, f64)> {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        split("--lora", &values).unwrap().into_iter().map(|l| (l.path, l.weight)).collect()
    }

    #[test]
    fn two_flags_a_comma_and_a_comma_with_space_are_two_adapters() {
        let two = vec![("a".to_owned(), 1.0), ("b".to_owned(), 1.0)];
        assert_eq!(paths(&["a", "b"]), two);
        assert_eq!(paths(&["a,b"]), two);
        assert_eq!(paths(&["a, b"]), two);
        assert_eq!(paths(&["a=0.5", "b=-2"]), vec![("a".to_owned(), 0.5), ("b".to_owned(), -2.0)]);
    }

    #[test]
    fn brackets_empty_items_and_weights_that_are_no_numbers_are_refused() {
        for value in ["(a, b)", "[a]", "a,,b", "", "a=heavy", "a\u{ff0c}b"] {
            assert_eq!(split("--lora", &[value.to_owned()]).unwrap_err().kind(), Kind::Usage, "{value}");
        }
    }
}
