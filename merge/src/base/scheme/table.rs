//! The table of schemes.

use super::claim::Scheme;
use super::{opaque, plain};

/// The schemes, in the order in which they are asked. The last one claims every tensor.
pub(super) static SCHEMES: [&dyn Scheme; 2] = [&plain::Plain, &opaque::Opaque];

/// The scheme of a name.
pub(super) fn named(name: &str) -> Option<&'static dyn Scheme> {
    SCHEMES.into_iter().find(|scheme| scheme.name() == name)
}
