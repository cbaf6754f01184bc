//! The hub as it is asked: its addresses, with the token where it belongs.

use std::sync::OnceLock;

use http::Method;
use http::header::HeaderMap;
use reqwest::Url;

use super::place::Place;
use super::refusal;
use super::settings::Settings;
use super::version::{self, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::http::client::Client;
use crate::http::exchange::{Answer, Follow, Question, ask};
use crate::http::reach::Reach;
use crate::http::{Token, parse_address, span};
use crate::location::Location;

/// Models on the Hugging Face hub. The documentation of `hub` says what holds.
#[derive(Debug, Default)]
pub struct Hub {
    pub(super) client: Client,
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

    pub(super) fn settings(&self) -> Result<&Settings> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let read = Settings::from(|name| std::env::var(name).ok(), |path| std::fs::read_to_string(path))?;
        Ok(self.settings.get_or_init(|| read))
    }

    /// Asks the hub, with the token if the address is of its origin.
    pub(super) async fn ask(
        &self,
        at: &Location,
        method: Method,
        url: Url,
        headers: HeaderMap,
        follow: Follow,
    ) -> Result<Answer> {
        let settings = self.settings()?;
        let ours = Url::parse(&settings.endpoint).is_ok_and(|endpoint| endpoint.origin() == url.origin());
        let token = settings.token.as_ref().filter(|_| ours);
        ask(&self.client, Question { at, method, url, headers, token, follow }).await
    }

    /// The address of a file's bytes.
    pub(super) fn address(&self, at: &Location, place: Place<'_>, commit: &str) -> Result<Url> {
        if place.file.is_empty() {
            return Err(Error::new(ErrorKind::Permanent, at, "is a model, not a file"));
        }
        let mut url = parse_address(at, &format!("{}/{place}/resolve/{commit}", self.settings()?.endpoint))?;
        append(at, &mut url, place.file)?;
        Ok(url)
    }

    /// The file's version at a commit.
    pub(super) async fn look_up(&self, at: &Location, place: Place<'_>, commit: &str) -> Result<Version> {
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

    pub(super) fn refusal(&self, at: &Location, place: Place<'_>, answer: &Answer) -> Error {
        let token = self.settings.get().is_some_and(|settings| settings.token.is_some());
        refusal::refusal(at, place, token, answer.response.status(), answer.response.headers())
    }
}

/// Appends a file's path, encoding each component.
pub(super) fn append(at: &Location, url: &mut Url, file: &str) -> Result<()> {
    let plain = file.is_empty() || file.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match url.path_segments_mut() {
        Ok(mut segments) if plain => {
            segments.pop_if_empty().extend(file.split('/').filter(|part| !part.is_empty()));
            Ok(())
        }
        _ => Err(Error::new(ErrorKind::Permanent, at, "names no file of the model")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_component_by_component() {
        let at: Location = "hf://o/m".parse().unwrap();
        let mut url = Url::parse("https://hub/o/m/resolve/c").unwrap();
        append(&at, &mut url, "a b/c#d?%2e.json").unwrap();
        assert_eq!(url.as_str(), "https://hub/o/m/resolve/c/a%20b/c%23d%3F%252e.json");
        append(&at, &mut url, "").unwrap();
        assert!(append(&at, &mut url, "../x").is_err());
    }
}
