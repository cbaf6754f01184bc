//! What a card does with a merge, against what it could do: each stage beside the ceiling of the same run.
//!
//! ```text
//! cargo bench -p shardfuse-worker --bench gpu -- [TILES]        tiles of work a row, 256 by default
//! ```
//!
//! The binary needs nothing of the checkout. Over the stand-in driver it only shows that it runs: those figures are a CPU's.

mod ceilings;

use std::time::{Duration, Instant};

use ceilings::{Ceilings, Product};
use shardfuse_gpukit::{Job, Kind, Shape};
use shardfuse_merge::{Dtype, DtypeExt};
use shardfuse_worker::device::Limits;
use shardfuse_worker::device::cuda::{self, Gpu, Stages};

/// Tiles of a tensor; several tensors are under way at a time.
const TILES: usize = 4;
/// Jobs at a time: more than the ring has slots.
const AT_ONCE: usize = 4;

fn main() {
    let tiles = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(256usize).max(TILES);
    let limits = Limits { memory: 2 << 30, patience: Duration::from_secs(120) };
    let gpu = match cuda::open(None, limits) {
        Ok(mut gpus) => gpus.swap_remove(0),
        Err(why) => {
            eprintln!("no device: {why}");
            std::process::exit(2);
        }
    };
    println!("{}, class {}", gpu.label(), gpu.class());
    let times = (tiles / 8).clamp(2, 32);
    let ceilings = Ceilings::measure(gpu.number(), times);
    println!(
        "ceilings, 16 MiB at a time: to the device {:.1} GB/s, back {:.1} GB/s, both at once {:.1} GB/s; within the device {:.0} GB/s",
        ceilings.load, ceilings.store, ceilings.both, ceilings.within
    );
    println!(
        "\n{:<13} {:>5} {:>5} | {:>4} | {:>7} {:>5} | {:>7} {:>5} {:>7} {:>5} | {:>7} {:>5} | {:>5} | {:>8} {:>7} {:>8}",
        "kind",
        "dtype",
        "rank",
        "fill",
        "in GB/s",
        "%",
        "TFLOP/s",
        "%",
        "GB/s",
        "%",
        "out",
        "%",
        "empty",
        "all GB/s",
        "overlap",
        "bound by"
    );
    for (kind, dtype, rank) in [
        (Kind::Lora, Dtype::BF16, 8),
        (Kind::Lora, Dtype::BF16, 64),
        (Kind::Lora, Dtype::BF16, 256),
        (Kind::TwoLoras, Dtype::BF16, 64),
        (Kind::DoraStanding, Dtype::BF16, 64),
        (Kind::Lora, Dtype::F32, 64),
    ] {
        // As wide as the layers of a 70B model; the tiling makes tiles of 512 rows of it.
        let product = Product { rows: 512, cols: 8192, rank };
        let shape = Shape { rows: TILES * product.rows, cols: product.cols, rank };
        let job = Job::new(kind, dtype, dtype, shape, 1);
        row(&gpu, &job, tiles, &ceilings, ceilings::gemm(gpu.number(), times, product));
    }
    println!(
        "\n% of the ceiling of the same run; fill and empty: the host's copies into and out of page-locked memory; overlap: time \
         of the five stages over time that passed"
    );
}

/// Runs a job over and over and prints what each stage did.
fn row(gpu: &Gpu, job: &Job, tiles: usize, ceilings: &Ceilings, gemm: f64) {
    let rights = job.bring(gpu);
    let all = 0..job.shape.rows as u64;
    // Once beforehand: cuBLAS loads its kernels.
    job.run(gpu, &rights, all.clone()).expect("the device works");
    let before = gpu.stages();
    let began = Instant::now();
    let mut answers = std::collections::VecDeque::new();
    for _ in 0..tiles.div_ceil(TILES) {
        // A worker lends its buffers again too: fresh pages would cost more than all the rest.
        let part = if answers.len() == AT_ONCE { wait(gpu, &mut answers) } else { Vec::new() };
        answers.push_back(job.submit(gpu, &rights, all.clone(), part));
    }
    while !answers.is_empty() {
        wait(gpu, &mut answers);
    }
    let passed = began.elapsed();
    let stages = since(gpu.stages(), before);

    let (elements, steps) = (tiles.div_ceil(TILES) * job.shape.rows * job.shape.cols, rights.len());
    let width = if job.from == Dtype::F32 { 4 } else { 2 };
    let bytes = (elements * width) as f64;
    let flops = 2.0 * (elements * job.shape.rank * steps) as f64;
    // Decode and encode: the raw value and the fp32 one. A step writes the product and adds it: two reads, two writes.
    let traffic = (elements * (2 * (width + 4) + 16 * steps)) as f64;
    let rate = |amount: f64, time: Duration| amount / time.as_secs_f64() / 1e9;
    let share = |rate: f64, ceiling: f64| 100.0 * rate / ceiling;
    let (load, store) = (rate(bytes, stages.copy_in), rate(bytes, stages.copy_out));
    let (multiplied, touched) = (rate(flops, stages.compute) / 1e3, rate(traffic, stages.compute));
    let (filled, emptied) = (rate(bytes, stages.fill), rate(bytes, stages.empty));
    let all = [
        ("fill", stages.fill),
        ("in", stages.copy_in),
        ("compute", stages.compute),
        ("out", stages.copy_out),
        ("empty", stages.empty),
    ];
    let sum: Duration = all.iter().map(|(_, time)| *time).sum();
    let (bound, _) = all.into_iter().max_by_key(|(_, time)| *time).expect("there are five");
    println!(
        "{:<13} {:>5} {:>5} | {filled:>4.1} | {load:>7.1} {:>5.0} | {multiplied:>7.2} {:>5.0} {touched:>7.0} {:>5.0} | {store:>7.1} {:>5.0} | {emptied:>5.1} | {:>8.2} {:>7.2} {bound:>8}",
        format!("{:?}", job.kind),
        job.from.name(),
        job.shape.rank,
        share(load, ceilings.load),
        share(multiplied, gemm),
        // A copy within the device reads and writes every byte.
        share(touched, 2.0 * ceilings.within),
        share(store, ceilings.store),
        rate(bytes, passed),
        sum.as_secs_f64() / passed.as_secs_f64(),
    );
}

type Answers = std::collections::VecDeque<tokio::sync::oneshot::Receiver<cuda::Done>>;

fn wait(gpu: &Gpu, answers: &mut Answers) -> Vec<u8> {
    let first = answers.pop_front().expect("one is under way");
    futures::executor::block_on(gpu.answer(first)).expect("the device works")
}

fn since(now: Stages, before: Stages) -> Stages {
    Stages {
        tiles: now.tiles - before.tiles,
        fill: now.fill - before.fill,
        copy_in: now.copy_in - before.copy_in,
        compute: now.compute - before.compute,
        copy_out: now.copy_out - before.copy_out,
        empty: now.empty - before.empty,
    }
}
