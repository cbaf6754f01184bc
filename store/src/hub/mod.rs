//! Models on the Hugging Face hub, `hf://org/model[@revision]/file`. Read only.
//!
//! **Consistency.** A revision is a name that moves. [`Store::resolve`](crate::Store::resolve) asks once what it means, and
//! returns the location with the commit in its place; what lies at a commit never changes. A pin is the commit, the size
//! and the ETag, and a read under a pin reads that commit, whatever the branch is now. Without a pin and without a commit
//! in the location each operation asks for itself.
//!
//! **The token** goes to the hub's origin only. Large files lie elsewhere, and the hub redirects there with a signed
//! address: it is followed without the token, within the process's [reach](crate::http), and shown in no error.
//!
//! **Settings** are those of the hub's Python client: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, and the file
//! that its `hf auth login` writes. They are read when the hub is first asked.
//!
//! **Retry.** Nothing here retries.

use async_trait::async_trait;
use http::header::HeaderMap;
use http::{Method, StatusCode};

use crate::error::{Error, ErrorKind, Result};
use crate::http::exchange::Follow;
use crate::http::span::{self, Span};
use crate::http::{body, past_end};
use crate::id::Pin;
use crate::location::Location;
use crate::read_only::Readable;
use crate::store::{Entry, Meta};

mod api;
mod client;
mod place;
mod refusal;
mod settings;
#[cfg(test)]
mod tests;
mod version;

pub use client::Hub;

use place::Place;
use version::Version;

#[async_trait]
impl Readable for Hub {
    fn name(&self) -> &'static str {
        "the hub"
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        let place = Place::of(at)?;
        place.at_commit(&self.commit(at, place).await?)
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        let place = Place::of(at)?;
        let version = self.look_up(at, place, &self.commit(at, place).await?).await?;
        Ok(Meta { size: version.size, pin: version.to_pin() })
    }

    async fn read(&self, at: &Location, offset: u64, mut buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let place = Place::of(at)?;
        let version = pin.map(|pin| Version::of_pin(at, pin)).transpose()?;
        let commit = match (&version, place.commit()) {
            (Some(version), Some(commit)) if version.commit != commit => {
                let message = format!("is at commit {commit}, and the pin is {}", version.to_pin());
                return Err(Error::new(ErrorKind::Changed, at, message));
            }
            (Some(version), _) => version.commit.clone(),
            (None, _) => self.commit(at, place).await?,
        };
        if buf.is_empty() {
            // No range is empty.
            let now = self.look_up(at, place, &commit).await?;
            return if offset <= now.size { Ok(buf) } else { Err(past_end(at, offset, now.size)) };
        }
        let url = self.address(at, place, &commit)?;
        let headers = HeaderMap::from_iter([span::ask(at, offset, buf.len())?]);
        let answer = self.ask(at, Method::GET, url, headers, Follow::Everywhere).await?;
        let status = answer.response.status();
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Err(self.refusal(at, place, &answer));
        }
        let span = Span::of(at, status, answer.response.headers())?;
        match &version {
            Some(version) => version.check(at, answer.of_origin(), span.total)?,
            // Only for its check of the commit.
            None => Version::of(at, answer.of_origin(), &commit, 0).map(drop)?,
        }
        span.check(at, offset, buf.len())?;
        body::fill(&self.client, at, answer.response, &mut buf).await?;
        Ok(buf)
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        let place = Place::of(dir)?;
        let commit = self.commit(dir, place).await?;
        self.tree(dir, place, &commit).await
    }
}
