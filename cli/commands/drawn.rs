//! Pages and pictures that a command writes where the user says. An older one is replaced, and nothing else is.

use shardfuse_coordinator::failure::io;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Stores};

use crate::place;

/// What the files of ours begin with.
const BEGINNINGS: [&[u8]; 2] = [b"<!DOCTYPE html>", b"<svg "];

/// Writes a text to the place that a flag names.
///
/// # Errors
/// `usage` if something else is there, such as a file of a model.
pub async fn write(stores: &Stores, flag: &str, file: &str, text: String) -> Result<()> {
    if file == "-" {
        return Err(Error::new(Kind::Usage, format!("{flag} - names no file")).hint("give the name of a file to write"));
    }
    let at = place::parse(file)?;
    let store = stores.open(&at);
    let longest = BEGINNINGS.iter().map(|begin| begin.len()).max().unwrap_or_default() as u64;
    match store.head(&at).await {
        Ok(meta) => {
            let length = longest.min(meta.size) as usize;
            let start = store.read(&at, 0, vec![0; length], Some(&meta.pin)).await.map_err(io)?;
            if !BEGINNINGS.iter().any(|begin| start.starts_with(begin)) {
                let message = format!("{flag} {file}: the file is there, and is no page or picture");
                return Err(Error::new(Kind::Usage, message).hint("name another file, or remove this one"));
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => {
            return Err(
                Error::new(Kind::Usage, format!("{flag} {file}: {}", e.chain())).hint("name a file, not a folder")
            );
        }
    }
    store.put(&at, text.into()).await.map_err(|e| io(e).at(flag))
}
