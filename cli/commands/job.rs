//! `shardfuse job`: one pod of a merge that is a Kubernetes Job. Index 0 coordinates and works, the others work.
//!
//! What the exit codes promise, so that a Job's policies can decide by them:
//!
//! | | index 0 | the others |
//! |---|---|---|
//! | 0 | the merge is published (also if it was before) | index 0 said that it is |
//! | 1, 2, 3 | the merge failed, or was refused | this worker cannot work, here or on this version |
//! | 4 | SIGTERM before publication | SIGTERM before index 0 said anything |
//!
//! A SIGTERM that meets a merge while it is published lets the publication end, if the grace is long enough. A merge that
//! failed is not told to the others: they wait for index 0 until the Job ends them, and end with 4.

use std::sync::Arc;
use std::time::Duration;

use shardfuse_coordinator::hub::{self, Farewell, Stage, Submission, View};
use shardfuse_coordinator::service::WorkService;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Allow, Location, Stores};
use shardfuse_worker::device::{CPU_CLASS, Device};
use shardfuse_worker::{Options, Pipeline};
use tokio::sync::{oneshot, watch};
use tracing::info;

use super::{print, print_json, worker};
use crate::args::{self, Format, Global, Job};
use crate::http::Http;
use crate::net::{self, Health, Services, Target};
use crate::report::internal;
use crate::settings::{self, Settings};
use crate::text::Text;
use crate::{local, progress, signal, size};

/// Runs one pod.
pub async fn run(args: Job, global: &Global) -> Result<()> {
    let terminated = Terminated::listen();
    let grace = size::parse_time("--grace", &args.grace)?;
    let settings = settings::for_job(args.spec.clone(), Some(args.device.clone()))?;
    let allow = named_by(&settings.spec)?;
    let stores = Arc::new(args.stores.open()?.only(&allow));
    let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
    let http = Http::bind(&args.http).await?;
    let health = Health::listen(args.health.as_deref()).await?;
    // A pod that has several GPUs takes the first: Kubernetes gives each pod as many as it asks for.
    let devices = Device::open(settings.device, settings::limits(&args.gpu, settings.memory)?).map_err(|f| f.error)?;
    let device = devices.into_iter().next().unwrap_or(Device::Cpu);
    if args.http.http.is_some() {
        Device::observe(std::slice::from_ref(&device));
    }
    let pipeline = Pipeline::limited(Arc::clone(&stores), allow.clone(), settings.memory, settings.threads, device)
        .map_err(|f| f.error)?;
    info!(index = args.index, "a pod of a merge");
    match args.index {
        0 => coordinate(args, settings, stores, allow, pipeline, grace, terminated, http, &health, global).await,
        _ => {
            http.serve(None);
            work(args.index, &settings, target, pipeline, grace, terminated, &health).await
        }
    }
}

/// Whether SIGTERM came. Listened for from the first moment on: before that it would end the process with another code.
#[derive(Debug, Clone)]
struct Terminated(watch::Receiver<bool>);

impl Terminated {
    fn listen() -> Terminated {
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            if signal::received().await {
                tell.send_replace(true);
            }
            tell.closed().await;
        });
        Terminated(told)
    }

    fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(&mut self) {
        if self.0.wait_for(|set| *set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "called once, with what the command line means")]
async fn coordinate(
    args: Job,
    settings: Settings,
    stores: Arc<Stores>,
    allow: Allow,
    pipeline: Pipeline,
    grace: Duration,
    mut terminated: Terminated,
    http: Http,
    health: &Health,
    global: &Global,
) -> Result<()> {
    let flags = args::Listen { listen: args.listen, tls: args.connect.way.tls };
    let (listener, security) = net::listen(&flags).await?;
    let options = hub::Options { allow, grace, single_coordinator: args.single_coordinator, ..hub::Options::default() };
    let hub = hub::start(stores, None, options).await?;
    let services = Services::new()?.with(WorkService::new(hub.clone()).into_server());
    let (close, closed) = oneshot::channel::<()>();
    let serving = tokio::spawn(net::serve(listener, services, security, async {
        let _ = closed.await;
    }));
    let on_cpu = pipeline.device_class() == CPU_CLASS;
    let worker = tokio::spawn(shardfuse_worker::run(
        local::serve(hub.clone()).await?,
        pipeline,
        options_of(&settings, "index-0"),
    ));
    http.serve(Some(hub.clone()));
    health.ready(true).await;

    let submission = Submission {
        spec: settings.spec,
        restart: args.restart,
        force: args.force,
        priority: 0,
        device: Some(if on_cpu { hub::Device::Cpu } else { hub::Device::Cuda }),
        verify_parts: Some(args.verify_parts),
    };
    let merge = hub.submit(submission).await?.0.id;
    let views = hub.get(merge).await?.ok_or_else(|| internal("the merge is not known to its own hub"))?;
    let view = tokio::select! {
        view = follow(views.clone(), global) => view?,
        // What had been begun may still end well: the last word is the view's.
        () = terminated.wait() => {
            eprintln!("stopping; what is finished stays");
            health.ready(false).await;
            stopped(&hub, views, grace).await
        }
        ended = worker => return Err(match ended {
            Ok(Ok(reason)) => internal(format!("this pod's own worker was told to leave: {reason}")),
            Ok(Err(error)) => error,
            Err(e) => internal(format!("this pod's own worker ended: {e}")),
        }),
    };
    let farewell = match view.stage {
        Stage::Done => Farewell::Leave("the merge is published".into()),
        _ => Farewell::ComeBack,
    };
    hub.stop(farewell).await;
    let _ = close.send(());
    let _ = serving.await;
    outcome(&view, global)
}

/// Shows progress until the merge has ended.
async fn follow(mut views: watch::Receiver<View>, global: &Global) -> Result<View> {
    let (shown, receive) = watch::channel(views.borrow().progress.clone());
    let show = tokio::spawn(progress::show(receive, global.quiet));
    let mut told = 0;
    let view = loop {
        let view = views.borrow_and_update().clone();
        shown.send_replace(view.progress.clone());
        if !global.quiet && global.format == Format::Text {
            view.remarks.iter().skip(told).for_each(|remark| Text::of(remark).say());
        }
        told = view.remarks.len();
        if view.stage.has_ended() {
            break view;
        }
        views.changed().await.map_err(|_| internal("the merge broke off"))?;
    };
    drop(shown);
    let _ = show.await;
    Ok(view)
}

/// The merge as it is once the hub has stopped. A publication that has begun is waited for, within the grace.
async fn stopped(hub: &hub::Handle, mut views: watch::Receiver<View>, grace: Duration) -> View {
    if views.borrow().stage == Stage::Publishing {
        let _ = tokio::time::timeout(grace, views.wait_for(|view| view.stage.has_ended())).await;
    }
    if !views.borrow().stage.has_ended() {
        hub.stop(Farewell::ComeBack).await;
    }
    views.borrow().clone()
}

/// How the pod ends.
fn outcome(view: &View, global: &Global) -> Result<()> {
    match (view.stage, &view.failure) {
        (Stage::Done, _) => summary(view, global),
        (Stage::Failed, Some(failure)) => Err(failure.clone()),
        (Stage::Failed, None) => Err(internal("the merge failed without a reason")),
        _ => Err(Error::new(Kind::Interrupted, format!("interrupted before {} was published", view.spec.output))
            .hint("started again, the merge goes on where it stopped")),
    }
}

fn summary(view: &View, global: &Global) -> Result<()> {
    if global.format == Format::Json {
        return print_json(&serde_json::json!({
            "output": view.spec.output,
            "plan": view.plan,
            "device_class": view.device_class,
            "bytes_written": view.progress.bytes_total,
            "parts_written": view.progress.pieces_new,
            "parts_kept": view.progress.pieces_kept,
        }));
    }
    if global.quiet {
        return Ok(());
    }
    print(&Text::of(format_args!("wrote {} to {}", size::show(view.progress.bytes_total), view.spec.output)))
}

async fn work(
    index: u32,
    settings: &Settings,
    target: Target,
    pipeline: Pipeline,
    grace: Duration,
    terminated: Terminated,
    health: &Health,
) -> Result<()> {
    let (target, health) = (Arc::new(target), health.clone());
    let connect = move || {
        let (target, health) = (Arc::clone(&target), health.clone());
        // The name is resolved anew: index 0 may be another pod by now.
        async move { health.connect(&target).await }
    };
    let mut asked = terminated.clone();
    let shutdown = async move {
        asked.wait().await;
        grace
    };
    let reason =
        shardfuse_worker::serve(connect, pipeline, options_of(settings, &format!("index-{index}")), shutdown).await?;
    if terminated.is_set() {
        return Err(Error::new(Kind::Interrupted, "interrupted before the merge was published")
            .hint("started again, the merge goes on where it stopped"));
    }
    info!(reason, "told to leave");
    Ok(())
}

fn options_of(settings: &Settings, name: &str) -> Options {
    Options {
        worker_id: worker::random(),
        name: name.to_owned(),
        memory: settings.memory,
        slots: local::slots(settings.memory, settings.spec.part_size),
    }
}

/// A pod reads and writes what its own spec names, and nothing else. A snapshot in a hub cache consists of links to the
/// cache's `blobs/` folder, so that folder belongs to it.
fn named_by(spec: &MergeSpec) -> Result<Allow> {
    let mut places = Vec::new();
    for (_, url) in spec.places() {
        let at: Location = url.parse().map_err(|e: shardfuse_store::Error| Error::new(Kind::Usage, e.chain()))?;
        places.extend(at.hub_cache_blobs());
        places.push(at);
    }
    Ok(Allow::prefixes(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_may_do_what_its_spec_names() {
        let spec = MergeSpec {
            base: "s3://models/base".into(),
            lora: vec![shardfuse_merge::spec::LoraSpec { path: "s3://adapters/a".into(), weight: 1.0 }],
            output: "file:///out/merged".into(),
            dtype: Default::default(),
            max_shard_size: None,
            part_size: shardfuse_merge::spec::DEFAULT_PART_SIZE,
            dora_norm: Default::default(),
            partial_weight: false,
            tokenizer: Default::default(),
            tied: None,
            extra_weights: Vec::new(),
            ignore_files: Vec::new(),
        };
        let allow = named_by(&spec).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("s3://models/base/config.json") && check("s3://adapters/a/x") && check("file:///out/merged/y"));
        assert!(!check("s3://models/other") && !check("s3://adapters/b") && !check("file:///out/else"));
        let base = "file:///cache/hub/models--org--name/snapshots/0123abcd".to_owned();
        let allow = named_by(&MergeSpec { base, ..spec }).unwrap();
        let check = |text: &str| allow.check(&text.parse().unwrap()).is_ok();
        assert!(check("/cache/hub/models--org--name/blobs/b1") && !check("/cache/hub/models--org--other/blobs/b1"));
    }
}
