//! The metadata at the beginning of a base's card, as far as the output's card repeats it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::yaml;

/// The keys that are as true of the output as of the base. Those of a licence come first.
const KEYS: [&str; 6] = ["license", "license_name", "license_link", "language", "library_name", "pipeline_tag"];
/// The most values of a key, and the longest one in bytes. What is beyond that is not repeated.
const MOST: (usize, usize) = (100, 500);

/// What is repeated: the values of each key. A single value that was no list stays none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    entries: Vec<(&'static str, Vec<String>, bool)>,
}

impl Front {
    /// Reads the metadata of a card. A card without any has none.
    ///
    /// # Errors
    /// If it is not YAML, in a sentence.
    pub fn read(card: &str) -> Result<Front, String> {
        let text = card.strip_prefix('\u{feff}').unwrap_or(card).replace("\r\n", "\n");
        let Some(rest) = text.strip_prefix("---\n") else { return Ok(Front::default()) };
        let end =
            rest.find("\n---\n").map(|at| at + 1).or_else(|| rest.strip_suffix("\n---").map(|yaml| yaml.len() + 1));
        let yaml = match end {
            Some(end) => &rest[..end],
            None if rest.starts_with("---\n") => return Ok(Front::default()),
            None => return Err("the line --- that ends it is missing".to_owned()),
        };
        if yaml.trim().is_empty() {
            return Ok(Front::default());
        }
        let map: BTreeMap<String, Value> = serde_saphyr::from_str(yaml)
            .map_err(|e| e.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "))?;
        let mut entries = Vec::new();
        for key in KEYS {
            let Some(value) = map.get(key) else { continue };
            let (values, list) = match value {
                Value::Array(all) => (all.iter().filter_map(scalar).collect(), true),
                one => (scalar(one).into_iter().collect::<Vec<_>>(), false),
            };
            let fits = !values.is_empty() && values.len() <= MOST.0 && values.iter().all(|v| v.len() <= MOST.1);
            if fits {
                entries.push((key, values, list));
            }
        }
        Ok(Front { entries })
    }

    /// Whether a licence is among it.
    pub(super) fn has_licence(&self) -> bool {
        self.entries.iter().any(|(key, ..)| key.starts_with("license"))
    }

    /// Writes it as YAML.
    pub(super) fn write(&self, out: &mut String) {
        for (key, values, list) in &self.entries {
            match (values.as_slice(), list) {
                ([one], false) => yaml::text(out, key, one),
                (all, _) => yaml::list(out, key, &all.iter().map(String::as_str).collect::<Vec<_>>()),
            }
        }
    }
}

/// A value as a text. `no` may be the code of Norwegian, which YAML 1.1 takes for a boolean.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(false) => Some("no".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(card: &str) -> String {
        let mut out = String::new();
        Front::read(card).unwrap().write(&mut out);
        out
    }

    #[test]
    fn licence_and_language_come_along_as_texts_and_lists_and_other_keys_do_not() {
        let card = "---\nlicense: other\nlicense_name: \"a: b\"\ntags: [x]\nlanguage:\n- en\n- no\nmodel-index:\n- name: x\n---\n# Text\nlicense: mit\n";
        assert_eq!(written(card), "license: other\nlicense_name: \"a: b\"\nlanguage:\n- en\n- \"no\"\n");
        assert_eq!(written(&card.replace('\n', "\r\n")), written(card));
        let again: BTreeMap<String, Value> = serde_saphyr::from_str(&written(card)).unwrap();
        assert_eq!(again["license_name"], "a: b");
        assert_eq!(again["language"], serde_json::json!(["en", "no"]));
    }

    #[test]
    fn a_card_without_metadata_has_none_and_a_broken_one_says_why() {
        for card in ["", "# Text\n", "---\n---\n# Text\n", "---\n\n---\n", "---\ntags: [x]\n---"] {
            assert_eq!(written(card), "", "{card:?}");
        }
        assert!(Front::read("---\nlicense: mit\n").unwrap_err().contains("missing"));
        assert!(Front::read("---\nlicense: [mit\n---\n").is_err());
        assert!(Front::read("---\n- a\n---\n").is_err());
    }
}
