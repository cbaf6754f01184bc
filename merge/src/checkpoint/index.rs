//! The index of a sharded checkpoint (`*.index.json`): which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{Error, Kind, Result};

/// A parsed index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Tensor name to file name; both as written.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Parses an index and checks that every file name is a plain one.
    pub fn parse(json: &[u8]) -> Result<Index> {
        let value: Value = serde_json::from_slice(json).map_err(|e| bad(format!("the index is not JSON: {e}")))?;
        let map = value
            .get("weight_map")
            .and_then(Value::as_object)
            .ok_or_else(|| bad("the index has no weight_map object"))?;
        if map.is_empty() {
            return Err(bad("the index's weight_map is empty"));
        }
        let mut weight_map = BTreeMap::new();
        for (tensor, file) in map {
            let file =
                file.as_str().ok_or_else(|| bad(format!("the index's entry for {tensor} is not a file name")))?;
            plain_name(file)?;
            weight_map.insert(tensor.clone(), file.to_owned());
        }
        Ok(Index { weight_map })
    }

    /// The files that belong, in name order.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Holds the index against the names that the files really hold.
    pub fn check<'a>(&self, held: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for (file, tensor) in held {
            if let Some(other) = found.insert(tensor, file) {
                return Err(bad(format!("tensor {tensor} is in {other} and in {file}")));
            }
            match self.weight_map.get(tensor) {
                Some(said) if said == file => {}
                Some(said) => return Err(bad(format!("the index says that {tensor} is in {said}, it is in {file}"))),
                None => return Err(bad(format!("{file} holds {tensor}, which the index does not list"))),
            }
        }
        match self.weight_map.iter().find(|(tensor, _)| !found.contains_key(tensor.as_str())) {
            Some((tensor, file)) => {
                Err(bad(format!("the index says that {tensor} is in {file}, which does not hold it")))
            }
            None => Ok(()),
        }
    }
}

/// The bytes of an index over the written files. `total_size` is the sum of tensor bytes.
pub fn render(total_size: u64, weight_map: &BTreeMap<&str, &str>) -> Vec<u8> {
    let value = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
    let mut bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Refuses names that would leave the checkpoint's folder.
pub fn plain_name(name: &str) -> Result<()> {
    let unsafe_name = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0', ':']);
    if unsafe_name {
        return Err(Error::new(
            Kind::UnsafePath,
            format!("the index names the file {name:?}, which is not a plain file name"),
        )
        .hint("an index may only name files beside itself; do not trust this checkpoint"));
    }
    Ok(())
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadIndex, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["../a", "/etc/passwd", "a/b", "a\\b", "..", "", "c:x"] {
            let json = serde_json::json!({"weight_map": {"t": name}}).to_string();
            assert_eq!(Index::parse(json.as_bytes()).unwrap_err().kind(), Kind::UnsafePath, "{name}");
        }
    }

    #[test]
    fn an_index_that_contradicts_its_files_is_refused() {
        let index = Index::parse(br#"{"weight_map": {"a": "1", "b": "2"}}"#).unwrap();
        assert!(index.check([("1", "a"), ("2", "b")].into_iter()).is_ok());
        for held in [
            vec![("1", "a")],
            vec![("1", "a"), ("1", "b")],
            vec![("1", "a"), ("2", "b"), ("2", "c")],
            vec![("1", "a"), ("2", "a"), ("2", "b")],
        ] {
            assert_eq!(index.check(held.into_iter()).unwrap_err().kind(), Kind::BadIndex);
        }
    }
}
