//! Pinned reads of an assignment's inputs.

use std::collections::HashMap;
use std::sync::Arc;

use shardfuse_merge::Kind;
use shardfuse_merge::plan::inventory::{Object, ObjectId};
use shardfuse_store::{Location, Pin, Stores};

use super::budget::Budget;
use crate::Failure;

/// The inputs of an assignment.
#[derive(Debug)]
pub struct Inputs {
    stores: Arc<Stores>,
    objects: HashMap<u32, (Location, Pin, Arc<str>)>,
}

impl Inputs {
    /// Parses the objects' URLs.
    pub fn new(stores: Arc<Stores>, objects: &[(u32, Object)]) -> Result<Self, Failure> {
        let mut map = HashMap::new();
        for (id, o) in objects {
            map.insert(*id, (o.url.parse()?, Pin::new(&o.pin), Arc::from(o.url.as_str())));
        }
        Ok(Inputs { stores, objects: map })
    }

    /// The URL of an object.
    pub fn url(&self, id: ObjectId) -> Result<Arc<str>, Failure> {
        self.find(id).map(|o| Arc::clone(&o.2))
    }

    /// What an object is known by: its URL and its pin.
    pub fn identity(&self, id: ObjectId) -> Result<(Arc<str>, Arc<str>), Failure> {
        self.find(id).map(|o| (Arc::clone(&o.2), Arc::from(o.1.as_str())))
    }

    /// Fills `buf` from `offset` of an object, which must still be what was planned.
    pub async fn read(&self, id: ObjectId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let (at, pin, _) = self.find(id)?;
        if buf.is_empty() {
            return Ok(buf);
        }
        Ok(self.stores.open(at).read(at, offset, buf, Some(pin)).await?)
    }

    /// Reads a small object of ours that is not an input, such as a header, and holds it against its digest.
    pub async fn read_own(&self, url: &str, length: u64, digest: Option<&str>) -> Result<Vec<u8>, Failure> {
        let at: Location = url.parse()?;
        let bytes = self.stores.open(&at).read(&at, 0, vec![0; length as usize], None).await?;
        match digest {
            Some(want) if blake3::hash(&bytes).to_hex().as_str() != want => Err(Failure::permanent(
                Kind::Io,
                format!("{url} does not have the digest {want} that the assignment names"),
            )),
            _ => Ok(bytes),
        }
    }

    /// Several ranges of one object, one after another into one buffer.
    pub async fn read_strided(
        &self,
        id: ObjectId,
        offset: u64,
        stride: u64,
        len: usize,
        count: u64,
        budget: &Budget,
    ) -> Result<Vec<u8>, Failure> {
        let mut all = budget.buffer(len * count as usize);
        for i in 0..count {
            let one = self.read(id, offset + i * stride, budget.buffer(len)).await?;
            all[i as usize * len..][..len].copy_from_slice(&one);
            budget.give(one);
        }
        Ok(all)
    }

    fn find(&self, id: ObjectId) -> Result<&(Location, Pin, Arc<str>), Failure> {
        self.objects
            .get(&id.0)
            .ok_or_else(|| Failure::local(format!("the assignment names input {} and does not describe it", id.0)))
    }
}
