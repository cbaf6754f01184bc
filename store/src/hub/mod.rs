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

use std::sync::OnceLock;

use async_trait::async_trait;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::http::client::Client;
use crate::http::exchange::{Answer, Follow, Question, ask};
use crate::http::reach::Reach;
use crate::http::span::{self, Span};
use crate::http::{Token, body, parse_address, past_end};
use crate::id::Pin;
use crate::location::Location;
use crate::read_only::ReadOnly;
use crate::store::{Entry, Meta};

mod api;
mod place;
mod refusal;
mod settings;
#[cfg(test)]
mod tests;
mod version;

use place::Place;
use settings::Settings;
use version::Version;

/// Models on the Hugging Face hub. The module's documentation says what holds.
#[derive(Debug, Default)]
pub struct Hub {
    client: Client,
    settings: OnceLock<Settings>,
}

impl Hub {
    /// The hub of the environment, which is read at first use.
    pub fn from_env() -> Self {
        Self::default()
    }

    /// The hub at an endpoint such as `https://huggingface.co`.
    pub fn new(endpoint: &str, token: Option<Token>) -> Result<Self> {
        Ok(Self { client: Client::default(), settings: OnceLock::from(Settings::new(endpoint, token)?) })
    }

    /// The same hub, which connects to no address outside of a reach.
    pub(crate) fn within(mut self, reach: Reach) -> Self {
        self.client.reach = reach;
        self
    }

    fn settings(&self) -> Result<&Settings> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let read = Settings::from(|name| std::env::var(name).ok(), |path| std::fs::read_to_string(path))?;
        Ok(self.settings.get_or_init(|| read))
    }

    /// Asks the hub, with the token if the address is of its origin.
    async fn ask(&self, at: &Location, method: Method, url: Url, headers: HeaderMap, follow: Follow) -> Result<Answer> {
        let settings = self.settings()?;
        let ours = Url::parse(&settings.endpoint).is_ok_and(|endpoint| endpoint.origin() == url.origin());
        let token = settings.token.as_ref().filter(|_| ours);
        ask(&self.client, Question { at, method, url, headers, token, follow }).await
    }

    /// The address of a file's bytes.
    fn address(&self, at: &Location, place: Place<'_>, commit: &str) -> Result<Url> {
        if place.file.is_empty() {
            return Err(Error::new(ErrorKind::Permanent, at, "is a model, not a file"));
        }
        let mut url = parse_address(at, &format!("{}/{place}/resolve/{commit}", self.settings()?.endpoint))?;
        api::append(at, &mut url, place.file)?;
        Ok(url)
    }

    /// The file's version at a commit.
    async fn look_up(&self, at: &Location, place: Place<'_>, commit: &str) -> Result<Version> {
        let url = self.address(at, place, commit)?;
        // The hub's own answer tells all that is wanted; where the bytes lie need not be asked.
        for follow in [Follow::WithinOrigin, Follow::Everywhere] {
            let answer = self.ask(at, Method::HEAD, url.clone(), HeaderMap::new(), follow).await?;
            let status = answer.response.status();
            if !status.is_success() && !status.is_redirection() {
                return Err(self.refusal(at, place, &answer));
            }
            let own = Some(answer.response.headers()).filter(|_| status.is_success()).and_then(span::length);
            if let Some(size) = version::linked_size(answer.of_origin()).or(own) {
                return Version::of(at, answer.of_origin(), commit, size);
            }
        }
        Err(Error::new(ErrorKind::Permanent, at, "the hub does not tell its length"))
    }

    fn refusal(&self, at: &Location, place: Place<'_>, answer: &Answer) -> Error {
        let token = self.settings.get().is_some_and(|settings| settings.token.is_some());
        refusal::refusal(at, place, token, answer.response.status(), answer.response.headers())
    }
}

#[async_trait]
impl ReadOnly for Hub {
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
