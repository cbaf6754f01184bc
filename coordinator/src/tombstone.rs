//! What stands in the place of a file of an older output while it is replaced.
//!
//! A tombstone is no JSON and no weight file, so that every loader fails on it and says so. It names who put it there and
//! for which file, so no two are equal: a store that tells versions apart by their bytes tells it from every other.

use bytes::Bytes;
use shardfuse_merge::Result;
use shardfuse_store::{ErrorKind, Location, Store};

use crate::failure::io;
use crate::state::Claim;

/// How a tombstone begins.
const BEGIN: &str = "shardfuse tombstone: ";
/// The longest tombstone that is recognised, in bytes. Names of files have at most a few hundred.
pub const LONGEST: u64 = 8 << 10;

/// The tombstone of a coordinator for a file of the output.
pub fn render(claim: &Claim, file: &str) -> Bytes {
    let Claim { epoch, token } = claim;
    format!(
        "{BEGIN}{file} is being replaced by a merge (epoch {epoch}, {token}); if no merge runs here, run it again or \
         replace the output with --force\n"
    )
    .into()
}

/// Whether these are the bytes of a tombstone, of any coordinator.
pub fn is_tombstone(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN.as_bytes())
}

/// Whether a tombstone is at this place.
///
/// # Errors
/// If the place cannot be read.
pub async fn is_at(store: &dyn Store, at: &Location) -> Result<bool> {
    match store.get(at, LONGEST).await {
        Ok((bytes, _)) => Ok(is_tombstone(&bytes)),
        // Not there, or too long for one.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Permanent) => Ok(false),
        Err(e) => Err(io(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_are_recognised_differ_and_are_no_json() {
        let claim = |epoch, token: &str| Claim { epoch, token: token.to_owned() };
        let one = render(&claim(1, "a"), "config.json");
        assert!(is_tombstone(&one) && one.len() as u64 <= LONGEST);
        assert!(serde_json::from_slice::<serde_json::Value>(&one).is_err());
        for other in
            [render(&claim(2, "a"), "config.json"), render(&claim(1, "b"), "config.json"), render(&claim(1, "a"), "x")]
        {
            assert_ne!(one, other);
        }
        assert!(!is_tombstone(b"{}"));
    }
}
