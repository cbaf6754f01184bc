//! Reading: ranges under a pin, straight into the caller's buffer.
//!
//! A pinned read is a conditional request. Amazon and Google promise that all of an answer is of one version. Other stores
//! may begin an answer with one version's headers and fill it with the bytes of the next, so there the pin is looked at
//! once more after each read.

use futures::StreamExt;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::bucket::Bucket;
use super::ids;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;
use crate::store::Meta;

/// The longest range of one request. A single connection to a store carries some tens to a hundred MB/s, so a part of
/// 64 MiB comes over four; shorter ranges would cost more in round trips than they gain.
pub(super) const RANGE: usize = 16 << 20;

/// How often a read goes on after its connection broke.
const RESUMES: u32 = 3;

pub(super) async fn head(bucket: &Bucket, at: &Location) -> Result<Meta> {
    let path = bucket.object(at)?;
    let found = bucket.call(at, "cannot look it up", bucket.client.head(&path)).await?;
    let Some(tag) = found.e_tag else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            at,
            "its store tells no ETag, so reads cannot be held to a version",
        ));
    };
    Ok(Meta { size: found.size, pin: Pin::new(tag) })
}

pub(super) async fn read(
    bucket: &Bucket,
    at: &Location,
    offset: u64,
    mut buf: Vec<u8>,
    pin: Option<&Pin>,
) -> Result<Vec<u8>> {
    let path = bucket.object(at)?;
    if let Some(pin) = pin
        && !ids::is_tag(pin.as_str())
    {
        return Err(Error::new(ErrorKind::Changed, at, "its pin is not of this store"));
    }
    if buf.is_empty() {
        let now = head(bucket, at).await?;
        return match pin {
            Some(pin) if *pin != now.pin => Err(changed(at, pin, &now.pin)),
            _ => Ok(buf),
        };
    }
    // Several requests must see one version, whichever it is.
    let own = if pin.is_none() && buf.len() > RANGE { Some(head(bucket, at).await?.pin) } else { None };
    let held = pin.or(own.as_ref());
    let pieces = buf.chunks_mut(RANGE).enumerate().map(|(i, piece)| {
        let start = offset.saturating_add((i * RANGE) as u64);
        fill(bucket, at, &path, start, piece, held)
    });
    match try_join_all(pieces).await {
        Ok(_) => match held {
            Some(held) if bucket.second_look => match head(bucket, at).await? {
                now if now.pin == *held => Ok(buf),
                now if pin.is_some() => Err(changed(at, held, &now.pin)),
                _ => Err(replaced(at)),
            },
            _ => Ok(buf),
        },
        Err(e) if e.kind() == ErrorKind::Changed => match (pin, head(bucket, at).await) {
            (_, Err(e)) => Err(e),
            (Some(pin), Ok(now)) => Err(changed(at, pin, &now.pin)),
            (None, Ok(_)) => Err(replaced(at)),
        },
        Err(e) => Err(e),
    }
}

fn changed(at: &Location, pin: &Pin, now: &Pin) -> Error {
    Error::new(ErrorKind::Changed, at, format!("was {pin} and is now {now}"))
}

fn replaced(at: &Location) -> Error {
    Error::new(ErrorKind::Transient, at, "was replaced while it was read")
}

/// Fills a piece with one request, and others for the rest if that breaks off.
async fn fill(
    bucket: &Bucket,
    at: &Location,
    path: &Path,
    offset: u64,
    piece: &mut [u8],
    pin: Option<&Pin>,
) -> Result<()> {
    let mut filled = 0;
    let mut resumes = 0;
    loop {
        let before = filled;
        match stream(bucket, at, path, offset, piece, &mut filled, pin).await {
            Err(e) if e.kind().is_transient() && filled > before && resumes < RESUMES && pin.is_some() => {
                tracing::debug!(location = %at, error = %e.chain(), "a read goes on at {}", offset + filled as u64);
                resumes += 1;
            }
            result => return result,
        }
    }
}

/// One request for what is not filled yet.
async fn stream(
    bucket: &Bucket,
    at: &Location,
    path: &Path,
    offset: u64,
    piece: &mut [u8],
    filled: &mut usize,
    pin: Option<&Pin>,
) -> Result<()> {
    let wanted = piece.len();
    let short = |found: String| {
        let message = format!("ends {found}, {wanted} bytes from {offset} were wanted");
        Error::new(ErrorKind::ShortRead, at, message)
    };
    let start = offset.saturating_add(*filled as u64);
    let Some(end) = offset.checked_add(wanted as u64) else { return Err(short("earlier".to_owned())) };
    let options = GetOptions {
        range: Some(GetRange::Bounded(start..end)),
        if_match: pin.map(|pin| pin.as_str().to_owned()),
        ..GetOptions::default()
    };
    let doing = format!("cannot read {} bytes from {start}", end - start);
    let request = async {
        let found = bucket.client.get_opts(path, options).await?;
        let (range, size) = (found.range.clone(), found.meta.size);
        let mut body = found.into_stream();
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            // More than was asked for is nothing that we could use.
            let room = &mut piece[*filled..];
            let taken = bytes.len().min(room.len());
            room[..taken].copy_from_slice(&bytes[..taken]);
            *filled += taken;
        }
        Ok((range, size))
    };
    let (range, size) = match bucket.call(at, &doing, request).await {
        Err(e) if e.kind() == ErrorKind::ShortRead => return Err(short("earlier".to_owned())),
        // Azurite answers a range behind the end with one of no bytes, which the client takes for nonsense.
        Err(e) if e.kind() == ErrorKind::Permanent => match head(bucket, at).await {
            Ok(now) if now.size <= start && pin.is_none_or(|pin| *pin == now.pin) => {
                return Err(short(format!("at {}", now.size)));
            }
            _ => return Err(e),
        },
        result => result?,
    };
    if *filled == wanted {
        return Ok(());
    }
    if range.end < end {
        return Err(short(format!("at {size}")));
    }
    // The store promised all of it.
    let message = format!("the answer broke off at {}, {end} was promised", offset + *filled as u64);
    Err(Error::new(ErrorKind::Transient, at, message))
}
