//! Where a worker's arithmetic runs.

use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;
use tokio::sync::oneshot;

use crate::Failure;

/// Where a worker's arithmetic runs. The bytes that come out are the same.
#[derive(Debug, Clone)]
pub enum Threads {
    /// On threads of its own, so that a long fusion never delays a heartbeat.
    Pool(Arc<ThreadPool>),
    /// Where it is awaited, one thing after another: nothing happens at a time of its own, so what happens can be
    /// replayed.
    Inline,
}

impl Threads {
    /// So many threads; with none, the arithmetic runs inline.
    pub fn new(count: usize) -> Result<Self, Failure> {
        if count == 0 {
            return Ok(Threads::Inline);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("fuse-{i}"))
            .build()
            .map_err(|e| Failure::local(format!("cannot start {count} compute threads: {e}")))?;
        Ok(Threads::Pool(Arc::new(pool)))
    }

    /// How many jobs run at a time.
    pub fn count(&self) -> usize {
        match self {
            Threads::Pool(pool) => pool.current_num_threads(),
            Threads::Inline => 1,
        }
    }

    /// Runs a piece of arithmetic, which may cut itself into jobs ([`Self::each`]).
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Threads) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Threads::Pool(pool) = self else { return work(self) };
        let (send, receive) = oneshot::channel();
        let threads = self.clone();
        pool.spawn(move || {
            let _ = send.send(work(&threads));
        });
        receive.await.unwrap_or_else(|_| Err(Failure::local("a compute thread panicked")))
    }

    /// Does jobs that are independent of each other, with what each thread keeps from one job to the next. Fails if one
    /// does.
    pub fn each<J: Send, S>(
        &self,
        jobs: Vec<J>,
        kept: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, J) -> Result<(), Failure> + Sync + Send,
    ) -> Result<(), Failure> {
        match self {
            Threads::Pool(pool) => pool.install(|| jobs.into_par_iter().try_for_each_init(kept, work)),
            Threads::Inline => {
                let mut kept = kept();
                jobs.into_iter().try_for_each(|job| work(&mut kept, job))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_job_is_done_with_or_without_threads() {
        for count in [0, 1, 3] {
            let threads = Threads::new(count).unwrap();
            assert_eq!(threads.count(), count.max(1));
            let squares = threads.run(|threads| {
                let mut squares = vec![0; 100];
                threads.each(
                    squares.iter_mut().enumerate().collect(),
                    || (),
                    |(), (i, square)| {
                        *square = i * i + 1;
                        Ok(())
                    },
                )?;
                Ok(squares)
            });
            assert_eq!(squares.await.unwrap(), (0..100).map(|i| i * i + 1).collect::<Vec<_>>(), "{count} threads");
        }
    }

    #[tokio::test]
    async fn a_job_that_fails_fails_the_whole() {
        for count in [0, 2] {
            let threads = Threads::new(count).unwrap();
            let failing = |(): &mut (), i: u32| if i == 7 { Err(Failure::local("seven")) } else { Ok(()) };
            let done = threads.run(move |threads| threads.each((0..9).collect(), || (), failing)).await;
            assert_eq!(done.unwrap_err().error.message(), "seven", "{count} threads");
        }
    }

    #[tokio::test]
    async fn inline_arithmetic_stays_on_the_thread_that_waits_for_it() {
        let here = std::thread::current().id();
        let there = async |count| Threads::new(count).unwrap().run(|_| Ok(std::thread::current().id())).await.unwrap();
        assert_eq!(there(0).await, here);
        assert_ne!(there(1).await, here);
    }
}
