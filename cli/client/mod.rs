//! The client's side of `shardfuse.v1.Merges`.

pub mod follow;
mod show;
pub mod waiting;

use shardfuse_coordinator::hub::Submission;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::MAX_MESSAGE;
use shardfuse_proto::v1::{self, merges_client::MergesClient};
use tonic::Status;
use tonic::transport::Channel;

use crate::args::Connect;
use crate::net::{self, Target};

pub use show::{details, json, line};

/// Merges of a list that are asked for at a time.
const PAGE: usize = 1000;

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    merges: MergesClient<Channel>,
}

impl Client {
    /// Connects as the flags say.
    pub async fn connect(flags: &Connect) -> Result<Client> {
        Client::to(Target::new(&flags.coordinator, &flags.way)?).await
    }

    /// Connects to a coordinator.
    pub async fn to(target: Target) -> Result<Client> {
        let channel = net::connect(&target).await?;
        let merges =
            MergesClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Ok(Client { target, merges })
    }

    /// Hands a merge over. The flag says whether the coordinator knew it.
    pub async fn submit(&mut self, submission: &Submission) -> Result<(v1::Merge, bool)> {
        let answer = self.merges.submit(request(submission)).await;
        let answer = answer.map_err(|s| explain(self.failure(&s), &s, local_place(&submission.spec)))?;
        let v1::SubmitResponse { merge, known } = answer.into_inner();
        Ok((present(merge)?, known))
    }

    /// One merge as it stands.
    pub async fn get(&mut self, id: &str) -> Result<v1::Merge> {
        let answer = self.merges.get(v1::GetRequest { id: id.to_owned() }).await.map_err(|s| self.failure(&s))?;
        present(answer.into_inner().merge)
    }

    /// The newest merges, as many as `most` or all, and whether there are more.
    pub async fn list(&mut self, most: Option<usize>) -> Result<(Vec<v1::Merge>, bool)> {
        let (mut merges, mut page_token) = (Vec::new(), String::new());
        loop {
            let missing = most.map_or(PAGE, |most| most - merges.len().min(most));
            let limit = missing.min(PAGE) as u32;
            let request = v1::ListRequest { limit, page_token };
            let page = self.merges.list(request).await.map_err(|s| self.failure(&s))?.into_inner();
            let empty = page.merges.is_empty();
            merges.extend(page.merges);
            page_token = page.next_page_token;
            // A page that brings nothing would be asked for again and again.
            if page_token.is_empty() || empty || most.is_some_and(|most| merges.len() >= most) {
                return Ok((merges, !page_token.is_empty()));
            }
        }
    }

    /// Begins a merge again that is held, failed or was cancelled.
    pub async fn retry(&mut self, id: &str) -> Result<v1::Merge> {
        let answer = self.merges.retry(v1::RetryRequest { id: id.to_owned() }).await.map_err(|s| self.failure(&s))?;
        present(answer.into_inner().merge)
    }

    /// Stops a merge.
    pub async fn cancel(&mut self, id: &str, discard: bool) -> Result<v1::Merge> {
        let request = v1::CancelRequest { id: id.to_owned(), discard };
        let answer = self.merges.cancel(request).await.map_err(|s| self.failure(&s))?;
        present(answer.into_inner().merge)
    }

    fn failure(&self, status: &Status) -> Error {
        net::failure(&self.target, status)
    }
}

fn present(merge: Option<v1::Merge>) -> Result<v1::Merge> {
    merge.ok_or_else(|| Error::new(Kind::Internal, "the coordinator's answer holds no merge"))
}

/// A submission on the wire.
fn request(submission: &Submission) -> v1::SubmitRequest {
    let Submission { spec, restart, force, allow_no_change, priority, device, verify_parts } = submission;
    v1::SubmitRequest {
        spec: Some(spec.into()),
        restart: *restart,
        force: *force,
        allow_no_change: *allow_no_change,
        priority: *priority,
        device: device.map_or_else(String::new, |d| d.to_string()),
        verify_parts: *verify_parts,
    }
}

/// The first place of a spec that lies on this machine.
fn local_place(spec: &MergeSpec) -> Option<&str> {
    spec.places().map(|(_, url)| url).find(|url| url.starts_with("file:"))
}

/// A path that was typed went out as a `file://` URL; if that is refused, this is what the user wants to know.
fn explain(error: Error, status: &Status, local: Option<&str>) -> Error {
    match local {
        Some(place) if status.code() == tonic::Code::PermissionDenied => error.hint(format!(
            "paths are sent as file:// URLs ({place}), which a fleet reads only where all of it shares that folder and \
             coordinator and workers are started with --allow for it; copy the files to object storage, or merge here \
             without --coordinator"
        )),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::spec::LoraSpec;

    use super::*;

    #[test]
    fn a_refused_path_of_this_machine_is_explained() {
        let spec = MergeSpec::of("s3://b/base", [LoraSpec::new("file:///home/me/a")], "s3://b/out");
        let local = local_place(&spec);
        assert_eq!(local, Some("file:///home/me/a"));
        let error = Error::new(Kind::Usage, "not allowed").hint("old");
        let told = |code| explain(error.clone(), &Status::new(code, ""), local);
        assert!(told(tonic::Code::PermissionDenied).advice().unwrap().contains("file:///home/me/a"));
        assert_eq!(told(tonic::Code::InvalidArgument).advice(), Some("old"));
    }
}
