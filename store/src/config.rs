//! Which endpoint, region and credentials belong to which URLs: the file behind `--stores`.
//!
//! ```yaml
//! s3://models:                      # a URL prefix; the longest that fits is taken
//!   endpoint: https://minio.example.com
//!   region: us-east-1
//!   path_style: true
//!   credentials:
//!     env: { access_key_id: MINIO_KEY, secret_access_key: MINIO_SECRET }
//! gs://models:
//!   credentials: { file: /etc/shardfuse/service-account.json }
//! s3://open-data:
//!   credentials: anonymous
//! https://models.example.com/private:
//!   credentials: { env: { token: MODELS_TOKEN } }
//! ```
//!
//! Credentials are given by reference: the name of an environment variable, the path of a file, the name of a profile.
//! The file itself holds no secret, and one that is typed into it is refused without being shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, Scheme};

/// Names that only a secret has. They are known in order to be refused with advice.
const SECRETS: [&str; 16] = [
    "access_key",
    "access_key_id",
    "account_key",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "bearer_token",
    "client_secret",
    "key",
    "password",
    "sas",
    "sas_token",
    "secret",
    "secret_access_key",
    "session_token",
    "token",
];

/// Settings of stores, by URL prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Longest prefix first.
    entries: Vec<(Location, Entry)>,
}

/// Settings of the stores below one prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entry {
    /// The address of the service, where it is not the cloud's own.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// Whether the bucket stands in the path (true) or in the host (false). By default in the path if there is an
    /// endpoint.
    pub path_style: Option<bool>,
    /// Whether the endpoint may be without encryption.
    pub allow_http: bool,
    /// The smallest part that the service takes, in bytes, where it takes smaller ones than its protocol says.
    pub min_part_size: Option<u64>,
    /// The Azure account, for `az://` URLs, which name only a container.
    pub account: Option<String>,
    /// Where credentials come from; the environment if nothing is said.
    pub credentials: Option<Credentials>,
}

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Credentials {
    /// There are none: the store is read by everybody.
    Anonymous,
    /// The machine's own role, from its metadata service.
    Imds,
    /// A token file that the environment names, as Kubernetes gives a pod its role.
    WebIdentity,
    /// Environment variables, by what they hold: `access_key_id`, `secret_access_key`, `session_token` for S3;
    /// `account_key`, `sas_token` or `token` for Azure; `token` for Google and for a web server.
    Env(BTreeMap<String, String>),
    /// A file: of AWS profiles, a Google service account's key, or the token for a web server.
    File(PathBuf),
    /// A profile of `~/.aws/credentials` with keys of its own.
    Profile(String),
}

/// What stands in place of a variable's name may be a secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Imds => f.write_str("imds"),
            Self::WebIdentity => f.write_str("web-identity"),
            Self::Env(names) => write!(f, "env of {:?}", names.keys().collect::<Vec<_>>()),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Profile(name) => write!(f, "profile {name}"),
        }
    }
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path.display(), "cannot read the stores", e))?;
        Self::parse(&text).map_err(|e| Error::new(e.kind(), path.display(), e.to_string()))
    }

    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Self> {
        // First as plain values: what is wrong with those is told without quoting any.
        let read: BTreeMap<String, serde_json::Value> = from_yaml(text)?;
        let mut entries = Vec::new();
        for (prefix, value) in &read {
            let at: Location = prefix.parse()?;
            look_for_secrets(prefix, value)?;
            let entry: Entry = serde_json::from_value(value.clone()).map_err(|e| refuse(prefix, &named(&e)))?;
            check(&at, prefix, &entry)?;
            entries.push((at, entry));
        }
        entries.sort_by_key(|(at, _)| std::cmp::Reverse(at.path().trim_end_matches('/').len()));
        Ok(Self { entries })
    }

    /// The settings of web servers, with their prefixes.
    pub(crate) fn web(&self) -> impl Iterator<Item = (&Location, &Entry)> {
        let web = self.entries.iter().filter(|(at, _)| matches!(at.scheme(), Scheme::Http | Scheme::Https));
        web.map(|(at, entry)| (at, entry))
    }

    /// The endpoints of all stores.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|(_, entry)| entry.endpoint.as_deref())
    }

    /// The settings of a place: those of the longest prefix that it lies below, and that prefix.
    pub fn find(&self, at: &Location) -> Option<(&Location, &Entry)> {
        self.entries.iter().find(|(prefix, _)| at.is_within(prefix)).map(|(prefix, entry)| (prefix, entry))
    }
}

fn refuse(prefix: &str, message: &str) -> Error {
    Error::new(ErrorKind::Permanent, prefix, message)
}

/// What an error says of names; of values nothing is quoted.
fn named(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.starts_with("unknown ") || text.starts_with("missing ") {
        true => text,
        false => "one of its settings is not of the type that it should be".to_owned(),
    }
}

/// Errors of the parser quote the line that they are about, so only their place is kept.
fn from_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|e| {
        let place = e.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
        refuse("stores", &format!("not a map from URL prefixes to settings in YAML{}", place.unwrap_or_default()))
    })
}

/// Refuses secrets by their names before anything quotes them.
fn look_for_secrets(prefix: &str, value: &serde_json::Value) -> Result<()> {
    let serde_json::Value::Object(fields) = value else {
        return Err(refuse(prefix, "its settings are no map"));
    };
    if fields.get("credentials").is_some_and(|value| {
        value.as_str().map_or(!value.is_object(), |text| !["anonymous", "imds", "web-identity"].contains(&text))
    }) {
        return Err(refuse(
            prefix,
            "its credentials are anonymous, imds, web-identity, or a map of env, file or profile",
        ));
    }
    let credentials = fields.get("credentials").and_then(|value| value.as_object());
    let named = fields.keys().chain(credentials.into_iter().flat_map(|fields| fields.keys()));
    for name in named {
        if SECRETS.contains(&name.to_ascii_lowercase().as_str()) {
            let message = format!(
                "holds {name}, and a secret does not belong into this file; name the environment variable that holds it: \
                 credentials: {{ env: {{ {name}: NAME }} }}"
            );
            return Err(refuse(prefix, &message));
        }
    }
    let env = credentials.and_then(|fields| fields.get("env")).and_then(|value| value.as_object());
    for (name, variable) in env.into_iter().flatten() {
        let plain = |s: &str| {
            !s.is_empty()
                && s.len() <= 64
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !s.starts_with(|c: char| c.is_ascii_digit())
        };
        // Upper case only: a secret that looks like that is no name anybody gave to a variable.
        if !variable.as_str().is_some_and(|s| plain(s) && s == s.to_ascii_uppercase()) {
            let message = format!("{name} is to be the name of an environment variable, in capitals, not its value");
            return Err(refuse(prefix, &message));
        }
    }
    Ok(())
}

fn check(at: &Location, prefix: &str, entry: &Entry) -> Result<()> {
    let scheme = at.scheme();
    if matches!(scheme, Scheme::Http | Scheme::Https) {
        return check_web(scheme, prefix, entry);
    }
    if !matches!(scheme, Scheme::S3 | Scheme::Gs | Scheme::Azure) {
        return Err(refuse(prefix, &format!("{scheme}:// has no settings; s3://, gs://, az:// and https:// have")));
    }
    if let Some(endpoint) = &entry.endpoint {
        let Some((protocol, rest)) = endpoint.split_once("://") else {
            return Err(refuse(prefix, "its endpoint is no URL"));
        };
        if rest.is_empty() || rest.contains(['@', '?', '#']) {
            return Err(refuse(
                prefix,
                "its endpoint may have no user, query or fragment; credentials are given by reference",
            ));
        }
        if !matches!(protocol, "https" | "http") || (protocol == "http" && !entry.allow_http) {
            let message =
                format!("its endpoint is {protocol}://; only https:// is taken, or http:// with allow_http: true");
            return Err(refuse(prefix, &message));
        }
    }
    let only = |set: bool, name: &str, of: Scheme| match set && scheme != of {
        true => Err(refuse(prefix, &format!("has {name}, which only {of}:// has"))),
        false => Ok(()),
    };
    only(entry.region.is_some(), "region", Scheme::S3)?;
    only(entry.path_style.is_some(), "path_style", Scheme::S3)?;
    only(entry.account.is_some(), "account", Scheme::Azure)?;
    let fits = match (&entry.credentials, scheme) {
        (None | Some(Credentials::Anonymous | Credentials::Imds | Credentials::WebIdentity), _) => true,
        (Some(Credentials::Profile(_)), scheme) => scheme == Scheme::S3,
        (Some(Credentials::File(_)), scheme) => scheme != Scheme::Azure,
        (Some(Credentials::Env(names)), scheme) => {
            let known: &[&str] = match scheme {
                Scheme::S3 => &["access_key_id", "secret_access_key", "session_token"],
                Scheme::Gs => &["token"],
                _ => &["account_key", "sas_token", "token"],
            };
            let unknown = names.keys().find(|name| !known.contains(&name.as_str()));
            if let Some(name) = unknown {
                let message = format!("takes {} from the environment, not {name}", known.join(", "));
                return Err(refuse(prefix, &message));
            }
            match scheme {
                Scheme::S3 => names.contains_key("access_key_id") && names.contains_key("secret_access_key"),
                _ => names.len() == 1,
            }
        }
    };
    match fits {
        true => Ok(()),
        false => Err(refuse(prefix, "its credentials are not of a kind that this store takes, or not complete")),
    }
}

/// A web server has a token, if anything.
fn check_web(scheme: Scheme, prefix: &str, entry: &Entry) -> Result<()> {
    let Entry { allow_http, credentials, .. } = entry;
    if (Entry { allow_http: *allow_http, credentials: credentials.clone(), ..Entry::default() }) != *entry {
        return Err(refuse(prefix, &format!("{scheme}:// has credentials, and no other settings than allow_http")));
    }
    match credentials {
        None | Some(Credentials::Anonymous) => Ok(()),
        Some(_) if scheme == Scheme::Http && !allow_http => {
            Err(refuse(prefix, "a token would go over http:// for everybody to read; allow_http: true permits it"))
        }
        Some(Credentials::File(_)) => Ok(()),
        Some(Credentials::Env(names)) if names.len() == 1 && names.contains_key("token") => Ok(()),
        Some(_) => {
            Err(refuse(prefix, "its credentials are anonymous, a file that holds a token, or env: { token: NAME }"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "
s3://models:
  endpoint: http://127.0.0.1:9000
  allow_http: true
  region: eu-central-1
  path_style: true
  credentials:
    env: { access_key_id: MINIO_KEY, secret_access_key: MINIO_SECRET }
s3://models/open: { credentials: anonymous }
s3://models/team-a: { credentials: { profile: team-a } }
gs://models: { credentials: { file: /etc/key.json } }
az://models: { account: mine, credentials: { env: { sas_token: SAS } } }
abfss://models@mine.dfs.core.windows.net: { credentials: web-identity }
";

    fn found<'a>(config: &'a Config, at: &str) -> Option<&'a Entry> {
        config.find(&at.parse().unwrap()).map(|(_, entry)| entry)
    }

    #[test]
    fn the_longest_prefix_wins() {
        let config = Config::parse(FULL).unwrap();
        let small = Config::parse("s3://models: { min_part_size: 65536 }").unwrap();
        assert_eq!(found(&small, "s3://models/x").unwrap().min_part_size, Some(65536));
        let base = found(&config, "s3://models/base/config.json").unwrap();
        assert_eq!(base.region.as_deref(), Some("eu-central-1"));
        assert_eq!(found(&config, "s3://models/open/x").unwrap().credentials, Some(Credentials::Anonymous));
        assert_eq!(found(&config, "s3://models/opened/x").unwrap(), base);
        assert_eq!(
            found(&config, "gs://models/x").unwrap().credentials,
            Some(Credentials::File("/etc/key.json".into()))
        );
        assert!(found(&config, "s3://other/x").is_none());
        assert_eq!(Config::parse("{}").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_shown() {
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        for (text, hint) in [
            (format!("s3://a: {{ secret_access_key: {SECRET} }}"), "environment variable"),
            (format!("s3://a: {{ credentials: {{ secret_access_key: {SECRET} }} }}"), "environment variable"),
            (
                format!("s3://a: {{ credentials: {{ env: {{ access_key_id: K, secret_access_key: {SECRET} }} }} }}"),
                "capitals",
            ),
            (format!("s3://a: {{ credentials: {SECRET} }}"), "web-identity"),
            (format!("s3://a: {{ allow_http: {SECRET} }}"), "type"),
            (format!("s3://a: {{ endpoint: \"https://me:{SECRET}@host\" }}"), "no user"),
            (format!("s3://a: {{ endpoint: \"https://host/?sig={SECRET}\" }}"), "no user"),
            (format!("s3://me:{SECRET}@a: {{}}"), "bucket"),
            (format!("s3://a: [ {SECRET}"), "YAML"),
            (format!("s3://a: {SECRET}"), "no map"),
            (SECRET.to_owned(), "YAML"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            let shown = format!("{error:?} {}", error.chain());
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.contains(hint), "{shown}");
        }
    }

    #[test]
    fn unknown_and_unfitting_settings_are_refused() {
        for (text, hint) in [
            ("s3://a: { endpont: https://x }", "endpont"),
            ("s3://a: { endpoint: http://x }", "allow_http"),
            ("s3://a: { endpoint: x }", "no URL"),
            ("s3://a: { account: x }", "account"),
            ("gs://a: { region: x }", "region"),
            ("gs://a: { credentials: { profile: x } }", "credentials"),
            ("az://a: { credentials: { env: { account_key: A, token: B } } }", "credentials"),
            ("s3://a: { credentials: { env: { access_key_id: A } } }", "credentials"),
            ("gs://a: { credentials: { env: { access_key_id: A } } }", "token"),
            ("https://a: { region: x }", "no other settings"),
            ("https://a: { credentials: imds }", "anonymous, a file"),
            ("https://a: { credentials: { env: { access_key_id: A } } }", "token"),
            ("http://a: { credentials: { env: { token: A } } }", "allow_http"),
            ("/data: {}", "no settings"),
            ("data: {}", "absolute"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
