//! `shardfuse.v1.Merges`: what people and programs ask.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use shardfuse_merge::plan::cost::cost;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind};
use shardfuse_proto::MAX_MESSAGE;
use shardfuse_proto::v1::{self, merges_server};
use shardfuse_store::{Allow, Stores};
use tokio::sync::{Semaphore, watch};
use tonic::{Code, Request, Response, Status};

use super::role::{Role, require};
use super::spec::spec;
use super::status::{failure, status, with_code};
use crate::device::Device;
use crate::hub::{Cursor, Handle, Stage, Submission, View, WorkerView};
use crate::outline::outline;
use crate::places;
use crate::planning::plan;
use crate::registry::MergeId;

/// Plans that are made at a time for those who only ask what a merge would do.
const PLANS: usize = 4;
/// How long one of those waits for its turn.
const PLAN_TURN: Duration = Duration::from_secs(60);
/// Merges in one list, by default and at the most.
const LIST: (usize, usize) = (100, 1000);
/// The largest report of a plan.
const MAX_REPORT: usize = MAX_MESSAGE - 1024;
/// Priorities above or below are taken as these.
const MAX_PRIORITY: i32 = 1_000_000;

/// The service.
#[derive(Debug, Clone)]
pub struct MergesService {
    hub: Handle,
    stores: Arc<Stores>,
    allow: Allow,
    planning: Arc<Semaphore>,
}

impl MergesService {
    /// A service that speaks to a hub. Specs may name what `allow` allows.
    pub fn new(hub: Handle, stores: Arc<Stores>, allow: Allow) -> Self {
        MergesService { hub, stores, allow, planning: Arc::new(Semaphore::new(PLANS)) }
    }

    /// The service for a tonic server.
    pub fn into_server(self) -> merges_server::MergesServer<Self> {
        merges_server::MergesServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// A spec that may be planned and run here.
    async fn spec(&self, wire: Option<v1::MergeSpec>) -> Result<MergeSpec, Status> {
        let spec = spec(wire, &self.allow)?;
        places::check(&self.stores, &spec, self.hub.kept()).await.map_err(|e| status(&e))?;
        Ok(spec)
    }

    /// The merge of an id, or of the beginning of one.
    async fn id(&self, text: &str) -> Result<MergeId, Status> {
        self.hub.named(text).await.map_err(|e| status(&e))?.ok_or_else(|| unknown(text))
    }

    async fn known(&self, text: &str) -> Result<watch::Receiver<View>, Status> {
        let id = self.id(text).await?;
        self.hub.get(id).await.map_err(|e| status(&e))?.ok_or_else(|| unknown(text))
    }
}

fn unknown(id: &str) -> Status {
    let shown: String = id.chars().take(40).collect();
    let error = Error::new(Kind::Usage, format!("no merge {shown:?} is known here")).hint("shardfuse list");
    with_code(Code::NotFound, &error)
}

#[tonic::async_trait]
impl merges_server::Merges for MergesService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Result<Response<v1::PlanResponse>, Status> {
        require(&request, Role::Submitter)?;
        let spec = self.spec(request.into_inner().spec).await?;
        let _place = match tokio::time::timeout(PLAN_TURN, self.planning.acquire()).await {
            Ok(place) => place.map_err(|_| Status::unavailable("the coordinator is stopping"))?,
            Err(_) => {
                let error =
                    Error::new(Kind::Busy, format!("{PLANS} other plans are made, and none ended in {PLAN_TURN:?}"));
                return Err(status(&error.hint("ask again later, or plan on this machine: shardfuse plan")));
            }
        };
        let (plan, report) = plan(&self.stores, &spec).await.map_err(|e| status(&e))?;
        let report_json = outline(&plan, &report, cost(&plan), None).to_string();
        if report_json.len() > MAX_REPORT {
            let error = Error::new(
                Kind::Unsupported,
                format!("the report has {} bytes, a message at most {MAX_REPORT}", report_json.len()),
            );
            return Err(status(&error.hint("make it where the files can be read: shardfuse plan")));
        }
        Ok(Response::new(v1::PlanResponse { plan: plan.digest(), report_json }))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        require(&request, Role::Submitter)?;
        let request = request.into_inner();
        let device = match request.device.as_str() {
            "" => None,
            name => Some(name.parse::<Device>().map_err(|e| status(&e))?),
        };
        let submission = Submission {
            spec: self.spec(request.spec).await?,
            restart: request.restart,
            force: request.force,
            allow_no_change: request.allow_no_change,
            priority: request.priority.clamp(-MAX_PRIORITY, MAX_PRIORITY),
            device,
            verify_parts: request.verify_parts.map(share).transpose()?,
        };
        let (view, known) = self.hub.submit(submission).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::SubmitResponse { merge: Some(merge(&view)), known }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        require(&request, Role::Submitter)?;
        let view = self.known(&request.into_inner().id).await?;
        let merge = merge(&view.borrow());
        Ok(Response::new(v1::GetResponse { merge: Some(merge) }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        require(&request, Role::Submitter)?;
        let v1::ListRequest { limit, page_token } = request.into_inner();
        let limit = match limit as usize {
            0 => LIST.0,
            limit => limit.min(LIST.1),
        };
        let after = match page_token.as_str() {
            "" => None,
            token => Some(Cursor::parse(token).ok_or_else(|| {
                status(
                    &Error::new(Kind::Usage, "the page token is none of this coordinator's")
                        .hint("take next_page_token of the page before, or leave it empty"),
                )
            })?),
        };
        let page = self.hub.list(after, limit).await.map_err(|e| status(&e))?;
        let next_page_token = page.next.map(|next| next.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListResponse { merges: page.merges.iter().map(merge).collect(), next_page_token }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        require(&request, Role::Submitter)?;
        let view = self.known(&request.into_inner().id).await?;
        // The hub shows progress at each of its ticks, so a watcher hears a few times a second at the most.
        let states = futures::stream::unfold(Some((view, self.hub.clone(), true)), |state| async move {
            let (mut view, hub, first) = state?;
            if !first && view.changed().await.is_err() {
                return Some((Err(Status::unavailable("the coordinator is stopping")), None));
            }
            let (now, ended) = {
                let view = view.borrow_and_update();
                (merge(&view), view.stage.has_ended())
            };
            let workers = match now.state() {
                // A coordinator that stops has no workers any more.
                v1::MergeState::Running => hub.workers().await.unwrap_or_default().iter().map(worker).collect(),
                _ => Vec::new(),
            };
            let answer = v1::WatchResponse { merge: Some(now), workers };
            Some((Ok(answer), (!ended).then_some((view, hub, false))))
        });
        Ok(Response::new(Box::pin(states)))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Result<Response<v1::CancelResponse>, Status> {
        require(&request, Role::Submitter)?;
        let v1::CancelRequest { id, discard } = request.into_inner();
        let view = self.hub.cancel(self.id(&id).await?, discard).await.map_err(|e| status(&e))?;
        let view = view.ok_or_else(|| unknown(&id))?;
        Ok(Response::new(v1::CancelResponse { merge: Some(merge(&view)) }))
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Result<Response<v1::RetryResponse>, Status> {
        require(&request, Role::Submitter)?;
        let v1::RetryRequest { id } = request.into_inner();
        let view = self.hub.retry(self.id(&id).await?).await.map_err(|e| status(&e))?;
        let view = view.ok_or_else(|| unknown(&id))?;
        Ok(Response::new(v1::RetryResponse { merge: Some(merge(&view)) }))
    }
}

/// A worker on the wire.
fn worker(view: &WorkerView) -> v1::WorkerState {
    v1::WorkerState {
        id: view.id.0,
        name: view.name.clone(),
        present: view.present,
        tasks_running: view.running,
        bytes_put: view.bytes_put,
    }
}

/// A merge on the wire.
fn merge(view: &View) -> v1::Merge {
    let state = match view.stage {
        Stage::Queued => v1::MergeState::Queued,
        Stage::Planning => v1::MergeState::Planning,
        Stage::Running => v1::MergeState::Running,
        Stage::Publishing => v1::MergeState::Publishing,
        Stage::Done => v1::MergeState::Done,
        Stage::Failed => v1::MergeState::Failed,
        Stage::Cancelled => v1::MergeState::Cancelled,
        Stage::Held => v1::MergeState::Held,
    };
    let p = &view.progress;
    let progress = v1::Progress {
        bytes_done: p.bytes_done,
        bytes_total: p.bytes_total,
        tasks_done: p.tasks_done,
        tasks_running: p.tasks_running,
        tasks_total: p.tasks_total,
        workers: p.workers,
        retries: p.retries,
        expired: p.expired,
        late: p.late,
        parts_new: p.parts_new,
        parts_kept: p.parts_kept,
        output_bytes: p.output_bytes,
        repeated: p.repeated,
    };
    v1::Merge {
        id: view.id.as_str().to_owned(),
        spec: Some((&*view.spec).into()),
        state: state.into(),
        progress: Some(progress),
        plan: view.plan.clone().unwrap_or_default(),
        device_class: view.device_class.as_ref().map(ToString::to_string).unwrap_or_default(),
        priority: view.priority,
        submitted: Some(timestamp(view.submitted)),
        ended: view.ended.map(timestamp),
        failure: view.failure.as_ref().map(failure),
        remarks: view.remarks.clone(),
    }
}

fn timestamp(millis: u64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX), nanos }
}

/// A share of the parts.
fn share(share: f64) -> Result<f64, Status> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(status(&Error::new(Kind::Usage, format!("verify_parts is {share}, expected 0 to 1")))),
    }
}
