//! What the journal keeps of a finished piece.

use serde::{Deserialize, Serialize};

/// What the steps of an adapter did in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The adapter's number in the plan.
    pub adapter: u16,
    /// Whether they changed a value.
    pub moved: bool,
    /// Whether all of them add zero, as their factors tell.
    #[serde(default)]
    pub zero: bool,
    /// If not, the most that they added to a value, as the bits of an fp32 number; `None` if nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<u32>,
}

/// A finished piece, as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRecord {
    /// The task.
    pub task: u32,
    /// The part or block.
    pub piece: u32,
    /// The attempt.
    pub epoch: u32,
    /// The store's part id.
    pub store_id: String,
    /// The length in bytes.
    pub length: u64,
    /// BLAKE3 chaining value; `None` for a part that the store copied and nobody read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaining: Option<blake3::Hash>,
    /// The worker that made it. Older journals do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u64>,
    /// Factors whose values that were read are all zero.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero: Vec<String>,
    /// The other factors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<String>,
    /// What each adapter did; `None` for a piece of a worker that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<Effect>>,
}

#[cfg(test)]
impl PieceRecord {
    /// A piece of one byte, for tests.
    pub(crate) fn of_one_byte(task: u32, piece: u32) -> PieceRecord {
        PieceRecord {
            task,
            piece,
            epoch: 1,
            store_id: String::new(),
            length: 1,
            chaining: Some(blake3::hash(b"")),
            worker: None,
            zero: Vec::new(),
            live: Vec::new(),
            effects: None,
        }
    }
}
