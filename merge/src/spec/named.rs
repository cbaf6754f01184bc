//! Values that have names: one text for arguments, spec files, the wire and stored plans.

use crate::error::{Error, Kind, Result};

/// The value that a text names.
pub(super) fn parse<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        Error::new(Kind::Usage, format!("{text:?} is unknown, expected {}", names.join(", ")))
    })
}

/// `Display` and `FromStr` of an enum whose values have names.
macro_rules! named {
    ($type:ident { $($value:ident = $name:literal),+ $(,)? }) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($type::$value => $name),+ })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;
            fn from_str(text: &str) -> $crate::error::Result<Self> {
                $crate::spec::named::parse(text, &[$(($name, $type::$value)),+])
            }
        }
    };
}

pub(super) use named;
