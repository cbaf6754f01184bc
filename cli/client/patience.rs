//! Submitting to a coordinator that may not be there yet, or be restarting.

use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1;
use tokio::time::Instant;
use tracing::warn;

use super::Client;
use crate::net::Target;

/// A coordinator that has not answered for so long will not: its address or the certificates are wrong.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two attempts; doubled each time up to the longer one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Hands a merge over as soon as the coordinator takes it: who waits for a merge of hours waits for a pod that starts. The
/// same submission twice is one merge, so an answer that was lost is asked for again.
pub async fn submit(target: &Target, request: v1::SubmitRequest) -> Result<(Client, v1::Merge, bool)> {
    submit_within(LONGEST, target, request).await
}

async fn submit_within(
    longest: Duration,
    target: &Target,
    request: v1::SubmitRequest,
) -> Result<(Client, v1::Merge, bool)> {
    let until = Instant::now() + longest;
    let mut wait = FIRST_WAIT;
    loop {
        match attempt(target, request.clone()).await {
            Err(e) if is_passing(&e) && Instant::now() + wait < until => {
                if wait == FIRST_WAIT {
                    warn!(coordinator = %target, error = e.message(), "not taken on yet; trying again");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            result => return result,
        }
    }
}

async fn attempt(target: &Target, request: v1::SubmitRequest) -> Result<(Client, v1::Merge, bool)> {
    let mut client = Client::to(target.clone()).await?;
    let (merge, known) = client.submit(request).await?;
    Ok((client, merge, known))
}

/// Not there, or stopping: another one follows.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Io | Kind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Way;

    #[tokio::test]
    async fn a_coordinator_that_never_comes_is_given_up_and_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = Target::new(&format!("http://127.0.0.1:{port}"), &Way::default()).unwrap();
        let longest = Duration::from_secs(1);
        let error = submit_within(longest, &target, v1::SubmitRequest::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.message().contains(&port.to_string()), "{error}");
    }
}
