//! Long work on plain data, apart from the threads that serve others.

use shardfuse_merge::effort::Cancel;
use shardfuse_merge::{Error, Kind, Result};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs such work. Dropping the future cancels it.
///
/// # Errors
/// `internal` if it panicked.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce(Cancel) -> T + Send + 'static) -> Result<T> {
    // A runtime of one thread is a simulation's: it gets the work on that thread, where everything has its order.
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work(Cancel::default()));
    }
    let wanted = Wanted(Cancel::default());
    let cancel = wanted.0.clone();
    let done = tokio::task::spawn_blocking(move || work(cancel)).await;
    done.map_err(|e| Error::new(Kind::Internal, format!("planning broke off: {e}")))
}

/// Cancels the work when nobody waits for it any more.
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_that_nobody_waits_for_is_cancelled_and_holds_no_thread_that_serves() {
        let (told, hear) = mpsc::channel();
        let work = apart(move |cancel| {
            told.send("begun").unwrap();
            while cancel.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            told.send("cancelled").unwrap();
        });
        let work = tokio::spawn(work);
        // The only thread of the runtime is free while the work goes on.
        let heard = tokio::task::spawn_blocking(move || (hear.recv().unwrap(), hear)).await.unwrap();
        assert_eq!(heard.0, "begun");
        work.abort();
        assert_eq!(tokio::task::spawn_blocking(move || heard.1.recv().unwrap()).await.unwrap(), "cancelled");
    }

    #[tokio::test]
    async fn on_one_thread_it_runs_in_its_order() {
        let here = std::thread::current().id();
        assert_eq!(apart(move |_| std::thread::current().id()).await.unwrap(), here);
    }
}
