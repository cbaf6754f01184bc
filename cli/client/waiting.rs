//! Submitting to a coordinator that may be starting, restarting or busy.

use std::time::Duration;

use shardfuse_coordinator::hub::Submission;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1;
use tokio::time::Instant;
use tracing::warn;

use super::Client;
use crate::net::Target;

/// How long to wait for a coordinator to answer. After that, its address or the certificates are probably wrong.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The backoff between two attempts. It doubles each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The longest backoff while the coordinator is busy: its merges take minutes.
const LONGEST_WAIT_BUSY: Duration = Duration::from_secs(30);

/// Submits a merge and waits until the coordinator accepts it: some minutes for a coordinator that is starting, and without limit
/// for a place in its queue. The same submission twice is one merge, so a lost answer can be asked for again.
pub async fn submit(target: &Target, submission: &Submission) -> Result<(Client, v1::Merge, bool)> {
    submit_within(TIMEOUT, target, submission).await
}

/// The same, but the coordinator must be running: waits only for a place in its queue.
pub async fn submit_when_free(target: &Target, submission: &Submission) -> Result<(Client, v1::Merge, bool)> {
    submit_within(Duration::ZERO, target, submission).await
}

async fn submit_within(
    timeout: Duration,
    target: &Target,
    submission: &Submission,
) -> Result<(Client, v1::Merge, bool)> {
    let mut until = Instant::now() + timeout;
    let (mut wait, mut said) = (FIRST_WAIT, false);
    loop {
        let error = match attempt(target, submission).await {
            Err(e) if e.kind() == Kind::Busy => e,
            Err(e) if is_passing(&e) && Instant::now() + wait < until => e,
            result => return result,
        };
        let busy = error.kind() == Kind::Busy;
        if busy {
            // It is running. If it goes away later, the timeout starts again.
            until = Instant::now() + wait + timeout;
        }
        if !std::mem::replace(&mut said, true) {
            warn!(coordinator = %target, error = error.message(), "the merge is not accepted yet; trying again");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(if busy { LONGEST_WAIT_BUSY } else { LONGEST_WAIT });
    }
}

async fn attempt(target: &Target, submission: &Submission) -> Result<(Client, v1::Merge, bool)> {
    let mut client = Client::to(target.clone()).await?;
    let (merge, known) = client.submit(submission).await?;
    Ok((client, merge, known))
}

/// The coordinator is away or stopping, and another one will follow.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Io | Kind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use shardfuse_coordinator::service::status::status;
    use shardfuse_merge::spec::{LoraSpec, MergeSpec};
    use shardfuse_proto::v1::merges_server::{Merges, MergesServer};
    use tonic::{Request, Response, Status};

    use super::*;
    use crate::args::{Replace, Way};
    use crate::settings;

    /// A coordinator that is busy for the first requests.
    struct Full {
        times: u32,
        asked: Arc<AtomicU32>,
    }

    #[tonic::async_trait]
    impl Merges for Full {
        type WatchStream = tokio_stream::Empty<std::result::Result<v1::WatchResponse, Status>>;

        async fn submit(
            &self,
            _: Request<v1::SubmitRequest>,
        ) -> std::result::Result<Response<v1::SubmitResponse>, Status> {
            match self.asked.fetch_add(1, Ordering::Relaxed) < self.times {
                true => Err(status(&Error::new(Kind::Busy, "full").hint("later"))),
                false => Ok(Response::new(v1::SubmitResponse { merge: Some(v1::Merge::default()), known: false })),
            }
        }

        async fn plan(&self, _: Request<v1::PlanRequest>) -> std::result::Result<Response<v1::PlanResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn get(&self, _: Request<v1::GetRequest>) -> std::result::Result<Response<v1::GetResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn list(&self, _: Request<v1::ListRequest>) -> std::result::Result<Response<v1::ListResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn watch(
            &self,
            _: Request<v1::WatchRequest>,
        ) -> std::result::Result<Response<Self::WatchStream>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn cancel(
            &self,
            _: Request<v1::CancelRequest>,
        ) -> std::result::Result<Response<v1::CancelResponse>, Status> {
            Err(Status::unimplemented(""))
        }

        async fn retry(
            &self,
            _: Request<v1::RetryRequest>,
        ) -> std::result::Result<Response<v1::RetryResponse>, Status> {
            Err(Status::unimplemented(""))
        }
    }

    fn submission() -> Submission {
        settings::submission(
            MergeSpec::of("s3://b/base", [LoraSpec::new("s3://b/a")], "s3://b/out"),
            Replace::default(),
        )
    }

    /// A coordinator on this machine, and how often a merge was submitted to it.
    async fn full(times: u32) -> (Target, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let service = MergesServer::new(Full { times, asked: Arc::clone(&asked) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        (Target::new(&url, &Way::default()).unwrap(), asked)
    }

    #[tokio::test]
    async fn a_client_that_waits_for_nothing_else_waits_for_a_full_queue() {
        let (target, asked) = full(2).await;
        submit_when_free(&target, &submission()).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_single_submission_says_busy_and_what_to_do() {
        let (target, asked) = full(u32::MAX).await;
        let refused = attempt(&target, &submission()).await.unwrap_err();
        assert_eq!((refused.kind(), refused.advice()), (Kind::Busy, Some("later")));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_coordinator_that_never_comes_is_given_up_and_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Target::new(&format!("http://127.0.0.1:{port}"), &Way::default()).unwrap();
        let timeout = Duration::from_secs(1);
        let error = submit_within(timeout, &target, &submission()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.message().contains(&port.to_string()), "{error}");
    }
}
