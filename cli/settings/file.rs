//! The merge spec's file: the fields of the flags, in YAML.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use shardfuse_merge::spec::{LoraSpec, OPTIONS, SpecOption, Takes};
use shardfuse_merge::{Error, Kind};

use super::entry::{Entries, Entry};

/// What a file gives. Values are texts, as on the command line.
#[derive(Debug, Default)]
pub struct File {
    pub base: Option<String>,
    pub lora: Vec<LoraSpec>,
    pub output: Option<String>,
    pub memory: Option<String>,
    pub threads: Option<String>,
    pub device: Option<String>,
    pub options: Vec<(&'static SpecOption, Vec<String>)>,
    /// What is wrong with it.
    wrong: Vec<String>,
}

/// The fields that are no options.
const OTHERS: [&str; 6] = ["base", "lora", "output", "memory", "threads", "device"];

impl File {
    /// Reads a file; `-` is stdin.
    pub fn read(path: &Path) -> shardfuse_merge::Result<File> {
        // The spec is a small file of the user's beside the command line, read before any store exists.
        #[allow(clippy::disallowed_methods, reason = "the spec is read before any store exists")]
        let text = match path.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(path),
        };
        let text = text
            .map_err(|e| Error::new(Kind::Usage, format!("the merge spec {} cannot be read: {e}", path.display())))?;
        File::parse(&text).map_err(|wrong| wrong.at(format_args!("the merge spec {} is wrong", path.display())))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as it can be read.
    pub fn parse(text: &str) -> shardfuse_merge::Result<File> {
        let mut file: File = serde_saphyr::from_str(text).map_err(|e| Error::new(Kind::Usage, told(&e.to_string())))?;
        let wrong = std::mem::take(&mut file.wrong).into_iter().map(|why| Error::new(Kind::Usage, why));
        wrong.reduce(Error::and).map_or(Ok(file), Err)
    }
}

/// What the parser says: place and problem. Below that it shows the lines of the file.
fn told(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<File, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// The value of an option that takes a list. Its elements come as they are written.
enum Several {
    List(Vec<String>),
    One(String),
}

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListOrText)
    }
}

struct ListOrText;

impl<'de> Visitor<'de> for ListOrText {
    type Value = Several;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Several, E> {
        Ok(Several::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = list.next_element()? {
            all.push(element);
        }
        Ok(Several::List(all))
    }
}

/// A single value: a scalar comes as it is written, and one that is null is not given.
fn one<'de, A: MapAccess<'de>>(map: &mut A, field: &str) -> Result<Option<String>, A::Error> {
    map.next_value().map_err(|e| A::Error::custom(format_args!("{field}: {}", told(&e.to_string()))))
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a merge spec")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<File, E> {
        Ok(File::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        let mut unknown = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "base" => file.base = one(&mut map, "base")?,
                "output" => file.output = one(&mut map, "output")?,
                "memory" => file.memory = one(&mut map, "memory")?,
                "threads" => file.threads = one(&mut map, "threads")?,
                "device" => file.device = one(&mut map, "device")?,
                "lora" => {
                    let Entries(entries) = map.next_value()?;
                    let adapters = entries.into_iter().map(Entry::adapters).collect::<Result<Vec<_>, _>>();
                    file.lora = adapters.map_err(A::Error::custom)?.into_iter().flatten().collect();
                }
                name => {
                    let Some(option) = SpecOption::named(name) else {
                        let _: IgnoredAny = map.next_value()?;
                        unknown.push(format!("unknown field {name:?}"));
                        continue;
                    };
                    if file.options.iter().any(|(o, _)| o.field == option.field) {
                        file.wrong.push(format!("{name} is given twice"));
                    }
                    let values = match option.takes {
                        Takes::List => match map.next_value()? {
                            Several::List(values) => values,
                            Several::One(value) => {
                                file.wrong.push(format!("{name} is {value:?}, expected a list: {name}: [{value}]"));
                                Vec::new()
                            }
                        },
                        Takes::Value | Takes::Switch => one(&mut map, name)?.into_iter().collect(),
                    };
                    file.options.push((option, values));
                }
            }
        }
        // All fields are told once, behind the last one.
        if let Some(last) = unknown.last_mut() {
            let known = OTHERS.into_iter().chain(OPTIONS.iter().map(|o| o.field)).collect::<Vec<_>>();
            *last += &format!(", expected one of {}", known.join(", "));
        }
        file.wrong.extend(unknown);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_adapters_as_text_or_taken_literally() {
        let file = File::parse("base: b\nlora:\n  - a=0.5, d\n  - path: c,e\n    weight: 2\n").unwrap();
        let lora: Vec<_> = file.lora.iter().map(|l| (l.path.as_str(), l.weight)).collect();
        assert_eq!((file.base.as_deref(), lora), (Some("b"), vec![("a", 0.5), ("d", 1.0), ("c,e", 2.0)]));
    }

    #[test]
    fn one_adapter_needs_no_list_and_a_weight_may_be_a_text() {
        let adapters = |text: &str| -> Vec<(String, f64)> {
            File::parse(text).unwrap().lora.into_iter().map(|l| (l.path, l.weight)).collect()
        };
        let one = |weight| vec![("a".to_owned(), weight)];
        assert_eq!(adapters("lora: a\n"), one(1.0));
        assert_eq!(adapters("lora: a=0.5\n"), one(0.5));
        assert_eq!(adapters("lora:\n  path: a\n  weight: \"0.5\"\n"), one(0.5));
        assert_eq!(adapters("lora:\n  - path: a\n    weight: -2\n"), one(-2.0));
        assert_eq!(adapters("lora: ~\n"), vec![]);
    }

    #[test]
    fn scalars_come_as_they_are_written() {
        let file =
            File::parse("memory: 1GiB\nthreads: 8\npart_size: 65536\ntied: false\ndtype: ~\nignore_file: [1.10]\n");
        let file = file.unwrap();
        assert_eq!((file.memory.as_deref(), file.threads.as_deref()), (Some("1GiB"), Some("8")));
        let options: Vec<_> = file.options.iter().map(|(o, values)| (o.field, values.join("+"))).collect();
        let expected = [("part_size", "65536"), ("tied", "false"), ("dtype", ""), ("ignore_files", "1.10")];
        assert_eq!(options, expected.map(|(field, value)| (field, value.to_owned())));
    }

    #[test]
    fn an_unknown_field_a_field_given_twice_and_a_list_for_one_value_are_refused() {
        for (text, says) in [
            ("loras: [a]\n", "unknown field \"loras\", expected one of base, lora, output"),
            ("ignore_file: [a]\nignore_files: [b]\n", "ignore_files is given twice"),
            ("dtype: [bf16]\n", "dtype: expected string scalar at line 1, column 8"),
            ("expert_order: fastest\n", "expert_order is \"fastest\", expected a list: expert_order: [fastest]"),
            ("lora: ['(a']\n", "not a list of adapters"),
            ("lora: '(a'\n", "not a list of adapters"),
            (
                "lora:\n  - path: a\n    wieght: 0.5\n",
                "unknown field \"wieght\" of an adapter, expected path or weight",
            ),
            ("lora:\n  path: a\n  scale: 0.5\n", "unknown field \"scale\" of an adapter, expected path or weight"),
            ("lora:\n  - weight: 0.5\n", "an adapter without a path"),
            ("lora:\n  - path: a\n    path: b\n", "path"),
            ("lora:\n  - path: a\n    weight: heavy\n", "weight of a is \"heavy\", expected a number"),
        ] {
            let why = File::parse(text).unwrap_err();
            assert!(why.message().contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn each_problem_is_told_once_and_by_itself() {
        let told = |text: &str| File::parse(text).unwrap_err().messages().map(str::to_owned).collect::<Vec<_>>();
        let all = told("loras: [a]\nexpert_order: fastest\nbaze: b\n");
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(all[0], "expert_order is \"fastest\", expected a list: expert_order: [fastest]");
        assert_eq!(all[1], "unknown field \"loras\"");
        assert!(all[2].starts_with("unknown field \"baze\", expected one of base, lora, output"), "{all:?}");
        // What the parser itself says has the place, and not the lines of the file.
        let adapter = told("lora:\n  - path: a\n    wieght: 2\n");
        assert_eq!(adapter, ["line 2 column 5: unknown field \"wieght\" of an adapter, expected path or weight"]);
        assert_eq!(told("base: \"x\nlora: a\n"), ["base: unclosed quote at line 1, column 7"]);
    }

    #[test]
    fn an_empty_file_gives_nothing() {
        assert!(File::parse("# nothing\n").unwrap().options.is_empty());
    }
}
