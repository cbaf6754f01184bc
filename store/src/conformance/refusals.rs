//! What a store that is read only refuses: every write, by the same kind.

use super::check::{below, fails};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, PartSlot, Store};

pub(super) async fn run(store: &dyn Store, root: &Location) {
    let (at, upload) = (below(root, "written"), UploadId::new("1"));
    let slot = PartSlot { number: 0, offset: 0 };
    fails!(store.put(&at, "x".into()).await, Unsupported, "put");
    fails!(store.create(&at, "x".into()).await, Unsupported, "create");
    fails!(store.copy(&at, &at, None).await, Unsupported, "copy");
    fails!(store.delete(&at).await, Unsupported, "delete");
    fails!(store.delete_if(&at, &Pin::new("1")).await, Unsupported, "conditional delete");
    fails!(store.delete_tree(root).await, Unsupported, "delete of a folder");
    fails!(store.remove_empty_dir(root).await, Unsupported, "removal of a folder");
    fails!(store.sweep(root).await, Unsupported, "sweep");
    fails!(store.begin(&at, 1).await, Unsupported, "begin");
    fails!(store.probe(&at, &upload).await, Unsupported, "probe");
    fails!(store.put_part(&at, &upload, slot, "x".into()).await, Unsupported, "put of a part");
    fails!(store.compose_part(&at, &upload, slot, Vec::new()).await, Unsupported, "composition of a part");
    fails!(store.read_part(&at, &upload, 0, vec![0; 1]).await, Unsupported, "read of a part");
    fails!(
        store.complete(&at, Completion { upload: &upload, parts: &[(0, PartId::new("1"))], size: 1 }).await,
        Unsupported,
        "complete"
    );
    fails!(store.abort(&at, &upload).await, Unsupported, "abort");
    fails!(store.check_output(root).await, Unsupported, "an output");
    assert_eq!(store.boot_id(&at).await.unwrap(), None);
    assert_eq!(store.space(&at).await.unwrap(), None);
}
