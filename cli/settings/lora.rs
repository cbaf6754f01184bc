//! Lists of adapters: `a`, `a,b`, `a, b`, `a=0.5`.

use shardfuse_merge::spec::LoraSpec;
use shardfuse_merge::{Error, Kind, Result};

/// The adapters in the order given.
pub fn split(values: &[String]) -> Result<Vec<LoraSpec>> {
    let mut all = Vec::new();
    for value in values {
        for item in value.split(',').map(str::trim) {
            if item.is_empty() || item.starts_with(['(', '[', '{']) || item.ends_with([')', ']', '}']) {
                return Err(Error::new(Kind::Usage, format!("--lora {value:?} is not a list of adapters"))
                    .hint("write --lora a --lora b, or --lora a,b, without brackets"));
            }
            let (path, weight) = match item.rsplit_once('=') {
                Some((path, weight)) if !path.is_empty() => {
                    let parsed = weight.trim().parse::<f64>();
                    (
                        path.trim(),
                        parsed.map_err(|_| {
                            Error::new(Kind::Usage, format!("--lora {item:?}: the weight {weight:?} is not a number"))
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
        split(&values).unwrap().into_iter().map(|l| (l.path, l.weight)).collect()
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
        for value in ["(a, b)", "[a]", "a,,b", "", "a=heavy"] {
            assert_eq!(split(&[value.to_owned()]).unwrap_err().kind(), Kind::Usage, "{value}");
        }
    }
}
