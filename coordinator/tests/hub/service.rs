//! What the services refuse.

use shardfuse_coordinator::hub::{Options, Stage};
use shardfuse_coordinator::service::{MergesService, Role, status};
use shardfuse_merge::Kind;
use shardfuse_proto::v1::{self, merges_server::Merges};
use shardfuse_store::{Allow, Location};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::fixture::Fixture;
use crate::worker::Worker;

fn by<T>(role: Option<Role>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(role) = role {
        request.extensions_mut().insert(role);
    }
    request
}

async fn service(fixture: &Fixture) -> MergesService {
    let hub = fixture.hub(Options::default()).await;
    let allow = Allow::prefixes(vec![Location::at_path(fixture.dir.path()).unwrap()]);
    MergesService::new(hub, fixture.stores.clone(), allow)
}

fn submit(fixture: &Fixture, output: &str) -> v1::SubmitRequest {
    v1::SubmitRequest { spec: Some((&fixture.spec(output)).into()), ..Default::default() }
}

#[tokio::test]
async fn only_submitters_and_the_trusted_may_ask_for_merges() {
    let fixture = Fixture::new();
    let service = service(&fixture).await;
    for (role, allowed) in
        [(None, false), (Some(Role::Worker), false), (Some(Role::Submitter), true), (Some(Role::Trusted), true)]
    {
        let code = |result: Result<(), tonic::Status>| result.map_or_else(|s| s.code(), |()| Code::Ok);
        let asked = [
            code(service.plan(by(role, v1::PlanRequest::default())).await.map(drop)),
            code(service.submit(by(role, v1::SubmitRequest::default())).await.map(drop)),
            code(service.get(by(role, v1::GetRequest::default())).await.map(drop)),
            code(service.list(by(role, v1::ListRequest::default())).await.map(drop)),
            code(service.watch(by(role, v1::WatchRequest::default())).await.map(drop)),
            code(service.cancel(by(role, v1::CancelRequest::default())).await.map(drop)),
            code(service.retry(by(role, v1::RetryRequest::default())).await.map(drop)),
        ];
        for code in asked {
            assert_eq!(code != Code::PermissionDenied, allowed, "{role:?}: {code:?}");
        }
    }
}

#[tokio::test]
async fn a_url_outside_of_what_is_allowed_is_refused_before_anything_is_read() {
    let fixture = Fixture::new();
    let service = service(&fixture).await;
    let mut request = submit(&fixture, "out");
    request.spec.as_mut().unwrap().base = "/etc".into();
    let refused = service.submit(by(Some(Role::Submitter), request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("/etc"), "{}", refused.message());
    assert_eq!(status::error(&refused).kind(), Kind::NotAllowed);
    let listed = service.list(by(Some(Role::Submitter), v1::ListRequest::default())).await.unwrap();
    assert!(listed.into_inner().merges.is_empty());
}

#[tokio::test]
async fn a_merge_is_planned_submitted_and_watched_to_its_end() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let service = MergesService::new(hub.clone(), fixture.stores.clone(), Allow::everything());
    let spec = Some((&fixture.spec("out")).into());
    let plan = service.plan(by(Some(Role::Submitter), v1::PlanRequest { spec })).await.unwrap().into_inner();
    let report: serde_json::Value = serde_json::from_str(&plan.report_json).unwrap();
    assert_eq!(report["plan"], plan.plan);

    let request = || by(Some(Role::Submitter), submit(&fixture, "out"));
    let merge = service.submit(request()).await.unwrap().into_inner().merge.unwrap();
    assert!(service.submit(request()).await.unwrap().into_inner().known);
    let watch = v1::WatchRequest { id: merge.id.clone() };
    let mut states = service.watch(by(Some(Role::Submitter), watch)).await.unwrap().into_inner();
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 1, 2).await.serve());
    let mut last = merge;
    while let Some(state) = states.next().await {
        last = state.unwrap().merge.unwrap();
    }
    assert_eq!((last.state(), last.plan.as_str()), (v1::MergeState::Done, plan.plan.as_str()));
    let progress = last.progress.unwrap();
    assert_eq!((progress.bytes_done, progress.tasks_done), (progress.bytes_total, progress.tasks_total));
    assert_eq!(hub.list(None, 1).await.unwrap().merges[0].stage, Stage::Done);
    serving.abort();
}

#[tokio::test]
async fn an_unknown_merge_is_not_found_whatever_its_name() {
    let fixture = Fixture::new();
    let service = service(&fixture).await;
    for id in ["0123456789abcdef", "", "../x", &"x".repeat(10_000)] {
        let get = v1::GetRequest { id: id.to_owned() };
        let refused = service.get(by(Some(Role::Submitter), get)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().len() < 200);
    }
}

#[tokio::test]
async fn pages_of_the_list_follow_one_another_and_a_foreign_token_is_refused() {
    let fixture = Fixture::new();
    let service = service(&fixture).await;
    for output in ["a", "b", "c"] {
        let request = v1::SubmitRequest { device: "cuda".into(), ..submit(&fixture, output) };
        service.submit(by(Some(Role::Submitter), request)).await.unwrap();
    }
    let list = async |page_token: String| {
        let request = v1::ListRequest { limit: 2, page_token };
        service.list(by(Some(Role::Submitter), request)).await.map(tonic::Response::into_inner)
    };
    let first = list(String::new()).await.unwrap();
    let second = list(first.next_page_token.clone()).await.unwrap();
    assert_eq!((first.merges.len(), second.merges.len(), second.next_page_token.as_str()), (2, 1, ""));
    assert!(first.merges.iter().all(|m| m.id != second.merges[0].id));
    for token in ["x", "1-2", "-0123456789abcdef", &"9".repeat(1000)] {
        assert_eq!(list(token.to_owned()).await.unwrap_err().code(), Code::InvalidArgument, "{token}");
    }
}

#[tokio::test]
async fn a_full_queue_is_a_status_that_says_try_again() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_queued: 1, ..Options::default() }).await;
    let service = MergesService::new(hub, fixture.stores.clone(), Allow::everything());
    let submit = async |output: &str| {
        let request = v1::SubmitRequest { device: "cuda".into(), ..submit(&fixture, output) };
        service.submit(by(Some(Role::Submitter), request)).await
    };
    submit("a").await.unwrap();
    let busy = submit("b").await.unwrap_err();
    assert_eq!((busy.code(), status::error(&busy).kind()), (Code::ResourceExhausted, Kind::Busy));
}
