//! Azure Blob Storage, as Azurite speaks it.

use shardfuse_store::conformance;

use crate::place::{azure, fresh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite: tests/services/run.sh"]
async fn azurite_conforms() {
    let (stores, root) = azure();
    conformance::run(stores.open(&root), fresh(&root, "suite")).await;
}
