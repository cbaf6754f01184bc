//! Uploads that earlier coordinators announced for publication.

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::Result;
use shardfuse_store::{Location, Store, UploadId};

use crate::failure::{io, join};

/// Uploads that are dropped at a time.
const CONCURRENT: usize = 4;

/// Drops the uploads that earlier coordinators announced: whatever they still do, it comes to nothing.
pub(crate) async fn drop_all(store: &dyn Store, output: &Location, announced: &[(String, u64, String)]) -> Result<()> {
    stream::iter(announced)
        .map(|(name, _, upload)| async move {
            store.abort(&join(output, name)?, &UploadId::new(upload)).await.map_err(io)
        })
        .buffer_unordered(CONCURRENT)
        .boxed()
        .try_collect()
        .await
}
