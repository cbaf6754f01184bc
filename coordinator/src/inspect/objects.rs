//! The objects that an inventory is read from.

use std::collections::HashMap;

use shardfuse_merge::inventory::{Object, ObjectId};

/// Headers and names that are asked for at a time.
pub(super) const CONCURRENT: usize = 16;

/// The objects that were read, numbered.
#[derive(Debug, Default)]
pub struct Objects {
    pub(super) list: Vec<Object>,
    pub(super) numbers: HashMap<Object, ObjectId>,
}

impl Objects {
    /// The size of an object in bytes.
    pub fn size(&self, id: ObjectId) -> u64 {
        self.list[id.0 as usize].size
    }

    /// All of them, by their numbers.
    pub fn into_list(self) -> Vec<Object> {
        self.list
    }

    /// Notes an object; one that is noted twice keeps its number.
    pub fn add(&mut self, object: Object) -> ObjectId {
        let next = ObjectId(self.list.len() as u32);
        *self.numbers.entry(object).or_insert_with_key(|object| {
            self.list.push(object.clone());
            next
        })
    }

    /// Notes what was read of an object beside its header: what it is held to covers that too.
    pub fn saw(&mut self, id: ObjectId, bytes: &[u8]) {
        let object = &mut self.list[id.0 as usize];
        self.numbers.remove(&*object);
        let mut seen = blake3::Hasher::new();
        seen.update(object.seen.as_bytes()).update(bytes);
        object.seen = seen.finalize().to_hex().to_string();
        self.numbers.insert(object.clone(), id);
    }

    /// The name of the file that an object is.
    pub fn file_name(&self, id: ObjectId) -> &str {
        self.list[id.0 as usize].url.rsplit('/').next().unwrap_or_default()
    }
}
