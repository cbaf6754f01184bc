//! A bucket's client, from the settings of its prefix and the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, RetryConfig};

use super::condition::Deletes;
use super::pending::Pending;
use super::wire::{Connections, Connector};
use super::{Bucket, Login, profile};
use crate::config::{Credentials, Entry};
use crate::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, Scheme};

/// The environment variables of the process, as they were when it began.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// Values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl Environment {
    /// That of this process. What is not UTF-8 is left out.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Those that begin like this, in lower case, as the clients' settings are named.
    fn settings(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let names = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        names.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}

/// The client of the bucket in which `at` lies.
pub(crate) fn connect(
    at: &Location,
    entry: Option<&Entry>,
    env: &Environment,
    connections: &Connections,
) -> Result<Bucket> {
    let connector = connections.connector(counted::name(at));
    let mut bucket = match at.scheme() {
        Scheme::S3 => s3(at, entry, env, connector),
        Scheme::Gs => google(at, entry, env, connector),
        Scheme::Azure => azure(at, entry, env, connector),
        other => Err(Error::new(ErrorKind::Unsupported, at, format!("{other}:// is no object storage"))),
    }?;
    bucket.min_part = entry.and_then(|entry| entry.min_part_size);
    Ok(bucket)
}

/// Trying again is up to the caller, who knows what may be repeated.
fn no_retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: std::time::Duration::ZERO }
}

/// What a client says about its settings may quote them.
fn unusable(at: &Location) -> impl Fn(object_store::Error) -> Error {
    move |_| {
        let message =
            format!("the settings for {}://{} cannot be used; see docs/stores.md", at.scheme(), at.authority());
        Error::new(ErrorKind::Permanent, at, message)
    }
}

fn variable<'a>(at: &Location, env: &'a Environment, name: &str) -> Result<&'a str> {
    env.get(name).ok_or_else(|| {
        let message = format!("the environment variable {name}, which --stores names for it, is not set");
        Error::new(ErrorKind::Permission, at, message)
    })
}

fn options(entry: &Entry) -> ClientOptions {
    ClientOptions::new().with_allow_http(entry.allow_http)
}

fn s3(at: &Location, entry: Option<&Entry>, env: &Environment, connector: Connector) -> Result<Bucket> {
    let credentials = entry.and_then(|entry| entry.credentials.as_ref());
    let mut builder = AmazonS3Builder::new();
    if credentials.is_none() {
        for (name, value) in env.settings("AWS_") {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        builder = with_profile(builder, env)?;
    } else if let Some(region) = env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")) {
        builder = builder.with_region(region);
    }
    match credentials {
        None => {}
        Some(Credentials::Anonymous) => builder = builder.with_skip_signature(true),
        // What is left when nothing else is given.
        Some(Credentials::Imds) => {}
        Some(Credentials::WebIdentity) => {
            for name in ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"] {
                variable(at, env, name)?;
            }
            let web = ["aws_web_identity_token_file", "aws_role_arn", "aws_role_session_name", "aws_endpoint_url_sts"];
            for (name, value) in env.settings("AWS_").filter(|(name, _)| web.contains(&name.as_str())) {
                if let Ok(key) = name.parse() {
                    builder = builder.with_config(key, value);
                }
            }
        }
        Some(Credentials::Env(names)) => {
            for (name, variable_name) in names {
                let value = variable(at, env, variable_name)?;
                builder = match name.as_str() {
                    "access_key_id" => builder.with_access_key_id(value),
                    "secret_access_key" => builder.with_secret_access_key(value),
                    _ => builder.with_token(value),
                };
            }
        }
        Some(Credentials::File(path)) => builder = of_profile(builder, at, env, "default", Some(path))?,
        Some(Credentials::Profile(name)) => builder = of_profile(builder, at, env, name, None)?,
    }
    if let Some(entry) = entry {
        if let Some(endpoint) = &entry.endpoint {
            // Named for S3 alone, it would win over ours.
            builder = builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if let Some(region) = &entry.region {
            builder = builder.with_region(region);
        }
        if let Some(path_style) = entry.path_style.or(entry.endpoint.as_ref().map(|_| true)) {
            builder = builder.with_virtual_hosted_style_request(!path_style);
        }
        builder = builder.with_client_options(options(entry));
    }
    let set = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let anonymous = set(AmazonS3ConfigKey::SkipSignature).as_deref() == Some("true");
    let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
    let amazon = endpoint.is_none_or(|endpoint| is_of(&endpoint, &["amazonaws.com", "amazonaws.com.cn"]));
    let http = connector.connect(&match entry {
        Some(entry) => options(entry),
        None => ClientOptions::new().with_allow_http(env.get("AWS_ALLOW_HTTP").is_some_and(is_true)),
    });
    let client = builder
        .with_bucket_name(at.authority())
        .with_http_connector(connector)
        .with_retry(no_retry())
        .build()
        .map_err(unusable(at))?;
    let login = if anonymous { Login::Anonymous } else { Login::Aws(client.credentials().clone()) };
    let http = http.map_err(unusable(at))?;
    let deletes = Deletes::Signed { signer: Arc::new(client.clone()), http: http.clone() };
    let pending = Pending::S3 { signer: client.clone(), http };
    Ok(Bucket { second_look: !amazon, ..bucket(at, Arc::new(client), login, pending, deletes) })
}

/// The profile that the environment names, or the default one where it names no credentials at all.
fn with_profile(builder: AmazonS3Builder, env: &Environment) -> Result<AmazonS3Builder> {
    let given = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    ];
    if given.iter().any(|name| env.get(name).is_some()) {
        return Ok(builder);
    }
    let named = env.get("AWS_PROFILE");
    match (profile::read(env, named.unwrap_or("default"), None)?, named) {
        (Some(profile), _) => Ok(keys(builder, profile)),
        (None, None) => Ok(builder),
        (None, Some(name)) => {
            let message = format!("there is no AWS profile {name} in ~/.aws/credentials or ~/.aws/config");
            Err(Error::new(ErrorKind::Permission, "AWS_PROFILE", message))
        }
    }
}

fn of_profile(
    builder: AmazonS3Builder,
    at: &Location,
    env: &Environment,
    name: &str,
    file: Option<&std::path::PathBuf>,
) -> Result<AmazonS3Builder> {
    match profile::read(env, name, file)? {
        Some(profile) => Ok(keys(builder, profile)),
        None => {
            Err(Error::new(ErrorKind::Permission, at, format!("there are no keys of an AWS profile {name} for it")))
        }
    }
}

fn keys(builder: AmazonS3Builder, profile: profile::Profile) -> AmazonS3Builder {
    let mut builder =
        builder.with_access_key_id(profile.access_key_id).with_secret_access_key(profile.secret_access_key);
    if let Some(token) = profile.session_token {
        builder = builder.with_token(token);
    }
    match (profile.region, builder.get_config_value(&AmazonS3ConfigKey::Region)) {
        (Some(region), None) => builder.with_region(region),
        _ => builder,
    }
}

fn google(at: &Location, entry: Option<&Entry>, env: &Environment, connector: Connector) -> Result<Bucket> {
    let credentials = entry.and_then(|entry| entry.credentials.as_ref());
    let mut builder = GoogleCloudStorageBuilder::new();
    if credentials.is_none() {
        if let Some(path) = env.get("SERVICE_ACCOUNT") {
            builder = builder.with_service_account_path(path);
        }
        for (name, value) in env.settings("GOOGLE_") {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
    }
    match credentials {
        None | Some(Credentials::Imds | Credentials::Profile(_)) => {}
        Some(Credentials::Anonymous) => builder = builder.with_skip_signature(true),
        Some(Credentials::WebIdentity) => {
            builder = builder.with_application_credentials(variable(at, env, "GOOGLE_APPLICATION_CREDENTIALS")?);
        }
        Some(Credentials::File(path)) => {
            let path = path
                .to_str()
                .ok_or_else(|| Error::new(ErrorKind::Unsupported, path.display(), "a path that is not UTF-8"))?;
            builder = builder.with_service_account_path(path);
        }
        Some(Credentials::Env(names)) => {
            for name in names.values() {
                builder = builder.with_bearer_token(variable(at, env, name)?);
            }
        }
    }
    if let Some(entry) = entry {
        if let Some(endpoint) = &entry.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        builder = builder.with_client_options(options(entry));
    }
    let set = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let anonymous = set(GoogleConfigKey::SkipSignature).as_deref() == Some("true");
    let base = set(GoogleConfigKey::BaseUrl).unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    let http = connector.connect(&match entry {
        Some(entry) => options(entry),
        None => ClientOptions::new().with_allow_http(env.get("GOOGLE_ALLOW_HTTP").is_some_and(is_true)),
    });
    let client = builder
        .with_bucket_name(at.authority())
        .with_http_connector(connector)
        .with_retry(no_retry())
        .build()
        .map_err(unusable(at))?;
    let from = (!anonymous).then(|| client.credentials().clone());
    let login = from.clone().map_or(Login::Anonymous, Login::Google);
    let address = format!("{}/{}", base.trim_end_matches('/'), at.authority());
    let http = http.map_err(unusable(at))?;
    let deletes = Deletes::Google { bucket: address.clone(), credentials: from.clone(), http: http.clone() };
    let pending = Pending::Google { bucket: address, credentials: from, http };
    let second_look = !is_of(&base, &["googleapis.com"]);
    Ok(Bucket { second_look, ..bucket(at, Arc::new(client), login, pending, deletes) })
}

fn azure(at: &Location, entry: Option<&Entry>, env: &Environment, connector: Connector) -> Result<Bucket> {
    let credentials = entry.and_then(|entry| entry.credentials.as_ref());
    let mut builder = MicrosoftAzureBuilder::new();
    let web = ["azure_client_id", "azure_tenant_id", "azure_federated_token_file", "azure_authority_host"];
    for (name, value) in env.settings("AZURE_").filter(|(name, _)| match credentials {
        None => true,
        Some(Credentials::WebIdentity) => web.contains(&name.as_str()),
        Some(_) => false,
    }) {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    match credentials {
        None | Some(Credentials::Imds | Credentials::Profile(_) | Credentials::File(_)) => {}
        Some(Credentials::Anonymous) => builder = builder.with_skip_signature(true),
        Some(Credentials::WebIdentity) => {
            variable(at, env, "AZURE_FEDERATED_TOKEN_FILE")?;
        }
        Some(Credentials::Env(names)) => {
            for (name, variable_name) in names {
                let value = variable(at, env, variable_name)?;
                let key = match name.as_str() {
                    "account_key" => AzureConfigKey::AccessKey,
                    "sas_token" => AzureConfigKey::SasKey,
                    _ => AzureConfigKey::Token,
                };
                builder = builder.with_config(key, value);
            }
        }
    }
    let (container, host) = at.authority().split_once('@').unwrap_or((at.authority(), ""));
    if let Some((account, rest)) = host.split_once('.') {
        builder = builder.with_account(account);
        // The same account speaks the protocol of blobs under a name of its own.
        builder = builder.with_endpoint(format!("https://{account}.{}", rest.replacen("dfs.", "blob.", 1)));
    }
    if let Some(entry) = entry {
        if let Some(account) = &entry.account {
            builder = builder.with_account(account);
        }
        if let Some(endpoint) = &entry.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        builder = builder.with_client_options(options(entry));
    }
    let set = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    if set(AzureConfigKey::AccountName).is_none() {
        let message = "names no account; give it by `account` in --stores or AZURE_STORAGE_ACCOUNT_NAME, or write \
            abfss://container@account.dfs.core.windows.net/path";
        return Err(Error::new(ErrorKind::Permanent, at, message));
    }
    let anonymous = set(AzureConfigKey::SkipSignature).as_deref() == Some("true");
    let http = connector.connect(&match entry {
        Some(entry) => options(entry),
        None => ClientOptions::new().with_allow_http(env.get("AZURE_ALLOW_HTTP").is_some_and(is_true)),
    });
    let client = builder
        .with_container_name(container)
        .with_http_connector(connector)
        .with_retry(no_retry())
        .build()
        .map_err(unusable(at))?;
    let login = if anonymous { Login::Anonymous } else { Login::Azure(client.credentials().clone()) };
    let client = Arc::new(client);
    let deletes = Deletes::Signed { signer: client.clone(), http: http.map_err(unusable(at))? };
    Ok(bucket(at, client, login, Pending::Marked, deletes))
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// Whether an endpoint is one of these providers' own.
fn is_of(endpoint: &str, domains: &[&str]) -> bool {
    let host = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
    host.is_some_and(|host| {
        domains
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    })
}

fn bucket(at: &Location, client: Arc<dyn super::Client>, login: Login, pending: Pending, deletes: Deletes) -> Bucket {
    Bucket {
        scheme: at.scheme(),
        name: at.authority().to_owned(),
        client,
        login,
        pending,
        deletes,
        min_part: None,
        second_look: true,
        logged_in: AtomicBool::new(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::object::Patience;

    #[test]
    fn only_amazon_and_google_themselves_are_read_without_a_second_look() {
        let second_look = |place: &str, endpoint: Option<&str>| {
            let at: Location = place.parse().unwrap();
            let root = format!("{}://{}", at.scheme(), at.authority());
            let account = if at.scheme() == Scheme::Azure { ", account: mine" } else { "" };
            let endpoint = endpoint.map_or_else(String::new, |endpoint| format!(", endpoint: \"{endpoint}\""));
            let config = Config::parse(&format!("{root}: {{ credentials: anonymous{account}{endpoint} }}")).unwrap();
            let entry = config.find(&at).map(|(_, entry)| entry);
            let connections = Connections::new(Patience::default()).unwrap();
            connect(&at, entry, &Environment::default(), &connections).unwrap().second_look
        };
        assert!(!second_look("s3://b/x", None) && !second_look("gs://b/x", None));
        assert!(!second_look("s3://b/x", Some("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com")));
        assert!(second_look("s3://b/x", Some("https://minio.example.com")));
        assert!(second_look("s3://b/x", Some("https://amazonaws.com.example.com")));
        assert!(second_look("s3://b/x", Some("https://notamazonaws.com")));
        assert!(second_look("gs://b/x", Some("https://gcs.example.com")));
        assert!(second_look("az://b/x", None));
    }
}
