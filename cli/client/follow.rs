//! Following a merge to its end, over broken connections.

use std::time::Duration;

use shardfuse_coordinator::Progress;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, MergeState};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::Client;
use crate::args::Global;
use crate::progress::{self, Show, State, Worker};
use crate::{net, signal};

/// Between two attempts to reach a coordinator that is away; doubled each time up to the longer one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Shows progress until the merge has ended, and returns it. A coordinator that goes away is waited for.
pub async fn follow(client: Client, merge: v1::Merge, global: &Global) -> Result<v1::Merge> {
    let (send, receive) = watch::channel(state_of(&merge, &[]));
    let shown = tokio::spawn(progress::show(receive, Show::of(global)));
    let id = merge.id.clone();
    let result = tokio::select! {
        result = until_ended(client, merge, &send) => result,
        true = signal::received() => Err(Error::new(Kind::Interrupted, format!("watching {id} was interrupted; the merge goes on"))
            .hint(format!("shardfuse watch {id} follows it again, shardfuse cancel {id} stops it"))),
    };
    drop(send);
    let _ = shown.await;
    result
}

async fn until_ended(mut client: Client, mut merge: v1::Merge, shown: &watch::Sender<State>) -> Result<v1::Merge> {
    let mut wait = FIRST_WAIT;
    while !ended(&merge) {
        match client.merges.watch(v1::WatchRequest { id: merge.id.clone() }).await {
            Ok(answer) => {
                let mut stream = answer.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(v1::WatchResponse { merge: Some(now), workers })) => {
                            wait = FIRST_WAIT;
                            shown.send_replace(state_of(&now, &workers));
                            merge = now;
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(status) if net::is_broken(&status) => break,
                        Err(status) => return Err(client.failure(&status)),
                    }
                }
                if ended(&merge) {
                    break;
                }
            }
            Err(status) if net::is_broken(&status) => {}
            Err(status) => return Err(client.failure(&status)),
        }
        if wait == FIRST_WAIT {
            warn!(coordinator = %client.target, "the coordinator is away; waiting for it");
        }
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            // A new connection, so that the name is resolved and certificates are read anew.
            match Client::to(client.target.clone()).await {
                Ok(new) => {
                    client = new;
                    break;
                }
                Err(e) if e.kind() == Kind::Io => debug!("{e}"),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(merge)
}

/// Whether nothing more will happen to a merge by itself.
fn ended(merge: &v1::Merge) -> bool {
    matches!(merge.state(), MergeState::Done | MergeState::Failed | MergeState::Cancelled | MergeState::Held)
}

/// A merge that has ended: itself if it is published, else why not.
pub fn outcome(merge: v1::Merge) -> Result<v1::Merge> {
    match merge.state() {
        MergeState::Done => Ok(merge),
        MergeState::Cancelled => Err(Error::new(Kind::Interrupted, format!("merge {} was cancelled", merge.id))
            .hint("the same submission goes on where it stopped, unless it was discarded")),
        _ => {
            let failure = merge.failure.unwrap_or_default();
            let kind = Kind::parse(&failure.kind).unwrap_or(Kind::Internal);
            let error = Error::new(kind, failure.message);
            Err(if failure.hint.is_empty() { error } else { error.hint(failure.hint) })
        }
    }
}

fn state_of(merge: &v1::Merge, workers: &[v1::WorkerState]) -> State {
    let p = merge.progress.unwrap_or_default();
    let progress = Progress {
        bytes_done: p.bytes_done,
        bytes_total: p.bytes_total,
        tasks_done: p.tasks_done,
        tasks_total: p.tasks_total,
        workers: p.workers,
        // What is done was published last.
        publishing: matches!(merge.state(), MergeState::Publishing | MergeState::Done),
        ..Progress::default()
    };
    let worker = |w: &v1::WorkerState| Worker {
        id: w.id,
        name: w.name.clone(),
        present: w.present,
        running: w.tasks_running,
        bytes: w.bytes_put,
    };
    State { progress, workers: workers.iter().map(worker).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(state: MergeState, failure: Option<v1::Failure>) -> v1::Merge {
        v1::Merge { id: "m".into(), state: state.into(), failure, ..Default::default() }
    }

    #[test]
    fn the_end_of_a_merge_is_the_end_of_the_command() {
        assert!(outcome(merge(MergeState::Done, None)).is_ok());
        assert_eq!(outcome(merge(MergeState::Cancelled, None)).unwrap_err().kind(), Kind::Interrupted);
        let failure = v1::Failure { kind: "non_finite".into(), message: "x is NaN".into(), hint: "h".into() };
        let error = outcome(merge(MergeState::Failed, Some(failure))).unwrap_err();
        assert_eq!((error.kind(), error.message(), error.advice()), (Kind::NonFinite, "x is NaN", Some("h")));
        assert_eq!(outcome(merge(MergeState::Failed, None)).unwrap_err().kind(), Kind::Internal);
    }
}
