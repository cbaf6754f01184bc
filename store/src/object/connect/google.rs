//! Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::settings::{Builder, Settings, is_of};
use crate::config::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::object::bucket::{Bucket, Login};
use crate::object::deletes::Deletes;
use crate::object::pending::Pending;
use crate::object::wire::Connector;

/// The client of a bucket.
pub(super) fn connect(settings: Settings<'_>, connector: Connector) -> Result<Bucket> {
    let Settings { at, entry, env, .. } = settings;
    let credentials = settings.credentials();
    let mut builder = GoogleCloudStorageBuilder::new();
    if credentials.is_none() {
        if let Some(path) = env.get("SERVICE_ACCOUNT") {
            builder = builder.with_service_account_path(path);
        }
        builder = builder.with_variables(env.settings("GOOGLE_"));
    }
    match credentials {
        None | Some(Credentials::Imds | Credentials::Profile(_)) => {}
        Some(Credentials::Anonymous) => builder = builder.with_skip_signature(true),
        Some(Credentials::WebIdentity) => {
            builder = builder.with_application_credentials(settings.variable("GOOGLE_APPLICATION_CREDENTIALS")?);
        }
        Some(Credentials::File(path)) => {
            let path = path
                .to_str()
                .ok_or_else(|| Error::new(ErrorKind::Unsupported, path.display(), "a path that is not UTF-8"))?;
            builder = builder.with_service_account_path(path);
        }
        Some(Credentials::Env(names)) => {
            for name in names.values() {
                builder = builder.with_bearer_token(settings.variable(name)?);
            }
        }
    }
    if let Some(endpoint) = entry.and_then(|entry| entry.endpoint.as_ref()) {
        builder = builder.with_base_url(endpoint);
    }
    let anonymous = builder.value(GoogleConfigKey::SkipSignature).as_deref() == Some("true");
    let base = builder.value(GoogleConfigKey::BaseUrl).unwrap_or_else(|| "https://storage.googleapis.com".to_owned());
    let (client, http) = settings.build(builder, "GOOGLE_", at.authority(), connector)?;
    let from = (!anonymous).then(|| client.credentials().clone());
    let login = from.clone().map_or(Login::Anonymous, Login::Google);
    let address = format!("{}/{}", base.trim_end_matches('/'), at.authority());
    let deletes = Deletes::Google { bucket: address.clone(), credentials: from.clone(), http: http.clone() };
    let pending = Pending::Google { bucket: address, credentials: from, http };
    let second_look = !is_of(&base, &["googleapis.com"]);
    Ok(Bucket { second_look, ..Bucket::new(at, Arc::new(client), login, pending, deletes) })
}
