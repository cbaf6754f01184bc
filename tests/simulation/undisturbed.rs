//! What the same merge publishes when one machine does it and nothing goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use shardfuse_store::Location;
use shardfuse_store::memory::Memory;

use crate::model;
use shardfuse_fleetkit::local::{End, merge, plain};

/// Everything that is in the output in the end.
pub fn publishes() -> BTreeMap<Location, Bytes> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime can be started").block_on(async {
        let memory = Arc::new(Memory::new().with_small_parts().with_pins_of_bytes());
        model::put(&*memory).await;
        let end = merge(memory.clone(), model::spec(), plain()).await.expect("nothing is in its way");
        assert!(matches!(end, End::Published { kept: 0, new } if new > 40), "{end:?}");
        assert!(memory.bytes_copied() > 20_000, "{} bytes are copied by the store", memory.bytes_copied());
        let mut published = memory.snapshot();
        published.retain(|at, _| at.is_within(&model::out()));
        assert!(published.keys().all(|at| !at.to_string().contains("/.shardfuse")), "a state is left");
        published
    })
}
