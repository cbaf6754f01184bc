//! Deterministic simulation: the real coordinator and workers on a simulated network and store, with faults, by seeds.
//!
//! ```text
//! cargo test --test simulation                                     a few seeds
//! cargo test --release --test simulation -- --seeds 200 [--from N] [--jobs N]
//! cargo test --release --test simulation -- --seed N --log         one seed once more, with all that happens in it
//! ```
//!
//! Each seed has a process of its own, in which one thread runs everything, with randomness and time of the seed
//! ([`entropy`]). So a seed that fails fails again in the same way.

#![cfg(target_os = "linux")]

mod bucket;
mod campaign;
mod entropy;
mod facts;
mod faults;
mod fleet;
mod laws;
mod model;
mod rng;
mod run;
mod trace;
mod undisturbed;

use std::process::ExitCode;

use campaign::Campaign;

/// Seeds of `cargo test`.
const FEW: u64 = 5;

fn main() -> ExitCode {
    let mut campaign = Campaign { first: 1, seeds: FEW, at_a_time: 2, twice_every: FEW, all_kinds: false };
    let (mut seed, mut shown) = (None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u64>().ok());
        let understood = match word.as_str() {
            "--seeds" => number().map(|n| (campaign.seeds, campaign.all_kinds) = (n, n >= 100)).is_some(),
            "--from" => number().map(|n| campaign.first = n).is_some(),
            "--jobs" => number().map(|n| campaign.at_a_time = n).is_some(),
            "--seed" => number().map(|n| seed = Some(n)).is_some(),
            "--log" => {
                shown = true;
                true
            }
            // What cargo's own tests understand: a filter that does not mean this one, a list, how output is shown.
            "--list" => return ExitCode::SUCCESS,
            "--nocapture" | "--quiet" | "-q" | "--include-ignored" => true,
            filter if !filter.starts_with('-') => match "simulation".contains(filter) {
                true => true,
                false => return ExitCode::SUCCESS,
            },
            _ => false,
        };
        if !understood {
            eprintln!("{word} is not understood\nhint: --seeds N [--from N] [--jobs N], or --seed N [--log]");
            return ExitCode::from(2);
        }
    }
    let missed = laws::planted::missed();
    if !missed.is_empty() {
        missed.iter().for_each(|fault| eprintln!("a planted fault, {fault}"));
        return ExitCode::FAILURE;
    }
    let Some(seed) = seed else {
        return if campaign.run() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let outcome = run::run(seed, shown);
    println!("{}", serde_json::to_string(&outcome).expect("it is plain data"));
    outcome.broken.iter().for_each(|law| eprintln!("seed {seed}: {law}"));
    if outcome.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
