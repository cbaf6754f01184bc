//! Many seeds, each in a process of its own, and what they saw.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::Outcome;

/// Which seeds.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    pub first: u64,
    pub seeds: u64,
    /// Runs at a time.
    pub at_a_time: u64,
    /// Every so many seeds one is run twice, and the two must be the same run.
    pub twice_every: u64,
    /// Fail if a kind of fault never took effect: for campaigns that are long enough.
    pub all_kinds: bool,
}

impl Campaign {
    /// Runs all of it and says how it went. False if anything failed.
    pub fn run(self) -> bool {
        let next = AtomicU64::new(self.first);
        let outcomes: Mutex<BTreeMap<u64, Outcome>> = Mutex::default();
        let failed = AtomicU64::new(0);
        let last = self.first + self.seeds;
        std::thread::scope(|scope| {
            for _ in 0..self.at_a_time {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= last {
                            return;
                        }
                        match self.one(seed) {
                            Ok(outcome) => _ = outcomes.lock().unwrap().insert(seed, outcome),
                            Err(why) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                                eprintln!("seed {seed}: {why}\n  {}", replay(seed));
                            }
                        }
                    }
                });
            }
        });
        let (outcomes, failed) = (outcomes.into_inner().unwrap(), failed.into_inner());
        let missing = table(&outcomes);
        println!("simulation: {} seeds passed, {failed} failed", outcomes.len());
        if self.all_kinds {
            missing.iter().for_each(|kind| eprintln!("no seed saw a {kind}"));
        }
        failed == 0 && (missing.is_empty() || !self.all_kinds)
    }

    fn one(&self, seed: u64) -> Result<Outcome, String> {
        let outcome = child(seed)?;
        if !outcome.broken.is_empty() {
            return Err(outcome.broken.join("\n  "));
        }
        if seed.is_multiple_of(self.twice_every) {
            let again = child(seed)?;
            if again.trace != outcome.trace {
                return Err(format!("two runs differ: {} and {}", outcome.trace, again.trace));
            }
        }
        Ok(outcome)
    }
}

/// Runs a seed in a process of its own.
fn child(seed: u64) -> Result<Outcome, String> {
    let this = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    let run = Command::new(this).args(["--seed", &seed.to_string()]).stdin(Stdio::null()).output();
    let run = run.map_err(|e| format!("it cannot be started: {e}"))?;
    let told = String::from_utf8_lossy(&run.stdout);
    match told.lines().last().map(serde_json::from_str) {
        Some(Ok(outcome)) => Ok(outcome),
        _ => {
            let said = String::from_utf8_lossy(&run.stderr);
            Err(format!("it ended with {}: {}", run.status, said.trim()))
        }
    }
}

fn replay(seed: u64) -> String {
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    format!("replay: cargo test{release} --test simulation -- --seed {seed} --log")
}

/// Prints in how many seeds each kind of fault took effect; returns the kinds that never did.
fn table(outcomes: &BTreeMap<u64, Outcome>) -> Vec<&'static str> {
    let mut kinds: Vec<(&str, u64, u64)> = Vec::new();
    for outcome in outcomes.values() {
        for (i, (kind, count)) in outcome.facts.kinds().into_iter().enumerate() {
            if kinds.len() == i {
                kinds.push((kind, 0, 0));
            }
            kinds[i].1 += u64::from(count > 0);
            kinds[i].2 += count;
        }
    }
    println!("{:<40} {:>6} {:>8}", "took effect", "seeds", "times");
    kinds.iter().for_each(|(kind, seeds, times)| println!("{kind:<40} {seeds:>6} {times:>8}"));
    let sum = |of: fn(&Outcome) -> u64| outcomes.values().map(of).sum::<u64>();
    println!(
        "{} attempts, {} calls to the store, {} s of simulated time",
        sum(|o| o.facts.assigned),
        sum(|o| o.calls),
        sum(|o| o.millis) / 1000
    );
    for (seed, outcome) in outcomes {
        outcome.failures.iter().for_each(|why| println!("seed {seed} was submitted again after: {why}"));
    }
    kinds.into_iter().filter(|(_, seeds, _)| *seeds == 0).map(|(kind, ..)| kind).collect()
}
