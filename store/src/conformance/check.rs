//! What the suite is written with.

use crate::location::Location;

/// A name below the folder of the suite.
pub(super) fn below(root: &Location, name: &str) -> Location {
    root.join(name).unwrap()
}

/// Bytes that differ from one seed to the next, and from one offset to the next.
pub(super) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// The kind of an expected failure.
macro_rules! fails {
    ($call:expr, $kind:ident, $what:literal) => {
        match $call {
            Ok(value) => panic!("{}: expected {:?}, got {value:?}", $what, crate::ErrorKind::$kind),
            Err(e) => assert_eq!(e.kind(), crate::ErrorKind::$kind, "{}: {}", $what, e.chain()),
        }
    };
}
pub(super) use fails;
