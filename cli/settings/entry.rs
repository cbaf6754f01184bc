//! The adapters of a merge spec's file.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use shardfuse_merge::Error;
use shardfuse_merge::spec::LoraSpec;

use super::lora;

/// A list of entries, or one entry by itself.
#[derive(Debug)]
pub(super) struct Entries(pub(super) Vec<Entry>);

/// An adapter, or several, as text; or one with its path taken literally.
#[derive(Debug)]
pub(super) enum Entry {
    Text(String),
    Literal(LoraSpec),
}

impl Entry {
    /// The adapters that it names.
    pub(super) fn adapters(self) -> Result<Vec<LoraSpec>, Error> {
        match self {
            Entry::Literal(adapter) => Ok(vec![adapter]),
            Entry::Text(text) => lora::split("--lora", &[text]),
        }
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an adapter or a list of adapters")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Entries, E> {
                Ok(Entries(vec![Entry::Text(text.to_owned())]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entries, A::Error> {
                Ok(Entries(vec![Entry::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = list.next_element()? {
                    all.push(entry);
                }
                Ok(Entries(all))
            }
        }
        deserializer.deserialize_any(List)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an adapter: a text, or path and weight")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Entry, E> {
                Ok(Entry::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut path, mut weight) = (None::<String>, None::<String>);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "path" if path.is_none() => path = Some(map.next_value()?),
                        "weight" if weight.is_none() => weight = map.next_value()?,
                        "path" | "weight" => {
                            return Err(A::Error::custom(format_args!("{key} of an adapter is given twice")));
                        }
                        name => {
                            let _: IgnoredAny = map.next_value()?;
                            let text = format_args!("unknown field {name:?} of an adapter, expected path or weight");
                            return Err(A::Error::custom(text));
                        }
                    }
                }
                let path = path.ok_or_else(|| A::Error::custom("an adapter without a path"))?;
                // A scalar comes as it is written, in quotes or without.
                let weight = weight.map(|text| match text.trim().parse() {
                    Ok(weight) => Ok(weight),
                    Err(_) => {
                        Err(A::Error::custom(format_args!("the weight of {path} is {text:?}, expected a number")))
                    }
                });
                let weight = weight.transpose()?.unwrap_or(1.0);
                Ok(Entry::Literal(LoraSpec { path, weight }))
            }
        }
        deserializer.deserialize_any(One)
    }
}
