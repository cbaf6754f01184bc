//! Bodies, straight into the caller's buffer.

use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::exchange::broken;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// Fills the whole buffer from a body that is exactly as long. `ShortRead` if the body ends in order and too early,
/// `Transient` if the connection breaks or brings too little.
pub(crate) async fn fill(client: &Client, at: &Location, response: Response, buf: &mut [u8]) -> Result<()> {
    let wanted = buf.len();
    let mut filled = 0;
    each(client, at, response, |chunk| {
        let Some(place) = buf.get_mut(filled..filled + chunk.len()) else {
            let message = format!("the server sends more than the {wanted} bytes that were asked for");
            return Err(Error::new(ErrorKind::Permanent, at, message));
        };
        place.copy_from_slice(chunk);
        filled += chunk.len();
        Ok(())
    })
    .await?;
    if filled < wanted {
        let message = format!("the body ends after {filled} of {wanted} bytes");
        return Err(Error::new(ErrorKind::ShortRead, at, message));
    }
    Ok(())
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn collect(client: &Client, at: &Location, response: Response, limit: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    each(client, at, response, |chunk| {
        if all.len() + chunk.len() > limit {
            return Err(Error::new(ErrorKind::Permanent, at, format!("the answer is longer than {limit} bytes")));
        }
        all.extend_from_slice(chunk);
        Ok(())
    })
    .await?;
    Ok(all)
}

/// Takes a body chunk by chunk, as long as it comes fast enough.
async fn each(
    client: &Client,
    at: &Location,
    mut response: Response,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let timeouts = client.timeouts;
    let (mut until, mut in_window, mut total) = (Instant::now() + timeouts.window, 0u64, 0u64);
    loop {
        match timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                take(&chunk)?;
                in_window += chunk.len() as u64;
                total += chunk.len() as u64;
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(e)) => return Err(broken(at, format!("the connection broke after {total} bytes"), e)),
            Err(_) if in_window >= timeouts.least => (until, in_window) = (Instant::now() + timeouts.window, 0),
            Err(_) => {
                let seconds = timeouts.window.as_secs_f32();
                let message = format!("{in_window} bytes came in {seconds} s, after {total} in all");
                return Err(Error::new(ErrorKind::Transient, at, message));
            }
        }
    }
}
