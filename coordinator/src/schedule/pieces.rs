//! The pieces of one task.

use super::id::{Piece, Reporter};
use super::receipt::Receipt;

/// How far a piece is.
#[derive(Debug, Clone)]
pub(super) enum PieceState {
    Missing,
    /// Accepted, and on its way to the journal.
    Accepted {
        receipt: Receipt,
        waiting: Vec<Reporter>,
    },
    Persisted {
        receipt: Receipt,
    },
}

/// Pieces and their states, ascending. A task has a handful of them and there are many tasks: the nodes of a tree would take
/// three times the room of this list.
#[derive(Debug, Clone)]
pub(super) struct Pieces(Box<[(Piece, PieceState)]>);

impl Pieces {
    /// All of them missing. A piece that is there twice is handed back.
    pub(super) fn missing(pieces: &[Piece]) -> Result<Self, Piece> {
        let mut sorted = pieces.to_vec();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(pair[0]),
            None => Ok(Self(sorted.into_iter().map(|piece| (piece, PieceState::Missing)).collect())),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Piece, &PieceState)> {
        self.0.iter().map(|(piece, state)| (*piece, state))
    }

    pub(super) fn get_mut(&mut self, piece: Piece) -> Option<&mut PieceState> {
        let at = self.0.binary_search_by_key(&piece, |(piece, _)| *piece).ok()?;
        Some(&mut self.0[at].1)
    }
}
