//! `diff`: two versions of a checkpoint, tensor by tensor.
//!
//! Memory does not grow with the model: tensors are read by ranges of rows, a few tensors at a time. Values are compared as fp32, so
//! dtypes may differ; what cannot be decoded is compared as bytes.

mod change;
mod compare;
mod expect;
mod fit;
mod groups;
mod heat;
mod page;
mod side;
mod sums;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::spec::{BaseAs, LoraSpec};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Stores;

pub use change::{Change, Compared};
pub use expect::{Fitted, Told};
pub use fit::Verdict;
pub use groups::{Group, groups};
pub use heat::svg;
pub use page::{html, number, share};

use crate::settings::machine::Budget;
use expect::Expected;
use side::Side;

/// Bytes that a compared value takes, about: as it is stored, and decoded, of both sides, and in f64 with what was expected.
const BYTES: u64 = 64;
/// The most values of a batch. A single row may be larger.
const MOST: u64 = 2 << 20;

/// Two versions of a checkpoint.
#[derive(Debug)]
pub struct Diff {
    stores: Arc<Stores>,
    before: Arc<Side>,
    after: Arc<Side>,
    at_a_time: usize,
    /// Values of a batch.
    batch: u64,
}

impl Diff {
    /// Reads the headers of both.
    pub async fn open(stores: Arc<Stores>, [before, after]: [&str; 2], budget: Budget) -> Result<Diff> {
        let (before, after) = futures::try_join!(Side::open(&stores, before), Side::open(&stores, after))?;
        // Reads overlap, also where there is one thread.
        let at_a_time = budget.threads.max(4);
        let batch = (budget.memory / (BYTES * at_a_time as u64)).clamp(1 << 10, MOST);
        Ok(Diff { stores, before: Arc::new(before), after: Arc::new(after), at_a_time, batch })
    }

    /// The places of both.
    pub fn places(&self) -> [&str; 2] {
        [&self.before.path, &self.after.path]
    }

    /// Every tensor of either, in the order of the first.
    pub async fn changes(&self) -> Result<Vec<Change>> {
        let jobs = compare::pairs(&self.before, &self.after).into_iter().map(|pair| {
            let (stores, batch) = (Arc::clone(&self.stores), self.batch);
            let sides = [Arc::clone(&self.before), Arc::clone(&self.after)];
            apart(async move { compare::compare(&stores, &sides, &pair, batch).await })
        });
        stream::iter(jobs).buffered(self.at_a_time).try_collect().await
    }

    /// Holds the change against what adapters say that saw the first version as it is, or as `base_as` says. `changes` is what
    /// [`Diff::changes`] found.
    pub async fn expect(&self, adapters: Vec<LoraSpec>, base_as: Option<BaseAs>, changes: &[Change]) -> Result<Fitted> {
        let expected = Arc::new(Expected::plan(&self.stores, &self.before, adapters, base_as).await?);
        let jobs = expected.touched().into_iter().map(|touched| {
            let (stores, batch, expected) = (Arc::clone(&self.stores), self.batch, Arc::clone(&expected));
            let sides = [Arc::clone(&self.before), Arc::clone(&self.after)];
            apart(async move { expected.look(&stores, &sides, &touched, batch).await })
        });
        let told: Vec<Told> = stream::iter(jobs).buffered(self.at_a_time).try_collect().await?;
        Ok(Fitted::of(told, changes))
    }
}

/// Comparing is work: each tensor in a task of its own, so that several cores share it.
async fn apart<T: Send + 'static>(job: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let ended = tokio::spawn(job).await;
    ended.map_err(|e| Error::new(Kind::Internal, format!("the comparison of a tensor ended: {e}")))?
}
