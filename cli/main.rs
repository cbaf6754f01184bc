//! `shardfuse`: merges LoRA-family adapters into checkpoints of any size.

mod access;
mod args;
mod client;
mod commands;
mod diff;
mod http;
mod local;
mod memory;
mod net;
mod place;
mod plan;
mod progress;
mod report;
mod sample;
mod settings;
mod signal;
mod size;
mod summary;
mod telemetry;
mod text;
mod time;
mod version;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// A plan of a large model is millions of small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => return report::usage(&e),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("io").build() {
        Ok(runtime) => runtime,
        Err(e) => {
            return report::failure(
                &report::internal(format!("cannot start the runtime: {e}")),
                args.global.error_format,
            );
        }
    };
    let telemetry = {
        let _entered = runtime.enter();
        telemetry::start(args.global.log_format, args.command.serves())
    };
    let result = runtime.block_on(async {
        match args.command {
            Command::Merge(merge) => commands::merge::run(merge, &args.global).await,
            Command::Plan(plan) => commands::plan::run(plan, &args.global).await,
            Command::Inspect(inspect) => commands::inspect::run(inspect, &args.global).await,
            Command::Index(index) => commands::index::run(index, &args.global).await,
            Command::Diff(diff) => commands::diff::run(diff, &args.global).await,
            Command::Verify(verify) => commands::verify::run(verify, &args.global).await,
            Command::Clean(clean) => commands::clean::run(clean, &args.global).await,
            Command::Submit(submit) => commands::submit::run(*submit, &args.global).await,
            Command::List(list) => commands::list::run(list, &args.global).await,
            Command::Get(get) => commands::get::run(get, &args.global).await,
            Command::Watch(watch) => commands::watch::run(watch, &args.global).await,
            Command::Cancel(cancel) => commands::cancel::run(cancel, &args.global).await,
            Command::Retry(retry) => commands::retry::run(retry, &args.global).await,
            Command::Job(job) => commands::job::run(*job, &args.global).await,
            Command::Health(health) => commands::health::run(health, &args.global).await,
            Command::Coordinator(coordinator) => commands::coordinator::run(*coordinator).await,
            Command::Worker(worker) => commands::worker::run(*worker).await,
            Command::Certs(certs) => commands::certs::run(certs, &args.global),
            Command::Completions(completions) => commands::completions::run(&completions),
            Command::Man(man) => commands::man::run(&man),
        }
    });
    telemetry.finish();
    // A read or write that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            progress::screen::end_log();
            report::failure(&e, args.global.error_format)
        }
    }
}
