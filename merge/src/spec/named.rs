//! Values that have names: one text for arguments, spec files, the wire and stored plans. Upper and lower case are the same.

use crate::error::{Error, Kind, Result};

/// The value that a text names.
pub(super) fn parse<T: Copy>(text: &str, names: &[(&str, T)]) -> Result<T> {
    parse_any(text, names, &[])
}

/// The value that a text names, or has as another name.
pub(super) fn parse_any<T: Copy>(text: &str, names: &[(&str, T)], others: &[(&str, T)]) -> Result<T> {
    names.iter().chain(others).find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value).ok_or_else(
        || {
            let told = |names: &[(&str, T)]| names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let also = if others.is_empty() { String::new() } else { format!(" (or {})", told(others)) };
            Error::new(Kind::Usage, format!("{text:?} is unknown, expected {}{also}", told(names)))
        },
    )
}

/// `Display` and `FromStr` of an enum whose values have names. A text may also be one of the other names of a value (`or`).
macro_rules! named {
    ($type:ident { $($value:ident = $name:literal $(or $($other:literal)+)?),+ $(,)? }) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($type::$value => $name),+ })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;
            fn from_str(text: &str) -> $crate::error::Result<Self> {
                $crate::spec::named::parse_any(text, &[$(($name, $type::$value)),+], &[$( $( $( ($other, $type::$value), )+ )? )+])
            }
        }
    };
}

pub(super) use named;
