//! S3, and what speaks its protocol.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use tokio::sync::OnceCell;

use super::profile;
use super::settings::{Builder, Settings, is_of};
use crate::config::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::object::bucket::{Bucket, Login};
use crate::object::deletes::Deletes;
use crate::object::environment::Environment;
use crate::object::pending::Pending;
use crate::object::server_copy::ServerCopy;
use crate::object::service::Service;
use crate::object::wire::Connector;

/// The client of a bucket.
pub(super) fn connect(settings: Settings<'_>, connector: Connector) -> Result<Bucket> {
    let Settings { at, config, entry, env } = settings;
    let credentials = settings.credentials();
    let mut builder = AmazonS3Builder::new();
    if credentials.is_none() {
        builder = with_profile(builder.with_variables(env.settings("AWS_")), env)?;
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
                settings.variable(name)?;
            }
            let web = ["aws_web_identity_token_file", "aws_role_arn", "aws_role_session_name", "aws_endpoint_url_sts"];
            builder = builder.with_variables(env.settings("AWS_").filter(|(name, _)| web.contains(&name.as_str())));
        }
        Some(Credentials::Env(names)) => {
            for (name, variable_name) in names {
                let value = settings.variable(variable_name)?;
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
    }
    let anonymous = builder.value(AmazonS3ConfigKey::SkipSignature).as_deref() == Some("true");
    let endpoint = builder.value(AmazonS3ConfigKey::S3Endpoint).or_else(|| builder.value(AmazonS3ConfigKey::Endpoint));
    let is_at = |domains: &[&str]| endpoint.as_deref().is_some_and(|endpoint| is_of(endpoint, domains));
    let amazon = endpoint.is_none() || is_at(&["amazonaws.com", "amazonaws.com.cn"]);
    // R2 wants all parts but the last of one size (https://developers.cloudflare.com/r2/objects/multipart-objects), and around what
    // the store copies they are not.
    let even = is_at(&["r2.cloudflarestorage.com"]);
    let (client, http) = settings.build(builder.clone(), "AWS_", at.authority(), connector.clone())?;
    let login = if anonymous { Login::Anonymous } else { Login::Aws(client.credentials().clone()) };
    let deletes = Deletes::Signed { signer: Arc::new(client.clone()), http: http.clone() };
    let pending = Pending::S3 { signer: client.clone(), http: http.clone() };
    let builder = settings.prepared(builder.with_credentials(client.credentials().clone()), "AWS_");
    let server_copy = match even {
        true => ServerCopy::None { why: "lies in R2, which takes parts of one size only" },
        false => ServerCopy::S3 {
            signer: client.clone(),
            http,
            service: Service::of(at, config),
            known: OnceCell::new_with(amazon.then_some(true)),
            other: Box::new(move |bucket| builder.clone().client(bucket, connector.clone())),
        },
    };
    Ok(Bucket { second_look: !amazon, server_copy, ..Bucket::new(at, Arc::new(client), login, pending, deletes) })
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
    file: Option<&PathBuf>,
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
