//! Copies from one store to another: read under a pin here, written there, a piece at a time.

use bytes::Bytes;

use crate::error::Result;
use crate::id::Pin;
use crate::location::Location;
use crate::store::{Completion, PartSlot, Store};

/// The largest object that is copied in one write, and the size of the parts of larger ones.
const PIECE: u64 = 16 << 20;

/// Copies an object between any two stores, replacing an older one in one step. `Changed` if it is not the version of
/// `pin`, or becomes another one meanwhile.
///
/// Memory: one piece of 16 MiB.
pub(crate) async fn copy(
    (source, from): (&dyn Store, &Location),
    (target, to): (&dyn Store, &Location),
    pin: Option<&Pin>,
) -> Result<()> {
    let meta = source.head(from).await?;
    let pin = pin.unwrap_or(&meta.pin);
    let read = async |offset: u64| -> Result<Bytes> {
        let length = PIECE.min(meta.size - offset) as usize;
        Ok(source.read(from, offset, vec![0; length], Some(pin)).await?.into())
    };
    if meta.size <= PIECE {
        return target.put(to, read(0).await?).await;
    }
    let upload = target.begin(to, meta.size).await?;
    let copied = async {
        let mut parts = Vec::new();
        for (number, offset) in (0u32..).zip((0..meta.size).step_by(PIECE as usize)) {
            let bytes = read(offset).await?;
            parts.push((number, target.put_part(to, &upload, PartSlot { number, offset }, bytes).await?));
        }
        target.complete(to, Completion { upload: &upload, parts: &parts, size: meta.size }).await.map(|_| ())
    };
    let result = copied.await;
    if result.is_err()
        && let Err(error) = target.abort(to, &upload).await
    {
        tracing::warn!(location = %to, %error, "the upload of a failed copy is left behind");
    }
    result
}
