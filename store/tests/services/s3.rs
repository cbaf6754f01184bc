//! S3, as SeaweedFS speaks it.

use shardfuse_store::conformance;

use crate::place::{fresh, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn seaweedfs_conforms() {
    let (stores, root) = s3();
    conformance::run(stores.open(&root), fresh(&root, "suite")).await;
}
