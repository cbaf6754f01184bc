//! Where the hub is and who asks: the variables and files that its own Python client reads.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::http::Token;

const ENDPOINT: &str = "https://huggingface.co";

/// The hub and the token for it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Without a slash at the end.
    pub endpoint: String,
    pub token: Option<Token>,
}

impl Settings {
    pub fn new(endpoint: &str, token: Option<Token>) -> Result<Self> {
        let endpoint = endpoint.trim_end_matches('/');
        let plain = Url::parse(endpoint).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if !plain {
            // Not repeated: it may hold a password.
            let message = "is no address of the form https://host[/path]";
            return Err(Error::new(ErrorKind::Permanent, "the hub's endpoint (HF_ENDPOINT)", message));
        }
        Ok(Self { endpoint: endpoint.to_owned(), token })
    }

    /// From the environment, given as functions. `HF_ENDPOINT`; the token is `HF_TOKEN`, else the content of the file
    /// `HF_TOKEN_PATH`, else of `token` in `HF_HOME`, `XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface`.
    pub fn from(variable: impl Fn(&str) -> Option<String>, file: impl Fn(&Path) -> io::Result<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let token = match ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|n| Some((n, set(n)?))) {
            Some((name, token)) => Some(Token::new(&token, name)?),
            None => match token_path(&set) {
                Some(path) => token_in(&path, file)?,
                None => None,
            },
        };
        Self::new(&set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()), token)
    }
}

fn token_path(set: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(path) = set("HF_TOKEN_PATH") {
        return Some(path.into());
    }
    let home = set("HF_HOME").map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("huggingface"));
    let user = || set("HOME").map(|home| Path::new(&home).join(".cache/huggingface"));
    Some(home.or_else(cache).or_else(user)?.join("token"))
}

/// A missing file is no token; one that cannot be read is an error, rather than a model that seems not to exist.
fn token_in(path: &Path, file: impl Fn(&Path) -> io::Result<String>) -> Result<Option<Token>> {
    match file(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Token::new(&text, path.display()).map(Some),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io(path.display(), "the hub's token cannot be read", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Settings> {
        let find =
            |list: &[(&str, &str)], key: &str| list.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        Settings::from(
            |name| find(variables, name),
            |path| find(files, path.to_str().unwrap()).ok_or_else(|| io::ErrorKind::NotFound.into()),
        )
    }

    #[test]
    fn the_token_is_found_where_the_hubs_own_client_finds_it() {
        let header = |variables: &[(&str, &str)], files: &[(&str, &str)]| {
            settings(variables, files).unwrap().token.map(|token| token.header().to_str().unwrap().to_owned())
        };
        let home = ("HOME", "/h");
        let in_home = ("/h/.cache/huggingface/token", "home\n");
        assert_eq!(header(&[home], &[]), None);
        assert_eq!(header(&[home], &[in_home]).as_deref(), Some("Bearer home"));
        let files = [in_home, ("/x/huggingface/token", "xdg"), ("/hf/token", "hf"), ("/p", "path")];
        let mut variables = vec![home];
        for (name, value, token) in [
            ("XDG_CACHE_HOME", "/x", "xdg"),
            ("HF_HOME", "/hf", "hf"),
            ("HF_TOKEN_PATH", "/p", "path"),
            ("HUGGING_FACE_HUB_TOKEN", "old", "old"),
            ("HF_TOKEN", "new", "new"),
        ] {
            variables.push((name, value));
            assert_eq!(header(&variables, &files), Some(format!("Bearer {token}")), "{name} wins over those before it");
        }
        assert_eq!(header(&[home, ("HF_TOKEN", " ")], &[in_home]).as_deref(), Some("Bearer home"), "empty is unset");
    }

    #[test]
    fn the_endpoint_is_the_hub_unless_another_is_named() {
        assert_eq!(settings(&[], &[]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(
            settings(&[("HF_ENDPOINT", "http://mirror:8080/hf/")], &[]).unwrap().endpoint,
            "http://mirror:8080/hf"
        );
        for text in ["mirror", "ftp://mirror", "https://user:hunter2@mirror", "https://mirror?key=hunter2"] {
            let error = settings(&[("HF_ENDPOINT", text)], &[]).unwrap_err().chain();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("hunter2"), "{error}");
        }
    }
}
