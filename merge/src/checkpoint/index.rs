//! The index of a sharded checkpoint (`*.index.json`): which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::json;

/// The longest index that is read, in bytes: several hundred thousand tensors.
pub const MAX_INDEX: u64 = 64 << 20;

/// A parsed index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The names of the files, in their order.
    files: Vec<String>,
    /// Tensor names with the number of their file, in order of names.
    tensors: Vec<(Box<str>, u32)>,
}

impl Index {
    /// Parses an index and checks that every file name is a plain one.
    ///
    /// # Errors
    /// `bad_index` where it is not JSON or names no tensors, `unsafe_path` for a file name that leaves the folder.
    pub fn parse(json: &[u8]) -> Result<Index> {
        let text = json::strict(json).map_err(|why| bad(format!("the index {why}")))?;
        let parsed: Document = serde_json::from_slice(&text).map_err(|e| bad(format!("the index is not JSON: {e}")))?;
        let Some(WeightMap(Index { files, mut tensors })) = parsed.weight_map else {
            return Err(bad("the index has no weight_map object"));
        };
        if tensors.is_empty() {
            return Err(bad("the index's weight_map is empty"));
        }
        for file in &files {
            plain_name(file)?;
        }
        // Of a name that stands there twice, the last counts, as in Python.
        tensors.reverse();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors.dedup_by(|a, b| a.0 == b.0);
        // Equal maps are equal indexes, in whatever order they were written.
        let used: BTreeSet<&str> = tensors.iter().map(|(_, file)| files[*file as usize].as_str()).collect();
        let numbers: HashMap<&str, u32> = used.iter().copied().zip(0..).collect();
        for (_, file) in &mut tensors {
            *file = numbers[files[*file as usize].as_str()];
        }
        Ok(Index { files: used.into_iter().map(str::to_owned).collect(), tensors })
    }

    /// Every tensor with the file that it is said to be in, in order of tensor names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tensors.iter().map(|(tensor, file)| (&**tensor, self.files[*file as usize].as_str()))
    }

    /// The files that belong, in name order.
    pub fn files(&self) -> BTreeSet<&str> {
        self.files.iter().map(String::as_str).collect()
    }

    /// Holds the index against the names that the files really hold.
    ///
    /// # Errors
    /// `bad_index` for the first tensor on which they disagree.
    pub fn check<'a>(&self, held: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let mut found = vec![false; self.tensors.len()];
        for (file, tensor) in held {
            let Ok(at) = self.tensors.binary_search_by(|(name, _)| (**name).cmp(tensor)) else {
                return Err(bad(format!("{file} holds {tensor}, which the index does not list")));
            };
            let said = &self.files[self.tensors[at].1 as usize];
            if std::mem::replace(&mut found[at], true) {
                return Err(bad(format!("tensor {tensor} is in {said} and in {file}")));
            }
            if said != file {
                return Err(bad(format!("the index says that {tensor} is in {said}, it is in {file}")));
            }
        }
        match self.tensors.iter().zip(found).find(|(_, found)| !found) {
            Some(((tensor, file), _)) => {
                let file = &self.files[*file as usize];
                Err(bad(format!("the index says that {tensor} is in {file}, which does not hold it")))
            }
            None => Ok(()),
        }
    }
}

/// What is read of the text; everything else is passed over without being kept.
#[derive(Deserialize)]
struct Document {
    weight_map: Option<WeightMap>,
}

struct WeightMap(Index);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
                let mut numbers: HashMap<String, u32> = HashMap::new();
                let mut index = Index { files: Vec::new(), tensors: Vec::new() };
                while let Some(tensor) = map.next_key::<Box<str>>()? {
                    let File(file) = map
                        .next_value()
                        .map_err(|e| A::Error::custom(format!("the entry for {tensor} is not a file name: {e}")))?;
                    let number = *numbers.entry(file).or_insert_with_key(|file| {
                        index.files.push(file.clone());
                        index.files.len() as u32 - 1
                    });
                    index.tensors.push((tensor, number));
                }
                Ok(WeightMap(index))
            }
        }
        deserializer.deserialize_map(V)
    }
}

/// A file's name.
struct File(String);

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        json::string(deserializer).map(File)
    }
}

/// The bytes of an index over the written files. `total_size` is the sum of tensor bytes.
pub fn render(total_size: u64, weight_map: &BTreeMap<&str, &str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Rendered<'a> {
        metadata: Metadata,
        weight_map: &'a BTreeMap<&'a str, &'a str>,
    }
    #[derive(Serialize)]
    struct Metadata {
        total_size: u64,
    }
    let rendered = Rendered { metadata: Metadata { total_size }, weight_map };
    // Texts and a number can always be written.
    let mut bytes = serde_json::to_vec_pretty(&rendered).unwrap_or_default();
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
    fn what_python_writes_beyond_the_standard_is_read() {
        let json = b"\xef\xbb\xbf{\"metadata\": {\"total_size\": NaN}, \"weight_map\": {\"a\": \"1\", \"a\": \"2\"}}";
        let index = Index::parse(json).unwrap();
        assert_eq!(index.files().into_iter().collect::<Vec<_>>(), ["2"], "the last of two entries counts");
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for json in [
            r#"{}"#,
            r#"{"weight_map": {}}"#,
            r#"{"weight_map": []}"#,
            r#"{"weight_map": {"a": 1}}"#,
            "[",
            r#"{"weight_map": {"a": NaN}}"#,
        ] {
            assert_eq!(Index::parse(json.as_bytes()).unwrap_err().kind(), Kind::BadIndex, "{json}");
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
            vec![("1", "a"), ("1", "a"), ("2", "b")],
        ] {
            assert_eq!(index.check(held.into_iter()).unwrap_err().kind(), Kind::BadIndex);
        }
    }
}
