//! What every store must do, as one suite that runs against any of them.
//!
//! A backend's tests call [`run`] with a fresh store and a location under which the suite may write; decorators are
//! run the same way, around a backend that has passed. A violation panics and says what was expected.

use std::sync::Arc;

use crate::location::Location;
use crate::store::Store;

mod check;
mod composed;
mod create;
mod objects;
mod reads;
mod refusals;
mod uploads;

use check::below;
pub use reads::prepared;

/// Runs the whole suite. `root` need not exist, and is removed at the end.
///
/// # Panics
/// If the store does not do what [`Store`] says.
pub async fn run(store: Arc<dyn Store>, root: Location) {
    reads::run(&*store, &below(&root, "reads")).await;
    objects::run(&store, &below(&root, "objects")).await;
    create::run(&store, &below(&root, "create")).await;
    uploads::run(&store, &below(&root, "uploads")).await;
    composed::run(&*store, &below(&root, "composed")).await;
    store.delete_tree(&root).await.unwrap();
    assert_eq!(store.list(&root).await.unwrap(), [], "a removed tree is empty");
    store.delete_tree(&root).await.expect("removing what is not there is fine");
}

/// Runs what a store that is read only must do: the reads, and the refusal of every write. The caller has laid out
/// [`prepared`] at `root`.
///
/// # Panics
/// If the store does not do what [`Store`] says.
pub async fn run_read_only(store: Arc<dyn Store>, root: Location) {
    reads::prepared_reads(&*store, &root).await;
    refusals::run(&*store, &root).await;
}
