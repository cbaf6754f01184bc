//! The hub's API, as far as reading a model needs it: what a revision means now, and which files a commit has.

use http::Method;
use http::header::{HeaderMap, LINK};
use reqwest::Url;
use serde::Deserialize;

use super::client::{Hub, append};
use super::place::{Place, is_commit};
use super::refusal;
use crate::error::{Error, ErrorKind, Result};
use crate::http::exchange::{Answer, Follow};
use crate::http::{body, parse_address};
use crate::location::Location;
use crate::store::Entry;

/// The longest answer that is read, in bytes: a page of a listing, or a model's description with all its files.
const MAX_ANSWER: usize = 64 << 20;
/// The most pages of one listing; a page has a thousand files.
const MAX_PAGES: usize = 1000;

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    size: u64,
}

impl Hub {
    /// The commit that a revision means now.
    pub(super) async fn commit(&self, at: &Location, place: Place<'_>) -> Result<String> {
        if let Some(commit) = place.commit() {
            return Ok(commit.to_owned());
        }
        let endpoint = &self.settings()?.endpoint;
        let url = parse_address(at, &format!("{endpoint}/api/models/{place}/revision/{}", place.revision()))?;
        let answer = self.call(at, place, url).await?;
        let Revision { sha } = self.json(at, answer).await?;
        if !is_commit(&sha) {
            let message = format!("the hub names no commit for revision {}: {sha:?}", place.revision());
            return Err(Error::new(ErrorKind::Permanent, at, message));
        }
        Ok(sha)
    }

    /// The files of a commit below the place's folder.
    pub(super) async fn tree(&self, at: &Location, place: Place<'_>, commit: &str) -> Result<Vec<Entry>> {
        let endpoint = &self.settings()?.endpoint;
        let mut url = parse_address(at, &format!("{endpoint}/api/models/{place}/tree/{commit}"))?;
        append(at, &mut url, place.file)?;
        url.set_query(Some("recursive=true"));
        let folder = if place.file.is_empty() { String::new() } else { format!("{}/", place.file) };
        let mut entries = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.ask(at, Method::GET, url.clone(), HeaderMap::new(), Follow::Everywhere).await?;
            if refusal::is_missing_entry(answer.response.headers()) {
                // A folder that does not exist is empty.
                return Ok(Vec::new());
            }
            let answer = self.accept(at, place, answer)?;
            let next = next_page(answer.response.headers(), &url);
            for item in self.json::<Vec<Item>>(at, answer).await? {
                let Some(name) = item.path.strip_prefix(&folder).filter(|_| item.kind == "file") else { continue };
                entries.push(Entry::file(name, item.lfs.map_or(item.size, |lfs| lfs.size)));
            }
            match next {
                Some(next) => url = next,
                None => {
                    entries.sort_unstable();
                    return Ok(entries);
                }
            }
        }
        Err(Error::new(ErrorKind::Permanent, at, format!("the hub's listing has more than {MAX_PAGES} pages")))
    }

    async fn call(&self, at: &Location, place: Place<'_>, url: Url) -> Result<Answer> {
        let answer = self.ask(at, Method::GET, url, HeaderMap::new(), Follow::Everywhere).await?;
        self.accept(at, place, answer)
    }

    /// Whether an answer is one, or why not.
    fn accept(&self, at: &Location, place: Place<'_>, answer: Answer) -> Result<Answer> {
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(refusal::refusal(at, place, self.settings()?.token.is_some(), status, answer.response.headers()))
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, at: &Location, answer: Answer) -> Result<T> {
        let bytes = body::collect(&self.client, at, answer.response, MAX_ANSWER).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(ErrorKind::Permanent, at, "the hub's answer is not understood").with_source(e))
    }
}

/// The address of the next page, from `<address>; rel="next"`. One on another origin is asked without a token.
fn next_page(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut next = links.filter_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = rest.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then(|| url.join(address).ok()).flatten()
    });
    next.find(|next| matches!((url.scheme(), next.scheme()), (_, "https") | ("http", "http")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        let url = Url::parse("https://hub/api/models/o/m/tree/c?recursive=true").unwrap();
        let next = |link: &str| {
            let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
            next_page(&headers, &url).map(|url| url.to_string())
        };
        let page = "https://hub/api/models/o/m/tree/c?recursive=true&cursor=x";
        assert_eq!(next(&format!("<{page}>; rel=\"next\"")).as_deref(), Some(page));
        assert_eq!(next(&format!("<https://hub/1>; rel=\"first\", <{page}>; rel=\"next\"")).as_deref(), Some(page));
        assert_eq!(next("</a?b=c>; rel=next").as_deref(), Some("https://hub/a?b=c"));
        for link in
            ["", "<https://hub/1>; rel=\"last\"", "<http://hub/plain>; rel=\"next\"", "<file:///x>; rel=\"next\""]
        {
            assert_eq!(next(link), None, "{link}");
        }
    }
}
