//! Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::settings::{Builder, Settings};
use crate::config::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::object::bucket::{Bucket, Login};
use crate::object::deletes::Deletes;
use crate::object::pending::Pending;
use crate::object::wire::Connector;

/// The client of a container.
pub(super) fn connect(settings: Settings<'_>, connector: Connector) -> Result<Bucket> {
    let Settings { at, entry, env, .. } = settings;
    let credentials = settings.credentials();
    let mut builder = MicrosoftAzureBuilder::new();
    let web = ["azure_client_id", "azure_tenant_id", "azure_federated_token_file", "azure_authority_host"];
    let variables = env.settings("AZURE_").filter(|(name, _)| match credentials {
        None => true,
        Some(Credentials::WebIdentity) => web.contains(&name.as_str()),
        Some(_) => false,
    });
    builder = builder.with_variables(variables);
    match credentials {
        None | Some(Credentials::Imds | Credentials::Profile(_) | Credentials::File(_)) => {}
        Some(Credentials::Anonymous) => builder = builder.with_skip_signature(true),
        Some(Credentials::WebIdentity) => {
            settings.variable("AZURE_FEDERATED_TOKEN_FILE")?;
        }
        Some(Credentials::Env(names)) => {
            for (name, variable_name) in names {
                let value = settings.variable(variable_name)?;
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
    }
    if builder.value(AzureConfigKey::AccountName).is_none() {
        let message = "names no account; give it by `account` in --stores or AZURE_STORAGE_ACCOUNT_NAME, or write \
            abfss://container@account.dfs.core.windows.net/path";
        return Err(Error::new(ErrorKind::Permanent, at, message));
    }
    let anonymous = builder.value(AzureConfigKey::SkipSignature).as_deref() == Some("true");
    let (client, http) = settings.build(builder, "AZURE_", container, connector)?;
    let login = if anonymous { Login::Anonymous } else { Login::Azure(client.credentials().clone()) };
    let client = Arc::new(client);
    let deletes = Deletes::Signed { signer: client.clone(), http };
    Ok(Bucket::new(at, client, login, Pending::Marked, deletes))
}
