//! `shardfuse job`: one pod of a merge that is a Kubernetes Job. Index 0 coordinates and works, the others work.
//!
//! What the exit codes promise, so that a Job's policies can decide by them:
//!
//! | | index 0 | the others |
//! |---|---|---|
//! | 0 | the merge is published (also if it was before) | index 0 said that it is, or the output shows it |
//! | 1, 2, 3 | the merge failed, or was refused | this worker cannot work, here or on this version |
//! | 4 | SIGTERM before publication | SIGTERM before index 0 said anything |
//! | 5 | a store, a disk or another merge was in the way | likewise |
//!
//! A SIGTERM that meets a merge while it is published lets the publication end, if the grace is long enough. A merge that
//! failed is not told to the others: they wait for index 0 until the Job ends them, and end with 4.

mod named;
mod published;

use std::sync::Arc;
use std::time::Duration;

use shardfuse_coordinator::hub::{self, Farewell, Stage, Submission, View};
use shardfuse_coordinator::owner::Owning;
use shardfuse_coordinator::service::WorkService;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Allow, Stores};
use shardfuse_worker::device::{CPU_CLASS, Device};
use shardfuse_worker::spot::Notice;
use shardfuse_worker::{Options, Pipeline};
use tokio::sync::{oneshot, watch};
use tracing::info;

use self::named::named_by;
use super::{print_summary, worker};
use crate::args::{self, Format, Global, Job};
use crate::http::Http;
use crate::net::{self, Health, Services, Target};
use crate::progress::{self, Show};
use crate::report::internal;
use crate::settings::{self, Settings, machine};
use crate::summary::Summary;
use crate::text::Text;
use crate::version::VERSION;
use crate::{local, signal};

/// Runs one pod.
pub async fn run(args: Job, global: &Global) -> Result<()> {
    let notice: Option<Notice> = args.working.spot_notice.as_deref().map(str::parse).transpose()?;
    let terminated = Terminated::listen(notice);
    let pod = Pod::open(args, terminated).await?;
    info!(index = pod.args.index, "a pod of a merge");
    match pod.args.index {
        0 => pod.coordinate(global).await,
        _ => pod.work().await,
    }
}

/// A pod with everything opened that it needs.
struct Pod {
    args: Job,
    settings: Settings,
    stores: Arc<Stores>,
    allow: Allow,
    /// Where index 0 listens.
    target: Target,
    pipeline: Pipeline,
    /// Of this pod's worker.
    worker: Options,
    terminated: Terminated,
    http: Http,
    health: Health,
}

impl Pod {
    async fn open(args: Job, terminated: Terminated) -> Result<Pod> {
        let working = &args.working;
        let settings = Settings::of_pod(args.spec.clone(), &working.machine.resources, args.device)?;
        let allow = named_by(&settings.spec, &working.access)?;
        let stores = Arc::new(working.machine.limited(working.access.stores.open()?.only(&allow)));
        let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
        let http = Http::bind(&working.http).await?;
        let health = Health::listen(working.health.as_deref()).await?;
        // A pod with several GPUs uses the first: Kubernetes gives each pod as many as it asks for.
        let devices = machine::open(settings.device, &working.machine, settings.budget)?;
        let device = devices.into_iter().next().unwrap_or(Device::Cpu);
        if working.http.http.is_some() {
            Device::observe(std::slice::from_ref(&device));
        }
        let share = settings.budget.share(1, settings.spec.part_size, working.slots);
        let worker = Options {
            worker_id: worker::random(),
            name: working.name.clone().unwrap_or_else(|| format!("index-{}", args.index)),
            memory: share.memory,
            slots: share.slots,
        };
        let pipeline = Pipeline::limited(Arc::clone(&stores), allow.clone(), share.memory, share.threads, device)
            .map_err(|f| f.error)?;
        Ok(Pod { args, settings, stores, allow, target, pipeline, worker, terminated, http, health })
    }

    /// Index 0: coordinates, and works too.
    async fn coordinate(self, global: &Global) -> Result<()> {
        let Pod { args, settings, stores, allow, target: _, pipeline, worker, mut terminated, http, health } = self;
        let grace = args.working.grace.0;
        let flags = args::Listen { listen: args.listen, tls: args.connect.way.tls };
        let (listener, security) = net::listen(&flags).await?;
        let options = hub::Options {
            allow,
            grace,
            workers: args.workers,
            owning: Owning::AtOnce,
            single_coordinator: args.single_coordinator,
            version: VERSION,
            ..hub::Options::default()
        };
        let hub = hub::start(stores, None, options).await?;
        let reached = security.url(net::address(&listener)?);
        let services = Services::new()?.with(WorkService::new(hub.clone()).into_server());
        let (close, closed) = oneshot::channel::<()>();
        let serving = tokio::spawn(net::serve(listener, services, security, async {
            let _ = closed.await;
        }));
        let on_cpu = pipeline.device_class() == CPU_CLASS;
        let worker = tokio::spawn(shardfuse_worker::run(local::serve(hub.clone()).await?, pipeline, worker));
        http.serve(Some((hub.clone(), reached)));
        health.ready(true).await;

        let submission = Submission {
            device: Some(if on_cpu { hub::Device::Cpu } else { hub::Device::Cuda }),
            verify_parts: Some(args.verify_parts),
            ..settings::submission(settings.spec, args.replace)
        };
        let merge = hub.submit(submission).await?.0.id;
        let views = hub.get(merge).await?.ok_or_else(|| internal("the merge is not known to its own hub"))?;
        let view = tokio::select! {
            view = follow(views.clone(), global) => view?,
            // What had been begun may still end well: the last word is the view's.
            () = terminated.wait() => {
                Text::of("stopping; what is finished stays").say();
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

    /// Every other index: works until index 0 says that the merge is published.
    async fn work(self) -> Result<()> {
        let Pod { args, settings, stores, target, pipeline, worker, terminated, http, health, .. } = self;
        http.serve(None);
        // With one of these flags index 0 merges again over what is published.
        let looks = !args.replace.restart && !args.replace.force;
        let grace = args.working.grace.0;
        let target = Arc::new(target);
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
        let working = shardfuse_worker::serve(connect, pipeline, worker, shutdown);
        let reason = tokio::select! {
            reason = working => reason?,
            () = published::wait(&stores, &settings.spec), if looks => "the merge is published".into(),
        };
        if terminated.is_set() {
            return Err(Error::new(Kind::Interrupted, "interrupted before the merge was published")
                .hint("started again, the merge goes on where it stopped"));
        }
        info!(reason, "told to leave");
        Ok(())
    }
}

/// Whether SIGTERM or a spot notice came. Listened for from the first moment on: before that it would end the process with another code.
#[derive(Debug, Clone)]
struct Terminated(watch::Receiver<bool>);

impl Terminated {
    fn listen(notice: Option<Notice>) -> Terminated {
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                true = signal::received() => {}
                () = signal::taken_back(notice) => {}
            }
            tell.send_replace(true);
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

/// Shows progress until the merge has ended.
async fn follow(mut views: watch::Receiver<View>, global: &Global) -> Result<View> {
    let (shown, receive) = watch::channel(views.borrow().progress.clone().into());
    let show = tokio::spawn(progress::show(receive, Show::of(global)));
    let mut told = 0;
    let view = loop {
        let view = views.borrow_and_update().clone();
        shown.send_replace(view.progress.clone().into());
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
        (Stage::Done, _) => print_summary(&Summary::of_view(view), global),
        (Stage::Failed, Some(failure)) => Err(failure.clone()),
        (Stage::Failed, None) => Err(internal("the merge failed without a reason")),
        _ => Err(Error::new(Kind::Interrupted, format!("interrupted before {} was published", view.spec.output))
            .hint("started again, the merge goes on where it stopped")),
    }
}
