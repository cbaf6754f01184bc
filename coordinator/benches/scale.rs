//! How many assignments one core of a coordinator makes, and how much memory that takes: a real hub, driver, schedule and
//! persister, 1,000 simulated workers, 100,000 tasks of four parts.
//!
//! Everything runs on one thread, the workers included. Each message is encoded and decoded as protobuf on its way; what is
//! left out is HTTP/2 and TLS. The store keeps the plan and forgets the journal, and the merge is not published: there are
//! no parts. `cargo bench -p shardfuse-coordinator --bench scale`; it fails below 2,000 assignments a second or above
//! 300 MiB.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use shardfuse_coordinator::hub::{self, Handle, Options, Stage, Submission};
use shardfuse_coordinator::outbound::ToWorker;
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_proto::PROTOCOL_VERSION;
use shardfuse_proto::v1::{self, assign, from_worker, piece_done, to_worker};
use shardfuse_store::memory::Memory;
use shardfuse_store::{Decorator, Entry, Location, Meta, Operation, Pin, Result, Store, Stores};
use tokio::sync::mpsc;

const WORKERS: u64 = 1000;
const SLOTS: u32 = 4;
const FILES: usize = 42;
/// Of 512 KiB each: with the header, a file has a little less than 10,000 parts of 1 KiB, the most that a store takes.
const TENSORS_A_FILE: usize = 19;
const HIDDEN: u64 = 512;

const LEAST_RATE: f64 = 2000.0;
const MOST_MEMORY: u64 = 300 << 20;

static ASSIGNED: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ok = runtime.block_on(run());
    // What is left over is not waited for.
    runtime.shutdown_background();
    std::process::exit(i32::from(!ok));
}

async fn run() -> bool {
    let store = Arc::new(Sparse { kept: Memory::new(), lengths: Mutex::default() });
    inputs(&store).await;
    let before = (peak_memory(), cpu());
    let stores = Arc::new(Stores::all(store));
    let hub = hub::start(stores, None, Options { single_coordinator: true, ..Options::default() }).await.unwrap();
    let followed = hub.follow(submission()).await.unwrap();
    let mut views = followed.views;
    let running = views.wait_for(|view| view.stage == Stage::Running || view.stage.has_ended()).await.unwrap().clone();
    assert_eq!(running.stage, Stage::Running, "{:?}", running.failure);
    for id in 1..=WORKERS {
        tokio::spawn(worker(hub.clone(), id));
    }
    let began = Instant::now();
    let done =
        views.wait_for(|view| view.progress.tasks_total > 0 && view.progress.tasks_done == view.progress.tasks_total);
    let tasks = tokio::select! {
        done = done => done.unwrap().progress.tasks_total,
        end = followed.ended => panic!("the merge ended early: {:?}", end.map(|r| r.map(drop))),
    };
    let seconds = began.elapsed().as_secs_f64();
    let (memory, busy) = (peak_memory(), cpu() - before.1);
    let assigned = ASSIGNED.load(Ordering::Relaxed);
    let rate = assigned as f64 / seconds;
    println!("{tasks} tasks of four parts, {WORKERS} workers with {SLOTS} slots each, one thread");
    println!(
        "{assigned} assignments in {seconds:.1} s: {rate:.0} a second ({:.0} a second of CPU)",
        assigned as f64 / busy
    );
    println!("CPU {busy:.1} s, workers' side and protobuf of both sides included");
    println!("assignments of {} bytes on average", BYTES.load(Ordering::Relaxed) / assigned.max(1));
    println!("peak memory {} MiB, of which {} MiB before the first task", memory >> 20, before.0 >> 20);
    // What counts is a core's worth of time: others may use the machine meanwhile.
    assigned as f64 / busy >= LEAST_RATE && memory <= MOST_MEMORY
}

/// Joins, reports every part of every assignment at once, and sends heartbeats.
async fn worker(hub: Handle, id: u64) {
    let (outbound, mut inbound) = mpsc::channel(1024);
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: id,
        name: format!("worker {id}"),
        device_class: "cpu".into(),
        memory_bytes: 16 << 30,
        slots: SLOTS,
        ..v1::Hello::default()
    };
    let session = hub.join(hub.enrol(hello, None).unwrap(), outbound).await.unwrap().number;
    let id = shardfuse_coordinator::schedule::WorkerId(id);
    let say = async |message: from_worker::Message| {
        let wire = v1::FromWorker { message: Some(message) }.encode_to_vec();
        let message = v1::FromWorker::decode(wire.as_slice()).unwrap().message.unwrap();
        hub.said(id, session, message).await
    };
    let mut open: BTreeMap<(u32, u32), (v1::Attempt, usize)> = BTreeMap::new();
    let mut beat = tokio::time::interval(Duration::from_secs(5));
    loop {
        let message = tokio::select! {
            message = inbound.recv() => message,
            _ = beat.tick() => {
                let running = open.values().map(|(attempt, _)| attempt.clone()).collect();
                say(from_worker::Message::Heartbeat(v1::Heartbeat { running, ..Default::default() })).await;
                continue;
            }
        };
        let Some(ToWorker::Message(message)) = message else { return };
        let wire = v1::ToWorker { message: Some(message) }.encode_to_vec();
        match v1::ToWorker::decode(wire.as_slice()).unwrap().message {
            Some(to_worker::Message::Assign(assign)) => {
                ASSIGNED.fetch_add(1, Ordering::Relaxed);
                BYTES.fetch_add(wire.len() as u64, Ordering::Relaxed);
                let attempt = assign.attempt.unwrap();
                let Some(assign::Job::Fill(fill)) = assign.job else { panic!("there is nothing to measure") };
                open.insert((attempt.task, attempt.epoch), (attempt.clone(), fill.parts.len()));
                for v1::Part { number: part, length, .. } in fill.parts {
                    let store_id = format!("\"{:032x}\"", u128::from(part) << 64 | u128::from(attempt.task));
                    let receipt = v1::PartReceipt { store_id, length, chaining: vec![7; 32] };
                    let done = v1::PieceDone {
                        attempt: Some(attempt.clone()),
                        piece: part,
                        result: Some(piece_done::Result::Part(receipt)),
                        ..Default::default()
                    };
                    say(from_worker::Message::PieceDone(done)).await;
                }
            }
            Some(to_worker::Message::Ack(ack)) => {
                let attempt = ack.attempt.unwrap();
                let key = (attempt.task, attempt.epoch);
                if let Some((_, left)) = open.get_mut(&key) {
                    *left -= 1;
                    if *left == 0 {
                        open.remove(&key);
                    }
                }
            }
            Some(to_worker::Message::Revoke(revoke)) => {
                let attempt = revoke.attempt.unwrap();
                open.remove(&(attempt.task, attempt.epoch));
            }
            _ => {}
        }
    }
}

/// A base of many layers and an adapter on each of them: headers, and no byte of tensor data.
async fn inputs(store: &Sparse) {
    let config =
        json!({"model_type": "llama", "vocab_size": HIDDEN, "torch_dtype": "bfloat16", "tie_word_embeddings": false});
    store.text("base/config.json", &config.to_string()).await;
    let (mut layers, mut index) = (0.., serde_json::Map::new());
    for file in 0..FILES {
        let name = format!("model-{:05}-of-{FILES:05}.safetensors", file + 1);
        let mut tensors = Vec::new();
        for place in 0..TENSORS_A_FILE {
            let tensor = match (file, place) {
                (0, 0) => "model.embed_tokens.weight".to_owned(),
                (0, 1) => "lm_head.weight".to_owned(),
                _ => format!("model.layers.{}.self_attn.q_proj.weight", layers.next().unwrap_or(0)),
            };
            index.insert(tensor.clone(), name.clone().into());
            tensors.push((tensor, [HIDDEN, HIDDEN]));
        }
        store.tensors(&format!("base/{name}"), &tensors).await;
    }
    let index = json!({"metadata": {}, "weight_map": index});
    store.text("base/model.safetensors.index.json", &index.to_string()).await;
    let config = json!({"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]});
    store.text("lora/adapter_config.json", &config.to_string()).await;
    let factors = (0..layers.start).flat_map(|layer| {
        [("lora_A", [16, HIDDEN]), ("lora_B", [HIDDEN, 16])].map(|(factor, shape)| {
            (format!("base_model.model.model.layers.{layer}.self_attn.q_proj.{factor}.weight"), shape)
        })
    });
    store.tensors("lora/adapter_model.safetensors", &factors.collect::<Vec<_>>()).await;
}

fn submission() -> Submission {
    let lora = [LoraSpec::new("s3://models/lora")];
    let spec = MergeSpec { part_size: 1024, ..MergeSpec::of("s3://models/base", lora, "s3://merged/out") };
    Submission {
        spec,
        restart: false,
        force: false,
        allow_no_change: false,
        priority: 0,
        device: None,
        verify_parts: None,
    }
}

/// The highest resident memory of the process, in bytes.
fn peak_memory() -> u64 {
    status("/proc/self/status", "VmHWM:") << 10
}

/// The processor time that the process took, in seconds.
fn cpu() -> f64 {
    // In nanoseconds, of the main thread, which does everything.
    status("/proc/self/schedstat", "") as f64 / 1e9
}

#[allow(clippy::disallowed_methods, reason = "the kernel's figures, not a file")]
fn status(path: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Objects in memory. Files of tensors have their headers and a length, and their data is zero. The journal is not kept: what is
/// there for the benchmark's sake must not count as the coordinator's.
#[derive(Debug)]
struct Sparse {
    kept: Memory,
    /// The lengths of files of tensors, by path.
    lengths: Mutex<BTreeMap<String, u64>>,
}

impl Sparse {
    async fn text(&self, name: &str, text: &str) {
        let at: Location = format!("s3://models/{name}").parse().unwrap();
        self.kept.put(&at, text.to_owned().into()).await.unwrap();
    }

    async fn tensors(&self, name: &str, tensors: &[(String, [u64; 2])]) {
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (tensor, shape) in tensors {
            let begin = end;
            end += shape[0] * shape[1] * 2;
            header.insert(tensor.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}));
        }
        let mut header = serde_json::Value::from(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
        let at: Location = format!("s3://models/{name}").parse().unwrap();
        self.lengths.lock().unwrap().insert(at.path().to_owned(), bytes.len() as u64 + end);
        self.kept.put(&at, bytes.into()).await.unwrap();
    }

    fn length(&self, path: &str) -> Option<u64> {
        self.lengths.lock().unwrap().get(path).copied()
    }
}

#[async_trait]
impl Decorator for Sparse {
    fn inner(&self) -> &dyn Store {
        &self.kept
    }

    async fn call<T, F, M>(&self, _: Operation, _: &Location, mut make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
        make().await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        let mut meta = self.kept.head(at).await?;
        meta.size = self.length(at.path()).unwrap_or(meta.size);
        Ok(meta)
    }

    async fn read(&self, at: &Location, offset: u64, mut buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        if self.length(at.path()).is_none() {
            return self.kept.read(at, offset, buf, pin).await;
        }
        let header = self.kept.head(at).await?.size;
        let there = header.saturating_sub(offset).min(buf.len() as u64);
        let bytes = self.kept.read(at, offset.min(header - there), vec![0; there as usize], pin).await?;
        buf.fill(0);
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(buf)
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        let mut entries = self.kept.list(dir).await?;
        for entry in &mut entries {
            let at = format!("{}/{}", dir.path().trim_end_matches('/'), entry.name);
            entry.size = self.length(&at).unwrap_or(entry.size);
        }
        Ok(entries)
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        match at.path().contains("/journal/") {
            true => Ok(()),
            false => self.kept.create(at, bytes).await,
        }
    }
}
