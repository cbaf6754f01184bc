//! Small objects that make sense only whole: a bad one is told from a torn read.
//!
//! Some stores answer a read that races an overwrite with the length of one version and the bytes of the other. What does
//! not parse is therefore read again, until it parses or two reads in a row return the same bytes.

use bytes::Bytes;

use crate::error::Result;
use crate::location::Location;
use crate::store::Store;

/// How often an object is read that is another one each time.
const TRIES: usize = 5;

/// Reads an object of at most `limit` bytes as `parse` says. The inner error is that of `parse`, once the bytes are known
/// to be what is there; the outer one is the store's, `NotFound` included.
pub async fn read<T, E>(
    store: &dyn Store,
    at: &Location,
    limit: u64,
    parse: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Result<T, E>> {
    let mut before: Option<Bytes> = None;
    let mut tries = 0;
    loop {
        let (bytes, _) = store.get(at, limit).await?;
        tries += 1;
        match parse(&bytes) {
            Err(_) if tries < TRIES && before.as_ref() != Some(&bytes) => {
                tracing::debug!(location = %at, "does not parse; it is read again");
                before = Some(bytes);
            }
            parsed => return Ok(parsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::fault::{Faulty, Operation};
    use crate::memory::Memory;
    use std::sync::Arc;

    fn number(bytes: &[u8]) -> Result<u64, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        text.strip_suffix(';').ok_or("cut short")?.parse().map_err(|_| "no number".to_owned())
    }

    #[tokio::test]
    async fn a_torn_read_is_read_again_and_a_bad_object_is_reported_after_two_equal_reads() {
        let memory = Arc::new(Memory::new());
        let store = Faulty::new(memory.clone());
        let at: Location = "s3://bucket/state".parse().unwrap();
        memory.put(&at, "12;".into()).await.unwrap();
        memory.tear(&at, "34567;".into());
        assert_eq!(read(&store, &at, 99, number).await.unwrap(), Ok(34567), "not 345, and not bad");
        assert_eq!(store.calls(Operation::Read), 2);

        memory.put(&at, "nonsense".into()).await.unwrap();
        assert_eq!(read(&store, &at, 99, number).await.unwrap(), Err("cut short".to_owned()));
        assert_eq!(store.calls(Operation::Read), 4, "a bad object is read twice");

        memory.delete(&at).await.unwrap();
        assert_eq!(read(&store, &at, 99, number).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
