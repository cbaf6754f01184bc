//! One run of one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shardfuse_store::memory::Memory;
use shardfuse_store::{Location, Store as _};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use crate::bucket::{Bucket, Weather};
use crate::facts::Facts;
use crate::faults::Adversary;
use crate::fleet::{CLIENT, COORDINATORS, Fleet};
use crate::laws::Laws;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::{entropy, model, undisturbed};

/// Simulated time goes on by so much at a time.
const STEP: Duration = Duration::from_millis(10);
/// How long it is looked at afterwards: longer than a lease.
const AFTERWARDS: Duration = Duration::from_secs(45);

/// What became of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    /// The digest of everything that happened.
    pub trace: String,
    /// Simulated milliseconds until the merge was done.
    pub millis: u64,
    /// Calls to the store.
    pub calls: u64,
    pub facts: Facts,
    /// How the merge failed before it was submitted again.
    pub failures: Vec<String>,
    /// The laws that were broken.
    pub broken: Vec<String>,
}

/// Runs a seed, on a thread of its own: that thread's randomness and time are the seed's.
pub fn run(seed: u64, shown: bool) -> Outcome {
    let reference = undisturbed::publishes();
    let simulated = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(16 << 20);
    let thread = simulated.spawn(move || simulate(seed, reference, shown)).expect("a thread can be started");
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn simulate(seed: u64, reference: BTreeMap<Location, Bytes>, shown: bool) -> Outcome {
    entropy::simulate(seed);
    let mut rng = Rng::of(seed, "surroundings");
    let config = reference.get(&model::out().join("config.json").expect("it is a name")).cloned().unwrap_or_default();
    let older = if rng.chance(500) { model::older(&config) } else { BTreeMap::new() };
    let laws = Arc::new(Laws::new(reference, older.clone()));
    let trace = Trace::new(Arc::clone(&laws), shown);
    let layer = trace.clone().with_filter(tracing_subscriber::filter::filter_fn(Trace::takes));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let latency = *rng.pick(&[(1, 5), (2, 40), (20, 150)]);
    let errors = *rng.pick(&[0, 0, 5, 20]);
    // One alone gets no help from a second attempt.
    let workers = *rng.pick(&[1, 2, 3, 3]);
    let memory = Memory::new().with_small_parts().with_pins_of_bytes();
    futures::executor::block_on(async {
        model::put(&memory).await;
        for (at, bytes) in &older {
            memory.put(at, bytes.clone()).await.expect("the bucket takes it");
        }
    });
    let usual = Weather { latency, slow_parts: (0, 0), errors, hangs: false };
    let bucket = Bucket::new(memory, Arc::clone(&laws), Rng::of(seed, "bucket"), usual);
    let fleet = Fleet::new(Arc::clone(&bucket), Arc::clone(&laws), workers);

    let line = *rng.pick(&[(0, 10), (1, 100), (50, 300)]);
    if line.1 >= 100 {
        laws.facts().slow_lines += 1;
    }
    let mut sim = turmoil::Builder::new()
        .rng_seed(rng.next())
        .tick_duration(STEP)
        .simulation_duration(Duration::from_secs(1 << 20))
        .min_message_latency(Duration::from_millis(line.0))
        .max_message_latency(Duration::from_millis(line.1))
        .enable_random_order()
        .build();
    for (number, host) in COORDINATORS.into_iter().enumerate() {
        let fleet = Arc::clone(&fleet);
        sim.host(host, move || Arc::clone(&fleet).coordinate(number));
    }
    for host in fleet.hosts() {
        let fleet = Arc::clone(&fleet);
        sim.host(host.clone(), move || Arc::clone(&fleet).work(host.clone()));
    }
    sim.client(CLIENT, Arc::clone(&fleet).submit());
    let mut adversary = Adversary::new(Arc::clone(&fleet), Rng::of(seed, "adversary"));
    tracing::debug!(target: "simulation", ?latency, errors, ?line, workers, faults = adversary.plan(), "seed {seed}");

    let mut done_at = None;
    while laws.broken().is_empty() {
        let now = sim.elapsed();
        bucket.advance(now);
        adversary.act(&mut sim);
        if let Err(e) = sim.step() {
            laws.breaks(format!("a host ended: {e}"));
        }
        entropy::set_time(sim.elapsed());
        if fleet.is_done() {
            let done_at = *done_at.get_or_insert(now);
            let quiet = !adversary.is_at_work() && bucket.coming() == 0;
            if quiet && now >= adversary.quiet_since.max(done_at) + AFTERWARDS {
                laws.end(bucket.memory());
                break;
            }
        } else if !adversary.is_at_work() && now >= adversary.quiet_since + adversary.timeout() {
            laws.breaks(format!("the merge has not ended {:?} after the last fault", adversary.timeout()));
        }
    }
    let (millis, calls) = (done_at.unwrap_or(sim.elapsed()).as_millis() as u64, bucket.calls());
    let (trace, facts, broken) = (trace.digest(), laws.facts().clone(), laws.broken());
    let failures = laws.failures();
    // What hosts do while they are taken apart is no part of the run.
    Outcome { seed, trace, millis, calls, facts, failures, broken }
}
