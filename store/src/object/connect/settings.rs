//! What the clients of all providers are built from: variables, an entry of `--stores`, and what all have in common.

use std::str::FromStr;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector as _};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, RetryConfig};

use crate::config::{Config, Credentials, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::object::environment::Environment;
use crate::object::wire::Connector;

/// The builder of a provider's client. All three have these methods, and no trait for them.
pub(super) trait Builder: Sized {
    /// What it builds.
    type Client;
    /// The name of a setting.
    type Key: FromStr;

    /// With a setting.
    fn with(self, key: Self::Key, value: &str) -> Self;

    /// A setting, if it is there and not empty.
    fn value(&self, key: Self::Key) -> Option<String>;

    /// With options of the HTTP client.
    fn with_options(self, options: ClientOptions) -> Self;

    /// The client of a bucket.
    fn client(self, bucket: &str, connector: Connector) -> object_store::Result<Self::Client>;

    /// With those of some variables that name a setting.
    fn with_variables<'a>(self, variables: impl Iterator<Item = (String, &'a str)>) -> Self {
        let settings = variables.filter_map(|(name, value)| Some((name.parse::<Self::Key>().ok()?, value)));
        settings.fold(self, |builder, (key, value)| builder.with(key, value))
    }
}

macro_rules! builder {
    ($builder:ty, $client:ty, $key:ty, $with_name:ident) => {
        impl Builder for $builder {
            type Client = $client;
            type Key = $key;

            fn with(self, key: $key, value: &str) -> Self {
                self.with_config(key, value)
            }

            fn value(&self, key: $key) -> Option<String> {
                self.get_config_value(&key).filter(|value| !value.is_empty())
            }

            fn with_options(self, options: ClientOptions) -> Self {
                self.with_client_options(options)
            }

            fn client(self, bucket: &str, connector: Connector) -> object_store::Result<$client> {
                self.$with_name(bucket).with_http_connector(connector).with_retry(no_retry()).build()
            }
        }
    };
}
builder!(AmazonS3Builder, AmazonS3, AmazonS3ConfigKey, with_bucket_name);
builder!(GoogleCloudStorageBuilder, GoogleCloudStorage, GoogleConfigKey, with_bucket_name);
builder!(MicrosoftAzureBuilder, MicrosoftAzure, AzureConfigKey, with_container_name);

/// Trying again is up to the caller, who knows what may be repeated.
fn no_retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: std::time::Duration::ZERO }
}

/// What is known of a bucket before its client is built.
#[derive(Clone, Copy)]
pub(super) struct Settings<'a> {
    /// A location in the bucket.
    pub(super) at: &'a Location,
    /// All of `--stores`.
    pub(super) config: &'a Config,
    /// The bucket's entry in it.
    pub(super) entry: Option<&'a Entry>,
    /// The environment, which counts where the entry names no credentials.
    pub(super) env: &'a Environment,
}

impl<'a> Settings<'a> {
    /// The credentials that `--stores` names.
    pub(super) fn credentials(&self) -> Option<&'a Credentials> {
        self.entry.and_then(|entry| entry.credentials.as_ref())
    }

    /// A variable that `--stores` names.
    pub(super) fn variable(&self, name: &str) -> Result<&'a str> {
        self.env.get(name).ok_or_else(|| {
            let message = format!("the environment variable {name}, which --stores names for it, is not set");
            Error::new(ErrorKind::Permission, self.at, message)
        })
    }

    /// Builds the client, and the HTTP client for requests that it does not offer. `prefix` begins the provider's variables.
    pub(super) fn build<B: Builder>(
        &self,
        builder: B,
        prefix: &str,
        bucket: &str,
        connector: Connector,
    ) -> Result<(B::Client, HttpClient)> {
        let http = connector.connect(&self.options(prefix)).map_err(|_| self.unusable())?;
        let client = self.prepared(builder, prefix).client(bucket, connector).map_err(|_| self.unusable())?;
        Ok((client, http))
    }

    /// A builder with the options that the settings make.
    pub(super) fn prepared<B: Builder>(&self, builder: B, prefix: &str) -> B {
        if self.entry.is_some() { builder.with_options(self.options(prefix)) } else { builder }
    }

    fn options(&self, prefix: &str) -> ClientOptions {
        let from_variable = || self.env.get(&format!("{prefix}ALLOW_HTTP")).is_some_and(is_true);
        ClientOptions::new().with_allow_http(self.entry.map_or_else(from_variable, |entry| entry.allow_http))
    }

    /// What a client says about its settings may quote them, so it is left out.
    fn unusable(&self) -> Error {
        let bucket = format!("{}://{}", self.at.scheme(), self.at.authority());
        let message = format!("the settings for {bucket} cannot be used; see docs/stores.md");
        Error::new(ErrorKind::Permanent, self.at, message)
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// Whether an endpoint is one of these providers' own.
pub(super) fn is_of(endpoint: &str, domains: &[&str]) -> bool {
    let host = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
    host.is_some_and(|host| {
        domains
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    })
}
